"""Steps that need all tiles, as repeatable tasks on part files: best images, overlaps, stratified splitting."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from distributed import Future

from reben_dask.formats.columns import (
    CLOUD_FRACTION,
    FLAGS,
    IN_GRID,
    KEPT,
    LABELS,
    PATCH_ID,
    REASON,
    SEASON,
    SENSING_TIME,
    SHADOW_FRACTION,
    SNOW_FRACTION,
    SPLIT,
    SPLITS,
    STATUS,
    TILE,
)
from reben_dask.formats.names import mgrs_of
from reben_dask.job.overlaps import drop_conflicts, keep_first
from reben_dask.job.plan import Plan
from reben_dask.job.record import concat_counts, count_patches
from reben_dask.job.scheduling import Tasks, batches
from reben_dask.patches.selection import with_choice
from reben_dask.patches.spatial_blocks import (
    adjusted_split_fractions,
    blocks_per_patch,
    patch_blocks,
    splits_of_patches,
)
from reben_dask.progress import StageProgress
from reben_dask.recipes.model import Images, StratifiedSplit
from reben_dask.stores.patch_table import part_files, read_footprints, read_rows, rewrite_part

SUMS_AT_ONCE = 32
"""Counts that one task adds up: those of all tiles would not fit a worker."""

BLOCK, ALL = "block", ""

_OF_CHOICE = (PATCH_ID, *IN_GRID, STATUS, REASON, SEASON, SENSING_TIME, CLOUD_FRACTION, SHADOW_FRACTION, SNOW_FRACTION)
_OF_COUNTS = (TILE, STATUS, REASON, SPLIT, LABELS, *FLAGS)


def run_global_steps(tasks: Tasks, plan: Plan, table: Path, progress: StageProgress) -> pd.DataFrame:
    """Choose images, assign splits and reject overlaps in a patch table by the recipe; return the new counts."""
    parts, recipe = part_files(table), plan.recipe
    if recipe.images:
        places = groupby(sorted(parts, key=lambda part: (mgrs_of(part.stem), part)), lambda part: mgrs_of(part.stem))
        tasks.wait([tasks.submit(f"images-{mgrs}", choose_among, list(of), recipe.images) for mgrs, of in places])
    if recipe.overlaps == "first":
        keep_first(tasks, plan, table)
    if rule := recipe.split_of_all_tiles:
        counts = [tasks.submit(f"blocks-{part.stem}", count_blocks, part, rule) for part in parts]
        splits = tasks.submit("splits", assign_blocks, _sum_in_tree(tasks, counts), rule)
        tasks.wait([tasks.submit(f"split-{part.stem}", assign_patches, part, splits, rule) for part in parts])
    if recipe.overlaps == "drop":
        drop_conflicts(tasks, plan, table)
    counted = []
    for _, result in tasks.results([tasks.submit(f"counts-{part.stem}", count_part, part) for part in parts]):
        counted.append(result)
        progress.advance("choice")
    return concat_counts(counted)


def _sum_in_tree(tasks: Tasks, counts: list[Future]) -> Future:
    level = 0
    while len(counts) > 1:
        groups = enumerate(batches(counts, SUMS_AT_ONCE))
        counts = [tasks.submit(f"sum-{level}-{number}", add_blocks, group) for number, group in groups]
        level += 1
    return counts[0]


def choose_among(parts: Sequence[Path], rule: Images) -> None:
    """Choose between the images of one MGRS tile in its part files."""
    frames = [read_rows(part, _OF_CHOICE).to_pandas() for part in parts]
    decided = with_choice(pd.concat(frames, ignore_index=True), rule)
    start = 0
    for part, frame in zip(parts, frames, strict=True):
        rewrite_part(part, decided.iloc[start : start + len(frame)][[STATUS, REASON]])
        start += len(frame)


class BlockCounts(NamedTuple):
    """Counts of patches by spatial block."""

    patches: pd.DataFrame
    """Columns ``block``, ``labels`` (a class; empty for all) and ``patches`` that lie in this block alone."""
    touched: npt.NDArray[np.int64]
    """Patches that touch one block, two, three and four, shape (4,)."""


def count_blocks(part: Path, rule: StratifiedSplit) -> BlockCounts:
    """Count the kept patches of a part by block; blocks that patches only touch have a count of 0."""
    rows = read_footprints(part, [LABELS, STATUS])
    rows = rows[rows[STATUS] == KEPT]
    blocks = patch_blocks(rows.geometry, rule.block_m)
    inside = (blocks == blocks[:, :1]).all(axis=1)
    home = blocks[inside, 0]
    by_class = pd.DataFrame({BLOCK: home, "labels": rows["labels"][inside].map(list)}).explode("labels").dropna()
    all_together = pd.DataFrame({BLOCK: home, "labels": ALL})
    touched = pd.DataFrame({BLOCK: np.unique(blocks), "labels": ALL})
    counted = [by_class.assign(patches=1), all_together.assign(patches=1), touched.assign(patches=0)]
    return BlockCounts(_sum(counted), blocks_per_patch(blocks))


def add_blocks(counts: Sequence[BlockCounts]) -> BlockCounts:
    """Add up results of :func:`count_blocks`."""
    return BlockCounts(_sum([each.patches for each in counts]), np.sum([each.touched for each in counts], axis=0))


def assign_blocks(counts: BlockCounts, rule: StratifiedSplit) -> dict[int, str]:
    """Assign each block to a split, so that the patches have the fractions of the rule."""
    from reben_dask.patches.stratified import stratified_split  # noqa: PLC0415 - SciPy takes long to import

    table = counts.patches.pivot_table(index=BLOCK, columns="labels", values="patches", aggfunc="sum", fill_value=0)
    # A block without patches would add nothing to its split, and another split would get its share.
    filled = table[table[ALL] > 0] if len(table) else table
    validation, test = adjusted_split_fractions(counts.touched, validation=rule.validation, test=rule.test)
    names = [str(block) for block in filled.index]
    splits = stratified_split(names, filled.to_numpy(int), validation=validation, test=test, seed=rule.seed)
    return {
        **dict.fromkeys(table.index.tolist(), SPLITS[0]),
        **dict(zip(filled.index.tolist(), splits.tolist(), strict=True)),
    }


def assign_patches(part: Path, split_of_block: dict[int, str], rule: StratifiedSplit) -> None:
    """Write the split of each patch, also of rejected ones, to a part file: that of its blocks, if they agree."""
    blocks = patch_blocks(read_footprints(part).geometry, rule.block_m)
    rewrite_part(part, pd.DataFrame({SPLIT: splits_of_patches(blocks, split_of_block)}))


def count_part(part: Path) -> pd.DataFrame:
    """Count the patches of one part file; see :func:`~reben_dask.job.record.count_patches`."""
    return count_patches(read_rows(part, _OF_COUNTS).to_pandas())


def _sum(counts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(counts).groupby([BLOCK, "labels"], as_index=False).sum()
