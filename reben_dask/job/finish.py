"""The second look at the patches, for what no tile can decide alone: which image of a place is taken, and which set.

Each function is one task on part files of the patch table. Each may be repeated without harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from reben_dask.formats.columns import KEPT, SPLITS
from reben_dask.job.tally import tally
from reben_dask.patches.selection import with_choice
from reben_dask.patches.spatial_blocks import (
    adjusted_split_fractions,
    blocks_per_patch,
    patch_blocks,
    splits_of_patches,
)
from reben_dask.patches.stratified import stratified_split
from reben_dask.recipes.model import Images, StratifiedSplit
from reben_dask.stores.patch_table import read_footprints, read_rows, rewrite_part

_OF_CHOICE = ["patch_id", "grid", "x", "y", "status", "reason", "season", "sensing_time"]
_FRACTIONS = ["cloud_fraction", "shadow_fraction", "snow_fraction"]
BLOCK, ALL = "block", ""


def choose_among(parts: Sequence[Path], rule: Images) -> None:
    """Decide between the images of one MGRS tile, and write the decision to their part files."""
    frames = [read_rows(part, [*_OF_CHOICE, *_FRACTIONS]).to_pandas() for part in parts]
    decided = with_choice(pd.concat(frames, ignore_index=True), rule)
    start = 0
    for part, frame in zip(parts, frames, strict=True):
        rewrite_part(part, decided.iloc[start : start + len(frame)][["status", "reason"]])
        start += len(frame)


class BlockCounts(NamedTuple):
    """What is known of blocks of ground.

    Parameters
    ----------
    patches : DataFrame
        Columns ``block``, ``labels`` (name of a class; empty for all patches together) and ``patches``, those that lie
        in this block alone.
    touched : ndarray of int64, shape (4,)
        Patches that touch one block, two, three and four.
    """

    patches: pd.DataFrame
    touched: npt.NDArray[np.int64]


def count_blocks(part: Path, rule: StratifiedSplit) -> BlockCounts:
    """Count the kept patches of one part; blocks that patches only touch are there with a count of 0."""
    rows = read_footprints(part, ["labels", "status"])
    rows = rows[rows["status"] == KEPT]
    blocks = patch_blocks(rows.geometry, rule.block_m)
    inside = (blocks == blocks[:, :1]).all(axis=1)
    home = blocks[inside, 0]
    by_class = pd.DataFrame({BLOCK: home, "labels": rows["labels"][inside].map(list)}).explode("labels").dropna()
    all_together = pd.DataFrame({BLOCK: home, "labels": ALL})
    touched = pd.DataFrame({BLOCK: np.unique(blocks), "labels": ALL})
    counted = [by_class.assign(patches=1), all_together.assign(patches=1), touched.assign(patches=0)]
    return BlockCounts(_sum(counted), blocks_per_patch(blocks))


def add_blocks(counts: Sequence[BlockCounts]) -> BlockCounts:
    """Sum of several of :func:`count_blocks`."""
    return BlockCounts(_sum([each.patches for each in counts]), np.sum([each.touched for each in counts], axis=0))


def assign_blocks(counts: BlockCounts, rule: StratifiedSplit) -> dict[int, str]:
    """Give each block of ground to a set, so that its patches will have the shares of the rule."""
    table = counts.patches.pivot_table(index=BLOCK, columns="labels", values="patches", aggfunc="sum", fill_value=0)
    # A block in which no patch lies would fill its set with nothing, and another set with what that one lacks.
    filled = table[table[ALL] > 0] if len(table) else table
    validation, test = adjusted_split_fractions(counts.touched, validation=rule.validation, test=rule.test)
    names = [str(block) for block in filled.index]
    sets = stratified_split(names, filled.to_numpy(int), validation=validation, test=test, seed=rule.seed)
    return {
        **dict.fromkeys(table.index.tolist(), SPLITS[0]),
        **dict(zip(filled.index.tolist(), sets.tolist(), strict=True)),
    }


def assign_patches(part: Path, set_of_block: dict[int, str], rule: StratifiedSplit) -> None:
    """Write to a part file which set each patch is in: that of the ground it touches, if this is in one set alone.

    Rejected patches are in the set of their ground too, where that is known.
    """
    rows = read_footprints(part)
    blocks = patch_blocks(rows.geometry, rule.block_m)
    rewrite_part(part, pd.DataFrame({"split": splits_of_patches(blocks, set_of_block)}))


def tally_part(part: Path) -> pd.DataFrame:
    """Count the patches of one part; see :func:`~reben_dask.job.tally.tally`."""
    names = ["tile", "status", "reason", "split", "labels", "contains_seasonal_snow", "contains_cloud_or_shadow"]
    return tally(read_rows(part, names).to_pandas())


def _sum(counts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(counts).groupby([BLOCK, "labels"], as_index=False).sum()
