"""Spatial correlation between the splits of one dataset, for each of its split columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from reben_dask.patches.label_correlation import (
    above_chance,
    correlogram,
    similarity_between,
    similarity_within,
)
from reben_dask.patches.label_sets import jaccard
from reben_dask.patches.split_distance import APART, OVERLAPPING, Nearest, nearest_training
from reben_dask.stores.patch_set import SPLIT, PatchSet

QUANTILES = {"minimum": 0.0, "5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "maximum": 1.0}


@dataclass(frozen=True)
class SplitCorrelation:
    """How near the test patches of one split are to its training patches, and how alike their labels.

    Parameters
    ----------
    columns : tuple of str
        The split column; several, if they say the same of every patch.
    test, train : ndarray of int64
        Positions of the patches of both sets among the kept patches.
    nearest : Nearest
        The nearest training patch of each test patch.
    similarity : ndarray of float64, shape (test,)
        Jaccard similarity of the labels of a test patch and its nearest training patch.
    by_chance : float
        The same for random pairs of a test and a training patch, on average.
    """

    columns: tuple[str, ...]
    test: npt.NDArray[np.int64]
    train: npt.NDArray[np.int64]
    nearest: Nearest
    similarity: npt.NDArray[np.float64]
    by_chance: float

    @property
    def title(self) -> str:
        """The strategy, where the name of a column tells it; the split that a dataset is published with is marked."""
        strategies = [name.removeprefix(f"{SPLIT}_") for name in self.columns if name != SPLIT]
        if not strategies:
            return SPLIT
        return " = ".join(strategies) + f" ({SPLIT})" * (SPLIT in self.columns)

    def measures(self) -> dict[str, float]:
        """Everything in numbers: counts, shares of the test patches (0 to 1), distances in metres, similarities."""
        contact, similarity = self.nearest.contact, float(self.similarity.mean())
        distances = np.quantile(self.nearest.distance_m, list(QUANTILES.values())).tolist()
        return {
            "test patches": len(self.test),
            "training patches": len(self.train),
            "touch or overlap a training patch": float(np.mean(contact != APART)),
            "overlap a training patch": float(np.mean(contact == OVERLAPPING)),
            **{f"distance {name}": value for name, value in zip(QUANTILES, distances, strict=True)},
            "Jaccard nearest": similarity,
            "Jaccard random": self.by_chance,
            "above chance": above_chance(similarity, self.by_chance),
        }


@dataclass(frozen=True)
class SpatialCorrelation:
    """Spatial correlation in one dataset.

    Parameters
    ----------
    kept : PatchSet
        Its kept patches.
    splits : tuple of SplitCorrelation
        One for each split that has test and training patches.
    without : mapping of str to str
        Split columns that have not, each with a phrase that says what is missing.
    correlogram : DataFrame
        See :func:`~reben_dask.patches.label_correlation.correlogram`.
    by_chance : float
        Mean Jaccard similarity of random pairs of kept patches; NaN if there are none.
    """

    kept: PatchSet
    splits: tuple[SplitCorrelation, ...]
    without: Mapping[str, str]
    correlogram: pd.DataFrame
    by_chance: float


def spatial_correlation(dataset: PatchSet) -> SpatialCorrelation:
    """Measure the spatial correlation between the splits of a dataset, and of its labels."""
    kept = dataset.kept()
    splits: list[SplitCorrelation] = []
    without = {} if len(kept) else {SPLIT: f"none of its {len(dataset):,} candidates is kept"}
    for columns, column in _distinct_splits(kept) if len(kept) else ():
        rows = {name: np.flatnonzero(column == name) for name in ("test", "train")}
        if missing := next((name for name, found in rows.items() if not found.size), None):
            what = {"test": "test", "train": "training"}[missing]
            without[columns[0]] = f"none of the {len(kept):,} kept patches is a {what} patch by column {columns[0]}"
        else:
            splits.append(_measure(kept, columns, **rows))
    by_distance = correlogram(kept.places.geocentric(), kept.labels)
    by_chance = similarity_within(kept.labels) if len(kept) > 1 else math.nan
    return SpatialCorrelation(kept, tuple(splits), without, by_distance, by_chance)


def _distinct_splits(kept: PatchSet) -> Iterator[tuple[tuple[str, ...], npt.NDArray[np.object_]]]:
    """Split columns that differ: a strategy may stand in a column of its own and be the dataset's split too."""
    columns = {name: kept.patches[name].astype(object).fillna("").to_numpy() for name in kept.splits}
    waiting = list(columns)
    while waiting:
        first = waiting[0]
        same = [name for name in waiting if (columns[name] == columns[first]).all()]
        waiting = [name for name in waiting if name not in same]
        yield tuple(same), columns[first]


def _measure(
    kept: PatchSet, columns: tuple[str, ...], test: npt.NDArray[np.int64], train: npt.NDArray[np.int64]
) -> SplitCorrelation:
    places, labels = kept.places, kept.labels
    nearest = nearest_training(places.take(test), places.take(train))
    similarity = jaccard(labels.words[test], labels.words[train[nearest.train]])
    by_chance = similarity_between(labels.take(test), labels.take(train))
    return SplitCorrelation(columns, test, train, nearest, similarity, by_chance)
