"""Converting the published trees to a Zarr store, one group per tile."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from reben_dask.conversion.pairing import LeftOut, Pairs, add_partners
from reben_dask.conversion.processes import in_processes
from reben_dask.conversion.reading import Entry, Images, Source, inputs_of, read_patch, sources_of
from reben_dask.conversion.tiles import TILE_M, Patch, Tile, divide_into_tiles
from reben_dask.errors import InputError
from reben_dask.formats.bands import BANDS, by_resolution
from reben_dask.formats.cube import CubeLayout
from reben_dask.grid import PatchGrid
from reben_dask.sources.published.trees import MAPS, S1, S2, Kind, PublishedTree
from reben_dask.stores.cubes_convert import Block, Pixels, Written, divide, write_block, write_cubes


@dataclass(frozen=True)
class CubePlan:
    """What goes where in a Zarr store.

    Parameters
    ----------
    sources : tuple of Source
        Where patches are read from.
    blocks : tuple of Block
        All blocks, those of a tile one after the other.
    inputs : mapping
        What the store is made from, by which a conversion that was interrupted is known again.
    left_out : LeftOut
        Who has no partner, where Sentinel-1 goes with others.
    """

    sources: tuple[Source, ...]
    blocks: tuple[Block[Patch], ...]
    inputs: Mapping[str, Any]
    left_out: LeftOut

    @property
    def patches(self) -> int:
        """Number of patches."""
        return sum(len(block.patches) for block in self.blocks)


def plan_cubes(trees: Sequence[PublishedTree], workers: int, pairs: Pairs | None = None) -> CubePlan:
    """Find out what goes where in a Zarr store, from the names of patches and where they lie.

    Sentinel-1 that is alone has a group for each scene and tile. Beside others it goes where its partners are.

    Parameters
    ----------
    trees : sequence of PublishedTree
        At most one of each kind. The groups have a node for each kind, and no other.
    workers : int
        Processes that look where patches lie, if there are many.
    pairs : Pairs, optional
        Which Sentinel-1 patch goes with which other; needed where there are both.

    Raises
    ------
    InputError
        If patches do not lie where their names or their partners say, or if nothing says which are partners.
    """
    sources = sources_of(trees)
    others, radar = _entries(trees, (S2, MAPS)), _entries(trees, (S1,))
    tiles, left_out = divide_into_tiles(sources, others or radar, workers), LeftOut()
    if others and radar:
        if pairs is None:
            raise InputError("Nothing says which Sentinel-1 patches go with which others; give pairs.")
        tiles, left_out = add_partners(sources, tiles, radar, pairs, workers)
    blocks = [block for tile in tiles for block in divide(_layout(tile, sources), tile.patches)]
    inputs = inputs_of(trees, "Zarr")
    if pairs is not None:
        inputs["pairs"] = [str(file.resolve()) for file in pairs.files]
    return CubePlan(sources, tuple(blocks), inputs, left_out)


def convert_to_cubes(
    plan: CubePlan, destination: Path, workers: int, advance: Callable[[int], None] = lambda _: None
) -> int:
    """Write a Zarr store with the pixels of all patches, or go on with one.

    Parameters
    ----------
    plan : CubePlan
        What goes where.
    destination : Path
        The store, which appears when it is complete.
    workers : int
        Processes that read and write.
    advance : callable
        Called with a number of patches when they are written.

    Returns
    -------
    int
        Number of tiles.

    Raises
    ------
    InputError
        If files are damaged or are not as those of their kind; all other blocks are kept for the next attempt.
    OutputError
        See :func:`~reben_dask.stores.cubes_convert.write_cubes`.
    """

    def write(store: Path, missing: Iterable[Block[Patch]]) -> Generator[Written[Patch]]:
        with closing(in_processes(partial(_write, plan.sources, store), missing, workers)) as results:
            yield from results

    return write_cubes(destination, plan.inputs, plan.blocks, write, advance)


def _entries(trees: Sequence[PublishedTree], kinds: Sequence[Kind]) -> list[Entry]:
    return [Entry(number, patch) for number, tree in enumerate(trees) if tree.kind in kinds for patch in tree.patches]


def _layout(tile: Tile, sources: Sequence[Source]) -> CubeLayout:
    """Layout of a tile's group, with its nodes as in the stores that a job makes."""
    kinds = [source.kind for source in sources]
    polarisations = tuple(S1.resolution_m) if S1 in kinds else ()
    grid = PatchGrid(*tile.place, TILE_M)
    return CubeLayout(
        tile.name, grid, by_resolution(BANDS if S2 in kinds else ()), {}, polarisations, has_map=MAPS in kinds
    )


def _write(sources: Sequence[Source], store: Path, block: Block[Patch]) -> Written[Patch]:
    """What a worker does: read the patches of a block and write its shards."""
    patches = ((x, y, _images(sources, patch)) for x, y, patch in block.patches)
    try:
        write_block(store, block.layout, block.corner, patches)
    except InputError as error:
        return block, error
    return block, None


def _images(sources: Sequence[Source], patch: Patch) -> Pixels:
    images: Images = {}
    for entry in patch:
        images |= read_patch(sources[entry.source], entry.patch)
    return images
