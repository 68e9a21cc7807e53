"""Shares to give sets of blocks, so that the patches between blocks do not shift those of the dataset."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_STEPS = 100


def blocks_touched(blocks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many patches touch one block, two, three and four.

    Parameters
    ----------
    blocks : ndarray of int64, shape (patch, 4)
        From :func:`~reben_dask.patches.locations.patch_blocks`.

    Returns
    -------
    ndarray of int64, shape (4,)
        To be added up over all tiles, for :func:`shares_to_ask`.
    """
    distinct = 1 + np.count_nonzero(np.diff(np.sort(blocks, axis=1), axis=1), axis=1)
    return np.bincount(distinct, minlength=5)[1:]


def shares_to_ask(touched: npt.NDArray[np.int64], *, validation: float, test: float) -> tuple[float, float]:
    """Shares of blocks that leave patches with the shares wanted.

    A patch between two blocks is kept if both have the same set, which is likely for a large set and not for a small
    one. So blocks that are shared out 70:10:20 leave patches 75:8:17 if every third patch touches two of them.

    Parameters
    ----------
    touched : ndarray of int64, shape (4,)
        From :func:`blocks_touched`.
    validation, test : float
        Wanted shares of the patches that are in a set; the rest is for training.

    Returns
    -------
    validation, test : float
        Shares to split the blocks by, to four decimals. They hold where neighbours have independent sets.
    """
    touching = touched / max(touched.sum(), 1)
    wanted = np.array([1 - validation - test, validation, test])
    asked = wanted
    for _ in range(_STEPS):
        # A block of a set keeps those of its patches whose other blocks happen to have that set, too.
        kept = np.polynomial.polynomial.polyval(asked, touching) if touched.any() else np.ones(3)
        # Halfway only: a full step overshoots where most patches touch several blocks.
        asked = np.sqrt(asked * wanted / kept)
        asked /= asked.sum()
    return round(float(asked[1]), 4), round(float(asked[2]), 4)
