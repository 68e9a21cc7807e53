"""Lists of the pairs of each set of BigEarthNet v1, by themselves and beside metadata."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from reben_dask.errors import InputError
from reben_dask.formats.trees.bigearthnet_v1 import LISTS
from reben_dask.verify.expected import Expected, Kind
from reben_dask.verify.findings import Check, collect
from reben_dask.verify.metadata import pair_fault
from reben_dask.verify.metadata_rows import APART, Rows
from reben_dask.wording import counted

Pairs = dict[str, tuple[str, str]]
"""Set and Sentinel-1 partner (or nothing) of each patch."""


def read_lists(folder: Path, expected: Expected, rows: Rows | None) -> tuple[Check, Mapping[Kind, frozenset[str]]]:
    """Check the lists.

    Parameters
    ----------
    folder : Path
        Where they are.
    expected : Expected
        How patches are named.
    rows : Rows or None
        Metadata that they must agree with: clear patches of each set.

    Returns
    -------
    check : Check
        What was found.
    listed : mapping of Kind to frozenset of str
        Names that trees must have.
    """
    check, pairs = Check("Lists of the sets"), Pairs()
    for name, file in LISTS.items():
        with collect(check, file):
            if not (folder / file).is_file():
                raise InputError("is missing")
            check.add(_read(folder / file, name, expected, pairs))
    if rows is not None:
        check.add(_differences(pairs, rows))
    check.summary = counted(len(pairs), "patch")
    partners = frozenset(partner for _, partner in pairs.values() if partner)
    return check, {Kind.S2: frozenset(pairs), Kind.S1: partners}


def _read(path: Path, name: str, expected: Expected, pairs: Pairs) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="") as file:
        for number, line in enumerate(csv.reader(file), start=1):
            patch, partner = line if len(line) == 2 else ("", "")
            if expected.names.read(patch) is None:
                yield f"{path.name}, line {number:,}, is {','.join(line)!r}, which is no pair of patches"
            elif patch in pairs:
                yield f"{path.name}, line {number:,}, has {patch} again, after {LISTS[pairs[patch][0]]}"
            else:
                row = {"patch_id": patch, "s1_name": partner or None, "s2v1_name": None}
                if fault := pair_fault(row, expected.names):
                    yield f"{path.name}, line {number:,}, {patch} {fault}"
                pairs[patch] = (name, partner)


def _differences(pairs: Pairs, rows: Rows) -> Iterator[str]:
    left = set(pairs)
    for row in rows:
        left.discard(row["patch_id"])
        wanted = None if row[APART] or row["split"] is None else (row["split"], row["s1_name"] or "")
        found = pairs.get(row["patch_id"])
        if found != wanted:
            shown = (" with ".join(filter(None, pair)) if pair else "in no list" for pair in (found, wanted))
            yield "{} is {}, but {} in the metadata".format(row["patch_id"], *shown)
    yield from (f"{patch} is in {LISTS[pairs[patch][0]]}, but not in the metadata" for patch in sorted(left))
