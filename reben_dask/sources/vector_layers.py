"""Polygon layers of vector files: countries, attributes of patches, outlines for a map."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyogrio

from reben_dask.errors import InputError, missing

if TYPE_CHECKING:
    import geopandas

_OTHER_GEOMETRY = ("Point", "LineString")


def files_of(path: Path) -> list[Path]:
    """Files of a vector dataset: a shapefile has several side by side, a file geodatabase is a folder."""
    if path.is_dir():
        return [path, *path.rglob("*")]
    if path.suffix.lower() == ".shp":
        return [path, *(file for file in path.parent.glob(f"{glob.escape(path.stem)}.*") if file != path)]
    return [path]


def read_countries(path: str, names: tuple[str, ...] | None) -> geopandas.GeoDataFrame:
    """Read the polygons of countries from a vector file with a coordinate reference system.

    Parameters
    ----------
    names : tuple of str or None
        Countries wanted, which also identify the column of names: the text column in which most of them occur. ``None``
        takes every row, named by the column ``name``, ``NAME`` or ``country``.

    Returns
    -------
    GeoDataFrame
        Columns ``country`` and ``geometry``; one row per polygon.

    Raises
    ------
    InputError
        If the file is unreadable, has no system, or names none of the countries.
    """
    table = _read_polygons(path)
    column = _name_column(table, names)
    if column is None:
        wanted = ", ".join(names) if names else "any country"
        raise InputError(f"The countries file {path} has no column that names {wanted}; give a file with their names.")
    chosen = table if names is None else table[table[column].isin(names)]
    return chosen[[column, "geometry"]].rename(columns={column: "country"}).reset_index(drop=True)


def missing_countries(countries: geopandas.GeoDataFrame, names: tuple[str, ...] | None) -> list[str]:
    """Names missing from the result of :func:`read_countries`, sorted."""
    return sorted(set(names or ()) - set(countries["country"]))


def read_outlines(path: str) -> geopandas.GeoSeries:
    """Read all polygons of a vector file.

    :class:`InputError` if it is unreadable, or has no polygons with a coordinate reference system.
    """
    return _read_polygons(path, columns=[]).geometry.reset_index(drop=True)


def read_attribute(path: str, column: str) -> geopandas.GeoDataFrame:
    """Read the polygons of a layer with one column, its name in any case.

    Returns
    -------
    GeoDataFrame
        Columns ``value`` (str) and ``geometry``, without rows in which one is missing.

    Raises
    ------
    InputError
        If the file is unreadable, has no coordinate reference system, or has no such column.
    """
    found = require_attribute(path, column)
    table = _with_geometry(pyogrio.read_dataframe(path, columns=[found])).rename(columns={found: "value"})
    chosen = table[["value", "geometry"]].dropna(subset="value").reset_index(drop=True)
    return chosen.assign(value=chosen["value"].map(_text).astype("str"))


def require_attribute(path: str, column: str) -> str:
    """Check the header of a layer for :func:`read_attribute`; return the column as the layer spells it."""
    if not Path(path).exists():
        raise InputError(missing("The layer", path))
    try:
        info = pyogrio.read_info(path)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise InputError(f"The layer {path} cannot be read: {error}.") from None
    kind, fields = info["geometry_type"], [str(field) for field in info["fields"]]
    if info["crs"] is None or kind is None or any(other in kind for other in _OTHER_GEOMETRY):
        raise InputError(f"The layer {path} has no polygons with a coordinate reference system.")
    exact = [field for field in fields if field == column]
    found = next(iter([*exact, *(field for field in fields if field.lower() == column.lower())]), None)
    if found is None:
        raise InputError(
            f"The layer {path} has no column {column}; it has {', '.join(fields)}. "
            "Name one of them in the recipe (attributes)."
        )
    return found


def _read_polygons(path: str, **options: Any) -> geopandas.GeoDataFrame:
    if not Path(path).exists():
        raise InputError(missing("The countries file", path))
    try:
        table = pyogrio.read_dataframe(path, **options)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise InputError(f"The countries file {path} cannot be read: {error}.") from None
    if "geometry" not in table or table.crs is None:
        raise InputError(f"The countries file {path} has no polygons with a coordinate reference system.")
    return _with_geometry(table)


def _with_geometry(table: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
    return table[~(table.geometry.isna() | table.geometry.is_empty)]


def _name_column(table: Any, names: tuple[str, ...] | None) -> str | None:
    texts = [column for column in table.columns if column != "geometry" and table[column].dtype.kind in "OUT"]
    if names is None:
        return next((column for column in texts if column.lower() in {"name", "country", "admin"}), None)
    matches = {column: table.loc[table[column].isin(names), column].nunique() for column in texts}
    best = max(matches, key=lambda column: int(matches[column]), default=None)
    return best if best is not None and matches[best] else None


def _text(value: object) -> str:
    """Text of a value; GDAL returns whole numbers as floats where some are missing."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
