"""The output folder: fixed names, built out of sight and published when complete."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self
from uuid import uuid4

import psutil

from reben_dask.errors import OutputError, RecipeError
from reben_dask.job.record import RECORD_FILE
from reben_dask.stores.metadata import METADATA, SNOW_CLOUD_METADATA

ARTEFACTS = ("cubes.zarr", "patches.parquet", METADATA, SNOW_CLOUD_METADATA, "lmdb", "run")
"""Everything that a job makes, in the order in which it is published; the run record comes last."""

REPORT = "report"
"""The page about the dataset, which is made of it afterwards; one of an earlier dataset does not stay."""

_BUILDING = ".building-"
_LOCK = ".lock"


@dataclass(frozen=True)
class Output:
    """Paths of one job. Until :meth:`publish`, everything is below a hidden folder of the output folder.

    Parameters
    ----------
    root : Path
        The folder that the user asked for, absolute.
    job : str
        Unique to this job, so that tasks of an earlier one that still run somewhere cannot write into this one.
    exports : tuple of str
        Names of what this job makes because it is asked for; see :meth:`with_exports`.
    """

    root: Path
    job: str = field(default_factory=lambda: uuid4().hex[:12])
    exports: tuple[str, ...] = ()

    @property
    def building(self) -> Path:
        """Where artefacts stand while they are made."""
        return self.root / f"{_BUILDING}{self.job}"

    @property
    def cubes(self) -> Path:
        """Zarr store under construction."""
        return self.building / "cubes.zarr"

    @property
    def patches(self) -> Path:
        """Patch table under construction."""
        return self.building / "patches.parquet"

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

    def check(self, *, overwrite: bool) -> None:
        """Make sure that nothing of the user's would be lost.

        Raises
        ------
        OutputError
            If the folder holds anything but the remains of an unfinished job, and ``overwrite`` is not set; if what
            ``overwrite`` would replace was not made by this program; or if it cannot be a folder.
        """
        if self.root.exists() and not self.root.is_dir():
            raise OutputError(f"The output {self.root} is a file; give a folder.")
        found = sorted(path.name for path in self.root.glob("*") if not _is_ours_unfinished(path.name))
        if found and not overwrite:
            shown = ", ".join(found[:3]) + ", …" * (len(found) > 3)
            raise OutputError(
                f"The output folder {self.root} is not empty (it holds {shown}); give a new folder, "
                "or --overwrite to replace the dataset in it once the new one is complete."
            )
        if foreign := [name for name in found if name in (*ARTEFACTS, REPORT)]:
            self._require_own(foreign[0])

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

    def begin(self) -> None:
        """Own the folder, one job at a time, and clear what jobs that did not finish have left.

        Raises
        ------
        OutputError
            If another job is writing to the folder, or it cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            for remains in self.root.glob(f"{_BUILDING}*"):
                shutil.rmtree(remains, ignore_errors=True)
            self.run.mkdir(parents=True)
        except OSError as error:
            raise OutputError(f"The output folder {self.root} cannot be written ({error.strerror}).") from None

    def release(self) -> None:
        """Let other jobs have the folder."""
        if self._lock_owner() == self._owner:
            self._lock.unlink()

    def publish(self) -> None:
        """Put the finished artefacts in their places; those of an earlier job are deleted when all are there."""
        old = self.building / "old"
        old.mkdir()
        for name in dict.fromkeys((*self.exports, *_exports_of(self.root), REPORT, *ARTEFACTS)):
            if (self.root / name).exists() or (self.root / name).is_symlink():
                (self.root / name).rename(old / name)
        for name in (*self.exports, *ARTEFACTS):
            (self.building / name).rename(self.root / name)
        shutil.rmtree(self.building)
        self.release()

    def _require_own(self, name: str) -> None:
        if not (self.root / "run" / RECORD_FILE).is_file():
            raise OutputError(
                f"{self.root / name} is in the way, and is not part of a dataset of this program "
                f"(there is no run/{RECORD_FILE}); move it, or give a new folder."
            )

    @property
    def _lock(self) -> Path:
        return self.root / _LOCK

    @property
    def _owner(self) -> str:
        return f"{socket.gethostname()} {os.getpid()} {self.job}"

    def _lock_owner(self) -> str | None:
        return self._lock.read_text(encoding="utf-8") if self._lock.exists() else None

    def _take_lock(self) -> None:
        owner = self._lock_owner()
        if owner is not None and (owner == self._owner or _is_gone(owner)):
            self._lock.unlink()
        try:
            with self._lock.open("x", encoding="utf-8") as file:
                file.write(self._owner)
        except FileExistsError:
            raise OutputError(
                f"Another job is writing to {self.root} (host, process and job: {owner}); wait for it, or give another "
                f"folder. If it is gone, delete {self._lock}."
            ) from None


def _exports_of(root: Path) -> list[str]:
    """Names of what was exported with the dataset that is in a folder, as its record has them."""
    try:
        names = list(json.loads((root / "run" / RECORD_FILE).read_text(encoding="utf-8"))["exports"])
    except (OSError, ValueError, LookupError, TypeError):
        return []
    return [name for name in names if isinstance(name, str) and Path(name).name == name and name[:1] not in ("", ".")]


def _is_ours_unfinished(name: str) -> bool:
    return name == _LOCK or name.startswith(_BUILDING)


def _is_gone(owner: str) -> bool:
    """Whether the process that made a lock is known to be gone; of another host nothing is known."""
    host, process, _ = [*owner.split(), "", "", ""][:3]
    return host == socket.gethostname() and process.isdigit() and not psutil.pid_exists(int(process))
