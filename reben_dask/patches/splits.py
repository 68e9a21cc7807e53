"""Splits that depend on a patch and its tile alone: geographic, random and grid."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from reben_dask.grid import PatchGrid
from reben_dask.recipes.model import GeographicSplit, GridSplit, RandomSplit, Split, StratifiedSplit

_GROUP_OF_BLOCKS = np.array([["train", "validation"], ["test", "train"]])
"""Splits of two by two blocks, shape ``(block_y, block_x)``; repeated, adjacent blocks differ."""


def geographic_split(grid: PatchGrid, *, validation: float, test: float) -> npt.NDArray[np.str_]:
    """Split a tile by concentric squares: train outside, validation between, test inside.

    With ``s`` the side of the whole tile and ``d`` the distance of a patch centre from the nearest border,
    a patch is train if ``d < s (1 - sqrt(test + validation)) / 2``, validation if ``d < s (1 - sqrt(test)) / 2``,
    else test.

    Parameters
    ----------
    grid : PatchGrid
        For a non-square tile, the shorter side is used.
    validation, test : float
        Shares of the tile's area; the rest is for training.

    Returns
    -------
    ndarray of str, shape (patch,), in name order

    Notes
    -----
    reBEN, section II-C. The paper prints the two frame widths with their names exchanged; this reading gives the
    areas 2:1:1 that it states, and the published split of every patch.
    """
    side = min(grid.tile_m)
    # Both sides of the comparison squared: then a centre exactly on a frame is decided without rounding.
    square = (side - 2 * grid.border_distance()) ** 2
    shares = [Fraction(str(test)) + Fraction(str(validation)), Fraction(str(test))]
    return np.select([square > float(share * side**2) for share in shares], ["train", "validation"], "test")


def random_split(patch_ids: Sequence[str], *, validation: float, test: float, seed: int) -> npt.NDArray[np.str_]:
    """Split patches at random, as in BigEarthNet v1.

    The split of a patch depends on its id and the seed alone; the fractions hold up to chance.

    Parameters
    ----------
    validation, test : float
        Probabilities; the rest is for training.

    Returns
    -------
    ndarray of str, shape (patch,), in the order of ``patch_ids``
    """
    # 53 bits are what a float between 0 and 1 holds without rounding, which could give 1.
    draws = (seeded_hashes(patch_ids, seed) >> np.uint64(11)) / 2**53
    return np.select([draws < test, draws < test + validation], ["test", "validation"], "train")


def grid_split(grid: PatchGrid, *, block: int) -> npt.NDArray[np.str_]:
    """Split by square blocks of patches in a fixed pattern 2:1:1 of train, validation and test.

    Each group of two by two blocks has two train blocks, touching at a corner, one validation and one test block;
    blocks that share a side differ.

    Parameters
    ----------
    block : int
        Side of a block in patches, counted from the tile's upper-left corner; edge blocks may be smaller.
        ``ValueError`` if it is less than 1.

    Returns
    -------
    ndarray of str, shape (patch,), in name order

    Notes
    -----
    For comparing spatial correlation, reBEN section II-C. The published lists of BigEarthNet v1 have the same groups of
    two by two patches, but in random order within each, and patches beyond the last complete group are for training; no
    rule reproduces them.
    """
    if block < 1:
        raise ValueError(f"a block of {block} x {block} patches has no patch; a block's side is at least 1")
    x, y = grid.indices_xy()
    return _GROUP_OF_BLOCKS[y // block % 2, x // block % 2]


def seeded_hashes(names: Sequence[str], seed: int) -> npt.NDArray[np.uint64]:
    """Hash names with a seed: the 8-byte BLAKE2b of ``<seed>/<name>`` in UTF-8, as a big-endian number."""
    prefix = f"{seed}/".encode()
    digests = b"".join([blake2b(prefix + name.encode(), digest_size=8).digest() for name in names])
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def split_of_tile(rule: Split, grid: PatchGrid, patch_ids: Sequence[str]) -> npt.NDArray[Any] | None:
    """Split of each patch of a grid, in name order; ``None`` if the rule needs all tiles."""
    match rule:
        case GeographicSplit():
            return geographic_split(grid, validation=rule.validation, test=rule.test)
        case RandomSplit():
            return random_split(patch_ids, validation=rule.validation, test=rule.test, seed=rule.seed)
        case GridSplit():
            return grid_split(grid, block=rule.block)
        case StratifiedSplit():
            return None
