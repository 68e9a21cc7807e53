"""The second look at the patches, for what no tile can decide alone: which image of a place is taken, and which set.

Each function is one task on part files of the patch table. Each may be repeated without harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from reben_dask.job.tally import tally
from reben_dask.patches.decision import KEPT
from reben_dask.patches.images import with_choice
from reben_dask.patches.locations import patch_blocks, sets_of_patches
from reben_dask.patches.splits import SPLITS
from reben_dask.patches.stratified import stratified_split
from reben_dask.recipes.parts import Images
from reben_dask.recipes.splits import StratifiedSplit
from reben_dask.stores.patch_table import read_footprints, read_rows, rewrite_part

_OF_CHOICE = ["patch_id", "tile", "grid", "x", "y", "status", "reason", "season", "sensing_time"]
_FRACTIONS = ["cloud_fraction", "shadow_fraction", "snow_fraction"]
BLOCK = "block"


def choose_among(parts: Sequence[Path], rule: Images) -> None:
    """Decide between the images of one MGRS tile, and write the decision to their part files."""
    frames = [read_rows(part, [*_OF_CHOICE, *_FRACTIONS]).to_pandas() for part in parts]
    decided = with_choice(pd.concat(frames, ignore_index=True), rule)
    start = 0
    for part, frame in zip(parts, frames, strict=True):
        rewrite_part(part, decided.iloc[start : start + len(frame)][["status", "reason"]])
        start += len(frame)


def count_blocks(part: Path, rule: StratifiedSplit) -> pd.DataFrame:
    """Kept patches of one part that lie in a single block of ground, by block and class.

    Those without a label count under an empty name, and so, with a count of 0, does each block that is touched at all.

    Returns
    -------
    DataFrame
        Columns ``block``, ``labels`` (name of a class) and ``patches``.
    """
    rows = read_footprints(part, ["labels", "status"])
    rows = rows[rows["status"] == KEPT]
    blocks = patch_blocks(rows.geometry, rule.block_m)
    inside = (blocks == blocks[:, :1]).all(axis=1)
    pairs = pd.DataFrame({BLOCK: blocks[inside, 0], "labels": rows["labels"][inside].map(list)}).explode("labels")
    touched = pd.DataFrame({BLOCK: np.unique(blocks), "labels": ""})
    return add_blocks([pairs.fillna({"labels": ""}).assign(patches=1), touched.assign(patches=0)])


def add_blocks(counts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Sum of several of :func:`count_blocks`."""
    return pd.concat(counts).groupby([BLOCK, "labels"], as_index=False).sum()


def assign_blocks(counts: pd.DataFrame, rule: StratifiedSplit) -> dict[int, str]:
    """Give each block of ground to a set."""
    table = counts.pivot_table(index=BLOCK, columns="labels", values="patches", aggfunc="sum", fill_value=0)
    # A block in which no patch lies would fill its set with nothing, and another set with what that one lacks.
    labeled = table[table.sum(axis=1) > 0].drop(columns="", errors="ignore")
    names = [str(block) for block in labeled.index]
    sets = stratified_split(names, labeled.to_numpy(int), validation=rule.validation, test=rule.test, seed=rule.seed)
    return {
        **dict.fromkeys(table.index.tolist(), SPLITS[0]),
        **dict(zip(labeled.index.tolist(), sets.tolist(), strict=True)),
    }


def assign_patches(part: Path, set_of_block: dict[int, str], rule: StratifiedSplit) -> None:
    """Write to a part file which set each patch is in: that of the ground it touches, if this is in one set alone.

    Rejected patches are in the set of their ground too, where that is known.
    """
    rows = read_footprints(part)
    blocks = patch_blocks(rows.geometry, rule.block_m)
    rewrite_part(part, pd.DataFrame({"split": sets_of_patches(blocks, set_of_block)}))


def tally_part(part: Path) -> pd.DataFrame:
    """Count the patches of one part; see :func:`~reben_dask.job.tally.tally`."""
    names = ["tile", "status", "reason", "split", "labels", "contains_seasonal_snow", "contains_cloud_or_shadow"]
    return tally(read_rows(part, names).to_pandas())
