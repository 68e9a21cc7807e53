"""One job at a time in a folder.

The lock is one of the operating system, which ends with its process however that ends. The file also says who has it:
where the system's locks do not reach other hosts, as on some cluster file systems, a job of another host counts as
running until someone deletes the file.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import IO

from reben_dask.errors import OutputError

_TRIES, _PAUSE_S = 50, 0.02
"""Whoever asks who owns a folder has its lock for an instant, and must not keep a job from it."""


@contextmanager
def owned(lock: Path, job: str) -> Iterator[None]:
    """Own a folder while the block runs.

    Parameters
    ----------
    lock : Path
        The lock file.
    job : str
        What the owner is called.

    Raises
    ------
    OutputError
        If another job has it.
    """
    file = _take(lock, job)
    try:
        yield
    finally:
        # While it is still locked: who comes next makes a new one.
        lock.unlink(missing_ok=True)
        file.close()


def owner(lock: Path) -> str | None:
    """Host, process and job that own a folder; ``None`` if nobody does."""
    try:
        with lock.open("r", encoding="utf-8") as file:
            text = file.read()
            return text if _is_foreign(text) or not _flock(file, fcntl.LOCK_SH) else None
    except OSError:
        return None


def _take(lock: Path, job: str) -> IO[str]:
    while True:
        file = lock.open("a+", encoding="utf-8")
        file.seek(0)
        text = file.read()
        if not _flock_patiently(file) or _is_foreign(text):
            file.close()
            raise OutputError(
                f"Another job is writing to {lock.parent} (host, process and job: {text.strip() or 'not known'}); wait "
                f"for it, or give another folder. If it is gone, delete {lock}."
            )
        if _is_still(lock, file):
            break
        # Its owner has deleted it since it was opened.
        file.close()
    file.truncate(0)
    file.write(f"{socket.gethostname()} {os.getpid()} {job}")
    file.flush()
    return file


def _flock_patiently(file: IO[str]) -> bool:
    for _ in range(_TRIES - 1):
        if _flock(file, fcntl.LOCK_EX):
            return True
        sleep(_PAUSE_S)
    return _flock(file, fcntl.LOCK_EX)


def _flock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_still(lock: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(lock.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _is_foreign(text: str) -> bool:
    host, _, _ = text.partition(" ")
    return bool(host) and host != socket.gethostname()
