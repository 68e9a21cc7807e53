"""Which split a patch belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from reben_dask.patches.grid import PatchGrid
from reben_dask.recipes.splits import GeographicSplit, GridSplit, RandomSplit, Split, StratifiedSplit

SPLITS = ("train", "validation", "test")


def geographic_split(grid: PatchGrid, *, validation: float, test: float) -> npt.NDArray[np.str_]:
    """Concentric squares of a tile: train outside, validation between, test inside.

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


def random_split(patch_ids, *, validation, test, seed):
    raise NotImplementedError


def grid_split(grid, *, block):
    raise NotImplementedError
