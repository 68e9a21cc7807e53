"""Converting the published trees to an LMDB, one value for each patch."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from reben_dask.conversion.processes import in_processes
from reben_dask.conversion.reading import Entry, Source, inputs_of, read_patch, sources_of
from reben_dask.errors import InputError
from reben_dask.formats.lmdb import encode_bands, encode_reference_map, reference_map_key
from reben_dask.grid import PATCH_SIDE_M
from reben_dask.sources.published.trees import MAPS, Kind, PatchFolder, PublishedTree
from reben_dask.stores.batches import batched
from reben_dask.stores.lmdb_convert import Made, Values, write_values
from reben_dask.stores.lmdb_environment import value_pages_bytes

ENTRIES_PER_TASK = 16
"""About 2 MB of values, which is what a worker holds and hands over at once."""

_HEADER_BYTES = 1_024


def convert_to_lmdb(
    trees: Sequence[PublishedTree],
    destination: Path,
    workers: int,
    advance: Callable[[int], None] = lambda _: None,
) -> int:
    """Write an LMDB environment with the values of all patches, as rico-hdl does, or go on with one.

    Parameters
    ----------
    trees : sequence of PublishedTree
        At most one of each kind.
    destination : Path
        Folder of the environment, which appears when it is complete.
    workers : int
        Processes that read and encode.
    advance : callable
        Called with a number of entries when they are on disk.

    Returns
    -------
    int
        Number of entries.

    Raises
    ------
    InputError
        If files are damaged or are not as those of their kind; all other entries are kept for the next attempt.
    OutputError
        See :func:`~reben_dask.stores.lmdb_convert.write_values`.
    """
    sources = sources_of(trees)
    streams = [[Entry(number, patch) for patch in tree.patches] for number, tree in enumerate(trees)]
    key = partial(_key, sources)
    entries = list(heapq.merge(*streams, key=key))

    def make(missing: Iterable[Entry]) -> Generator[Made]:
        tasks = batched(missing, ENTRIES_PER_TASK)
        with closing(in_processes(partial(_encode, sources), tasks, workers)) as results:
            for values in results:
                yield from values

    values = Values(entries, key, make, lmdb_bytes(trees))
    return write_values(destination, inputs_of(trees, "LMDB"), values, advance)


def lmdb_bytes(trees: Sequence[PublishedTree]) -> int:
    """Expected size of the LMDB of some trees."""
    return sum(len(tree.patches) * _value_bytes(tree.kind) for tree in trees)


def _key(sources: Sequence[Source], entry: Entry) -> bytes:
    name = entry.patch.name
    return (reference_map_key(name) if sources[entry.source].kind == MAPS else name).encode()


def _encode(sources: Sequence[Source], entries: Sequence[Entry]) -> list[Made]:
    """What a worker does: read and encode some patches. One that fails does not keep the others from being written."""
    return [(_key(sources, entry), _value(sources[entry.source], entry.patch)) for entry in entries]


def _value(source: Source, patch: PatchFolder) -> bytes | InputError:
    try:
        images = read_patch(source, patch)
    except InputError as error:
        return error
    return encode_reference_map(*images.values()) if source.kind == MAPS else encode_bands(images)


def _value_bytes(kind: Kind) -> int:
    sides = (PATCH_SIDE_M // resolution for resolution in kind.resolution_m.values())
    pixels = sum(side * side for side in sides)
    return value_pages_bytes(pixels * np.dtype(kind.dtype).itemsize + _HEADER_BYTES)
