"""Differences between two datasets of one area: patches, labels and splits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from reben_dask.analysis.correlation import lonlat
from reben_dask.analysis.matching import (
    Matches,
    at_places_of,
    match_patches,
    overlap_table,
    reasons_elsewhere,
    split_table,
)
from reben_dask.analysis.patch_set import SPLIT, LabelSets, PatchSet
from reben_dask.errors import InputError
from reben_dask.formats import columns

SAME, LOST, GAINED, CHANGED = "same labels", "only lost labels", "only gained labels", "lost and gained labels"

_Bools = npt.NDArray[np.bool_]


class LabelChanges(NamedTuple):
    """Labels that patches lose and gain from A to B."""

    patches: pd.DataFrame
    """Index :data:`SAME`, :data:`LOST`, :data:`GAINED`, :data:`CHANGED`; number of patches by ``all classes`` and by
    ``classes of both lists``."""
    classes: pd.DataFrame
    """Index ``class``, sorted; ``class list`` that has it (``both``, ``A``, ``B``), and the number of patches that
    carry it in ``A``, ``B``, ``both``, ``only A`` and ``only B``."""
    pairs: pd.DataFrame
    """``lost``, ``gained``, ``patches`` that lose the one and gain the other, the most frequent first, and their
    ``share`` of the patches that lose the one or gain the other: near 1 if a class is only renamed."""


class Differences(NamedTuple):
    """Differences of two datasets."""

    matches: Matches
    overlap: pd.DataFrame
    """See :func:`~reben_dask.analysis.matching.overlap_table`."""
    reasons: pd.DataFrame
    """``kept in`` (A or B), ``reason`` why the other does not keep them, ``patches``."""
    other_time: Mapping[str, int]
    """Number of candidates only in A or only in B at locations that the other has at other times."""
    labels: LabelChanges
    splits: pd.DataFrame
    """See :func:`~reben_dask.analysis.matching.split_table`; of the patches kept in both."""


def compare_datasets(a: PatchSet, b: PatchSet) -> Differences:
    """Compare the candidates of two datasets, and labels and splits of the patches that both keep.

    Raises InputError if they have no candidate in common.
    """
    matches = match_patches(a.patches, b.patches)
    other_time = {
        "A": _unmatched_at_places_of(b, a, matches.a),
        "B": _unmatched_at_places_of(a, b, matches.b),
    }
    if not len(matches.a):
        raise InputError(_nothing_in_common(a, b, other_time["A"]))
    left, right = a.take(matches.a), b.take(matches.b)
    kept = np.flatnonzero(
        (left.patches[columns.STATUS] == columns.KEPT) & (right.patches[columns.STATUS] == columns.KEPT)
    )
    left, right = left.take(kept), right.take(kept)
    return Differences(
        matches,
        overlap_table(a.patches, b.patches, matches),
        pd.concat([_reasons("A", a, b, matches), _reasons("B", b, a, Matches(*matches[::-1]))], ignore_index=True),
        other_time,
        label_changes(left.labels, right.labels),
        split_table(left.patches[SPLIT], right.patches[SPLIT]),
    )


def label_changes(a: LabelSets, b: LabelSets) -> LabelChanges:
    """Compare the labels of the same patches in the same order, by class name."""
    names = sorted({*a.classes, *b.classes})
    here, there = a.recoded(names).carried, b.recoded(names).carried
    lost, gained = here & ~there, there & ~here
    in_a, in_b = np.isin(names, a.classes), np.isin(names, b.classes)
    shared = in_a & in_b
    patches = {"all classes": _kinds(lost, gained), "classes of both lists": _kinds(lost[:, shared], gained[:, shared])}
    classes = {
        "class list": np.select([shared, in_a], ["both", "A"], "B").astype(object),
        **dict(zip(("A", "B", "both"), (sets.sum(axis=0) for sets in (here, there, here & there)), strict=True)),
        **dict(zip(("only A", "only B"), (sets.sum(axis=0) for sets in (lost, gained)), strict=True)),
    }
    index = pd.Index(names, name="class")
    return LabelChanges(pd.DataFrame(patches), pd.DataFrame(classes, index), _pairs(lost, gained, index))


def _kinds(lost: _Bools, gained: _Bools) -> dict[str, int]:
    kinds = lost.any(axis=1) + 2 * gained.any(axis=1)
    return dict(zip((SAME, LOST, GAINED, CHANGED), np.bincount(kinds, minlength=4).tolist(), strict=True))


def _pairs(lost: _Bools, gained: _Bools, names: pd.Index[str]) -> pd.DataFrame:
    counts = np.array([lost[column].sum(axis=0) for column in gained.T]).reshape(len(names), len(names)).T
    left, right = np.nonzero(counts)
    patches = counts[left, right]
    either = lost.sum(axis=0)[left] + gained.sum(axis=0)[right] - patches
    table = pd.DataFrame({"lost": names[left], "gained": names[right], "patches": patches, "share": patches / either})
    return table.sort_values(["patches", "lost", "gained"], ascending=[False, True, True], ignore_index=True)


def _unmatched_at_places_of(other: PatchSet, one: PatchSet, matched: npt.NDArray[np.int64]) -> int:
    """Count the unmatched candidates of one dataset at locations of the other."""
    at_places = at_places_of(one.patches, other.patches)
    return int(at_places.sum() - at_places[matched].sum())


def _reasons(name: str, one: PatchSet, other: PatchSet, matches: Matches) -> pd.DataFrame:
    rows = np.full(len(one), -1)
    rows[matches.a] = matches.b
    counts = reasons_elsewhere(one.patches, other.patches, rows).rename("patches").reset_index()
    counts.insert(0, "kept in", name)
    return counts


def _nothing_in_common(a: PatchSet, b: PatchSet, other_time: int) -> str:
    near = f", {other_time:,} of A match a location of B, but not its sensing time" if other_time else ""
    return (
        f"The datasets have no patch in common: A ({a.path}) has {_coverage(a)}; "
        f"B ({b.path}) has {_coverage(b)}{near}. Give datasets that were made from the same products."
    )


def _coverage(dataset: PatchSet) -> str:
    degrees = lonlat(dataset.places)
    (west, south), (east, north) = degrees.min(axis=0), degrees.max(axis=0)
    sides = ", ".join(f"{side:,}" for side in sorted(dataset.patches["side"].unique()))
    times = dataset.patches[columns.SENSING_TIME]
    return (
        f"{len(dataset):,} patches of {sides} m, longitude {west:.2f} to {east:.2f}, "
        f"latitude {south:.2f} to {north:.2f}, {times.min():%Y-%m-%d} to {times.max():%Y-%m-%d}"
    )
