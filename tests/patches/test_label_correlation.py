"""Similarity of labels by distance, against all pairs and the textbook's formulas."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from reben_dask.patches.label_correlation import (
    above_chance,
    correlogram,
    similarity_between,
    similarity_within,
)
from reben_dask.patches.label_sets import LabelSets

EDGES_M = np.array([0.0, 1000, 2000, 4000, 8000, 16_000, 1e6])


def _landscape(patches: int, seed: int, classes: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Centres in space, and the presence of classes in them, each within a circle: labels of near patches are alike."""
    random = np.random.default_rng(seed)
    centres = np.column_stack([random.uniform(0, 20_000, (patches, 2)), np.zeros(patches)])
    centres[: patches // 10] = centres[patches // 10 : 2 * (patches // 10)]
    middles = random.uniform(0, 20_000, (classes, 2))
    reach = random.uniform(2000, 12_000, classes)
    presence = np.hypot(*(centres[:, None, :2] - middles).transpose(2, 0, 1)) < reach
    return centres, presence


def _labels(presence: np.ndarray) -> LabelSets:
    names = [f"class {number}" for number in range(presence.shape[1])]
    return LabelSets.from_codes(names, len(presence), *np.nonzero(presence))


def _by_hand(centres: np.ndarray, presence: np.ndarray) -> pd.DataFrame:
    """All pairs, with full matrices."""
    distance = np.linalg.norm(centres[:, None] - centres, axis=2)
    shared = (presence[:, None] & presence).sum(axis=2)
    either = (presence[:, None] | presence).sum(axis=2)
    similarity = np.where(either == 0, 1, shared / np.maximum(either, 1))
    deviation = presence - presence.mean(axis=0)
    rows = []
    for lower, upper in pairwise(EDGES_M):
        weights = (distance >= lower) & (distance < upper) & ~np.eye(len(centres), dtype=bool)
        if not weights.any():
            continue
        # Moran's I as it is printed: n / W times the sum of w z z by the sum of squares, here summed over classes.
        cross = sum(column @ weights @ column for column in deviation.T)
        moran = len(centres) / weights.sum() * cross / (deviation**2).sum()
        rows.append((lower, upper, weights.sum() // 2, distance[weights].mean(), similarity[weights].mean(), moran))
    return pd.DataFrame(rows, columns=["from_m", "to_m", "pairs", "distance_m", "jaccard", "moran_i"])


def test_few_patches_are_taken_pair_by_pair() -> None:
    centres, presence = _landscape(200, 1)
    found = correlogram(centres, _labels(presence), edges_m=EDGES_M, pairs=20_000)
    pd.testing.assert_frame_equal(found, _by_hand(centres, presence), check_dtype=False, rtol=1e-9)


def test_a_sample_of_many_pairs_is_near_to_all_of_them() -> None:
    """The pairs that are drawn are always the same, so this does not depend on luck."""
    centres, presence = _landscape(1500, 2)
    expected = _by_hand(centres, presence)
    found = correlogram(centres, _labels(presence), edges_m=EDGES_M, pairs=4000)
    assert (found["pairs"] < expected["pairs"].clip(upper=8000)).all()
    assert (found["pairs"] > 2000).all()
    np.testing.assert_allclose(found["distance_m"], expected["distance_m"], rtol=0.03)
    np.testing.assert_allclose(found["jaccard"], expected["jaccard"], atol=0.03)
    np.testing.assert_allclose(found["moran_i"], expected["moran_i"], atol=0.04)
    again = correlogram(centres, _labels(presence), edges_m=EDGES_M, pairs=4000)
    pd.testing.assert_frame_equal(found, again)
    other = correlogram(centres, _labels(presence), edges_m=EDGES_M, pairs=4000, seed=1)
    assert (other["jaccard"] != found["jaccard"]).any()


def test_labels_without_order_in_space_have_no_correlation() -> None:
    centres, presence = _landscape(1000, 3)
    presence = np.random.default_rng(4).permutation(presence)
    found = correlogram(centres, _labels(presence), edges_m=EDGES_M)
    assert (found["moran_i"].abs() < 0.04).all()
    chance = similarity_within(_labels(presence))
    assert (abs(found["jaccard"] - chance) < 0.02).all()


def test_labels_that_never_differ() -> None:
    centres, presence = _landscape(50, 5)
    found = correlogram(centres, _labels(np.ones_like(presence)), edges_m=EDGES_M)
    assert (found["jaccard"] == 1).all()
    assert found["moran_i"].isna().all()


@pytest.mark.parametrize("patches", [0, 1])
def test_one_patch_has_no_pairs(patches: int) -> None:
    assert correlogram(np.zeros((patches, 3)), _labels(np.ones((patches, 3), bool))).empty


def test_random_pairs() -> None:
    _, presence = _landscape(300, 6)
    shared, either = (presence[:, None] & presence).sum(axis=2), (presence[:, None] | presence).sum(axis=2)
    similarity = np.where(either == 0, 1, shared / np.maximum(either, 1))
    left, right = _labels(presence[:100]), _labels(presence[100:])
    between, within = similarity[:100, 100:].mean(), similarity[np.triu_indices(300, 1)].mean()
    assert similarity_between(left, right) == pytest.approx(between, rel=1e-12)
    assert similarity_within(_labels(presence)) == pytest.approx(within, rel=1e-12)
    assert similarity_between(left, right, pairs=10_000) == pytest.approx(between, abs=0.01)
    assert similarity_within(_labels(presence), pairs=10_000) == pytest.approx(within, abs=0.01)
    assert similarity_within(_labels(presence), pairs=50) == similarity_within(_labels(presence), pairs=50)


@pytest.mark.parametrize(
    ("observed", "by_chance", "expected"), [(0.2, 0.2, 0), (1, 0.2, 1), (0.6, 0.2, 0.5), (0.1, 0.2, -0.125), (1, 1, 0)]
)
def test_above_chance(observed: float, by_chance: float, expected: float) -> None:
    assert above_chance(observed, by_chance) == pytest.approx(expected)
