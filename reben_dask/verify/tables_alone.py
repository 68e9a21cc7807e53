"""The tables of trees that were given without their dataset, by themselves and beside metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reben_dask.verify.expected import Expected, Kind
from reben_dask.verify.findings import Check
from reben_dask.verify.metadata_rows import Rows
from reben_dask.verify.patch_rows import RowOf, no_rows
from reben_dask.verify.tables_bigearthnet_v1 import read_lists
from reben_dask.verify.tables_seasonet import read_meta


@dataclass(frozen=True)
class Told:
    """What tables tell.

    Parameters
    ----------
    checks : tuple of Check
        What was found in them.
    rows : Rows or None
        Patches that must be there, if the tables are of all patches.
    row_of : callable
        Gives what they tell of a patch.
    listed : mapping of Kind to frozenset of str
        Names that must be among those that are there.
    """

    checks: tuple[Check, ...] = ()
    rows: Rows | None = None
    row_of: RowOf = no_rows
    listed: Mapping[Kind, frozenset[str]] = field(default_factory=dict)


def _seasonet(folder: Path, expected: Expected, rows: Rows | None) -> Told:
    meta = read_meta(folder, expected, rows)
    return Told(meta.checks, meta.rows, meta.row_of)


def _bigearthnet_v1(folder: Path, expected: Expected, rows: Rows | None) -> Told:
    check, listed = read_lists(folder, expected, rows)
    return Told((check,), listed=listed)


_READ: Mapping[str, Callable[[Path, Expected, Rows | None], Told]] = {
    "bigearthnet-v1": _bigearthnet_v1,
    "seasonet": _seasonet,
}
"""By the name of the layout."""


def read_tables(path: Path, expected: Expected, rows: Rows | None) -> Told:
    """Read the tables beside trees.

    Parameters
    ----------
    path : Path
        The folder that holds the trees, or one of them.
    expected : Expected
        The dataset and its layout.
    rows : Rows or None
        Metadata that the tables must agree with, if there are any.
    """
    names = expected.tree_layout.tables
    folder = next((folder for folder in (path, path.parent) if any((folder / name).exists() for name in names)), None)
    read = _READ.get(expected.tree)
    return Told() if folder is None or read is None else read(folder, expected, rows)
