"""Running the second look at the patches, once all tiles are in the patch table."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pandas as pd
from distributed import Future

from reben_dask.formats.names import mgrs_of
from reben_dask.job.finish import add_blocks, assign_blocks, assign_patches, choose_among, count_blocks, tally_part
from reben_dask.job.plan import Plan
from reben_dask.job.submit import Tasks
from reben_dask.job.tally import add_up
from reben_dask.output.folder import Output
from reben_dask.progress import StageProgress
from reben_dask.recipes.model import Images, StratifiedSplit
from reben_dask.stores.patch_table import part_files

SUMS_AT_ONCE = 32
"""Counts that one task adds up: those of all tiles would not fit a worker."""


def look_again(tasks: Tasks, plan: Plan, output: Output, progress: StageProgress) -> pd.DataFrame:
    """Choose images and assign sets as far as the recipe asks for it; gives the tallies of all tiles anew."""
    parts, recipe = part_files(output.patches), plan.recipe
    if recipe.images:
        _choose_images(tasks, parts, recipe.images)
    if recipe.split_of_all_tiles:
        _assign_sets(tasks, parts, recipe.split_of_all_tiles)
    futures = [tasks.submit(f"tally-{part.stem}", tally_part, part) for part in parts]
    tallies = []
    for _, result in tasks.results(futures):
        tallies.append(result)
        progress.advance("choice")
    return add_up(tallies)


def _choose_images(tasks: Tasks, parts: Sequence[Path], rule: Images) -> None:
    places = groupby(sorted(parts, key=lambda part: (mgrs_of(part.stem), part)), lambda part: mgrs_of(part.stem))
    tasks.wait([tasks.submit(f"images-{place}", choose_among, list(images), rule) for place, images in places])


def _assign_sets(tasks: Tasks, parts: Sequence[Path], rule: StratifiedSplit) -> None:
    counts = [tasks.submit(f"blocks-{part.stem}", count_blocks, part, rule) for part in parts]
    sets = tasks.submit("sets", assign_blocks, _sum(tasks, counts), rule)
    tasks.wait([tasks.submit(f"set-{part.stem}", assign_patches, part, sets, rule) for part in parts])


def _sum(tasks: Tasks, counts: list[Future]) -> Future:
    level = 0
    while len(counts) > 1:
        groups = [counts[start : start + SUMS_AT_ONCE] for start in range(0, len(counts), SUMS_AT_ONCE)]
        counts = [tasks.submit(f"sum-{level}-{number}", add_blocks, group) for number, group in enumerate(groups)]
        level += 1
    return counts[0]
