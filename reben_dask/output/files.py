"""Files that are there complete or not at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

COPIED_BYTES = 2**20
"""Smaller files are copied, not linked: it costs nothing."""

_REWRITTEN = ".json"
"""Metadata may be written anew in place, and are copied whatever their size; pixels and tables never are."""


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, in one step for whoever reads it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_json(path: Path) -> Any:
    """Content of a JSON file; ``None`` if it is not there, or is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def move(source: Path, destination: Path) -> None:
    """Move a file or folder to where an earlier attempt may have left another."""
    remove(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    source.rename(destination)


def remove(path: Path) -> None:
    """Delete a file, link or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def duplicate(source: Path, destination: Path) -> None:
    """Give a file or folder a second name; large files are there once, where the disk can do that."""
    if source.is_dir():
        shutil.copytree(source, destination, copy_function=_link)
    else:
        _link(str(source), str(destination))


def _link(source: str, destination: str) -> None:
    # Paths come from shutil, as text.
    if os.path.getsize(source) >= COPIED_BYTES and not source.endswith(_REWRITTEN):  # noqa: PTH202
        try:
            os.link(source, destination)
        except OSError:
            pass
        else:
            return
    shutil.copy2(source, destination)
