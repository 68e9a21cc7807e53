"""Converting the published trees to an LMDB: how they are read meets how what is made of them is written."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reben_dask.errors import InputError
from reben_dask.job.processes import in_processes
from reben_dask.patches.grid import PATCH_SIDE_M
from reben_dask.sources.published.tiff import read_tiff
from reben_dask.sources.published.trees import MAPS, Kind, PatchFolder, PublishedTree, band_files
from reben_dask.stores.batches import batched
from reben_dask.stores.lmdb_convert import Made, Values, write_values
from reben_dask.stores.lmdb_environment import value_pages_bytes
from reben_dask.stores.lmdb_values import encode_bands, encode_reference_map, reference_map_key

ENTRIES_PER_TASK = 16
"""About 2 MB of values, which is what a worker holds and hands over at once."""

_HEADER_BYTES = 1_024

Images = dict[str, npt.NDArray[Any]]


class Source(NamedTuple):
    """Where patches of one kind are read from."""

    kind: Kind
    root: str


class Entry(NamedTuple):
    """A patch, and the number of its source."""

    source: int
    patch: PatchFolder


def sources_of(trees: Sequence[PublishedTree]) -> tuple[Source, ...]:
    """What a worker has to know of the trees."""
    return tuple(Source(tree.kind, tree.root) for tree in trees)


def inputs_of(trees: Sequence[PublishedTree], made: str) -> dict[str, Any]:
    """What is made from what, by which a conversion that was interrupted is known again."""
    return {"made": made, **{tree.kind.title: str(Path(tree.root).resolve()) for tree in trees}}


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


def read_patch(source: Source, patch: PatchFolder) -> Images:
    """Read all bands of a patch.

    Returns
    -------
    dict of str to ndarray, shape (y, x)
        Pixels at native resolution by band.

    Raises
    ------
    InputError
        If a file is damaged, or if its image is not of the size and type of its kind; the message names it.
    """
    images = {}
    for band, path in band_files(source.kind, source.root, patch).items():
        pixels = read_tiff(path)
        side = PATCH_SIDE_M // source.kind.resolution_m[band]
        if pixels.shape != (side, side) or pixels.dtype != source.kind.dtype:
            height, width = pixels.shape
            raise InputError(
                f"{path} has {height} x {width} pixels of type {pixels.dtype}, "
                f"where patches of this kind have {side} x {side} of type {source.kind.dtype}."
            )
        images[band] = pixels
    return images


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
