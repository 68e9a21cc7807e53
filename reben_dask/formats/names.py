"""Names of patches: reBEN (v2), BigEarthNet v1 and Sentinel-1.

The names differ only in what stands before the indices and in their padding:

=========  ====================================================  =========
kind       example                                               padding
=========  ====================================================  =========
v2         ``S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57``  zeros
v1         ``S2A_MSIL2A_20170613T101031_26_57``                  none
S1         ``S1B_IW_GRDH_1SDV_20170612T165809_33UUP_26_57``      none
=========  ====================================================  =========
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyproj

from reben_dask.errors import InputError
from reben_dask.grid import PatchGrid

V2_NAME = "{tile}_{xx}_{yy}"
"""Names of reBEN, as a recipe writes them."""

FIRST_PIXEL_M = 5
"""From the corner of a patch to the centre of its first pixel of 10 m."""

_NAME = re.compile(r"(?P<scene>S[12][A-D]_[0-9A-Z_]+)_(?P<x>\d{1,4})_(?P<y>\d{1,4})")


class TileName(NamedTuple):
    """What a tile gives to the names of its patches.

    Parameters
    ----------
    name : str
        Product name without its last timestamp, such as ``S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP``.
    product : str
        What version 1 begins with: mission, level and sensing time; with the MGRS tile behind it, where several tiles
        of a dataset have these in common.
    """

    name: str
    product: str

    @property
    def time(self) -> str:
        """Sensing time as the name has it."""
        return self.name.split("_")[2]

    @property
    def mgrs(self) -> str:
        """MGRS tile without its ``T``."""
        return mgrs_of(self.name)


def mgrs_of(tile: str) -> str:
    """MGRS tile in the name of a tile, without its ``T``."""
    return tile.rpartition("_T")[2]


def tile_names(tiles: Sequence[str]) -> dict[str, TileName]:
    """Names of tiles, by tile, whose products are told apart among all of them."""
    short = {tile: "_".join(tile.split("_")[:3]) for tile in tiles}
    times = Counter(short.values())
    return {
        tile: TileName(tile, product if times[product] == 1 else f"{product}_T{mgrs_of(tile)}")
        for tile, product in short.items()
    }


@dataclass(frozen=True, slots=True)
class PatchName:
    """The parts of a patch name; ``str()`` gives the name back.

    Parameters
    ----------
    scene : str
        What stands before the indices: the tile (v2), or the product or scene (v1, Sentinel-1).
    x, y : int
        Column (eastwards) and row (southwards) of the patch in its tile.
    digits : int
        Width to which the indices are padded with zeros; 1 for names without padding.
    """

    scene: str
    x: int
    y: int
    digits: int = 1

    def __str__(self) -> str:
        return f"{self.scene}_{self.x:0{self.digits}d}_{self.y:0{self.digits}d}"


def parse_patch_name(name: str) -> PatchName:
    """Take a published patch name apart.

    Raises
    ------
    InputError
        If ``name`` does not end in two indices after a Sentinel-1 or Sentinel-2 scene name.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(
            f"{name!r} is not a patch name; expected a Sentinel scene name followed by _X_Y, "
            "such as S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57."
        )
    x, y = match["x"], match["y"]
    padded = any(len(index) > 1 and index.startswith("0") for index in (x, y))
    digits = max(len(x), len(y)) if padded else min(len(x), len(y))
    parsed = PatchName(match["scene"], int(x), int(y), digits)
    if str(parsed) != name:
        raise InputError(f"{name!r} is not a patch name: its indices {x} and {y} are padded differently.")
    return parsed


def patch_ids(template: str, tile: TileName, grid: PatchGrid, number: int = 1) -> list[str]:
    """Names of all patches of a grid, in the order of the grid.

    Parameters
    ----------
    template : str
        A name with fields in braces: ``tile``, ``product``, ``mgrs``, ``time``, ``grid`` (its number), ``x`` and ``y``,
        the same with zeros in front (``xx``, ``yy``), and ``lat`` and ``lon``.
    tile : TileName
        The tile.
    grid : PatchGrid
        Patches of the tile.
    number : int
        Number of the grid, counted from 1.

    Notes
    -----
    ``lat`` and ``lon`` are those of the centre of the first pixel of 10 m, in degrees with six decimals and ``_`` for
    the point. The one SeasoNet name that its documentation shows lies 5 m east and south of a corner of the patches.
    """
    if not grid.size:
        return []
    fixed = {"tile": tile.name, "product": tile.product, "mgrs": tile.mgrs, "time": tile.time, "grid": number}
    x, y = (indices.tolist() for indices in grid.indices_xy())
    places = _lonlat(grid) if "{lat}" in template else [("", "")] * grid.size
    return [
        template.format(
            **fixed, x=column, y=row, xx=f"{column:0{grid.digits}d}", yy=f"{row:0{grid.digits}d}", lat=lat, lon=lon
        )
        for column, row, (lon, lat) in zip(x, y, places, strict=True)
    ]


def _lonlat(grid: PatchGrid) -> list[tuple[str, str]]:
    minx, _, _, maxy = grid.bounds().T
    to_degrees = pyproj.Transformer.from_crs(grid.epsg, 4326, always_xy=True)
    degrees = to_degrees.transform(minx + FIRST_PIXEL_M, maxy - FIRST_PIXEL_M)
    lon, lat = ([f"{degree:.6f}".replace(".", "_") for degree in axis.tolist()] for axis in degrees)
    return list(zip(lon, lat, strict=True))
