"""The stratified split, against the best of all assignments, and on a population with a long tail of rare classes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from populations import make_population

from reben_dask.formats.columns import SPLITS
from reben_dask.patches.stratified import stratified_split

SEASONET = {"validation": 0.1, "test": 0.2}
SHARES = np.array([0.7, 0.1, 0.2])


def _names(number: int) -> list[str]:
    return [f"block {place}" for place in range(number)]


def _shares(splits: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Share of each set in each class, shape ``(set, class)``."""
    return np.array([counts[splits == name].sum(axis=0) for name in SPLITS]) / counts.sum(axis=0)


def _error(splits: np.ndarray, counts: np.ndarray) -> float:
    with_units = np.column_stack([counts, np.ones(len(counts))])
    return float(((_shares(splits, with_units) - SHARES[:, None]) ** 2).sum())


@pytest.mark.slow
def test_half_a_million_units_with_a_long_tail() -> None:
    counts, samples = make_population(units=500_000, classes=33, seed=1)
    totals = counts.sum(axis=0)
    assert 100 <= totals.min() < 200
    assert totals.max() > 500_000
    assert (counts.sum(axis=1) == 0).any()
    assert counts.max() > 1
    splits = stratified_split(_names(500_000), counts, **SEASONET, seed=42)
    every = np.column_stack([counts, samples, np.ones(len(counts))])
    assert np.abs(_shares(splits, every) - SHARES[:, None]).max() <= 0.01


@pytest.mark.parametrize("seed", range(12))
def test_few_units_are_given_in_the_best_of_all_ways(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.5, 100, (7, 3))) + 1
    every = (np.array(SPLITS)[list(choice)] for choice in product(range(3), repeat=7) if len(set(choice)) == 3)
    best = min(_error(splits, counts) for splits in every)
    found = _error(stratified_split(_names(7), counts, **SEASONET, seed=seed), counts)
    assert found == pytest.approx(best, rel=1e-4)


def test_twenty_heavy_blocks() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(2, 1000, (20, 8)))
    splits = stratified_split(_names(20), counts, **SEASONET, seed=0)
    by_lot = [rng.permutation(np.repeat(SPLITS, [14, 2, 4])) for _ in range(5_000)]
    assert _error(splits, counts) < min(_error(lot, counts) for lot in by_lot)
    assert np.abs(_shares(splits, counts) - SHARES[:, None]).max() < 0.05


@given(hnp.arrays(np.int64, st.tuples(st.integers(3, 40), st.integers(0, 5)), elements=st.integers(0, 3)), st.data())
def test_the_order_of_units_does_not_matter(counts: np.ndarray, data: st.DataObject) -> None:
    names = _names(len(counts))
    splits = stratified_split(names, counts, **SEASONET, seed=3)
    order = data.draw(st.permutations(range(len(names))))
    shuffled = pd.Series([names[place] for place in order], index=order, dtype="str")
    again = stratified_split(shuffled, counts[order], **SEASONET, seed=3)
    assert again.tolist() == splits[order].tolist()
    assert set(splits) == set(SPLITS)


def test_the_split_of_a_seed_stays_as_it_is() -> None:
    place = np.arange(40)[:, None]
    counts = np.maximum(place * (7, 11, 13, 17) % (5, 9, 19, 37) - (2, 5, 14, 33), 0)
    splits = stratified_split(_names(40), counts, **SEASONET, seed=1)
    assert "".join(name[1] for name in splits) == "reeerrrrrrarerarrrrrrarreerrrrerrrrerrra"


def test_another_seed_is_another_split() -> None:
    counts, _ = make_population(units=3_000, classes=5, seed=0)
    one, other = (stratified_split(_names(len(counts)), counts, **SEASONET, seed=seed) for seed in (1, 2))
    # Of independent splits, 0.49 + 0.01 + 0.04 agree.
    assert abs(np.mean(one == other) - 0.54) < 0.05


def test_units_without_a_class_are_balanced_by_number() -> None:
    counts = np.zeros((1_000, 2), np.int64)
    counts[:100, 0] = 1
    splits = stratified_split(_names(1_000), counts, **SEASONET, seed=0)
    assert _shares(splits[100:], np.ones((900, 1))).ravel().tolist() == SHARES.tolist()
    assert _shares(splits[:100], counts[:100, :1]).ravel().tolist() == SHARES.tolist()


def test_classes_that_no_sample_has_are_harmless() -> None:
    counts = np.array([[5, 0], [3, 0], [2, 0]])
    assert sorted(stratified_split(_names(3), counts, **SEASONET, seed=0)) == sorted(SPLITS)
    assert sorted(stratified_split(_names(3), counts[:, :0], **SEASONET, seed=0)) == sorted(SPLITS)


def test_large_numbers_of_pixels() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 10**9, (500, 4))
    splits = stratified_split(_names(500), counts, **SEASONET, seed=0)
    assert np.abs(_shares(splits, counts) - SHARES[:, None]).max() < 0.001


@pytest.mark.parametrize("units", [0, 1, 2])
def test_fewer_units_than_sets(units: int) -> None:
    splits = stratified_split(_names(units), np.ones((units, 2), np.int64), **SEASONET, seed=0)
    assert len(set(splits)) == units


def test_a_set_without_a_share_gets_nothing() -> None:
    counts = np.random.default_rng(0).integers(0, 5, (50, 6))
    splits = stratified_split(_names(50), counts, validation=0.0, test=0.2, seed=0)
    assert set(splits) == {"train", "test"}


@pytest.mark.parametrize(
    ("units", "counts", "sentence"),
    [
        (["a", "b"], [[1], [2], [3]], r"shape \(3, 1\) are not those of 2 units"),
        (["a", "b"], [1, 2], r"shape \(2,\)"),
        (["a", "b", "a"], [[1], [2], [3]], "the unit 'a' is named twice"),
        (["a", "b"], [[1], [-2]], "a count is -2"),
    ],
)
def test_counts_that_make_no_sense(units: list[str], counts: list[list[int]], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        stratified_split(units, np.array(counts), **SEASONET, seed=0)
