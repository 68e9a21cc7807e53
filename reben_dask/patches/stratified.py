"""Splits in which each class has the shares asked for: iterative stratification of multi-label data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, hstack

from reben_dask.formats.columns import SPLITS
from reben_dask.patches.balance import Sets, balanced
from reben_dask.patches.splits import seeded_hashes

_STARTS = 32
_UNITS_OF_ALL_STARTS = 20_000
"""A few heavy units are hard to balance, and quick to try in several ways; many light ones are neither."""


def stratified_split(
    units: Sequence[str], counts: npt.NDArray[np.integer], *, validation: float, test: float, seed: int
) -> npt.NDArray[np.str_]:
    """Give whole units to train, validation and test, so that each class is shared out as all samples are.

    Parameters
    ----------
    units : sequence of str
        Names of what must not be divided: locations, or blocks of them. The split does not depend on their order.
    counts : ndarray of integers, shape (unit, class)
        Samples of each class in each unit, 0 or more. Whatever can be counted may be a class: with the number of all
        samples as a further column, that is balanced, too.
    validation, test : float
        Share of the samples of each class, and of the units; the rest is for training.
    seed : int
        Another seed gives another split.

    Returns
    -------
    ndarray of str, shape (unit,)
        In the order of ``units``. With as many units as there are shares above 0, no such set is empty.

    Raises
    ------
    ValueError
        If there are not as many rows as units, a unit is named twice, or a count is negative.

    Notes
    -----
    Sechidis, Tsoumakas and Vlahavas, On the Stratification of Multi-Label Data (2011): the rarest class is shared out
    first, as there is no making up for it later. Here all units with that class are dealt at once, ordered by which
    other classes they have, so that these are spread evenly, too. A local search repairs what remains.
    """
    names = list(units)
    hashes = seeded_hashes(names, seed)
    order = np.argsort(hashes, kind="stable")
    _check(names, counts, order, hashes)
    shares = np.array([1 - validation - test, validation, test])
    sets = np.zeros(len(order), np.int8)
    if len(order):
        # Units themselves are the class that all have: so those without any other are balanced by number.
        table = hstack([csr_array(counts, dtype=np.int64), np.ones((len(order), 1), np.int64)], format="csr")[order]
        sets[order] = balanced(table, shares, _starts([names[number] for number in order], table, shares, seed))
    return np.array(SPLITS)[sets]


def _check(
    names: Sequence[str], counts: npt.NDArray[np.integer], order: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint64]
) -> None:
    if counts.ndim != 2 or len(counts) != len(names):
        raise ValueError(f"counts of the shape {counts.shape} are not those of {len(names)} units in rows")
    if counts.size and counts.min() < 0:
        raise ValueError(f"a count is {counts.min()}; counts of samples are 0 or more")
    if len(twice := np.flatnonzero(np.diff(hashes[order]) == 0)):
        raise ValueError(f"the unit {names[order[twice[0]]]!r} is named twice; add up its counts in one row")


def _starts(names: Sequence[str], table: csr_array, shares: npt.NDArray[np.float64], seed: int) -> Iterator[Sets]:
    """Assignments to improve: one that is stratified, and a few by lot if there are few units."""
    yield _none_empty(_stratified(table, shares), shares)
    for number in range(1, min(_STARTS, _UNITS_OF_ALL_STARTS // len(names))):
        sets = np.empty(len(names), np.int8)
        lots = np.argsort(seeded_hashes([f"{number}/{name}" for name in names], seed), kind="stable")
        sets[lots] = _spread(len(names), shares)
        yield _none_empty(sets, shares)


def _stratified(table: csr_array, shares: npt.NDArray[np.float64]) -> Sets:
    """Deal units class by class, from the rarest to the one that all have, by what each set still lacks of it."""
    units, classes = table.shape
    rarity = np.argsort(np.bincount(table.indices, minlength=classes), kind="stable")
    rank = np.argsort(rarity, kind="stable")
    absent = np.ones((units, classes), bool)
    absent[np.repeat(np.arange(units), np.diff(table.indptr)), rank[table.indices]] = False
    # Sorted by the rarest class, then by the next: those dealt together lie together, the most alike side by side.
    order = np.lexsort(np.packbits(absent, axis=1).T[::-1])
    bounds = np.searchsorted(absent.argmin(axis=1)[order], np.arange(classes + 1))
    sets = np.empty(units, np.int8)
    lacking = np.outer(shares, table.sum(axis=0))
    for kind, (start, stop) in zip(rarity, pairwise(bounds), strict=True):
        if start < stop:
            dealt = order[start:stop]
            wanted = np.maximum(lacking[:, kind], 0)
            sets[dealt] = _spread(len(dealt), wanted if wanted.any() else shares)
            lacking -= _given(table[dealt], sets[dealt], len(shares))
    return sets


def _given(rows: csr_array, sets: Sets, number: int) -> npt.NDArray[np.float64]:
    """Samples of each class in each set, shape ``(set, class)``."""
    classes = rows.shape[1]
    place = np.repeat(sets.astype(np.int64), np.diff(rows.indptr)) * classes + rows.indices
    return np.asarray(np.bincount(place, rows.data, number * classes).reshape(number, classes), np.float64)


def _spread(number: int, shares: npt.NDArray[np.float64]) -> Sets:
    """A sequence of sets in which any stretch has the shares, as nearly as whole numbers allow."""
    exact = shares / shares.sum() * number
    numbers = np.floor(exact).astype(np.int64)
    numbers[np.argsort(numbers - exact, kind="stable")[: number - numbers.sum()]] += 1
    times = np.concatenate([(np.arange(each) + 0.5) / each for each in numbers])
    return np.repeat(np.arange(len(shares), dtype=np.int8), numbers)[np.argsort(times, kind="stable")]


def _none_empty(sets: Sets, shares: npt.NDArray[np.float64]) -> Sets:
    """Give each set with a share above 0 a unit of the largest set, if that has one to spare."""
    for number in np.flatnonzero(shares > 0):
        units = np.bincount(sets, minlength=len(shares))
        if not units[number] and units.max() > 1:
            sets[np.flatnonzero(sets == units.argmax())[0]] = number
    return sets
