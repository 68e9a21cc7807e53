"""Moving units between sets until each class has the shares asked for, as nearly as moves and exchanges can bring it.

All arithmetic is on integers: sums of floats may differ in their last digit from one processor to the next, and a tie
that is decided otherwise would give another split.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

Sets = npt.NDArray[np.int8]
Integers = npt.NDArray[np.int64]

_WHOLE = 2**24
"""All samples of a class. Squares of it, of some hundred classes in three sets, still add up to an int64."""

_NEGLIGIBLE = (_WHOLE // 100_000) ** 2
"""An improvement that is not worth a step: that of one class in one set by a thousandth of a percentage point."""

_CANDIDATES = 256
"""Units that are looked at closely at a time; every pair of them is, for an exchange."""

_FORBIDDEN = np.iinfo(np.int64).max // 4


def balanced(table: csr_array, shares: npt.NDArray[np.float64], starts: Iterable[Sets]) -> Sets:
    """Improve assignments to sets, and choose the best.

    The error of an assignment is the sum, over classes and sets, of the squared difference between the share of the
    class's samples that the set has and the share that it should have: every class counts alike, however rare.
    Steps are the move of a unit to another set and the exchange of two units, each time the one that helps most.

    Parameters
    ----------
    table : csr_array of int64, shape (unit, class)
        Samples of each class; no unit is without any.
    shares : ndarray of float64, shape (set,)
        Wanted shares. A set with a share of 0 gets no unit, and no set that has units loses its last.
    starts : iterable of ndarray of int8, each of shape (unit,)
        Assignments to begin with.

    Returns
    -------
    ndarray of int8, shape (unit,)
        The assignment with the smallest error; of several, the one that came from the earliest start.
    """
    totals = table.sum(axis=0)[table.indices]
    parts = (table.data * _WHOLE + totals // 2) // totals
    searches = [_Search(csr_array((parts, table.indices, table.indptr), table.shape), shares, sets) for sets in starts]
    for search in searches:
        search.run()
    return min(searches, key=_Search.error).sets


class _Search:
    """A local search; ``parts`` are the samples of each unit as parts of :data:`_WHOLE`, shape ``(unit, class)``."""

    def __init__(self, parts: csr_array, shares: npt.NDArray[np.float64], sets: Sets) -> None:
        self.parts, self.sets, self.open = parts, sets.copy(), shares > 0
        self.squares: Integers = np.add.reduceat(parts.data**2, parts.indptr[:-1])
        places = (np.ones(len(sets), np.int64), (sets, np.arange(len(sets))))
        has = (csr_array(places, (len(shares), len(sets))) @ parts).toarray()
        self.excess: Integers = has - np.rint(np.outer(shares, has.sum(axis=0))).astype(np.int64)
        self.units = np.bincount(sets, minlength=len(shares))

    def error(self) -> int:
        """Sum of squares of what the sets have too much or too little, shape ``(set, class)``."""
        return int((self.excess**2).sum())

    def run(self) -> None:
        """Search until a closer look at the most promising units helps no more."""
        before = None
        while before is None or before - self.error() > _CANDIDATES * _NEGLIGIBLE:
            before = self.error()
            moves = self._moves(self.parts, self.squares, self.sets)
            self._improve(_smallest(moves.min(axis=1), _CANDIDATES))

    def _improve(self, chosen: Integers) -> None:
        """Take steps among some units, as long as there are any."""
        parts, squares, sets = self.parts[chosen].toarray(), self.squares[chosen], self.sets[chosen]
        common = 4 * (parts @ parts.T)
        while True:
            moves = self._moves(parts, squares, sets)
            allowed = np.where((self.units[sets] > 1)[:, None] & self.open, moves, _FORBIDDEN)
            unit, to = divmod(int(allowed.argmin()), len(self.open))
            if allowed[unit, to] < -_NEGLIGIBLE:
                self._move(parts[unit], sets, unit, to)
                continue
            # Two moves one after the other: the second finds the excess that the first leaves.
            there = moves[:, sets]
            exchanges = np.where(sets[:, None] != sets, there + there.T - common, _FORBIDDEN)
            one, other = divmod(int(exchanges.argmin()), len(sets))
            if exchanges[one, other] >= -_NEGLIGIBLE:
                break
            to, back = int(sets[other]), int(sets[one])
            self._move(parts[one], sets, one, to)
            self._move(parts[other], sets, other, back)
        self.sets[chosen] = sets

    def _moves(self, parts: csr_array | Integers, squares: Integers, sets: Sets) -> Integers:
        """Change of the error if a unit went to a set, shape ``(unit, set)``; forbidden where it is there already."""
        here = np.arange(len(sets))
        overlap = parts @ self.excess.T
        change = 2 * (overlap - overlap[here, sets][:, None] + squares[:, None])
        change[here, sets] = _FORBIDDEN
        return np.asarray(change, np.int64)

    def _move(self, parts: Integers, sets: Sets, unit: int, to: int) -> None:
        for number, sign in ((sets[unit], -1), (to, 1)):
            self.excess[number] += sign * parts
            self.units[number] += sign
        sets[unit] = to


def _smallest(values: Integers, number: int) -> Integers:
    """Places of the smallest values; of equal ones the first, which a partition of places would not promise."""
    if len(values) <= number:
        return np.arange(len(values))
    limit = np.partition(values, number)[number]
    below = np.flatnonzero(values < limit)
    level = np.flatnonzero(values == limit)
    return np.sort(np.concatenate([below, level[: number - len(below)]]))
