"""How a verification is done: how deep, how strictly, and who hears of its progress."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from reben_dask.verify.expected import Kind

STAGES = {
    "verify-table": "Check patch table",
    "verify-lmdb": "Check LMDB",
    "verify-cubes": "Check Zarr cubes",
    "verify-pixels": "Compare pixels",
    "verify-tree": "Check GeoTIFF tree",
    "verify-digest": "Digests",
}
"""Stages of a verification, with the titles under which they are shown; not each one has all."""


class Progress(Protocol):
    """What is told how far a stage is; :class:`reben_dask.progress.StageProgress` is one."""

    def begin(self, stage: str, total: int | None = None) -> None:
        """A stage of so many steps begins."""

    def advance(self, stage: str, steps: int = 1) -> None:
        """Some more of a stage is done."""


class Silent:
    """Progress that nobody hears of."""

    def begin(self, stage: str, total: int | None = None) -> None:
        """Do nothing."""

    def advance(self, stage: str, steps: int = 1) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Settings:
    """How a verification is done.

    Parameters
    ----------
    full : bool
        Read all pixels, not a sample.
    digest : bool
        Also work out a digest of the content of each artefact.
    own : bool
        The data are a dataset of this program, which promises more than the published format: metadata rows in the
        order of their names, and no column of anyone else.
    required : frozenset of Kind
        What must be there. Of other kinds either all is there that the metadata ask for, or nothing at all: people
        also train on Sentinel-2 alone.
    progress : Progress
        Told how far each stage is.
    """

    full: bool = False
    digest: bool = False
    own: bool = False
    required: frozenset[Kind] = frozenset()
    progress: Progress = field(default_factory=Silent)
