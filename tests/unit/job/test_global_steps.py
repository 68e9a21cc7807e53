"""Giving blocks of ground to sets, from counts of patches by block and class."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from reben_dask.job.global_steps import ALL, BLOCK, BlockCounts, add_blocks, assign_blocks
from reben_dask.recipes.model import StratifiedSplit

RULE = StratifiedSplit(strategy="stratified", validation=0.1, test=0.2, block_m=12_000, seed=42)


def _counts(*rows: tuple[int, str, int]) -> BlockCounts:
    """Of patches that each touch one block alone."""
    frame = pd.DataFrame(rows, columns=[BLOCK, "labels", "patches"])
    return BlockCounts(frame, np.array([frame.loc[frame["labels"] == ALL, "patches"].sum(), 0, 0, 0]))


def test_counts_of_tiles_add_up() -> None:
    """A block that is only touched is counted with nothing."""
    west = _counts((7, "a", 2), (7, "b", 1), (7, ALL, 2), (8, ALL, 0))
    east = _counts((8, "a", 4), (8, ALL, 5), (7, "a", 5), (7, ALL, 5), (9, ALL, 0))
    added = add_blocks([west, east])
    assert {(block, label): n for block, label, n in added.patches.itertuples(index=False)} == {
        (7, "a"): 7,
        (7, "b"): 1,
        (7, ALL): 7,
        (8, "a"): 4,
        (8, ALL): 5,
        (9, ALL): 0,
    }
    assert added.touched.tolist() == [12, 0, 0, 0]


@pytest.mark.parametrize("empty", [0, 1, 3, 30])
def test_no_set_is_of_blocks_without_patches(empty: int) -> None:
    """Along the edges of an area lie blocks that patches touch, and in which none lies."""
    full = [row for block in range(3) for row in ((block, "a", 20 + block), (block, ALL, 20 + block))]
    counts = _counts(*full, *((100 + block, ALL, 0) for block in range(empty)))
    sets = assign_blocks(counts, RULE)
    assert sets.keys() == set(counts.patches[BLOCK])
    assert {sets[block] for block in range(3)} == {"train", "validation", "test"}
    assert {sets[100 + block] for block in range(empty)} <= {"train"}
    without = assign_blocks(_counts(*full), RULE)
    assert {block: sets[block] for block in range(3)} == without


def test_blocks_of_patches_without_a_label_are_shared_out_too() -> None:
    sets = assign_blocks(_counts(*((block, ALL, 10) for block in range(20))), RULE)
    assert Counter(sets.values()) == {"train": 14, "test": 4, "validation": 2}


def test_the_order_of_blocks_does_not_matter() -> None:
    counts = _counts(*((block, label, 1 + block * 7 % 5) for block in range(40) for label in ("a", "b", ALL)))
    shuffled = counts._replace(patches=counts.patches.sample(frac=1, random_state=1))
    assert assign_blocks(shuffled, RULE) == assign_blocks(counts, RULE)


def test_an_area_without_kept_patches() -> None:
    assert assign_blocks(_counts(), RULE) == {}
