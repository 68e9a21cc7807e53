"""LMDB environments that stay open for reading: one for each path and process, and none across a fork.

LMDB must not be opened twice in a process, nor its handles be used by a process that was forked. So environments are
shared by all readers of this process, and are closed just before it forks; who reads next opens them again.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from threading import RLock

import lmdb

from reben_dask.stores.lmdb_environment import open_environment

_LOCK = RLock()
_OPEN: dict[Path, lmdb.Environment] = {}
_CLOSING = ExitStack()


def read_values(folder: Path, keys: list[str]) -> list[bytes | None]:
    """Values of some keys; ``None`` for those that the environment does not have.

    Parameters
    ----------
    folder : Path
        Folder of the environment.
    keys : list of str
        Keys.

    Raises
    ------
    InputError
        If the folder holds no environment that can be read.
    """
    with _LOCK:
        path = folder.resolve()
        if path not in _OPEN:
            _OPEN[path] = _CLOSING.enter_context(open_environment(path))
        with _OPEN[path].begin() as transaction:
            return [transaction.get(key.encode()) for key in keys]


def close_environments() -> None:
    """Close all environments, so that other programs' readers in this process can open them; reading goes on after."""
    with _LOCK:
        _OPEN.clear()
        _CLOSING.close()


def _before_fork() -> None:
    _LOCK.acquire()
    close_environments()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)
