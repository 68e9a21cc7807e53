"""LMDB environments: written in large transactions, with a map of modest size that grows if it must."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lmdb
import psutil

from reben_dask.errors import InputError, OutputError
from reben_dask.formats.lmdb import DATA_FILE

PAGE_BYTES = 4_096
SPARE_PAGES = 256
NETWORK_DISKS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "smb3", "sshfs"}
)
"""File systems with incoherent or slow memory maps; LMDB's documentation forbids them for writing."""

Item = tuple[bytes, bytes | memoryview]


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
    environment = lmdb.open(str(folder), map_size=_with_spare_pages(map_bytes), readahead=False, sync=False)
    try:
        yield environment
        environment.sync(True)
    finally:
        environment.close()


@contextmanager
def shared_environment(folder: Path, map_bytes: int) -> Iterator[lmdb.Environment]:
    """Open an environment that several processes write to, which LMDB lets do so one after the other.

    Each transaction is on disk when it ends.

    Parameters
    ----------
    folder : Path
        Folder of the environment, on a local disk; it is made unless it is there.
    map_bytes : int
        Size of the map, the same in all processes: :func:`map_bytes_for` everything that is going to be in it.

    Raises
    ------
    OutputError
        If it cannot be opened or written.
    """
    try:
        folder.mkdir(exist_ok=True)
        with lmdb.open(str(folder), map_size=map_bytes, readahead=False) as environment:
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


def put(environment: lmdb.Environment, items: Sequence[Item], *, overwrite: bool = True) -> None:
    """Write items in one transaction, with a larger map if they do not fit.

    Without ``overwrite``, keys that are there keep their values.

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
    """Bytes of the pages of one large value of ``size`` bytes: they are its own, and begin with a header of 16."""
    return -(-(size + 16) // PAGE_BYTES) * PAGE_BYTES


def map_bytes_for(values_bytes: int) -> int:
    """Size of a map for values on pages of so many bytes, with a tenth more for the tree above them."""
    return _with_spare_pages(values_bytes * 11 // 10)


def is_on_network_disk(path: Path) -> bool:
    """Whether a path, which need not exist yet, lies on a network disk by the system's list of mounts."""
    absolute = path.resolve()
    mounts = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
    nearest = next((mounts[place] for place in (absolute, *absolute.parents) if place in mounts), "")
    return nearest.lower().removeprefix("fuse.") in NETWORK_DISKS


def _require_complete(environment: lmdb.Environment, folder: Path) -> None:
    """Reading beyond the end of a file that was cut short would end the process, not the call."""
    size = (folder / DATA_FILE).stat().st_size
    if size < used_bytes(environment):
        raise InputError(
            f"The LMDB environment {folder} is cut short: {used_bytes(environment):,} bytes are in use, but its file "
            f"has {size:,}; copy it again."
        )


def _require_room(folder: Path, needed: int, error: lmdb.Error) -> None:
    """LMDB takes a disk that is full in the midst of a page for one that is broken."""
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error


def _with_spare_pages(size: int) -> int:
    return (size // PAGE_BYTES + SPARE_PAGES) * PAGE_BYTES
