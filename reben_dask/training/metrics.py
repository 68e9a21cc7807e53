"""Metrics of multi-label classification and of maps, as in the papers' tables; all values from 0 to 1."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt

Metrics = dict[str, Any]
Counts = Mapping[str, npt.NDArray[Any]]

_SCORES = ("precision", "recall", "f1", "f2")


def label_metrics(
    probabilities: npt.NDArray[np.float32],
    labels: npt.NDArray[np.bool_],
    classes: Sequence[str],
    threshold: float = 0.5,
) -> Metrics:
    """Compute the metrics of multi-label predictions.

    Parameters
    ----------
    probabilities, labels : ndarray, shape (patch, class)
        Predictions from 0 to 1, and presence of the classes.
    classes : sequence of str
        Class names.
    threshold : float
        Minimum probability of a predicted class.

    Returns
    -------
    dict
        ``ap_macro``, ``ap_micro``; ``precision``, ``recall``, ``f1`` and ``f2``, each ``_macro``, ``_micro`` and
        ``_samples`` (mean over patches); ``classes_counted``; ``per_class``, with ``patches`` and the metrics of each
        class. AP, the area below the precision-recall curve as a step function, is None for a class without patches,
        which ``ap_macro`` excludes: it is the mean over ``classes_counted`` classes. Where a precision, recall or F
        score is 0 / 0, it counts as 0.
    """
    predicted = probabilities >= threshold
    ap = [
        _average_precision(probabilities[:, column], labels[:, column]) if labels[:, column].any() else None
        for column in range(len(classes))
    ]
    counted = [value for value in ap if value is not None]
    by_class = _scores(_counts(predicted, labels, 0))
    columns = {"patches": labels.sum(0).tolist(), "ap": ap} | {name: by_class[name].tolist() for name in _SCORES}
    return {
        "ap_macro": sum(counted) / len(counted) if counted else None,
        "ap_micro": _average_precision(probabilities.ravel(), labels.ravel()) if counted else None,
        **_averages(predicted, labels, by_class),
        "classes_counted": len(counted),
        "per_class": {name: {key: columns[key][place] for key in columns} for place, name in enumerate(classes)},
    }


def map_metrics(confusion: npt.NDArray[np.int64], classes: Sequence[str]) -> Metrics:
    """Compute the metrics of predicted maps.

    Parameters
    ----------
    confusion : ndarray of int64, shape (class, class)
        Pixels by true class (row) and predicted class (column).
    classes : sequence of str
        Class names.

    Returns
    -------
    dict
        ``miou``, ``pixel_accuracy``, and ``precision``, ``recall``, ``f1`` and ``f2``, each ``_macro`` and ``_micro``;
        ``classes_counted``; ``per_class``, with ``pixels``, ``iou`` and the metrics of each class. A class without true
        pixels has an ``iou`` of None and is excluded from ``miou``.
    """
    right, true, predicted = np.diagonal(confusion), confusion.sum(1), confusion.sum(0)
    counts = {"right": right, "predicted": predicted, "true": true}
    by_class = _scores(counts)
    micro = _scores({name: values.sum() for name, values in counts.items()})
    union = true + predicted - right
    iou = [float(r / u) if t else None for r, u, t in zip(right, union, true, strict=True)]
    counted = [value for value in iou if value is not None]
    columns = {"pixels": true.tolist(), "iou": iou} | {name: by_class[name].tolist() for name in _SCORES}
    return {
        "miou": sum(counted) / len(counted) if counted else None,
        "pixel_accuracy": float(micro["recall"]),
        **{f"{name}_macro": float(by_class[name].mean()) for name in _SCORES},
        **{f"{name}_micro": float(micro[name]) for name in _SCORES},
        "classes_counted": len(counted),
        "per_class": {name: {key: columns[key][place] for key in columns} for place, name in enumerate(classes)},
    }


def confusion_matrix(
    true: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], classes: int
) -> npt.NDArray[np.int64]:
    """Count pixels by true and predicted class, shape ``(class, class)``; negative true classes are ignored."""
    counted = true >= 0
    pairs = true[counted] * classes + predicted[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def region_sizes(maps: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the size of the connected region of each pixel; 0 for negative classes.

    Parameters
    ----------
    maps : ndarray of int64, shape (patch, y, x)
        Classes. A region consists of pixels of one class that share sides (4-neighbourhood) within a patch.
    """
    sizes = np.zeros(maps.shape, np.int64)
    for patch, found in zip(maps, sizes, strict=True):
        marked = (patch + 1).clip(0).astype(np.uint16)
        regions, number = cc3d.connected_components(marked, connectivity=4, return_N=True)
        pixels = np.bincount(regions.ravel(), minlength=number + 1)
        pixels[0] = 0
        found[:] = pixels[regions]
    return sizes


def present_classes(maps: Iterable[npt.NDArray[np.int64]], classes: int) -> npt.NDArray[np.bool_]:
    """Return the classes in each map, shape ``(patch, class)``; negative classes are ignored."""
    found = [np.bincount(patch[patch >= 0], minlength=classes) > 0 for patch in maps]
    return np.array(found, bool).reshape(-1, classes)


def _average_precision(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.bool_]) -> float:
    """Sum of precision times gain in recall, from the highest probability down; ties count at once."""
    order = np.argsort(-probabilities, kind="stable")
    last_of_ties = np.append(np.flatnonzero(np.diff(probabilities[order])), len(order) - 1)
    right = np.cumsum(labels[order])[last_of_ties]
    gained = np.diff(right, prepend=0)
    return float((right / (last_of_ties + 1) * gained).sum() / right[-1])


def _averages(predicted: npt.NDArray[np.bool_], labels: npt.NDArray[np.bool_], by_class: Counts) -> dict[str, float]:
    micro, by_patch = _scores(_counts(predicted, labels, None)), _scores(_counts(predicted, labels, 1))
    averages = {"macro": by_class, "micro": micro, "samples": by_patch}
    return {f"{name}_{kind}": float(np.mean(scores[name])) for name in _SCORES for kind, scores in averages.items()}


def _counts(predicted: npt.NDArray[np.bool_], labels: npt.NDArray[np.bool_], axis: int | None) -> Counts:
    masks = {"right": predicted & labels, "predicted": predicted, "true": labels}
    return {name: np.asarray(mask.sum(axis)) for name, mask in masks.items()}


def _scores(counts: Counts) -> Counts:
    right, predicted, true = (np.asarray(counts[name], np.float64) for name in ("right", "predicted", "true"))
    return {
        "precision": _ratio(right, predicted),
        "recall": _ratio(right, true),
        "f1": _ratio(2 * right, predicted + true),
        "f2": _ratio(5 * right, predicted + 4 * true),
    }


def _ratio(part: npt.NDArray[np.float64], whole: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole != 0)
