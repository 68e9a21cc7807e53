"""Patch grid of a tile: conversion between pixels, metres and patch indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T", bound=np.generic)

PATCH_SIDE_M = 1200
"""Side of a patch in metres: 120 px of 10 m, 60 px of 20 m, 20 px of 60 m (reBEN, section II)."""


class ShapeYX(NamedTuple):
    """Shape in rows (southwards), then columns (eastwards)."""

    y: int
    x: int


@dataclass(frozen=True, slots=True)
class PatchGrid:
    """Complete square patches of a tile, counted from its upper-left corner.

    ``x`` is the column (eastwards), ``y`` the row (southwards). Name order is ``x`` first, then ``y``. The strip left
    over at the right and lower edge belongs to the tile, but to no patch.

    Parameters
    ----------
    ulx, uly : int
        Upper-left corner of the tile in metres of the UTM zone ``epsg``.
    tile_m : ShapeYX
        Height and width of the whole tile in metres, left-over strip included.
    offset_m : int
        Shift of the first patch eastwards and southwards; half a patch for SeasoNet's second grid.

    Examples
    --------
    >>> PatchGrid(32633, 300000, 5800020, ShapeYX(109_800, 109_800)).shape_yx
    ShapeYX(y=91, x=91)
    """

    epsg: int
    ulx: int
    uly: int
    tile_m: ShapeYX
    patch_m: int = PATCH_SIDE_M
    offset_m: int = 0

    @property
    def shape_yx(self) -> ShapeYX:
        """Rows and columns of complete patches."""
        rows, columns = (max(0, side - self.offset_m) // self.patch_m for side in self.tile_m)
        return ShapeYX(rows, columns)

    @property
    def size(self) -> int:
        """Number of complete patches."""
        return self.shape_yx.y * self.shape_yx.x

    @property
    def digits(self) -> int:
        """Width of an index in a patch name: the digits of the largest index (two for 91 x 91)."""
        return len(str(max(*self.shape_yx, 1) - 1))

    def patch_px(self, resolution: int) -> int:
        """Side of a patch in pixels of ``resolution`` metres; ``ValueError`` if it is not a whole number."""
        return _whole_pixels(self.patch_m, resolution)

    def offset_px(self, resolution: int) -> int:
        """Shift of the first patch in pixels of ``resolution`` metres; ``ValueError`` if it is not a whole number."""
        return _whole_pixels(self.offset_m, resolution)

    def shape_px_yx(self, resolution: int) -> ShapeYX:
        """Height and width in pixels of the area that complete patches cover."""
        side = self.patch_px(resolution)
        return ShapeYX(self.shape_yx.y * side, self.shape_yx.x * side)

    def indices_xy(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Column and row of every patch, in name order."""
        columns, rows = np.meshgrid(np.arange(self.shape_yx.x), np.arange(self.shape_yx.y), indexing="ij")
        return columns.ravel().astype(np.int32), rows.ravel().astype(np.int32)

    def bounds(self) -> npt.NDArray[np.int64]:
        """Exact bounds ``(minx, miny, maxx, maxy)`` in metres of every patch, shape ``(size, 4)``, in name order."""
        x, y = self.indices_xy()
        minx = self.ulx + self.offset_m + x.astype(np.int64) * self.patch_m
        maxy = self.uly - self.offset_m - y.astype(np.int64) * self.patch_m
        return np.column_stack([minx, maxy - self.patch_m, minx + self.patch_m, maxy])

    def covered_bounds(self) -> tuple[int, int, int, int]:
        """Bounds ``(minx, miny, maxx, maxy)`` in metres of the area that complete patches cover."""
        height, width = (n * self.patch_m for n in self.shape_yx)
        left, top = self.ulx + self.offset_m, self.uly - self.offset_m
        return (left, top - height, left + width, top)

    def tile_bounds(self) -> tuple[int, int, int, int]:
        """Bounds ``(minx, miny, maxx, maxy)`` in metres of the whole tile."""
        return (self.ulx, self.uly - self.tile_m.y, self.ulx + self.tile_m.x, self.uly)

    def border_distance(self) -> npt.NDArray[np.float64]:
        """Distance in metres of every patch centre from the nearest border of the whole tile, in name order."""
        x, y = self.indices_xy()
        east = self.offset_m + (x + 0.5) * self.patch_m
        south = self.offset_m + (y + 0.5) * self.patch_m
        nearest: npt.NDArray[np.float64] = np.minimum.reduce([east, self.tile_m.x - east, south, self.tile_m.y - south])
        return nearest

    def cut(self, pixels: npt.NDArray[T], resolution: int) -> npt.NDArray[T]:
        """Area that complete patches cover, as a view of an image from the tile's upper-left corner."""
        start = self.offset_px(resolution)
        height, width = self.shape_px_yx(resolution)
        return pixels[start : start + height, start : start + width]

    def blocks(self, pixels: npt.NDArray[T], resolution: int) -> npt.NDArray[T]:
        """Cut an image into a view of shape ``(patch_y, patch_x, y, x)``.

        ``pixels``, shape ``(y, x)``, starts at the tile's upper-left corner, with or without the left-over strip.
        """
        side = self.patch_px(resolution)
        cut = self.cut(pixels, resolution).reshape(self.shape_yx.y, side, self.shape_yx.x, side)
        return cut.swapaxes(1, 2)

    def in_name_order(self, values_yx: npt.NDArray[T]) -> npt.NDArray[T]:
        """Flatten per-patch values of shape ``(patch_y, patch_x, ...)`` to name order."""
        return values_yx.swapaxes(0, 1).reshape(self.size, *values_yx.shape[2:])


def extent_px_yx(grids: Sequence[PatchGrid], resolution: int) -> ShapeYX:
    """Height and width in pixels, from the tile's upper-left corner, that all grids of a tile cover together."""
    reaches = [[grid.offset_px(resolution) + covered for covered in grid.shape_px_yx(resolution)] for grid in grids]
    return ShapeYX(*map(max, zip(*reaches, strict=True)))


def _whole_pixels(metres: int, resolution: int) -> int:
    pixels, rest = divmod(metres, resolution)
    if rest:
        raise ValueError(f"{metres} m is not a whole number of {resolution} m pixels")
    return pixels
