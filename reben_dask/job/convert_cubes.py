"""Conversion of the published trees to a Zarr store, one group per tile."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from reben_dask.errors import InputError, OutputError
from reben_dask.formats.bands import POLARISATIONS, ImageKind, by_resolution
from reben_dask.formats.cube import CubeLayout, shard_patches
from reben_dask.formats.dataset import CUBES
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.job.convert import FAILURES, Count, Run, batches, incomplete, inputs_of
from reben_dask.sources.published.pairs import Pairs
from reben_dask.sources.published.tiles import (
    TILE_M,
    Images,
    LeftOut,
    Place,
    add_partners,
    divide_into_tiles,
    read_place,
)
from reben_dask.sources.published.trees import PublishedPatch, PublishedTree, read_patch
from reben_dask.stores.cubes import consolidate_store, create_cube, create_store, write_block
from reben_dask.workspace import Workspace

PLACES_PER_TASK = 1_024


@dataclass(frozen=True)
class Block:
    """Patches that fill whole shards: all shards, of all arrays of a tile, that start at the same patch."""

    layout: CubeLayout
    """Layout of the tile."""
    corner: ShapeYX
    """Row and column of the first patch."""
    patches: tuple[tuple[int, int, Images], ...]
    """Column and row of each existing patch, and its images."""

    @property
    def name(self) -> str:
        """Name of the block."""
        return f"{self.layout.group}-{self.corner.y}-{self.corner.x}"


@dataclass(frozen=True)
class CubePlan:
    """Blocks of a Zarr store, and the patches of each."""

    blocks: Sequence[Block]
    """All blocks, those of a tile one after the other."""
    inputs: Mapping[str, Any]
    """Inputs as JSON, by which an unfinished conversion is recognized."""
    left_out: LeftOut
    """Patches without partners, where Sentinel-1 goes with others."""

    @property
    def patches(self) -> int:
        """Number of patches."""
        return sum(len(block.patches) for block in self.blocks)


def plan_cubes(trees: Sequence[PublishedTree], run: Run, pairs: Pairs | None = None) -> CubePlan:
    """Plan a Zarr store from the names and positions of patches.

    Sentinel-1 alone has a group for each scene and tile. With other trees, it is placed beside its partners.

    Parameters
    ----------
    trees : sequence of PublishedTree
        At most one of each kind. The groups have a node for each kind, and no other.
    run : callable
        Runs tasks, see :func:`task_runner`.
    pairs : Pairs, optional
        Published pairs; needed for Sentinel-1 beside others.

    Raises
    ------
    InputError
        If positions contradict the names or partners of patches, or if pairs are needed.
    """
    find_places = partial(_find_places, run)
    others = [patch for tree in trees if tree.kind is not ImageKind.S1 for patch in tree.patches]
    sentinel1 = [patch for tree in trees if tree.kind is ImageKind.S1 for patch in tree.patches]
    tiles, left_out = divide_into_tiles(others or sentinel1, find_places), LeftOut()
    if others and sentinel1:
        if pairs is None:
            raise InputError("Sentinel-1 patches cannot be matched with the others without pairs; give pairs.")
        left_out = add_partners(tiles, sentinel1, pairs, find_places)
    kinds, bands = {tree.kind for tree in trees}, [band for tree in trees for band in tree.bands]
    layouts = [
        CubeLayout(
            tile.name,
            PatchGrid(*tile.place, TILE_M),
            by_resolution(bands),
            {},
            POLARISATIONS if ImageKind.S1 in kinds else (),
            has_map=ImageKind.MAP in kinds,
        )
        for tile in tiles
    ]
    blocks = [block for tile, layout in zip(tiles, layouts, strict=True) for block in divide(layout, tile.patches)]
    inputs = inputs_of(trees, "Zarr") | ({"pairs": [str(file.resolve()) for file in pairs.files]} if pairs else {})
    return CubePlan(blocks, inputs, left_out)


def divide(layout: CubeLayout, patches: Mapping[tuple[int, int], Images]) -> list[Block]:
    """Divide the patches of a tile, by column and row, into blocks, in the order of their corners."""
    step = shard_patches(layout.grid)
    blocks: dict[ShapeYX, list[tuple[int, int, Images]]] = {}
    for (x, y), images in sorted(patches.items()):
        blocks.setdefault(ShapeYX(y - y % step, x - x % step), []).append((x, y, images))
    return [Block(layout, corner, tuple(found)) for corner, found in sorted(blocks.items())]


def convert_to_cubes(plan: CubePlan, destination: Path, run: Run, advance: Count = lambda _: None) -> int:
    """Write or resume a Zarr store with the pixels of all patches, one group per tile.

    Parameters
    ----------
    plan : CubePlan
        Its blocks.
    destination : Path
        The store, which appears when it is complete.
    run : callable
        Runs tasks, see :func:`task_runner`.
    advance : callable
        Called with numbers of patches when they are written.

    Returns
    -------
    int
        Number of tiles.

    Raises
    ------
    InputError
        If files are damaged or not as those of their kind; all other blocks are kept for the next attempt.
    OutputError
        If there is something at ``destination``, or if an earlier attempt was made from other inputs.
    """
    with Workspace(destination).resumed(plan.inputs) as workspace:
        building, state = workspace.building, workspace.state
        store, done = building / CUBES, state.done("blocks")
        create_store(store, {})
        digests = {block.name: _digest(block) for block in plan.blocks}
        if done.keys() - digests.keys():
            raise OutputError(
                f"{building} holds patches that are no longer in the inputs; delete it, or give another folder."
            )
        missing = [block for block in plan.blocks if done.get(block.name) != digests[block.name]]
        advance(plan.patches - sum(len(block.patches) for block in missing))
        failures: list[str] = []
        for block, failure in run(partial(_write_block, store), missing):
            if failure is None:
                state.mark_done("blocks", block.name, digests[block.name])
                advance(len(block.patches))
            else:
                failures.append(failure)
            if len(failures) >= FAILURES:
                break
        if failures:
            many = f"{len(failures):,} of {len(plan.blocks):,} blocks of patches could not be written."
            raise InputError(incomplete(f"{failures[0]} {many}", building))
        tiles = len({block.layout.group for block in plan.blocks})
        consolidate_store(store, tiles)
        workspace.release(store)
    return tiles


def _find_places(run: Run, patches: Sequence[PublishedPatch]) -> dict[PublishedPatch, Place]:
    places: dict[PublishedPatch, Place] = {}
    for batch, found in run(_read_places, batches(patches, PLACES_PER_TASK)):
        places.update(zip(batch, found, strict=True))
    return places


def _read_places(patches: Sequence[PublishedPatch]) -> list[Place]:
    return [read_place(patch) for patch in patches]


def _write_block(store: Path, block: Block) -> str | None:
    """Write all shards of a block; return the error of a damaged file, if any."""
    create_cube(store, block.layout)
    pixels = ((x, y, dict(chain(*(read_patch(image).items() for image in images)))) for x, y, images in block.patches)
    try:
        write_block(store, block.layout, block.corner, pixels)
    except InputError as error:
        return str(error)
    return None


def _digest(block: Block) -> str:
    """Identify the patches that go into a block."""
    content = [(x, y, [(image.kind.value, image.name) for image in images]) for x, y, images in block.patches]
    return hashlib.sha256(repr(content).encode()).hexdigest()
