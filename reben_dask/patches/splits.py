"""Splits that follow from a patch and its tile alone: geographic, random and grid."""

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
"""Splits of two by two blocks, shape ``(block_y, block_x)``; repeated, no block has the split of one beside it."""


def geographic_split(grid: PatchGrid, *, validation: float, test: float) -> npt.NDArray[np.str_]:
    """Split a tile by concentric squares: train outside, validation between, test inside.

    With ``s`` the side of the whole tile and ``d`` the distance of a patch centre from the nearest border,
    a patch trains if ``d < s (1 - sqrt(test + validation)) / 2``, validates if ``d < s (1 - sqrt(test)) / 2``,
    and tests otherwise, so that the areas have the shares asked for.

    Parameters
    ----------
    grid : PatchGrid
        Patches of the tile. Of a tile that is not square, the shorter side counts.
    validation, test : float
        Share of the tile's area; the rest is for training.

    Returns
    -------
    ndarray of str, shape (patch,)
        In name order.

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
    """Split patches at random, as BigEarthNet v1 was split.

    A patch's split depends on its id and the seed alone, not on the order of patches, on partitions, or on other
    patches; the fractions are those asked for up to chance.

    Parameters
    ----------
    patch_ids : sequence of str
        Names of patches.
    validation, test : float
        Probability of these splits; the rest is for training.
    seed : int
        Another seed gives another split.

    Returns
    -------
    ndarray of str, shape (patch,)
        In the order of ``patch_ids``.
    """
    # 53 bits are what a float between 0 and 1 holds without rounding, which could give 1.
    draws = (seeded_hashes(patch_ids, seed) >> np.uint64(11)) / 2**53
    return np.select([draws < test, draws < test + validation], ["test", "validation"], "train")


def grid_split(grid: PatchGrid, *, block: int) -> npt.NDArray[np.str_]:
    """Split by square blocks of patches in a fixed pattern 2:1:1 of train, validation and test.

    Two by two blocks make a group of two for training, one for validation and one for test, and all groups are alike.
    Blocks that share a side are in different splits; those for training touch at their corners.

    Parameters
    ----------
    grid : PatchGrid
        Patches of the tile.
    block : int
        Side of a block in patches. Blocks are counted from the tile's upper-left corner; those at the right and
        lower edge may be smaller.

    Returns
    -------
    ndarray of str, shape (patch,)
        In name order.

    Raises
    ------
    ValueError
        If a block has no patch.

    Notes
    -----
    For comparing spatial correlation, reBEN section II-C. The published lists of BigEarthNet v1 have the same groups
    of two by two patches, but within each the order is random, and patches beyond the last complete group are for
    training; no rule reproduces them.
    """
    if block < 1:
        raise ValueError(f"a block of {block} x {block} patches has no patch; a block's side is at least 1")
    x, y = grid.indices_xy()
    return _GROUP_OF_BLOCKS[y // block % 2, x // block % 2]


def seeded_hashes(names: Sequence[str], seed: int) -> npt.NDArray[np.uint64]:
    """Hash each name together with a seed: the 8-byte BLAKE2b of ``<seed>/<name>`` in UTF-8, as a big-endian number.

    Parameters
    ----------
    names : sequence of str
        Names of patches or units.
    seed : int
        Another seed gives unrelated hashes.

    Returns
    -------
    ndarray of uint64, shape (name,)
        The same on every machine.
    """
    prefix = f"{seed}/".encode()
    digests = b"".join([blake2b(prefix + name.encode(), digest_size=8).digest() for name in names])
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def split_of_tile(rule: Split, grid: PatchGrid, patch_ids: Sequence[str]) -> npt.NDArray[Any] | None:
    """Split of each patch of a grid, in its order; ``None`` if the rule has to know all tiles first."""
    match rule:
        case GeographicSplit():
            return geographic_split(grid, validation=rule.validation, test=rule.test)
        case RandomSplit():
            return random_split(patch_ids, validation=rule.validation, test=rule.test, seed=rule.seed)
        case GridSplit():
            return grid_split(grid, block=rule.block)
        case StratifiedSplit():
            return None
