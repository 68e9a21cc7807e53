"""Locks of folders: by the operating system, or by a file that names the owner on disks without such locks."""

from __future__ import annotations

import errno
import json
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple

import psutil

from reben_dask.atomic import read_json
from reben_dask.errors import OutputError

HEARTBEAT_S = 30

UNSUPPORTED = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL})
"""Error numbers of a disk without locks, in contrast to those of a lock that another process holds."""

_PATIENCE_S = 1.0  # lock_owner holds a lock for an instant


class Owner(NamedTuple):
    """Holder of a lock, and its last heartbeat (UTC)."""

    host: str
    pid: int
    job: str
    heartbeat: datetime

    def __str__(self) -> str:
        return f"{self.host} {self.pid} {self.job}"


class Lock:
    """Lock of a folder by the operating system, which ends with its process; a file beside it names the owner.

    System locks may not reach other hosts on network disks: a lock of another host counts until its file is deleted.
    Where the disk has none, an owner file replaces them, which counts while its process lives.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.path, self._root, self._note = path, root, path.with_name(f"{path.name}.json")

    @contextmanager
    def held(self, job: str) -> Iterator[str | None]:
        """Hold the lock while the block runs; yield a note if the disk has no locks.

        Raises :class:`OutputError` if another process holds it.
        """
        earlier = self._read_owner() if self.path.exists() else None
        with ExitStack() as stack:
            note = self._acquire(stack)
            if earlier and earlier.host != socket.gethostname():
                raise self._refusal(earlier)
            # Not atomic, as a draft would stay in the folder if the process is killed; readers accept half a file.
            self._note.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "job": job}))
            # Deleted while held: the next owner creates another file.
            stack.callback(self.path.unlink, missing_ok=True)
            stack.callback(self._note.unlink, missing_ok=True)
            stop = Event()
            stack.callback(stop.set)
            Thread(target=self._renew_heartbeat, args=(stop,), daemon=True).start()
            yield note

    def owner(self) -> Owner | None:
        """Return the process that holds the lock, if any, without writing."""
        owner = self._read_owner()
        is_foreign = owner is not None and owner.host != socket.gethostname()
        try:
            with self.path.open("rb") as file:
                return None if not is_foreign and _filelock().lock_descriptor(file.fileno(), blocking=False) else owner
        except FileNotFoundError:
            return None
        except OSError as error:
            is_over = error.errno in UNSUPPORTED and owner and not is_foreign and not psutil.pid_exists(owner.pid)
            return None if is_over else owner

    def _acquire(self, stack: ExitStack) -> str | None:
        filelock = _filelock()
        try:
            try:
                lock = filelock.FileLock(self.path, poll_interval=0.02, fallback_to_soft=False)
                stack.enter_context(lock.acquire(timeout=_PATIENCE_S))
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
                stack.enter_context(owner_file(self.path, timeout=_PATIENCE_S))
                return (
                    f"The disk of {self._root} supports no locks ({error.strerror}): a file with host and process of "
                    "this job replaces them, which jobs on other hosts may not see at once."
                )
        except filelock.Timeout:
            raise self._refusal(self._read_owner()) from None
        return None

    def _read_owner(self) -> Owner | None:
        found = read_json(self._note)
        with suppress(OSError, KeyError, TypeError):
            heartbeat = datetime.fromtimestamp(self._note.stat().st_mtime, UTC)
            return Owner(str(found["host"]), found["pid"], found["job"], heartbeat)
        return None

    def _renew_heartbeat(self, stop: Event) -> None:
        while not stop.wait(HEARTBEAT_S):
            with suppress(OSError):
                os.utime(self._note)

    def _refusal(self, owner: Owner | None) -> OutputError:
        files = " and ".join(str(path) for path in (self.path, _owner_path(self.path)) if path.exists())
        who = f"{owner}; last heartbeat {owner.heartbeat:%Y-%m-%d %H:%M:%S} UTC" if owner else "not known"
        return OutputError(
            f"Another job is writing to {self._root} (host, process and job: {who}); wait for it, or give another "
            f"folder. If it is gone, delete {files or self.path}."
        )


def owner_file(path: Path, timeout: float = -1) -> AbstractContextManager[Any]:
    """Lock a path by a file beside it with host and process of its owner; one of an ended process does not count."""
    lock = _filelock().SoftFileLock(_owner_path(path), poll_interval=0.02)
    acquired: AbstractContextManager[Any] = lock.acquire(timeout=timeout)
    return acquired


def _filelock() -> Any:
    """Import filelock, which warns on systems without locks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import filelock  # noqa: PLC0415
    return filelock


def _owner_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.owner")


def supports_record_locks(path: Path) -> bool:
    """Test if a file can be locked as SQLite does; True for one that is locked, or cannot be opened."""
    try:
        import fcntl  # noqa: PLC0415 - not on Windows

        with path.open("rb") as file:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except ImportError:
        return True
    except OSError as error:
        return error.errno not in UNSUPPORTED
    return True


def is_unsupported(error: Exception) -> bool:
    """Test for an error of a C library that states only in text that a disk has no locks."""
    return any(os.strerror(number) in str(error) for number in UNSUPPORTED - {errno.EINVAL})
