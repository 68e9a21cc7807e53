"""Writing a Zarr store from patches instead of tiles, in blocks of whole shards; resumable.

A block is what one task owns: all shards, of all arrays of a tile, that begin at the same patch. When it is written,
this is noted with the patches that went into it, so that the next attempt goes on with the others. A block that was
interrupted is written again, all of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from reben_dask.errors import InputError, OutputError
from reben_dask.formats.cube import CubeArray, CubeLayout, cube_arrays, shard_patches
from reben_dask.grid import ShapeYX
from reben_dask.stores.arrays import open_array
from reben_dask.stores.building import FAILURES, publish, unfinished
from reben_dask.stores.cubes import consolidate_store, create_cube, create_store

P = TypeVar("P")

_STORE, _NOTES = "cubes.zarr", "blocks"

Pixels = Mapping[str, npt.NDArray[Any]]
"""Images of a patch, shape ``(y, x)``, by band or polarisation; its reference map is under ``reference_map``."""


@dataclass(frozen=True)
class Block(Generic[P]):
    """A square of patches that fills whole shards.

    Parameters
    ----------
    layout : CubeLayout
        The tile.
    corner : ShapeYX
        Row and column of its first patch.
    patches : tuple of (int, int, P)
        Column, row, and whatever the pixels of the patch are made from, of the patches that there are.
    """

    layout: CubeLayout
    corner: ShapeYX
    patches: tuple[tuple[int, int, P], ...]

    @property
    def name(self) -> str:
        """Names the block and what it is made from."""
        made_from = hashlib.sha256(repr(self.patches).encode()).hexdigest()[:16]
        return f"{self.place}-{made_from}"

    @property
    def place(self) -> str:
        """Names the block."""
        return f"{self.layout.group}-{self.corner.y}-{self.corner.x}"


Written = tuple[Block[P], InputError | None]
"""A block, and the reason why it could not be written, if it could not."""


def divide(layout: CubeLayout, patches: Mapping[tuple[int, int], P]) -> list[Block[P]]:
    """Divide the patches of a tile into blocks.

    Parameters
    ----------
    layout : CubeLayout
        The tile.
    patches : mapping of (int, int)
        What the pixels of the patch in a column and row are made from.

    Returns
    -------
    list of Block
        Those in which there are patches, in the order of their corners.
    """
    step = shard_patches(layout.grid)
    blocks: dict[ShapeYX, list[tuple[int, int, P]]] = {}
    for (x, y), patch in sorted(patches.items(), key=lambda item: item[0]):
        blocks.setdefault(ShapeYX(y - y % step, x - x % step), []).append((x, y, patch))
    return [Block(layout, corner, tuple(found)) for corner, found in sorted(blocks.items())]


def write_block(store: Path, layout: CubeLayout, corner: ShapeYX, patches: Iterable[tuple[int, int, Pixels]]) -> None:
    """Write a block: all of its shards, with fill values where there is no patch.

    Parameters
    ----------
    store : Path
        The Zarr store, in which :func:`~reben_dask.stores.cubes.create_cube` has been for this tile.
    layout : CubeLayout
        What the tile's group holds.
    corner : ShapeYX
        Row and column of the first patch of the block.
    patches : iterable of (int, int, mapping of str to ndarray)
        Column, row and images of each patch; what it has no image of keeps the fill value.
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


def write_cubes(
    destination: Path,
    inputs: Mapping[str, Any],
    blocks: Sequence[Block[P]],
    write: Callable[[Path, Iterable[Block[P]]], Generator[Written[P]]],
    advance: Callable[[int], None] = lambda _: None,
) -> int:
    """Write a Zarr store, or go on with one that was interrupted.

    Parameters
    ----------
    destination : Path
        The store. It appears when it is complete; until then what there is stands in a hidden folder beside it.
    inputs : mapping
        What the pixels are made from, as JSON knows it; an attempt goes on only with one from the same.
    blocks : sequence of Block
        All blocks, those of a tile one after the other.
    write : callable
        Writes blocks to a store, see :func:`write_block`, in any order. The group of a block's tile is there when the
        block is asked for; blocks that an earlier attempt has written are not.
    advance : callable
        Called with a number of patches when they are written.

    Returns
    -------
    int
        Number of tiles.

    Raises
    ------
    InputError
        If blocks could not be written; the others are written first.
    OutputError
        If there is something at ``destination``, or if an earlier attempt was made from other inputs.
    """
    with unfinished(destination, inputs) as building:
        store, notes = building / _STORE, _Notes(building / _NOTES)
        create_store(store, {})
        missing = notes.missing(blocks)
        advance(sum(len(block.patches) for block in blocks) - sum(len(block.patches) for block in missing))
        failures: list[InputError] = []
        with closing(write(store, _with_groups(store, missing))) as results:
            for block, failure in results:
                if failure is None:
                    notes.add(block)
                    advance(len(block.patches))
                else:
                    failures.append(failure)
                if len(failures) == FAILURES:
                    break
        if failures:
            raise InputError(
                f"{failures[0]} {len(failures):,} of {len(blocks):,} blocks of patches could not be written; the "
                f"others are kept in {building}: give the same command again to go on with them."
            )
        tiles = len({block.layout.group for block in blocks})
        consolidate_store(store, tiles)
        publish(store, destination)
    return tiles


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


class _Notes:
    """Which blocks are written: an empty file for each, as a file that is being made is never half there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def missing(self, blocks: Sequence[Block[P]]) -> list[Block[P]]:
        there = {path.name for path in self._folder.iterdir()}
        if {name.rpartition("-")[0] for name in there} - {block.place for block in blocks}:
            raise OutputError(
                f"{self._folder.parent} holds patches that are not in the inputs any more; delete it, or give another "
                "folder."
            )
        return [block for block in blocks if block.name not in there]

    def add(self, block: Block[P]) -> None:
        (self._folder / block.name).touch()


def _with_groups(store: Path, blocks: Iterable[Block[P]]) -> Iterator[Block[P]]:
    tile = None
    for block in blocks:
        if block.layout.group != tile:
            create_cube(store, block.layout)
            tile = block.layout.group
        yield block
