"""Polygon layers of which patches take over a column, such as how urban a place is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyogrio

from reben_dask.errors import InputError, missing

if TYPE_CHECKING:
    import geopandas

_OTHER_GEOMETRY = ("Point", "LineString")


def read_attribute(path: str, column: str) -> geopandas.GeoDataFrame:
    """Read the polygons of a layer with one column.

    Parameters
    ----------
    path : str
        Any vector file that GDAL reads, with a coordinate reference system.
    column : str
        The column; upper and lower case do not matter.

    Returns
    -------
    GeoDataFrame
        Columns ``value`` (str) and ``geometry``, without rows in which one of them is missing.

    Raises
    ------
    InputError
        If the file cannot be read, has no system, or has no such column.
    """
    require_attribute(path, column)
    found = _found(path, column)
    table = pyogrio.read_dataframe(path, columns=[found]).rename(columns={found: "value"})
    table = table[~(table.geometry.isna() | table.geometry.is_empty)]
    chosen = table[["value", "geometry"]].dropna(subset="value").reset_index(drop=True)
    return chosen.assign(value=chosen["value"].map(_text).astype("str"))


def require_attribute(path: str, column: str) -> None:
    """Make sure that a layer can be read, from its header alone; see :func:`read_attribute`."""
    if not Path(path).exists():
        raise InputError(missing("The layer", path))
    try:
        info = pyogrio.read_info(path)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise InputError(f"The layer {path} cannot be read: {error}.") from None
    kind = info["geometry_type"]
    if info["crs"] is None or kind is None or any(other in kind for other in _OTHER_GEOMETRY):
        raise InputError(f"The layer {path} has no polygons with a coordinate reference system.")
    if _found(path, column) is None:
        raise InputError(
            f"The layer {path} has no column {column}; it has {', '.join(info['fields'])}. "
            "Name one of them in the recipe (attributes)."
        )


def _found(path: str, column: str) -> str | None:
    fields = [str(field) for field in pyogrio.read_info(path)["fields"]]
    exact = [field for field in fields if field == column]
    return next(iter([*exact, *(field for field in fields if field.lower() == column.lower())]), None)


def _text(value: object) -> str:
    """Whole numbers that GDAL gives as floats, because some are missing, are written as what they are."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
