"""What an unfinished job has done: what it is made from, and a marker for each piece that is finished."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from reben_dask.errors import RebenError
from reben_dask.output.files import read_json, write_json
from reben_dask.output.origin import Origin

ORIGIN_FILE = "origin.json"
_FAILURES = "failures"

TILES_STAGE = "tiles"
"""The stage whose pieces are the tiles."""


@dataclass(frozen=True)
class State:
    """Notes of one job that outlive its processes.

    Only the job's client writes them, when it has seen that a piece is complete and in its place.

    Parameters
    ----------
    folder : Path
        Where the notes are.
    """

    folder: Path

    def begin(self, origin: Origin, paths: Mapping[str, str]) -> None:
        """Note what the job is made from, and where its tiles lie."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / ORIGIN_FILE, {"origin": origin, "paths": dict(paths)})

    def origin(self) -> Origin | None:
        """What the job is made from; ``None`` if no job has begun."""
        note = self._note()
        return note["origin"] if note else None

    def paths(self) -> dict[str, str]:
        """Where the tiles of the job lie, by their names."""
        note = self._note()
        return dict(note["paths"]) if note else {}

    def forget(self) -> None:
        """Delete the notes, the one that all others depend on first."""
        (self.folder / ORIGIN_FILE).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def mark(self, stage: str, name: str, result: Any = None) -> None:
        """Note that a piece of a stage is finished, and its result, as JSON knows it."""
        marker = self._marker(stage, name)
        marker.parent.mkdir(parents=True, exist_ok=True)
        write_json(marker, {"name": name, "result": result})

    def done(self, stage: str) -> dict[str, Any]:
        """Results of the finished pieces of a stage by their names."""
        found = (read_json(path) for path in sorted((self.folder / stage).glob("[!.]*.json")))
        return {note["name"]: note["result"] for note in found if _is_note(note, "name", "result")}

    def unmark(self, *stages: str) -> None:
        """Forget what was finished of some stages."""
        for stage in stages:
            shutil.rmtree(self.folder / stage, ignore_errors=True)

    def set_aside(self, name: str, error: BaseException, tries: int) -> dict[str, Any]:
        """Note that a tile cannot be built, and why; gives the note."""
        note = {"tile": name, "error": sentence(error), "tries": tries}
        details = "".join(traceback.format_exception(error))
        self.mark(_FAILURES, name, note | {"details": details})
        return note

    def failures(self) -> list[dict[str, Any]]:
        """Notes of the tiles that were set aside: ``tile``, ``error``, ``tries`` and ``details``."""
        return list(self.done(_FAILURES).values())

    def forgive(self) -> None:
        """Forget the tiles that were set aside: they are tried again."""
        self.unmark(_FAILURES)

    def _note(self) -> dict[str, Any] | None:
        found = read_json(self.folder / ORIGIN_FILE)
        return found if _is_note(found, "origin", "paths") else None

    def _marker(self, stage: str, name: str) -> Path:
        # Names of environments may be empty, and files whose names begin with a dot are drafts.
        quoted = quote(name, safe="").replace(".", "%2E")
        return self.folder / stage / f"{quoted or '%'}.json"


def _is_note(found: object, *keys: str) -> bool:
    """Whether a file is one that this module has written: someone may have edited it."""
    return isinstance(found, dict) and found.keys() >= set(keys)


def sentence(error: BaseException) -> str:
    """One line about an error of a task."""
    if isinstance(error, RebenError):
        return str(error)
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}" + " …" * (len(lines) > 1)
