"""Where something is built that takes hours: out of sight, and to go on with if it was interrupted.

It stands in a hidden folder beside its destination, with a note of what it is made from, and moves to its destination
when it is complete. One process at a time owns the folder; its lock ends with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from reben_dask.errors import OutputError

FAILURES = 100
"""So many things that cannot be made end a conversion: something is wrong with all of them."""

INPUTS_FILE = "inputs.json"
_LOCK_FILE = "lock"


def building_folder(destination: Path) -> Path:
    """Where something is built that will be at ``destination``."""
    return destination.with_name(f".{destination.name}.converting")


def require_new(destination: Path) -> None:
    """Raise :class:`OutputError` if there is something at ``destination``."""
    if os.path.lexists(destination):
        raise OutputError(f"{destination} exists; give a new folder.")


def free_bytes(destination: Path) -> int:
    """Free space on the disk on which something is going to be built."""
    return shutil.disk_usage(next(folder for folder in destination.parents if folder.is_dir())).free


@contextmanager
def unfinished(destination: Path, inputs: Mapping[str, Any]) -> Iterator[Path]:
    """Own the folder in which something is built, new or as an earlier attempt has left it.

    Parameters
    ----------
    destination : Path
        Where it will be when it is complete; see :func:`publish`.
    inputs : mapping
        What it is made from, as JSON knows it.

    Yields
    ------
    Path
        The folder. It stays when the block ends, with or without an error.

    Raises
    ------
    OutputError
        If there is something at ``destination``, if an earlier attempt was made from other inputs, if another process
        is building, or if nothing can be written there.
    """
    require_new(destination)
    folder = building_folder(destination)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK_FILE).open("a", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}).") from None
    with lock:
        _take(lock, destination)
        # Another process may have finished in between.
        require_new(destination)
        _require_same(folder, dict(inputs))
        yield folder


def publish(made: Path, destination: Path) -> None:
    """Move what is complete from the folder in which it was built to its destination, and delete that folder."""
    if os.path.lexists(destination):
        raise OutputError(f"{destination} has come to exist; what was to be there is complete, as {made}.")
    made.rename(destination)
    shutil.rmtree(building_folder(destination), ignore_errors=True)


def _take(lock: IO[str], destination: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise OutputError(f"Another process is writing {destination}; wait for it, or give another folder.") from None


def _require_same(folder: Path, inputs: Mapping[str, Any]) -> None:
    note = folder / INPUTS_FILE
    if not note.exists():
        # In one step: an attempt that is interrupted here leaves no half of it.
        draft = folder / f"{INPUTS_FILE}.new"
        draft.write_text(json.dumps(inputs, indent=2) + "\n", encoding="utf-8")
        draft.replace(note)
        return
    try:
        earlier = json.loads(note.read_text(encoding="utf-8"))
    except ValueError:
        earlier = None
    if earlier != json.loads(json.dumps(inputs)):
        raise OutputError(
            f"{folder} holds an unfinished conversion of something else; give the same inputs again to go on with it, "
            "delete it, or give another folder."
        )
