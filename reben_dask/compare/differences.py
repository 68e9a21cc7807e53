"""What two datasets of one area have in common, and how they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from reben_dask.errors import InputError
from reben_dask.formats.columns import KEPT
from reben_dask.patches.label_changes import LabelChanges, label_changes
from reben_dask.patches.matching import (
    Matches,
    at_places_of,
    match_patches,
    overlap_table,
    reasons_elsewhere,
    split_table,
)
from reben_dask.stores.patch_set import SPLIT, PatchSet


class Differences(NamedTuple):
    """Two datasets beside each other.

    Parameters
    ----------
    matches : Matches
        Rows of the candidates that both have.
    overlap : DataFrame
        See :func:`~reben_dask.patches.matching.overlap_table`.
    reasons : DataFrame
        ``kept in`` (A or B), ``reason`` why the other does not keep them, ``patches``.
    other_time : mapping of str to int
        Of the candidates that only A or only B has, how many lie where the other has patches of another time.
    labels : LabelChanges
        Of the patches that both keep.
    splits : DataFrame
        See :func:`~reben_dask.patches.matching.split_table`; of the patches that both keep.
    """

    matches: Matches
    overlap: pd.DataFrame
    reasons: pd.DataFrame
    other_time: Mapping[str, int]
    labels: LabelChanges
    splits: pd.DataFrame


def compare_datasets(a: PatchSet, b: PatchSet) -> Differences:
    """Compare the candidates of two datasets, and the labels and splits of the patches that both keep.

    Raises
    ------
    InputError
        If they have no candidate in common.
    """
    matches = match_patches(a.patches, b.patches)
    only = {"A": _rest(len(a), matches.a), "B": _rest(len(b), matches.b)}
    at_places = {"A": at_places_of(a.patches, b.patches), "B": at_places_of(b.patches, a.patches)}
    other_time = {name: int(np.count_nonzero(at_places[name] & only[name])) for name in only}
    if not len(matches.a):
        raise InputError(_nothing_in_common(a, b, other_time))
    left, right = a.take(matches.a), b.take(matches.b)
    kept = np.flatnonzero((left.patches["status"] == KEPT) & (right.patches["status"] == KEPT))
    left, right = left.take(kept), right.take(kept)
    return Differences(
        matches,
        overlap_table(a.patches, b.patches, matches),
        _reasons(a, b, matches),
        other_time,
        label_changes(left.labels, right.labels),
        split_table(left.patches[SPLIT], right.patches[SPLIT]),
    )


def _rest(length: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    rest = np.ones(length, bool)
    rest[rows] = False
    return rest


def _reasons(a: PatchSet, b: PatchSet, matches: Matches) -> pd.DataFrame:
    tables = []
    for name, one, other, (own, theirs) in (("A", a, b, matches), ("B", b, a, matches[::-1])):
        rows = np.full(len(one), -1)
        rows[own] = theirs
        counts = reasons_elsewhere(one.patches, other.patches, rows).rename("patches").reset_index()
        tables.append(counts.assign(**{"kept in": name})[["kept in", "reason", "patches"]])
    return pd.concat(tables, ignore_index=True)


def _nothing_in_common(a: PatchSet, b: PatchSet, other_time: Mapping[str, int]) -> str:
    near = f", {other_time['A']:,} of A at places of B, but of other times" if other_time["A"] else ""
    return (
        f"The datasets have no patch in common: A ({a.path}) has {_coverage(a)}; "
        f"B ({b.path}) has {_coverage(b)}{near}. "
        "Give datasets that were made from the same products."
    )


def _coverage(patches: PatchSet) -> str:
    (west, south), (east, north) = (f(patches.places.lonlat(), axis=0) for f in (np.min, np.max))
    sides = ", ".join(f"{side:,}" for side in sorted(patches.patches["side"].unique()))
    times = patches.patches["sensing_time"]
    return (
        f"{len(patches):,} patches of {sides} m, longitude {west:.2f} to {east:.2f}, "
        f"latitude {south:.2f} to {north:.2f}, {times.min():%Y-%m-%d} to {times.max():%Y-%m-%d}"
    )
