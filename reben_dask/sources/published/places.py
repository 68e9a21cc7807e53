"""Tiles, positions and times of published patches, from their names."""

from __future__ import annotations

from functools import cache
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyproj

from reben_dask.errors import InputError
from reben_dask.formats.columns import EPSG, MAXY, MINX, SENSING_TIME, TILE
from reben_dask.grid import PATCH_SIDE_M
from reben_dask.sources.published.tiles import TILE_M, Place

_COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
"""Letters of the columns of 100 km in every third zone, from 100 km east on."""

_ROWS, _BANDS = "ABCDEFGHJKLMNPQRSTUV", "CDEFGHJKLMNPQRSTUVWX"
_SQUARE_M, _CYCLE_M = 100_000, 2_000_000
_STEP_M = 60
"""Corners of tiles are multiples of the coarsest pixel."""

_DAY = r"_(?P<day>\d{8})T\d{5,6}(?:_|$)"
_NAME = (
    rf"^(?P<{TILE}>S2[A-D]_[0-9A-Z]+_(?P<time>\d{{8}}T\d{{6}})_[0-9A-Z_]+_T(?P<mgrs>\d{{2}}[A-Z]{{3}})(?:_\d{{8}}T\d{{6}})?)"
    r"_(?P<x>\d{1,2})_(?P<y>\d{1,2})$"
)


@cache
def tile_corner(mgrs: str) -> Place:
    """Upper-left corner of a Sentinel-2 tile: that of its MGRS square of 100 km, moved outwards to a multiple of 60 m.

    ``mgrs`` is a name such as ``33UUP``; :class:`InputError` if there is no such square.
    """
    zone, band, column, row = int(mgrs[:2]), mgrs[2], mgrs[3], mgrs[4]
    columns = _COLUMNS[(zone - 1) % 3]
    if not 1 <= zone <= 60 or band not in _BANDS or column not in columns or row not in _ROWS:
        raise InputError(f"{mgrs} is not the name of an MGRS square of 100 km, such as 33UUP.")
    is_northern = band >= "N"
    epsg = (32_600 if is_northern else 32_700) + zone
    latitude, meridian = -80 + 8 * _BANDS.index(band), 6 * zone - 183
    _, start = pyproj.Transformer.from_crs(4326, epsg, always_xy=True).transform(meridian, latitude)
    # Letters repeat every 2,000 km, and begin five squares further north in even zones.
    south = (_ROWS.index(row) - 5 * (zone % 2 == 0)) % len(_ROWS) * _SQUARE_M
    while south + _SQUARE_M <= start:
        south += _CYCLE_M
    east = (1 + columns.index(column)) * _SQUARE_M
    return Place(epsg, east // _STEP_M * _STEP_M, -(-(south + _SQUARE_M) // _STEP_M) * _STEP_M)


def sensing_days(names: pd.Series[Any]) -> pd.Series[Any]:
    """Days of sensing (UTC) of patches, from names of any version; :class:`InputError` if one has none."""
    days = _extract(names, _DAY)["day"]
    if (wrong := days.isna()).any():
        raise InputError(
            f"{names[wrong.to_numpy()].iloc[0]!r} is not the name of a patch with its day, such as _20170613T…."
        )
    return pd.to_datetime(days, format="%Y%m%d", utc=True).dt.as_unit("us")


def named_patches(names: pd.Series[Any]) -> pd.DataFrame:
    """Find tile, position and time of patches of 1200 m by their names.

    Returns
    -------
    DataFrame
        ``tile``, ``sensing_time`` (UTC, whole seconds), ``epsg``, ``minx`` and ``maxy`` (metres), in the order given.

    Raises
    ------
    InputError
        If a name is not that of a patch of reBEN, which alone has all of them.
    """
    parts = _extract(names, _NAME)
    side = max(TILE_M) // PATCH_SIDE_M
    x, y = (pd.to_numeric(parts[axis]) for axis in ("x", "y"))
    if (wrong := parts[TILE].isna() | (x >= side) | (y >= side)).any():
        raise InputError(
            f"{names[wrong.to_numpy()].iloc[0]!r} is not the name of a patch with its tile, position and time, such as "
            "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57."
        )
    corners = pd.DataFrame({mgrs: tile_corner(mgrs) for mgrs in parts["mgrs"].unique()}, index=Place._fields).T
    places = corners.loc[parts["mgrs"]].reset_index(drop=True)
    return pd.DataFrame(
        {
            TILE: parts[TILE].to_numpy(object),
            SENSING_TIME: pd.to_datetime(parts["time"], format="%Y%m%dT%H%M%S", utc=True).dt.as_unit("us").to_numpy(),
            EPSG: places["epsg"].to_numpy("int32"),
            MINX: places["ulx"].to_numpy("int32") + PATCH_SIDE_M * x.to_numpy("int32"),
            MAXY: places["uly"].to_numpy("int32") - PATCH_SIDE_M * y.to_numpy("int32"),
        }
    )


def _extract(names: pd.Series[Any], pattern: str) -> pd.DataFrame:
    """Columns of the groups of a pattern; null where it does not match. A tenth of the time of pandas' own."""
    found = pc.extract_regex(pa.array(names, pa.string(), from_pandas=True), pattern)
    columns: pd.DataFrame = pa.Table.from_struct_array(found).to_pandas()
    return columns
