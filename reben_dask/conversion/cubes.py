"""Converting the published trees to a Zarr store, one group per tile."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from reben_dask.conversion.processes import in_processes
from reben_dask.conversion.reading import Entry, Images, Source, inputs_of, read_patch, sources_of
from reben_dask.conversion.tiles import Patch, divide_into_tiles
from reben_dask.errors import InputError
from reben_dask.sources.published.trees import PublishedTree
from reben_dask.stores.cubes_convert import Block, Pixels, Written, divide, write_block, write_cubes


def convert_to_cubes(
    trees: Sequence[PublishedTree],
    destination: Path,
    workers: int,
    *,
    begin: Callable[[int], None] = lambda _: None,
    advance: Callable[[int], None] = lambda _: None,
) -> int:
    """Write a Zarr store with the bands and reference maps of all patches, or go on with one.

    Parameters
    ----------
    trees : sequence of PublishedTree
        Sentinel-2, reference maps, or both.
    destination : Path
        The store, which appears when it is complete.
    workers : int
        Processes that read and write.
    begin : callable
        Called with the number of patches when it is known, before the first is written.
    advance : callable
        Called with a number of patches when they are written.

    Returns
    -------
    int
        Number of tiles.

    Raises
    ------
    InputError
        If files are damaged, are not as those of their kind, or do not lie where their names say.
    OutputError
        See :func:`~reben_dask.stores.cubes_convert.write_cubes`.
    """
    sources = sources_of(trees)
    entries = [Entry(number, patch) for number, tree in enumerate(trees) for patch in tree.patches]
    tiles = divide_into_tiles(sources, entries, workers)
    blocks = [block for layout, patches in tiles for block in divide(layout, patches)]
    begin(sum(len(block.patches) for block in blocks))

    def write(store: Path, missing: Iterable[Block[Patch]]) -> Generator[Written[Patch]]:
        with closing(in_processes(partial(_write, sources, store), missing, workers)) as results:
            yield from results

    return write_cubes(destination, inputs_of(trees, "Zarr"), blocks, write, advance)


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
