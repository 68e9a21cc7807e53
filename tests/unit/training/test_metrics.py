"""Metrics, beside scikit-learn and SciPy."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from sklearn import metrics as sklearn

from reben_dask.training.metrics import confusion_matrix, label_metrics, map_metrics, present_classes, region_sizes

CLASSES = ["a", "b", "c", "d"]
AVERAGES = ("macro", "micro", "samples")


@given(seed=st.integers(0, 2**32 - 1), patches=st.integers(1, 60), share=st.sampled_from([0.02, 0.3, 0.9]))
def test_metrics_of_labels_are_those_of_scikit_learn(seed: int, patches: int, share: float) -> None:
    random = np.random.default_rng(seed)
    labels = random.random((patches, len(CLASSES))) < share
    # In steps, so that there are ties.
    probabilities = (random.integers(0, 11, labels.shape) / 10).astype(np.float32)
    found = label_metrics(probabilities, labels, CLASSES)
    predicted = probabilities >= 0.5
    for average in AVERAGES:
        given_average = {"average": average, "zero_division": 0}
        expected = {
            "precision": sklearn.precision_score(labels, predicted, **given_average),
            "recall": sklearn.recall_score(labels, predicted, **given_average),
            "f1": sklearn.f1_score(labels, predicted, **given_average),
            "f2": sklearn.fbeta_score(labels, predicted, beta=2, **given_average),
        }
        for name, value in expected.items():
            assert found[f"{name}_{average}"] == pytest.approx(value), name
    ap = {
        name: sklearn.average_precision_score(labels[:, place], probabilities[:, place])
        for place, name in enumerate(CLASSES)
        if labels[:, place].any()
    }
    assert found["classes_counted"] == len(ap)
    for name, values in found["per_class"].items():
        assert values["ap"] == (pytest.approx(ap[name]) if name in ap else None)
    if ap:
        assert found["ap_macro"] == pytest.approx(np.mean(list(ap.values())))
        micro = sklearn.average_precision_score(labels, probabilities, average="micro")
        assert found["ap_micro"] == pytest.approx(micro)
    else:
        assert found["ap_macro"] is found["ap_micro"] is None
    json.dumps(found, allow_nan=False)


def test_values_by_class() -> None:
    random = np.random.default_rng(1)
    labels = random.random((50, 4)) < [0.5, 0.2, 0.0, 1.0]
    probabilities = random.random((50, 4), np.float32)
    found = label_metrics(probabilities, labels, CLASSES, threshold=0.3)["per_class"]
    precision, recall, f1, patches = sklearn.precision_recall_fscore_support(
        labels, probabilities >= 0.3, average=None, zero_division=0
    )
    assert list(found) == CLASSES
    for name, expected in (("precision", precision), ("recall", recall), ("f1", f1), ("patches", patches)):
        assert [values[name] for values in found.values()] == pytest.approx(expected)


@given(seed=st.integers(0, 2**32 - 1), last=st.integers(1, 4))
def test_metrics_of_maps_are_those_of_scikit_learn(seed: int, last: int) -> None:
    random = np.random.default_rng(seed)
    true = random.integers(-1, last, (2, 9, 9))
    predicted = random.integers(0, 4, true.shape)
    found = map_metrics(confusion_matrix(true, predicted, 4), CLASSES)
    flat, guessed = true[true >= 0], predicted[true >= 0]
    known = np.unique(flat)
    iou = sklearn.jaccard_score(flat, guessed, labels=range(4), average=None, zero_division=0)
    assert found["miou"] == pytest.approx(iou[known].mean())
    assert found["pixel_accuracy"] == pytest.approx(sklearn.accuracy_score(flat, guessed))
    for average in ("macro", "micro"):
        expected = sklearn.f1_score(flat, guessed, labels=range(4), average=average, zero_division=0)
        assert found[f"f1_{average}"] == pytest.approx(expected)
    assert [values["iou"] is None for values in found["per_class"].values()] == [
        place not in known for place in range(4)
    ]


@given(seed=st.integers(0, 2**32 - 1))
def test_sizes_of_regions_are_those_of_scipy(seed: int) -> None:
    maps = np.random.default_rng(seed).choice([-100, 0, 1, 2], (2, 12, 12))
    expected = np.zeros_like(maps)
    for patch, sizes in zip(maps, expected, strict=True):
        for value in (0, 1, 2):
            regions, _ = ndimage.label(patch == value)
            sizes[regions > 0] = np.bincount(regions.ravel())[regions[regions > 0]]
    np.testing.assert_array_equal(region_sizes(maps), expected)


def test_classes_of_maps() -> None:
    maps = np.array([[[0, -100], [2, 2]], [[-100, -100], [-100, -100]]])
    assert present_classes(maps, 4).tolist() == [[True, False, True, False], [False] * 4]
