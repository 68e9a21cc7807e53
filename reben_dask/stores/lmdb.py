"""LMDB environments: written in large transactions, exported from the Zarr store, and merged.

An environment has a map of modest size that grows if it must. An export is one environment, or shards written in
parallel.
"""

from __future__ import annotations

import errno
import heapq
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import combinations, islice, pairwise
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import lmdb
import psutil

from reben_dask.atomic import atomic_path
from reben_dask.errors import InputError, OutputError
from reben_dask.formats.bands import ImageKind
from reben_dask.formats.lmdb import (
    DATA_FILE,
    INDEX_FILE,
    LOCK_BYTES,
    LOCK_FILE,
    Shard,
    ShardIndex,
    encode_bands,
    encode_reference_map,
    keys_of,
)
from reben_dask.locks import UNSUPPORTED, is_unsupported, owner_file
from reben_dask.stores.lmdb_pages import require_sound_pages
from reben_dask.workspace import require_new

if TYPE_CHECKING:
    from reben_dask.patches.statistics import Sums

COMMIT_EVERY = 256
"""Patches in a transaction of an export."""

COMMIT_BYTES = 64 * 2**20
"""Bytes in a transaction of a merge."""

PAGE_BYTES = 4_096
SPARE_PAGES = 256
NETWORK_DISKS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "smb3", "sshfs"}
)
"""File systems with incoherent or slow memory maps; LMDB's documentation forbids them for writing."""

Item = tuple[bytes, bytes | memoryview]
Count = Callable[[int], None]


@contextmanager
def new_environment(folder: Path, map_bytes: int = 0) -> Iterator[lmdb.Environment]:
    """Make an environment to write to; its content is on disk when the block ends without an error.

    Parameters
    ----------
    folder : Path
        Folder of the environment, on a local disk; it is made.
    map_bytes : int
        Expected size. Readers map as much as is stored in the environment, and some machines refuse terabytes.
    """
    folder.mkdir(parents=True)
    with _open_to_write(folder, map_size=_with_spare_pages(map_bytes), sync=False) as environment:
        yield environment
        environment.sync(True)


@contextmanager
def shared_environment(folder: Path, map_bytes: int) -> Iterator[lmdb.Environment]:
    """Open an environment for writing by several processes, one at a time.

    Each transaction is on disk when it ends.

    Parameters
    ----------
    folder : Path
        Folder of the environment, on a local disk; it is made if missing.
    map_bytes : int
        Size of the map, the same in all processes: :func:`map_bytes_for` all future values.

    Raises
    ------
    OutputError
        If it cannot be opened or written.
    """
    try:
        folder.mkdir(exist_ok=True)
        with _open_to_write(folder, map_size=map_bytes) as environment:
            yield environment
    except lmdb.Error as error:
        raise OutputError(f"The unfinished LMDB {folder} cannot be written ({error}); delete it.") from None


@contextmanager
def open_environment(folder: Path) -> Iterator[lmdb.Environment]:
    """Open an environment for reading.

    Raises
    ------
    InputError
        If the folder holds no environment, or one that is cut short.
    """
    if not (folder / DATA_FILE).is_file():
        raise InputError(f"{folder} is not an LMDB environment: it has no {DATA_FILE}.")
    try:
        environment = lmdb.open(str(folder), readonly=True, lock=False, create=False, readahead=False)
    except lmdb.Error as error:
        raise InputError(f"The LMDB environment {folder} cannot be opened ({error}).") from None
    try:
        _require_complete(environment, folder)
        yield environment
    finally:
        environment.close()


@contextmanager
def _open_to_write(folder: Path, **options: Any) -> Iterator[lmdb.Environment]:
    """Open an environment under its own lock, or under that of an owner file where the disk has no locks."""
    _allocate_lock(folder)
    with ExitStack() as stack:
        try:
            environment = lmdb.open(str(folder), readahead=False, **options)
        except lmdb.Error as error:
            if not is_unsupported(error):
                _require_room(folder, 2 * PAGE_BYTES, error)
                raise
            stack.enter_context(owner_file(folder))
            environment = lmdb.open(str(folder), readahead=False, lock=False, **options)
        stack.callback(environment.close)
        yield environment


def put(environment: lmdb.Environment, items: Sequence[Item], *, overwrite: bool = True) -> None:
    """Write items in one transaction, with a larger map if they do not fit.

    Without ``overwrite``, existing keys keep their values.

    Raises
    ------
    OSError
        If the disk is full.
    """
    while True:
        try:
            with environment.begin(write=True) as transaction:
                for key, value in items:
                    transaction.put(key, value, overwrite=overwrite)
        except lmdb.MapFullError:
            environment.set_mapsize(2 * environment.info()["map_size"])
        except lmdb.Error as error:
            _require_room(Path(environment.path()), pages_bytes(value for _, value in items), error)
            raise
        else:
            return


def used_bytes(environment: lmdb.Environment) -> int:
    """Bytes of the pages in use."""
    return int(environment.info()["last_pgno"] + 1) * PAGE_BYTES


def pages_bytes(values: Iterable[bytes | memoryview]) -> int:
    """Bytes of the pages that hold large values."""
    return sum(value_pages_bytes(len(value)) for value in values)


def value_pages_bytes(size: int) -> int:
    """Bytes of the pages of one large value of ``size`` bytes: these start with a header of 16."""
    return -(-(size + 16) // PAGE_BYTES) * PAGE_BYTES


def map_bytes_for(values_bytes: int) -> int:
    """Size of a map for values on pages of ``values_bytes``, plus a tenth for the tree above them."""
    return _with_spare_pages(values_bytes * 11 // 10)


def is_on_network_disk(path: Path) -> bool:
    """Test if a path, which need not exist yet, is on a network disk, by the system's list of mounts."""
    absolute = path.resolve()
    mounts = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
    nearest = next((mounts[place] for place in (absolute, *absolute.parents) if place in mounts), "")
    return nearest.lower().removeprefix("fuse.") in NETWORK_DISKS


def _require_complete(environment: lmdb.Environment, folder: Path) -> None:
    """Refuse a truncated file: reading beyond its end would end the process, not the call."""
    size = (folder / DATA_FILE).stat().st_size
    if size < used_bytes(environment):
        raise InputError(
            f"The LMDB environment {folder} is cut short: {used_bytes(environment):,} bytes are in use, but its file "
            f"has {size:,}; copy it again."
        )


def _allocate_lock(folder: Path) -> None:
    """Give the lock its place on the disk: LMDB writes it through a map, and a full disk would end the process."""
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        os.posix_fallocate(descriptor, 0, LOCK_BYTES)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)


def _require_room(folder: Path, needed: int, error: lmdb.Error) -> None:
    """Raise an error of a full disk, which LMDB reports as an I/O error if it is full within a page."""
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error


def _with_spare_pages(size: int) -> int:
    return (size // PAGE_BYTES + SPARE_PAGES) * PAGE_BYTES


# Export


@dataclass(frozen=True)
class TileRange:
    """Kept patches ``start`` to ``stop`` (exclusive) of one tile, in name order."""

    part: Path
    start: int
    stop: int


def plan_shards(kept: Sequence[tuple[Path, int]], shards: int) -> list[list[TileRange]]:
    """Divide the kept patches into runs of equal length, in name order.

    ``kept`` has the part file and number of kept patches of each tile, in tile order. With fewer patches than shards,
    some shards are empty.
    """
    total = sum(count for _, count in kept)
    edges = [total * number // shards for number in range(shards + 1)]
    return [list(_cut(kept, start, stop)) for start, stop in pairwise(edges)]


def write_environment(
    destination: Path,
    ranges: Sequence[TileRange],
    store: Path,
    name: str = "",
    advance: Count = lambda _: None,
    sums: Sums | None = None,
) -> Shard:
    """Write one LMDB environment with bands, reference map and Sentinel-1 partner of each patch in ``ranges``.

    Reads by columns of patches, so that each chunk of the store is decoded once; padded names are in that order too,
    and the environment grows at its end. ``destination`` is a new folder on a local disk; ``name`` is its path below
    the LMDB folder, for the index entry that is returned. ``advance`` gets the number of patches of each batch, and
    the clear patches are added to ``sums``.
    """
    # An interrupted attempt leaves an environment that would only grow.
    shutil.rmtree(destination, ignore_errors=True)
    first = last = None
    patches = 0
    with new_environment(destination) as environment:
        for names in _write_patches(environment, ranges, store, advance, sums, overwrite=True):
            first, last = min([*names, first or names[0]]), max([*names, last or names[0]])
            patches += len(names)
        keys = environment.stat()["entries"]
    return Shard(name, first, last, patches, keys)


def append_tile(
    environment: Path, kept: TileRange, store: Path, advance: Count = lambda _: None, sums: Sums | None = None
) -> None:
    """Add the values of a tile's kept patches to an LMDB environment, and its clear patches to ``sums``.

    Existing values are kept. One process writes at a time, and the call may be repeated after it was interrupted.
    ``environment`` is a folder on a local disk, made with its first tile. Like the cubes, it is not synced: a tile
    would wait for the disk.
    """
    environment.mkdir(parents=True, exist_ok=True)
    _own_copy(environment / DATA_FILE)
    with _open_to_write(environment, sync=False) as opened:
        for _ in _write_patches(opened, [kept] * (kept.stop > 0), store, advance, sums, overwrite=False):
            pass


def _write_patches(
    environment: lmdb.Environment,
    ranges: Sequence[TileRange],
    store: Path,
    advance: Count,
    sums: Sums | None,
    *,
    overwrite: bool,
) -> Iterator[list[str]]:
    """Write patches in large transactions, in a map that has room for all of them; yield the names of each."""
    expected, rest = sum(piece.stop - piece.start for piece in ranges), _patches(ranges, store, sums)
    is_sized = False
    while batch := list(islice(rest, COMMIT_EVERY)):
        if not is_sized:
            environment.set_mapsize(used_bytes(environment) + _expected_map_size(batch, expected))
            is_sized = True
        put(environment, [item for patch in batch for item in patch.items], overwrite=overwrite)
        advance(len(batch))
        yield [patch.patch_id for patch in batch]


def _own_copy(file: Path) -> None:
    """Replace a file that has hard links by a copy: one of a published dataset must not change."""
    if file.exists() and file.stat().st_nlink > 1:
        with atomic_path(file) as draft:
            shutil.copy2(file, draft)


def _cut(kept: Sequence[tuple[Path, int]], start: int, stop: int) -> Iterator[TileRange]:
    offset = 0
    for part, count in kept:
        first, last = max(start - offset, 0), min(stop - offset, count)
        if first < last:
            yield TileRange(part, first, last)
        offset += count


class _Patch(NamedTuple):
    patch_id: str
    items: tuple[Item, ...]


def _patches(ranges: Iterable[TileRange], store: Path, sums: Sums | None) -> Iterator[_Patch]:
    # They take 2 s to import, and conversions and merges do not need them.
    from reben_dask.formats.columns import GRID, KEPT, PATCH_ID, S1_NAME, TILE, X, Y  # noqa: PLC0415
    from reben_dask.stores.cube_reader import TileReader  # noqa: PLC0415
    from reben_dask.stores.patch_table import read_rows  # noqa: PLC0415
    from reben_dask.stores.statistics import ROW_COLUMNS, add_patch  # noqa: PLC0415

    for piece in ranges:
        rows = read_rows(piece.part, [TILE, GRID, X, Y, *ROW_COLUMNS], status=KEPT)
        rows = rows.slice(piece.start, piece.stop - piece.start)
        readers = TileReader(store, rows[TILE][0].as_py())
        for row in rows.to_pylist():
            pixels, keys = readers[row[GRID]].patch(row[X], row[Y]), keys_of(row[PATCH_ID], row[S1_NAME])
            if sums is not None:
                add_patch(sums, row, pixels)
            values = {ImageKind.S2: encode_bands(pixels.s2)}
            if pixels.reference_map is not None:
                values[ImageKind.MAP] = encode_reference_map(pixels.reference_map)
            # In a job without Sentinel-1, a published name has no pixels.
            if pixels.s1:
                values[ImageKind.S1] = encode_bands(pixels.s1)
            yield _Patch(
                row[PATCH_ID], tuple((key.encode(), values[kind]) for kind, key in keys.items() if kind in values)
            )


def _expected_map_size(batch: list[_Patch], patches: int) -> int:
    return map_bytes_for(patches * max(pages_bytes(value for _, value in patch.items) for patch in batch))


# Merge


def find_environments(paths: Iterable[Path]) -> list[Path]:
    """Find the environments at paths: each path is one, or a folder of shards with its index.

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
        If a source is not an environment, is damaged, or is given twice, or if a key is in two of them with different
        values.
    OutputError
        If there is something at ``destination``.
    """
    require_new(destination)
    for first, second in combinations(sources, 2):
        if first.resolve() == second.resolve():
            raise InputError(f"{second} and {first} are the same environment; give it once.")
    # A fixed name: the next merge replaces the remains of a killed one, which may be large.
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
                f"The key {key.decode(errors='replace')!r} is in several of the environments, with different values."
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
