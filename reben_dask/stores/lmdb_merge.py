"""Merging LMDB environments: entries are copied as they are, nothing is decoded."""

from __future__ import annotations

import heapq
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import combinations
from operator import itemgetter
from pathlib import Path

import lmdb

from reben_dask.errors import InputError, OutputError
from reben_dask.formats.lmdb import DATA_FILE, INDEX_FILE, ShardIndex
from reben_dask.stores.lmdb_environment import Item, new_environment, open_environment, put, used_bytes
from reben_dask.stores.lmdb_pages import require_sound_pages

COMMIT_BYTES = 64 * 2**20

Count = Callable[[int], None]


def find_environments(paths: Iterable[Path]) -> list[Path]:
    """Find the environments that a user names: each path is one, or a folder of shards with its index.

    Raises
    ------
    InputError
        If an index is damaged, or names a shard outside its folder.
    """
    return [
        environment
        for path in paths
        for environment in (
            [path / shard.path for shard in ShardIndex.read(path).shards] if (path / INDEX_FILE).is_file() else [path]
        )
    ]


def merge_environments(
    sources: Sequence[Path], destination: Path, begin: Count = lambda _: None, advance: Count = lambda _: None
) -> int:
    """Write the entries of several environments into one, in the order of their keys.

    Parameters
    ----------
    sources : sequence of Path
        Environments; a key that is in two of them must have the same value there.
    destination : Path
        Folder of the new environment, on a local disk. It appears when it is complete.
    begin, advance : callable
        Called with the number of entries in all sources, and with numbers of entries as they are written.

    Returns
    -------
    int
        Number of entries.

    Raises
    ------
    InputError
        If a source is no environment, a damaged one, or given twice, or if a key is in two of them with different
        values.
    OutputError
        If there is something at ``destination``.
    """
    if destination.exists():
        raise OutputError(f"{destination} exists; give a new folder.")
    for first, second in combinations(sources, 2):
        if first.resolve() == second.resolve():
            raise InputError(f"{second} and {first} are the same environment; give it once.")
    # Of a fixed name: the remains of a merge that was killed, which may be large, are replaced by the next.
    building = destination.with_name(f".{destination.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    entries = 0
    try:
        with ExitStack() as stack:
            opened = [stack.enter_context(_open_sound(source)) for source in sources]
            begin(sum(environment.stat()["entries"] for environment in opened))
            merged = stack.enter_context(new_environment(building, sum(map(used_bytes, opened))))
            streams = [
                _entries(stack.enter_context(environment.begin(buffers=True)), source)
                for environment, source in zip(opened, sources, strict=True)
            ]
            for batch in _batches(_distinct(heapq.merge(*streams, key=itemgetter(0)))):
                put(merged, batch)
                entries += len(batch)
                advance(len(batch))
        building.rename(destination)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return entries


@contextmanager
def _open_sound(source: Path) -> Iterator[lmdb.Environment]:
    if (source / DATA_FILE).is_file():
        try:
            require_sound_pages(source / DATA_FILE)
        except InputError as error:
            raise InputError(f"The LMDB environment {source} is damaged: {error}; copy it again.") from None
    with open_environment(source) as environment:
        yield environment


def _entries(transaction: lmdb.Transaction, source: Path) -> Iterator[Item]:
    try:
        for key, value in transaction.cursor():
            yield bytes(key), value
    except lmdb.Error as error:
        raise InputError(f"The LMDB environment {source} is damaged ({error}); copy it again.") from None


def _distinct(items: Iterable[Item]) -> Iterator[Item]:
    """Items without repetitions: dates of one tile may share a Sentinel-1 partner, which then is in several shards."""
    last: Item | None = None
    for key, value in items:
        if last is None or key != last[0]:
            yield key, value
        elif value != last[1]:
            raise InputError(
                f"The key {key.decode(errors='replace')!r} is in more than one of the environments, with other values."
            )
        last = key, value


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    batch: list[Item] = []
    size = 0
    for key, value in items:
        batch.append((key, value))
        size += len(key) + len(value)
        if size >= COMMIT_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
