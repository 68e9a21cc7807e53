"""Label sets of many patches, one bit for each class: small, and quick to compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
_BITS = 64


@dataclass(frozen=True, slots=True)
class LabelSets:
    """Which patches carry which classes.

    Parameters
    ----------
    classes : tuple of str
        Names of the classes; class ``k`` is bit ``k % 64`` of word ``k // 64``.
    words : ndarray of uint64, shape (patch, word)
        A bit for each class.
    """

    classes: tuple[str, ...]
    words: Words

    @classmethod
    def from_codes(
        cls, classes: Sequence[str], patches: int, rows: npt.NDArray[np.integer], codes: npt.NDArray[np.integer]
    ) -> LabelSets:
        """Label sets from pairs of patch and class.

        Parameters
        ----------
        classes : sequence of str
            Names of the classes.
        patches : int
            Number of patches.
        rows, codes : ndarray of int, shape (label,)
            Patch and class of each label, by their positions.
        """
        words = np.zeros((patches, -(-len(classes) // _BITS)), np.uint64)
        np.bitwise_or.at(words, (rows, codes // _BITS), _bit(codes % _BITS))
        return cls(tuple(classes), words)

    def __len__(self) -> int:
        return len(self.words)

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> LabelSets:
        """Label sets of some patches, by position or by a mask."""
        return LabelSets(self.classes, self.words[rows])

    def sizes(self) -> npt.NDArray[np.int64]:
        """Number of labels of each patch."""
        return _count(self.words)

    def carries(self, code: int) -> npt.NDArray[np.bool_]:
        """Which patches carry the class at a position."""
        carried: npt.NDArray[np.bool_] = (self.words[:, code // _BITS] & _bit(np.asarray(code % _BITS))) != 0
        return carried

    def counts(self) -> npt.NDArray[np.int64]:
        """Number of patches that carry each class, in the order of the classes."""
        return np.array([np.count_nonzero(self.carries(code)) for code in range(len(self.classes))], np.int64)

    def presence(self) -> npt.NDArray[np.bool_]:
        """Whether each patch carries each class, shape ``(patch, class)``; 8 bytes of bits become up to 64 bytes."""
        columns = [self.carries(code) for code in range(len(self.classes))]
        return np.column_stack(columns) if columns else np.zeros((len(self), 0), bool)

    def recoded(self, classes: Sequence[str]) -> LabelSets:
        """The same sets in the terms of another class list; classes that it does not have are left out."""
        place = {name: code for code, name in enumerate(classes)}
        shared = [(code, place[name]) for code, name in enumerate(self.classes) if name in place]
        words = np.zeros((len(self), -(-len(classes) // _BITS)), np.uint64)
        for code, other in shared:
            words[:, other // _BITS] |= self.carries(code) * _bit(np.asarray(other % _BITS))
        return LabelSets(tuple(classes), words)

    def without(self, other: LabelSets) -> LabelSets:
        """Labels that a patch carries here and not in ``other``, which has the same patches and classes."""
        return LabelSets(self.classes, self.words & ~other.words)


def jaccard(left: Words, right: Words) -> npt.NDArray[np.float64]:
    """Jaccard similarity of pairs of label sets: labels that both carry, by labels that at least one carries.

    Parameters
    ----------
    left, right : ndarray of uint64, shape (pair, word)
        Words of :class:`LabelSets` with the same classes.

    Returns
    -------
    ndarray of float64, shape (pair,)
        From 0 (nothing in common) to 1 (the same labels); two patches without any label are the same.
    """
    shared, either = shared_labels(left, right), _count(left | right)
    return np.divide(shared, either, out=np.ones(len(shared)), where=either > 0)


def shared_labels(left: Words, right: Words) -> npt.NDArray[np.int64]:
    """Number of labels that both patches of a pair carry; see :func:`jaccard`."""
    return _count(left & right)


def _bit(place: npt.NDArray[np.integer]) -> Words:
    return np.left_shift(np.uint64(1), place.astype(np.uint64))


def _count(words: Words) -> npt.NDArray[np.int64]:
    counted: npt.NDArray[np.int64] = np.bitwise_count(words).sum(axis=1, dtype=np.int64)
    return counted
