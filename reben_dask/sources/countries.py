"""Country polygons."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyogrio

from reben_dask.errors import InputError, missing

if TYPE_CHECKING:
    import geopandas


def read_countries(path: str, names: tuple[str, ...] | None) -> geopandas.GeoDataFrame:
    """Read the polygons of countries from a vector file.

    The column that holds the names is found by what it holds: the text column in which most of ``names`` occur.

    Parameters
    ----------
    path : str
        Any vector file that GDAL reads, with a coordinate reference system.
    names : tuple of str or None
        Countries wanted; ``None`` takes every row, named by the column ``name``, ``NAME`` or ``country``.

    Returns
    -------
    GeoDataFrame
        Columns ``country`` and ``geometry``; one row per polygon of the file that is wanted.

    Raises
    ------
    InputError
        If the file cannot be read, has no system, or names none of the countries.
    """
    table = _table(path)
    column = _name_column(table, names)
    if column is None:
        wanted = ", ".join(names) if names else "any country"
        raise InputError(f"The countries file {path} has no column that names {wanted}; give a file with their names.")
    table = table[~(table.geometry.isna() | table.geometry.is_empty)]
    chosen = table if names is None else table[table[column].isin(names)]
    return chosen[[column, "geometry"]].rename(columns={column: "country"}).reset_index(drop=True)


def read_outlines(path: str) -> geopandas.GeoSeries:
    """Read all polygons of a vector file, whatever they are called, for a map.

    Raises
    ------
    InputError
        If the file cannot be read, or has no polygons with a coordinate reference system.
    """
    shapes = _table(path, columns=[]).geometry
    return shapes[~(shapes.isna() | shapes.is_empty)].reset_index(drop=True)


def _table(path: str, **options: Any) -> geopandas.GeoDataFrame:
    if not Path(path).exists():
        raise InputError(missing("The countries file", path))
    try:
        table = pyogrio.read_dataframe(path, **options)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise InputError(f"The countries file {path} cannot be read: {error}.") from None
    if "geometry" not in table or table.crs is None:
        raise InputError(f"The countries file {path} has no polygons with a coordinate reference system.")
    return table


def missing_countries(countries: geopandas.GeoDataFrame, names: tuple[str, ...] | None) -> list[str]:
    """Countries asked for that are not among those of :func:`read_countries`."""
    return sorted(set(names or ()) - set(countries["country"]))


def _name_column(table: Any, names: tuple[str, ...] | None) -> str | None:
    texts = [column for column in table.columns if column != "geometry" and table[column].dtype.kind in "OUT"]
    if names is None:
        return next((column for column in texts if column.lower() in {"name", "country", "admin"}), None)
    matches = {column: table.loc[table[column].isin(names), column].nunique() for column in texts}
    best = max(matches, key=lambda column: int(matches[column]), default=None)
    return best if best is not None and matches[best] else None
