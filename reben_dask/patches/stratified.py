"""Stratified splits: iterative stratification of multi-label data by whole units.

An initial assignment is improved by a local search that moves and exchanges units. The search uses integers only: sums
of floats may differ in their last digit between processors, and a tie decided otherwise yields another split.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, hstack

from reben_dask.formats.columns import SPLITS
from reben_dask.patches.splits import seeded_hashes

Splits = npt.NDArray[np.int8]
Integers = npt.NDArray[np.int64]

_STARTS = 32
_UNITS_OF_ALL_STARTS = 20_000
"""Limits the number of starts: few heavy units are hard to balance and quick to try, many light ones are neither."""

_WHOLE = 2**24
"""All samples of a class. Sums of its squares, of 100 classes in three splits, still fit an int64."""

_NEGLIGIBLE = (_WHOLE // 100_000) ** 2
"""Smallest improvement worth a step: one class in one split by 0.001 percentage points."""

_CANDIDATES = 256
"""Units examined at a time, with every pair of them for an exchange."""

_FORBIDDEN = np.iinfo(np.int64).max // 4


def stratified_split(
    units: Sequence[str], counts: npt.NDArray[np.integer], *, validation: float, test: float, seed: int
) -> npt.NDArray[np.str_]:
    """Assign whole units to train, validation and test, so that each class is divided as all samples are.

    Parameters
    ----------
    units : sequence of str
        Indivisible units: locations, or blocks of them; their order makes no difference.
    counts : ndarray of integers, shape (unit, class)
        Samples of each class in each unit. A further column with the number of all samples balances that, too.
    validation, test : float
        Fractions of the samples of each class, and of the units; the rest is for training.
    seed : int
        Another seed yields another split.

    Returns
    -------
    ndarray of str, shape (unit,)
        In the order of ``units``. With at least as many units as fractions above 0, no such split is empty.

    Raises
    ------
    ValueError
        If rows and units differ in number, a unit is repeated, or a count is negative.

    Notes
    -----
    Sechidis, Tsoumakas and Vlahavas, On the Stratification of Multi-Label Data (2011): the rarest class is assigned
    first, as later steps cannot compensate for it. Here all units with that class are assigned at once, ordered by
    their other classes, so that these are spread evenly, too. A local search reduces the remaining error.
    """
    names = list(units)
    hashes = seeded_hashes(names, seed)
    order = np.argsort(hashes, kind="stable")
    _check(names, counts, order, hashes)
    shares = np.array([1 - validation - test, validation, test])
    splits = np.zeros(len(order), np.int8)
    if len(order):
        # Units themselves are the class that all have: so those without any other are balanced by number.
        table = hstack([csr_array(counts, dtype=np.int64), np.ones((len(order), 1), np.int64)], format="csr")[order]
        splits[order] = _balanced(table, shares, _starts([names[number] for number in order], table, shares, seed))
    return np.array(SPLITS)[splits]


def _check(
    names: Sequence[str], counts: npt.NDArray[np.integer], order: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint64]
) -> None:
    if counts.ndim != 2 or len(counts) != len(names):
        raise ValueError(f"counts of the shape {counts.shape} are not those of {len(names)} units in rows")
    if counts.size and counts.min() < 0:
        raise ValueError(f"a count is {counts.min()}; counts of samples are 0 or more")
    if len(twice := np.flatnonzero(np.diff(hashes[order]) == 0)):
        raise ValueError(f"the unit {names[order[twice[0]]]!r} is named twice; add up its counts in one row")


def _starts(names: Sequence[str], table: csr_array, shares: npt.NDArray[np.float64], seed: int) -> Iterator[Splits]:
    """Yield assignments to improve: a stratified one, and random ones if there are few units."""
    yield _none_empty(_stratified(table, shares), shares)
    for number in range(1, min(_STARTS, _UNITS_OF_ALL_STARTS // len(names))):
        splits = np.empty(len(names), np.int8)
        shuffled = np.argsort(seeded_hashes([f"{number}/{name}" for name in names], seed), kind="stable")
        splits[shuffled] = _spread(len(names), shares)
        yield _none_empty(splits, shares)


def _stratified(table: csr_array, shares: npt.NDArray[np.float64]) -> Splits:
    """Assign units class by class, from the rarest to the most common, by the samples each split still lacks."""
    units, classes = table.shape
    rarity = np.argsort(np.bincount(table.indices, minlength=classes), kind="stable")
    rank = np.argsort(rarity, kind="stable")
    absent = np.ones((units, classes), bool)
    absent[np.repeat(np.arange(units), np.diff(table.indptr)), rank[table.indices]] = False
    # Sorted by the rarest class, then by the next: units dealt together are adjacent and similar.
    order = np.lexsort(np.packbits(absent, axis=1).T[::-1])
    bounds = np.searchsorted(absent.argmin(axis=1)[order], np.arange(classes + 1))
    splits = np.empty(units, np.int8)
    lacking = np.outer(shares, table.sum(axis=0))
    for kind, (start, stop) in zip(rarity, pairwise(bounds), strict=True):
        if start < stop:
            dealt = order[start:stop]
            wanted = np.maximum(lacking[:, kind], 0)
            splits[dealt] = _spread(len(dealt), wanted if wanted.any() else shares)
            lacking -= _given(table[dealt], splits[dealt], len(shares))
    return splits


def _given(rows: csr_array, splits: Splits, number: int) -> npt.NDArray[np.float64]:
    """Sum the samples of each class in each split, shape ``(split, class)``."""
    classes = rows.shape[1]
    place = np.repeat(splits.astype(np.int64), np.diff(rows.indptr)) * classes + rows.indices
    return np.asarray(np.bincount(place, rows.data, number * classes).reshape(number, classes), np.float64)


def _spread(number: int, shares: npt.NDArray[np.float64]) -> Splits:
    """Sequence of splits in which any stretch has the shares, as nearly as whole numbers allow."""
    exact = shares / shares.sum() * number
    numbers = np.floor(exact).astype(np.int64)
    numbers[np.argsort(numbers - exact, kind="stable")[: number - numbers.sum()]] += 1
    times = np.concatenate([(np.arange(each) + 0.5) / each for each in numbers])
    return np.repeat(np.arange(len(shares), dtype=np.int8), numbers)[np.argsort(times, kind="stable")]


def _none_empty(splits: Splits, shares: npt.NDArray[np.float64]) -> Splits:
    """Move a unit of the largest split, if it can spare one, to each empty split with a share above 0."""
    for number in np.flatnonzero(shares > 0):
        units = np.bincount(splits, minlength=len(shares))
        if not units[number] and units.max() > 1:
            splits[np.flatnonzero(splits == units.argmax())[0]] = number
    return splits


def _balanced(table: csr_array, shares: npt.NDArray[np.float64], starts: Iterable[Splits]) -> Splits:
    """Improve assignments of units, and return the one with the smallest error; of several, the earliest.

    The error is the sum, over classes and splits, of the squared difference between actual and wanted share of the
    class's samples: every class counts alike, however rare. Each step is the best move of a unit or exchange of two. A
    split with a share of 0 gets no unit, and none loses its last. No row of ``table``, shape ``(unit, class)``, is
    without samples.
    """
    totals = table.sum(axis=0)[table.indices]
    parts = (table.data * _WHOLE + totals // 2) // totals
    normalized = csr_array((parts, table.indices, table.indptr), table.shape)
    searches = [_Search(normalized, shares, start) for start in starts]
    for search in searches:
        search.run()
    return min(searches, key=_Search.error).splits


class _Search:
    """Local search; ``parts`` are the samples of each unit as parts of ``_WHOLE``, shape ``(unit, class)``."""

    def __init__(self, parts: csr_array, shares: npt.NDArray[np.float64], splits: Splits) -> None:
        self.parts, self.splits, self.open = parts, splits.copy(), shares > 0
        self.squares: Integers = np.add.reduceat(parts.data**2, parts.indptr[:-1])
        places = (np.ones(len(splits), np.int64), (splits, np.arange(len(splits))))
        has = (csr_array(places, (len(shares), len(splits))) @ parts).toarray()
        self.excess: Integers = has - np.rint(np.outer(shares, has.sum(axis=0))).astype(np.int64)
        self.units = np.bincount(splits, minlength=len(shares))

    def error(self) -> int:
        return int((self.excess**2).sum())

    def run(self) -> None:
        before = None
        while before is None or before - self.error() > _CANDIDATES * _NEGLIGIBLE:
            before = self.error()
            moves = self._moves(self.parts, self.squares, self.splits)
            self._improve(_smallest(moves.min(axis=1), _CANDIDATES))

    def _improve(self, chosen: Integers) -> None:
        parts, squares, splits = self.parts[chosen].toarray(), self.squares[chosen], self.splits[chosen]
        common = 4 * (parts @ parts.T)
        while True:
            moves = self._moves(parts, squares, splits)
            allowed = np.where((self.units[splits] > 1)[:, None] & self.open, moves, _FORBIDDEN)
            unit, to = divmod(int(allowed.argmin()), len(self.open))
            if allowed[unit, to] < -_NEGLIGIBLE:
                self._move(parts[unit], splits, unit, to)
                continue
            # Two moves one after the other: the second finds the excess that the first leaves.
            there = moves[:, splits]
            exchanges = np.where(splits[:, None] != splits, there + there.T - common, _FORBIDDEN)
            one, other = divmod(int(exchanges.argmin()), len(splits))
            if exchanges[one, other] >= -_NEGLIGIBLE:
                break
            to, back = int(splits[other]), int(splits[one])
            self._move(parts[one], splits, one, to)
            self._move(parts[other], splits, other, back)
        self.splits[chosen] = splits

    def _moves(self, parts: csr_array | Integers, squares: Integers, splits: Splits) -> Integers:
        """Change of the error if a unit moved to a split, shape ``(unit, split)``; forbidden for its own split."""
        here = np.arange(len(splits))
        overlap = parts @ self.excess.T
        change = 2 * (overlap - overlap[here, splits][:, None] + squares[:, None])
        change[here, splits] = _FORBIDDEN
        return np.asarray(change, np.int64)

    def _move(self, parts: Integers, splits: Splits, unit: int, to: int) -> None:
        for number, sign in ((splits[unit], -1), (to, 1)):
            self.excess[number] += sign * parts
            self.units[number] += sign
        splits[unit] = to


def _smallest(values: Integers, number: int) -> Integers:
    """Positions of the smallest values, in order; of equal ones the first, unlike ``argpartition``."""
    if len(values) <= number:
        return np.arange(len(values))
    limit = np.partition(values, number)[number]
    below = np.flatnonzero(values < limit)
    level = np.flatnonzero(values == limit)
    return np.sort(np.concatenate([below, level[: number - len(below)]]))
