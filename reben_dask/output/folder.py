"""The output folder of one job: fixed names, and what may happen to what is there already."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from reben_dask.errors import OutputError, RecipeError
from reben_dask.formats.dataset import ARTEFACTS, BUILDING, FAILURES, LOCK, ORIGIN, RECORD_FILE, REPORT, STATE, TABLE
from reben_dask.output.files import move, read_json, remove
from reben_dask.output.lock import owned
from reben_dask.output.origin import Origin
from reben_dask.output.publication import finish_publication, is_interrupted, publish
from reben_dask.output.refusals import require_same_dataset, require_same_job
from reben_dask.output.state import TILES_STAGE, State


@dataclass(frozen=True)
class Output:
    """Paths of one job. Until :meth:`publish`, everything is below a hidden folder of the output folder.

    Parameters
    ----------
    root : Path
        The folder that the user asked for, absolute.
    job : str
        Unique to this attempt. Its tasks write to a folder of their own: tasks of an earlier attempt may still run
        somewhere.
    exports : tuple of str
        Names of what this job makes because it is asked for; see :meth:`with_exports`.
    """

    root: Path
    job: str = field(default_factory=lambda: uuid4().hex[:12])
    exports: tuple[str, ...] = ()

    @property
    def building(self) -> Path:
        """Where finished pieces stand until all are finished."""
        return self.root / BUILDING

    @property
    def work(self) -> Path:
        """Where tasks of this attempt write."""
        return self.building / f"work-{self.job}"

    @property
    def state(self) -> State:
        """What has been done so far."""
        return State(self.building / STATE)

    @property
    def cubes(self) -> Path:
        """Zarr store under construction."""
        return self.building / "cubes.zarr"

    @property
    def patches(self) -> Path:
        """Patch table under construction."""
        return self.building / TABLE

    @property
    def lmdb(self) -> Path:
        """LMDB under construction."""
        return self.building / "lmdb"

    @property
    def run(self) -> Path:
        """Run record under construction."""
        return self.building / "run"

    def landcover(self, name: str) -> Path:
        """Where a sorted copy of the land-cover map is kept for the next job: beside the output folder.

        Where nothing can be written beside it, the copy is made for this job alone, and not published.
        """
        beside = self.root.parent
        return (beside if os.access(beside, os.W_OK) else self.building) / name

    def with_exports(self, names: Sequence[str]) -> Self:
        """The same output with what this job makes besides.

        Raises
        ------
        RecipeError
            If one of the names is that of something that every job makes.
        OutputError
            If something of that name is in the way, and was not made by this program.
        """
        if clash := [name for name in names if name in (*ARTEFACTS, REPORT)]:
            raise RecipeError(
                f"The exported folder {clash[0]!r} would take the place of a part of the dataset; "
                "call the season that it is for something else."
            )
        for name in names:
            if (self.root / name).exists():
                self._require_own(name)
        return replace(self, exports=tuple(names))

    def record(self) -> dict[str, Any] | None:
        """Run record of the dataset that is in the folder; ``None`` without a complete dataset."""
        found = read_json(self.root / "run" / RECORD_FILE)
        return found if isinstance(found, dict) else None

    @property
    def is_unfinished(self) -> bool:
        """Whether a job was begun in the folder, and no dataset is in it yet."""
        return self.record() is None and self.state.origin() is not None

    def is_finished(self, origin: Origin) -> bool:
        """Whether the folder holds the complete dataset that a job is going to make, with every tile."""
        record = self.record()
        return record is not None and not record.get(FAILURES) and record.get(ORIGIN) == origin

    def require_folder(self) -> None:
        """Raise :class:`OutputError` if something is there that is no folder."""
        if self.root.exists() and not self.root.is_dir():
            raise OutputError(f"The output {self.root} is a file; give a folder.")

    def check(self, origin: Origin, *, overwrite: bool, restart: bool = False) -> None:
        """Make sure that nothing of the user's would be lost, and that nothing is mixed.

        Parameters
        ----------
        origin : Origin
            What the job is made from.
        overwrite : bool
            Replace the dataset that is there.
        restart : bool
            Throw away what an unfinished job has done.

        Raises
        ------
        OutputError
            If the folder holds a dataset that is made from something else, or anything that is no dataset, and
            ``overwrite`` is not set; if what ``overwrite`` would replace was not made by this program; if an unfinished
            job was made from something else, and ``restart`` is not set; or if it cannot be a folder.
        """
        self.require_folder()
        if not restart:
            require_same_job(self.root, self.state, origin)
        found = sorted(path.name for path in self.root.glob("*") if not _is_ours_unfinished(path.name))
        if found and not overwrite:
            require_same_dataset(self.root, found, self.record(), origin)
        if foreign := [name for name in found if name in (*ARTEFACTS, REPORT)]:
            self._require_own(foreign[0])

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Own the folder, one job at a time, and finish what was being published when an earlier job ended.

        Raises
        ------
        OutputError
            If another job is writing to the folder, or it cannot be written.
        """
        with ExitStack() as stack:
            try:
                self.root.mkdir(parents=True, exist_ok=True)
                stack.enter_context(owned(self.root / LOCK, self.job))
                finish_publication(self.root)
            except OSError as error:
                raise self._not_writable(error) from None
            yield

    @property
    def needs_recovery(self) -> bool:
        """Whether an earlier job was interrupted while it published."""
        return is_interrupted(self.root)

    def begin(self, origin: Origin, paths: Mapping[str, str], *, restart: bool = False) -> None:
        """Go on with an unfinished job, or begin a new one; what is of no use any more is cleared.

        Parameters
        ----------
        origin : Origin
            What the job is made from.
        paths : mapping of str to str
            Where its tiles lie, by their names.
        restart : bool
            Throw away what an unfinished job has done.

        Raises
        ------
        OutputError
            If the folder cannot be written.
        """
        try:
            if restart or self.state.origin() is None or not self.state.done(TILES_STAGE):
                self.state.forget()
                remove(self.building)
            for remains in self.building.glob("work-*"):
                shutil.rmtree(remains, ignore_errors=True)
            self.state.forgive()
            self.state.begin(origin, paths)
            # Its files may be written in place, and an earlier attempt may have published them.
            remove(self.run)
            for folder in (self.work, self.run):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._not_writable(error) from None

    def keep(self, path: str | Path) -> None:
        """Move what tasks of this attempt have finished from their folder to its place; ``path`` is below both."""
        move(self.work / path, self.building / path)

    def publish(self) -> None:
        """Put the finished artefacts in their places; those of an earlier job are deleted when all are there.

        If tiles were set aside, what has been done is kept beside, for a job that tries them again.
        """
        earlier = self.record() or {}
        exports = earlier.get("exports")
        replaced = [REPORT, *(filter(_is_plain, exports) if isinstance(exports, list) else ())]
        publish(self.root, (*self.exports, *ARTEFACTS), replaced, keep=bool(self.state.failures()))

    def _require_own(self, name: str) -> None:
        if not (self.root / "run" / RECORD_FILE).is_file():
            raise OutputError(
                f"{self.root / name} is in the way, and is not part of a dataset of this program "
                f"(there is no run/{RECORD_FILE}); move it, or give a new folder."
            )

    def _not_writable(self, error: OSError) -> OutputError:
        return OutputError(f"The output folder {self.root} cannot be written ({error.strerror}).")


def _is_plain(name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name and name[:1] not in ("", ".")


def _is_ours_unfinished(name: str) -> bool:
    return name == LOCK or name.startswith(BUILDING)
