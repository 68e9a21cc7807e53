"""Atomic files and folders: they appear complete or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(path: Path, *, keep_existing: bool = False) -> Iterator[Path]:
    """Yield a hidden sibling path to write a file or folder to; renamed to ``path`` when the block succeeds.

    The yielded path has the same name, in a new hidden folder that is always removed. If the block fails or writes
    nothing, ``path`` stays unchanged. Parents are made. ``keep_existing`` keeps a ``path`` that has appeared by then,
    from a faster attempt of the same task, instead of replacing it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", ignore_cleanup_errors=True) as scratch:
        draft = Path(scratch) / path.name
        yield draft
        if os.path.lexists(draft):
            _rename(draft, path, Path(scratch), keep_existing=keep_existing)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, atomically."""
    with atomic_path(path) as draft:
        draft.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, content: Any, *, indent: int | None = None) -> None:
    """Write a JSON file atomically, synced to disk before it appears."""
    with atomic_path(path) as draft, draft.open("w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, indent=indent)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path) -> Any:
    """Read a JSON file; ``None`` if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def remove(path: Path) -> None:
    """Delete a file, link or folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _rename(draft: Path, path: Path, scratch: Path, *, keep_existing: bool) -> None:
    if draft.is_dir():
        if not keep_existing and os.path.lexists(path):
            path.rename(scratch / f"{path.name}.old")
        try:
            draft.rename(path)
        except OSError:
            if not (keep_existing and path.is_dir()):
                raise
    elif keep_existing and os.path.lexists(path):
        return
    else:
        draft.replace(path)
