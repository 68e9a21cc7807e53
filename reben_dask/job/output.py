"""The output folder: fixed names, built out of sight and published when complete."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from reben_dask.errors import OutputError
from reben_dask.stores.metadata import METADATA, SNOW_CLOUD_METADATA

ARTEFACTS = ("cubes.zarr", "patches.parquet", METADATA, SNOW_CLOUD_METADATA, "lmdb", "run")
"""Everything that a job makes, in the order in which it is published; the run record comes last."""

_BUILDING = ".building"


@dataclass(frozen=True)
class Output:
    """Paths of one job. Until :meth:`publish`, everything is below a hidden folder of the output folder.

    Parameters
    ----------
    root : Path
        The folder that the user asked for, absolute.
    """

    root: Path

    @property
    def building(self) -> Path:
        """Where artefacts stand while they are made."""
        return self.root / _BUILDING

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

    @property
    def landcover(self) -> Path:
        """Land-cover map, sorted for this job; not published."""
        return self.building / "landcover.parquet"

    def check(self, *, overwrite: bool) -> None:
        """Make sure that nothing of the user's would be lost.

        Raises
        ------
        OutputError
            If the folder holds anything but the remains of an unfinished job, and ``overwrite`` is not set; or if it
            cannot be a folder.
        """
        if self.root.exists() and not self.root.is_dir():
            raise OutputError(f"The output {self.root} is a file; give a folder.")
        found = sorted(path.name for path in self.root.glob("*") if path.name != _BUILDING)
        if found and not overwrite:
            shown = ", ".join(found[:3]) + ", …" * (len(found) > 3)
            raise OutputError(
                f"The output folder {self.root} is not empty (it holds {shown}); give a new folder, "
                "or --overwrite to replace the dataset in it once the new one is complete."
            )

    def begin(self) -> None:
        """Make the hidden folder, without the remains of an earlier job that did not finish.

        Raises
        ------
        OutputError
            If the folder cannot be written.
        """
        try:
            shutil.rmtree(self.building, ignore_errors=True)
            self.run.mkdir(parents=True)
        except OSError as error:
            raise OutputError(f"The output folder {self.root} cannot be written ({error.strerror}).") from None

    def publish(self) -> None:
        """Put the finished artefacts in their places, replacing those of an earlier job, and nothing else."""
        (self.root / "run" / "record.json").unlink(missing_ok=True)
        for name in ARTEFACTS:
            _remove(self.root / name)
            (self.building / name).rename(self.root / name)
        shutil.rmtree(self.building)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
