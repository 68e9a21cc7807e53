"""Where the demo region lies: two overlapping tiles of UTM zone 33N, and the land-cover map around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from reben_dask.grid import PatchGrid, ShapeYX

if TYPE_CHECKING:
    from collections.abc import Iterator

Axis = npt.NDArray[np.float64]
"""Coordinates of the columns or of the rows of a grid, in metres."""

EPSG = 32633
"""WGS 84 / UTM zone 33N, the system of both tiles."""

SEED = 33_105
"""First word of every random stream: with it, the same region has the same pixels everywhere."""

PIXEL_M = 10


class Box(NamedTuple):
    """A rectangle in the metres of :data:`EPSG`."""

    west: float
    south: float
    east: float
    north: float

    def grown(self, margin: float) -> Box:
        """Return the rectangle with ``margin`` metres more on every side."""
        return Box(self.west - margin, self.south - margin, self.east + margin, self.north + margin)


@dataclass(frozen=True, slots=True)
class Tile:
    """A Sentinel-2 tile.

    Parameters
    ----------
    mgrs : str
        Name without the leading ``T``, such as ``33UVP``.
    ulx, uly : int
        Upper-left corner in metres of :data:`EPSG`.
    side_px : int
        Width and height in pixels of 10 m.
    """

    mgrs: str
    ulx: int
    uly: int
    side_px: int

    @property
    def side_m(self) -> int:
        """Width and height in metres."""
        return self.side_px * PIXEL_M

    @property
    def box(self) -> Box:
        """The square that the tile covers."""
        return Box(self.ulx, self.uly - self.side_m, self.ulx + self.side_m, self.uly)

    @property
    def grid(self) -> PatchGrid:
        """Complete patches of the tile."""
        return PatchGrid(EPSG, self.ulx, self.uly, ShapeYX(self.side_m, self.side_m))

    def eastings(self, halo: int = 0) -> Axis:
        """Centres of the 10 m columns, with ``halo`` columns more on both sides."""
        return self.ulx + PIXEL_M * np.arange(-halo + 0.5, self.side_px + halo)

    def northings(self, halo: int = 0) -> Axis:
        """Centres of the 10 m rows from north to south, with ``halo`` rows more on both sides."""
        return self.uly - PIXEL_M * np.arange(-halo + 0.5, self.side_px + halo)


@dataclass(frozen=True, slots=True)
class Layout:
    """Both tiles, and how finely the map around them is drawn.

    Parameters
    ----------
    west, east : Tile
        Neighbours in one row of the tiling grid; they overlap.
    block_px : dict of int to int
        Side of the JPEG 2000 blocks at each resolution.
    map_margin_m : float
        How far the land-cover map reaches beyond the tiles.
    parcel_m : float
        Mean side of a parcel of one land cover; neighbours of one class merge. The full-size region has long, gentle
        gradients, so that more of its neighbours merge.
    """

    west: Tile
    east: Tile
    block_px: dict[int, int]
    map_margin_m: float
    parcel_m: float

    @property
    def tiles(self) -> tuple[Tile, Tile]:
        """Both tiles, from west to east."""
        return (self.west, self.east)

    @property
    def region(self) -> Box:
        """The rectangle that both tiles cover together."""
        west, east = self.west.box, self.east.box
        return Box(west.west, west.south, east.east, west.north)

    @property
    def map_box(self) -> Box:
        """The rectangle of the land-cover map."""
        return self.region.grown(self.map_margin_m)

    @property
    def side_m(self) -> int:
        """Side of a tile: the unit in which the landscape is laid out."""
        return self.west.side_m


def strips(rows: int, height: int = 300) -> Iterator[slice]:
    """Cut ``rows`` rows into slices of ``height`` rows, so that memory does not grow with the region.

    The usual height is a multiple of six, which cuts no pixel of 60 m.
    """
    for start in range(0, rows, height):
        yield slice(start, min(start + height, rows))


def small_layout() -> Layout:
    """Two tiles of 10.2 km: eight and a half patches, so that a left-over strip exists; 900 m of overlap."""
    return Layout(
        west=Tile("33UVP", 490_680, 5_400_000, 1020),
        east=Tile("33UWP", 499_980, 5_400_000, 1020),
        block_px={10: 512, 20: 512, 60: 512},
        map_margin_m=900,
        parcel_m=350,
    )


def full_layout() -> Layout:
    """Two tiles of 109.8 km at the corners that the real tiling grid gives them; 9,780 m of overlap."""
    return Layout(
        west=Tile("33UVP", 399_960, 5_400_000, 10_980),
        east=Tile("33UWP", 499_980, 5_400_000, 10_980),
        block_px={10: 1024, 20: 640, 60: 192},
        map_margin_m=1500,
        parcel_m=256,
    )
