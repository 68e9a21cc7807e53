"""What the checks of one verification have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reben_dask.verify.cubes_compared import StorePatches
from reben_dask.verify.expected import Expected, Kind
from reben_dask.verify.findings import Report
from reben_dask.verify.metadata_rows import Rows
from reben_dask.verify.patch_rows import RowOf, no_rows

Begin = Callable[[str, int], Callable[[int], object]]
"""Begins a stage of so many steps, and gives what is told of steps that are done;
:meth:`reben_dask.progress.StageProgress.stage` is one."""


def silent(_stage: str, _steps: int) -> Callable[[int], object]:
    """Progress that nobody hears of."""
    return lambda _: None


@dataclass(frozen=True)
class Settings:
    """How a verification is done.

    Parameters
    ----------
    full : bool
        Read all pixels, not a sample.
    digest : bool
        Also work out a digest of the content of each artefact.
    begin : callable
        Told which stage begins, and of how many steps it is.
    """

    full: bool = False
    digest: bool = False
    begin: Begin = silent


@dataclass(frozen=True)
class Context:
    """What is known when an artefact is looked at.

    Parameters
    ----------
    settings : Settings
        How it is done.
    report : Report
        Told the number of patches, what there is not, and digests.
    expected : Expected
        What patches consist of.
    rows : Rows or None
        What the metadata ask for. Without them, any patch may be there, and is checked by itself.
    own : bool
        The data are a dataset of this program, which promises more than the published format: metadata rows in the
        order of their names, and no column of anyone else.
    required : frozenset of Kind
        What must be there. Of other kinds either all is there that the metadata ask for, or nothing at all: people
        also train on Sentinel-2 alone.
    store : StorePatches or None
        The Zarr store of the same dataset, if there is one.
    row_of : callable
        Gives what the patch table, or a table of the trees, tells of a patch.
    attributes_of : callable or None
        Gives what the Zarr store of the same dataset says of a tile. With it, documents of patches must be those that
        this program makes.
    listed : mapping of Kind to frozenset of str
        Names that a table lists, which may be not of all patches.
    """

    settings: Settings
    report: Report
    expected: Expected
    rows: Rows | None = None
    own: bool = False
    required: frozenset[Kind] = frozenset()
    store: StorePatches | None = None
    row_of: RowOf = no_rows
    attributes_of: Callable[[str], Mapping[str, Any]] | None = None
    listed: Mapping[Kind, frozenset[str]] = field(default_factory=dict)
