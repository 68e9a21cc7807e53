"""Writing a Zarr store patch by patch, in blocks of whole shards.

A block is owned by one task: all shards, of all arrays of a tile, that begin at the same patch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from reben_dask.formats.cube import CubeArray, CubeLayout, cube_arrays, shard_patches
from reben_dask.grid import ShapeYX
from reben_dask.stores.arrays import open_array

P = TypeVar("P")

Pixels = Mapping[str, npt.NDArray[Any]]
"""Images of a patch, shape ``(y, x)``, by band or polarisation; its reference map is under ``reference_map``."""


@dataclass(frozen=True)
class Block(Generic[P]):
    """A square of patches that fills whole shards."""

    layout: CubeLayout
    """The tile."""
    corner: ShapeYX
    """Row and column of the first patch."""
    patches: tuple[tuple[int, int, P], ...]
    """Column and row of each patch that there is, and the source of its pixels."""

    @property
    def name(self) -> str:
        """Name of the block."""
        return f"{self.layout.group}-{self.corner.y}-{self.corner.x}"


def divide(layout: CubeLayout, patches: Mapping[tuple[int, int], P]) -> list[Block[P]]:
    """Divide the patches of a tile, by column and row, into blocks.

    Returns
    -------
    list of Block
        Blocks that have patches, in the order of their corners.
    """
    step = shard_patches(layout.grid)
    blocks: dict[ShapeYX, list[tuple[int, int, P]]] = {}
    for (x, y), patch in sorted(patches.items(), key=lambda item: item[0]):
        blocks.setdefault(ShapeYX(y - y % step, x - x % step), []).append((x, y, patch))
    return [Block(layout, corner, tuple(found)) for corner, found in sorted(blocks.items())]


def write_block(store: Path, layout: CubeLayout, corner: ShapeYX, patches: Iterable[tuple[int, int, Pixels]]) -> None:
    """Write all shards of a block, with fill values where there is no patch.

    Parameters
    ----------
    store : Path
        The Zarr store, in which :func:`~reben_dask.stores.cubes.create_cube` has been for this tile.
    layout : CubeLayout
        Layout of the tile's group.
    corner : ShapeYX
        Row and column of the first patch of the block.
    patches : iterable of (int, int, mapping of str to ndarray)
        Column, row and images of each patch; images that it has not keep the fill value.
    """
    grid, step = layout.grid, shard_patches(layout.grid)
    if corner.y % step or corner.x % step:
        raise ValueError(f"a block at {corner} is not a whole number of shards of {step} patches")
    sides = ShapeYX(min(step, grid.shape_yx.y - corner.y), min(step, grid.shape_yx.x - corner.x))
    images = [_BlockImage(array, corner, sides, grid.patch_px(array.resolution)) for array in cube_arrays(layout)]
    for x, y, pixels in patches:
        for image in images:
            image.place(x, y, pixels)
    for image in images:
        image.write(store / layout.group)


class _BlockImage:
    """A block of one array, in memory until all of its patches are there; ``corner`` and ``sides`` are in patches."""

    def __init__(self, array: CubeArray, corner: ShapeYX, sides: ShapeYX, patch_px: int) -> None:
        self._path, self._corner, self._sides, self._px = Path(array.node, array.name), corner, sides, patch_px
        # An array without such an axis is one image, under its own name.
        self._names = next(iter(array.axis.values()), (array.name,))
        self._pixels = np.full((len(self._names), sides.y * patch_px, sides.x * patch_px), array.fill, array.dtype)

    def place(self, x: int, y: int, pixels: Pixels) -> None:
        top, left = (y - self._corner.y) * self._px, (x - self._corner.x) * self._px
        for band, image in zip(self._names, self._pixels, strict=True):
            if band in pixels:
                image[top : top + self._px, left : left + self._px] = pixels[band]

    def write(self, group: Path) -> None:
        array = open_array(group / self._path, "r+")
        rows, columns = (
            slice(start * self._px, (start + size) * self._px)
            for start, size in zip(self._corner, self._sides, strict=True)
        )
        array[..., rows, columns] = self._pixels if array.ndim == self._pixels.ndim else self._pixels[0]
