"""Conversion of the published trees to a Zarr store, one group per tile."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from pickle import dumps, loads
from types import MappingProxyType
from typing import IO, Any

from reben_dask.errors import InputError, OutputError
from reben_dask.formats.bands import POLARISATIONS, ImageKind, by_resolution
from reben_dask.formats.cube import CubeLayout, shard_patches
from reben_dask.formats.dataset import CUBES
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.job.convert import FAILURES, Count, PublishedArchive, Run, incomplete, inputs_of
from reben_dask.job.scheduling import batches
from reben_dask.sources.published.archives import ArchivedPatch, decode_patch, read_archive
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
from reben_dask.stores.cubes import Pixels, consolidate_store, create_cube, create_store, write_block
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
    archived: ImageKind | None = None
    """Kind of all images if they are in archives; other kinds then have blocks of their own."""

    @property
    def name(self) -> str:
        """Name of the block."""
        kind = f"-{self.archived.name}" if self.archived else ""
        return f"{self.layout.group}-{self.corner.y}-{self.corner.x}{kind}"

    @property
    def written(self) -> CubeLayout:
        """Layout with the arrays that this block belongs to."""
        return _part(self.layout, self.archived) if self.archived else self.layout

    @property
    def images(self) -> set[PublishedPatch]:
        """Images of all patches."""
        return {image for _, _, images in self.patches for image in images}


@dataclass(frozen=True)
class CubePlan:
    """Blocks of a Zarr store, and the patches of each."""

    blocks: Sequence[Block]
    """All blocks, those of a tile one after the other."""
    inputs: Mapping[str, Any]
    """Inputs as JSON, by which an unfinished conversion is recognized."""
    left_out: LeftOut
    """Patches without partners, if Sentinel-1 is written beside other kinds."""

    @property
    def patches(self) -> int:
        """Number of patches."""
        return len({(block.layout.group, x, y) for block in self.blocks for x, y, _ in block.patches})

    @property
    def steps(self) -> int:
        """Number of patches in all blocks, where a patch may be in one for each kind."""
        return sum(len(block.patches) for block in self.blocks)


def plan_cubes(
    trees: Sequence[PublishedTree],
    run: Run,
    pairs: Pairs | None = None,
    places: Mapping[PublishedPatch, Place] = MappingProxyType({}),
) -> CubePlan:
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
    places : mapping of PublishedPatch to Place
        Positions of the patches in archives.

    Raises
    ------
    InputError
        If positions contradict the names or partners of patches, or if pairs are needed.
    """
    find_places = partial(_find_places, run, places)
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
    archived = [tree.kind for tree in trees if tree.archives]
    blocks = [
        block
        for tile, layout in zip(tiles, layouts, strict=True)
        for kind in (None, *archived)
        for block in divide(layout, _of_kind(tile.patches, kind, archived), kind)
    ]
    archives = [PublishedArchive(tree.kind, Path(path)) for tree in trees for path in tree.archives]
    inputs = inputs_of([tree for tree in trees if not tree.archives], "Zarr", archives)
    inputs |= {"pairs": [str(file.resolve()) for file in pairs.files]} if pairs else {}
    return CubePlan(blocks, inputs, left_out)


def _of_kind(
    patches: Mapping[tuple[int, int], Images], kind: ImageKind | None, archived: Sequence[ImageKind]
) -> dict[tuple[int, int], Images]:
    """Images in archives of a kind, or without ``kind`` those in folders, by column and row."""
    wanted = {*ImageKind} - {*archived} if kind is None else {kind}
    chosen = {xy: tuple(image for image in images if image.kind in wanted) for xy, images in patches.items()}
    return {xy: images for xy, images in chosen.items() if images}


def _part(layout: CubeLayout, kind: ImageKind) -> CubeLayout:
    """Layout of the arrays of one kind."""
    return replace(
        layout,
        bands=layout.bands if kind is ImageKind.S2 else {},
        polarisations=layout.polarisations if kind is ImageKind.S1 else (),
        has_map=kind is ImageKind.MAP,
    )


def divide(
    layout: CubeLayout, patches: Mapping[tuple[int, int], Images], archived: ImageKind | None = None
) -> list[Block]:
    """Divide the patches of a tile, by column and row, into blocks, in the order of their corners."""
    step = shard_patches(layout.grid)
    blocks: dict[ShapeYX, list[tuple[int, int, Images]]] = {}
    for (x, y), images in sorted(patches.items()):
        blocks.setdefault(ShapeYX(y - y % step, x - x % step), []).append((x, y, images))
    return [Block(layout, corner, tuple(found), archived) for corner, found in sorted(blocks.items())]


def convert_to_cubes(
    plan: CubePlan,
    destination: Path,
    run: Run,
    advance: Count = lambda _: None,
    *,
    advance_archives: Count = lambda _: None,
) -> int:
    """Write or resume a Zarr store with the pixels of all patches, one group per tile.

    Archives are read in this process, each from its beginning. A block is written when its last patch has been read;
    until then its files are in one temporary file.

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
    advance_archives : callable
        Called with numbers of megabytes of the archives that have been read.

    Returns
    -------
    int
        Number of tiles.

    Raises
    ------
    InputError
        If files are damaged or do not match their kind; all other blocks are kept for the next attempt.
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
        advance(plan.steps - sum(len(block.patches) for block in missing))
        failures: list[str] = []
        in_folders = [block for block in missing if block.archived is None]
        archived = [block for block in missing if block.archived is not None]
        written = chain(
            run(partial(_write_block, store), in_folders),
            _write_archived(store, archived, building, advance_archives),
        )
        for block, failure in written:
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


def _find_places(
    run: Run, known: Mapping[PublishedPatch, Place], patches: Sequence[PublishedPatch]
) -> dict[PublishedPatch, Place]:
    places = {patch: known[patch] for patch in patches if patch in known}
    in_folders = [patch for patch in patches if patch not in known]
    for batch, found in run(_read_places, batches(in_folders, PLACES_PER_TASK)):
        places.update(zip(batch, found, strict=True))
    return places


def _read_places(patches: Sequence[PublishedPatch]) -> list[Place]:
    return [read_place(patch) for patch in patches]


def _write_block(store: Path, block: Block) -> str | None:
    """Write all shards of a block; return the error of a damaged file, if any."""
    return _fill_block(store, block, read_patch)


def _fill_block(store: Path, block: Block, read: Callable[[PublishedPatch], Pixels]) -> str | None:
    create_cube(store, block.layout)
    pixels = ((x, y, dict(chain(*(read(image).items() for image in images)))) for x, y, images in block.patches)
    try:
        write_block(store, block.written, block.corner, pixels)
    except InputError as error:
        return str(error)
    return None


def _write_archived(
    store: Path, blocks: Sequence[Block], folder: Path, advance: Count
) -> Iterator[tuple[Block, str | None]]:
    """Write blocks from archives as their patches come; yield each with the error of a damaged file, if any."""
    blocks_of: dict[PublishedPatch, list[Block]] = {}
    for block in blocks:
        for image in block.images:
            blocks_of.setdefault(image, []).append(block)
    left = {block.name: len(block.images) for block in blocks}
    archives = dict.fromkeys((image.above, image.kind) for image in blocks_of)
    with tempfile.TemporaryFile(dir=folder) as file:
        spool = _Spool(file)
        for path, kind in archives:
            for archived in read_archive(Path(path), kind, advance):
                for block in blocks_of.get(archived.patch, ()):
                    spool.add(block.name, archived)
                    left[block.name] -= 1
                    if not left[block.name]:
                        yield block, _fill_block(store, block, partial(spool.read, block.name))
                        spool.release(block.name)


class _Spool:
    """Files of patches on disk until their block is complete; the file is emptied when no block is waiting."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: dict[str, dict[PublishedPatch, tuple[int, int]]] = {}

    def add(self, block: str, archived: ArchivedPatch) -> None:
        content = dumps(archived)
        start = self._file.seek(0, os.SEEK_END)
        self._file.write(content)
        self._places.setdefault(block, {})[archived.patch] = start, len(content)

    def read(self, block: str, patch: PublishedPatch) -> Pixels:
        start, size = self._places[block][patch]
        self._file.seek(start)
        archived: ArchivedPatch = loads(self._file.read(size))  # noqa: S301 - bytes of this process
        return decode_patch(archived)

    def release(self, block: str) -> None:
        del self._places[block]
        if not self._places:
            self._file.truncate(0)


def _digest(block: Block) -> str:
    """Identify the patches that go into a block."""
    content = [(x, y, [(image.kind.value, image.name) for image in images]) for x, y, images in block.patches]
    return hashlib.sha256(repr(content).encode()).hexdigest()
