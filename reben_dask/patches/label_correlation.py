"""How alike the labels of patches are, by the distance between them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from reben_dask.patches.label_sets import LabelSets, jaccard, shared_labels

_Rows = npt.NDArray[np.int64]

EDGES_M = 1000.0 * np.array(
    [0, 1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 5000, 13000]
)
"""Limits of the distance classes; the last is more than the diameter of the Earth."""

SEED = 2018
PAIRS = 100_000
"""About so many pairs are drawn for each figure."""

_PILOTS = 500
_ROUNDS = 10
_LOOKED_AT = 20
"""For each pair that is drawn, so many closer ones are looked at, at most."""


def similarity_within(labels: LabelSets, pairs: int = PAIRS, seed: int = SEED) -> float:
    """Mean Jaccard similarity of pairs of different patches that are drawn at random.

    Parameters
    ----------
    labels : LabelSets
        At least two patches.
    pairs : int
        Pairs to draw; where there are not more than that, all are taken.
    seed : int
        The same seed draws the same pairs.
    """
    patches = len(labels)
    if patches * (patches - 1) // 2 <= pairs:
        one, other = np.triu_indices(patches, 1)
    else:
        random = np.random.default_rng(seed)
        one = random.integers(patches, size=pairs)
        other = (one + random.integers(1, patches, size=pairs)) % patches
    return float(jaccard(labels.words[one], labels.words[other]).mean())


def similarity_between(left: LabelSets, right: LabelSets, pairs: int = PAIRS, seed: int = SEED) -> float:
    """Mean Jaccard similarity of pairs that are drawn at random, one patch from each side.

    Parameters
    ----------
    left, right : LabelSets
        Of the same classes, at least one patch each.
    pairs : int
        Pairs to draw; where there are not more than that, all are taken.
    seed : int
        The same seed draws the same pairs.
    """
    if len(left) * len(right) <= pairs:
        one, other = (grid.ravel() for grid in np.indices((len(left), len(right))))
    else:
        random = np.random.default_rng(seed)
        one, other = (random.integers(len(sets), size=pairs) for sets in (left, right))
    return float(jaccard(left.words[one], right.words[other]).mean())


def above_chance(observed: float, by_chance: float) -> float:
    """Share of the similarity that chance leaves open which is there: 0 as by chance, 1 for equal labels; as in kappa.

    References
    ----------
    Cohen (1960), Educational and Psychological Measurement 20, 37-46.
    """
    return (observed - by_chance) / (1 - by_chance) if by_chance < 1 else 0.0


def correlogram(
    centres: npt.NDArray[np.float64],
    labels: LabelSets,
    *,
    edges_m: npt.NDArray[np.float64] = EDGES_M,
    pairs: int = PAIRS,
    seed: int = SEED,
) -> pd.DataFrame:
    """Similarity of labels by distance: mean Jaccard similarity, and Moran's I, of the pairs of each distance class.

    Each distance class has a sample of its own, in which every pair of the class has the same chance to be; a class
    with few pairs is taken whole. Pairs of a patch with itself do not count, pairs of two images of one place do.

    Parameters
    ----------
    centres : ndarray of float64, shape (patch, 3)
        Where patches are, in metres; see :meth:`~reben_dask.patches.places.Places.geocentric`.
    labels : LabelSets
        Labels of these patches.
    edges_m : ndarray of float64, shape (class + 1,)
        Limits of the distance classes, ascending; the lower one belongs to a class, the upper one does not.
    pairs : int
        About so many pairs are drawn in each class.
    seed : int
        The same seed draws the same pairs.

    Returns
    -------
    DataFrame
        A row for each class that has pairs: ``from_m``, ``to_m``, ``pairs``, and their means ``distance_m``,
        ``jaccard`` and ``moran_i``.

    Notes
    -----
    Mean Jaccard similarity by distance is the distance decay of similarity of Nekola and White (1999, Journal of
    Biogeography 26, 867-878). Moran's I (Moran 1950, Biometrika 37, 17-23; by distance class as in Cliff and Ord 1981,
    Spatial Processes) is taken of the presence of all classes together: the sum over classes of the covariance of
    pairs, by the sum of their variances. That is the trace of Wartenberg's matrix (1985, Geographical Analysis 17,
    263-283) for variables that are centred and not scaled. It is 1 if labels are always equal and about 0 for pairs
    drawn by chance, however many classes and labels there are; what chance makes of mean Jaccard similarity depends on
    their number.
    """
    columns = ["from_m", "to_m", "pairs", "distance_m", "jaccard", "moran_i"]
    if len(labels) < 2:
        return pd.DataFrame(columns=columns, dtype=np.float64)
    random = np.random.default_rng(seed)
    within = _pairs_within(centres, edges_m, random)
    moran = _MoranI(labels)
    rows = []
    for lower, upper, below, inside in zip(edges_m[:-1], edges_m[1:], within[:-1], within[1:], strict=True):
        share = min(1.0, pairs / max(inside - below, 1.0), _LOOKED_AT * pairs / max(inside, 1.0))
        left, right, distance = _draw(centres, (lower, upper), share, random)
        if distance.size:
            similarity = jaccard(labels.words[left], labels.words[right])
            means = (distance.mean(), similarity.mean(), moran.mean(left, right))
            rows.append((lower, upper, distance.size, *means))
    return pd.DataFrame(rows, columns=columns)


class _MoranI:
    """Moran's I of the presence of all classes together."""

    def __init__(self, labels: LabelSets) -> None:
        self._words = labels.words
        frequency = labels.counts() / len(labels)
        self._variance = float((frequency * (1 - frequency)).sum())
        self._square = float((frequency**2).sum())
        self._expected = np.zeros(len(labels))
        for code, share in enumerate(frequency):
            self._expected += share * labels.carries(code)

    def mean(self, left: _Rows, right: _Rows) -> float:
        """Of some pairs, that is with weight 1 for these and 0 for all others; NaN if no label ever differs."""
        if not self._variance:
            return math.nan
        # The sum over classes of (a - p) (b - p), for presences a, b of 0 and 1.
        shared = shared_labels(self._words[left], self._words[right])
        product = shared - self._expected[left] - self._expected[right] + self._square
        return float(product.mean() / self._variance)


def _pairs_within(
    centres: npt.NDArray[np.float64], radii: npt.NDArray[np.float64], random: np.random.Generator
) -> npt.NDArray[np.float64]:
    """About how many pairs of patches are closer than each radius, from the neighbours of some."""
    patches = len(centres)
    pilots = random.choice(patches, min(patches, _PILOTS), replace=False)
    closer = cKDTree(centres[pilots]).count_neighbors(cKDTree(centres), np.nextafter(radii, -np.inf))
    pairs: npt.NDArray[np.float64] = np.maximum(closer - len(pilots), 0) * (patches / len(pilots)) / 2
    return pairs


def _draw(
    centres: npt.NDArray[np.float64], between: tuple[float, float], share: float, random: np.random.Generator
) -> tuple[_Rows, _Rows, npt.NDArray[np.float64]]:
    """Some of the pairs of a distance class, every one with the same chance; with a share of 1, all of them.

    All pairs of a few patches with a few others are looked at, so that near pairs are found without looking at all
    pairs; and this in several rounds, so that not all depends on the same patches.
    """
    rounds = 1 if share == 1 else _ROUNDS
    size = math.ceil(len(centres) * math.sqrt(share / rounds))
    drawn = []
    for _ in range(rounds):
        left, right = (random.choice(len(centres), size, replace=False) for _ in range(2))
        found = cKDTree(centres[left]).sparse_distance_matrix(
            cKDTree(centres[right]), between[1], output_type="ndarray"
        )
        one, other, distance = left[found["i"]], right[found["j"]], found["v"]
        chosen = (one < other) & (distance >= between[0]) & (distance < between[1])
        drawn.append((one[chosen], other[chosen], distance[chosen]))
    one, other, distance = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    return one, other, distance
