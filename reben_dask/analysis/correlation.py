"""Spatial correlation: distances from test to training patches, and similarity of labels by distance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely
from scipy.spatial import cKDTree

from reben_dask.analysis.matching import PLACE
from reben_dask.analysis.patch_set import SPLIT, PatchSet
from reben_dask.formats.columns import EXTRA_SPLITS, TABLE_CRS

APART, TOUCHING, OVERLAPPING = 0, 1, 2
CONTACTS = ("apart", "touching", "overlapping")
"""Contact of a patch with the nearest other patch: none; along an edge or at a corner; more."""

_DIAGONAL = 2**-0.5
_STRETCH = 1.01
"""Length on the ground of a metre of UTM is 0.9996 to 1.0022 m as far as tiles extend beyond their zone."""

EDGES_M = 1000.0 * np.array(
    [0, 1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 5000, 13000]
)
"""Limits of the distance classes; the last exceeds the diameter of the Earth."""

SEED = 2018
PAIRS = 100_000
"""Approximate number of pairs sampled for each figure."""

_PILOTS = 500
_ROUNDS = 10
_LOOKED_AT = 20
"""Maximum number of close pairs examined per pair drawn."""

QUANTILES = {"minimum": 0.0, "5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "maximum": 1.0}

_Rows = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]
_Bools = npt.NDArray[np.bool_]


# Places of patches, across tiles and UTM zones: tables with the columns epsg, minx, maxy and side (metres)


def centres_xy(places: pd.DataFrame) -> _Floats:
    """Compute eastings and northings of patch centres in metres of their own zones, shape ``(patch, 2)``; exact."""
    half = places.side / 2
    return np.column_stack([places.minx + half, places.maxy - half])


def lonlat(places: pd.DataFrame) -> _Floats:
    """Compute longitude and latitude of patch centres in degrees, shape ``(patch, 2)``."""
    centres, degrees = centres_xy(places), np.empty((len(places), 2))
    for epsg in places.epsg.unique().tolist():
        rows = (places.epsg == epsg).to_numpy()
        to_degrees = pyproj.Transformer.from_crs(epsg, TABLE_CRS, always_xy=True)
        degrees[rows] = np.column_stack(to_degrees.transform(*centres[rows].T))
    return degrees


def geocentric(places: pd.DataFrame) -> _Floats:
    """Compute geocentric coordinates of patch centres in metres, shape ``(patch, 3)``.

    Straight distances hold within and across UTM zones: they differ from distances along the WGS 84 ellipsoid by 0.1 mm
    at 5 km, 1 m at 100 km and 1 km at 1,000 km.
    """
    to_space = pyproj.Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
    longitude, latitude = lonlat(places).T
    return np.column_stack(to_space.transform(longitude, latitude, np.zeros(len(places))))


# Distance from test to training patches


class Nearest(NamedTuple):
    """Nearest training patch of each test patch, in the order of the test patches."""

    train: _Rows
    """Position among the training patches; any of several at the same distance."""
    distance_m: _Floats
    contact: npt.NDArray[np.int8]
    """Contact with any training patch: :data:`APART`, :data:`TOUCHING` or :data:`OVERLAPPING`."""


def nearest_training(test: pd.DataFrame, train: pd.DataFrame) -> Nearest:
    """Find the nearest training patch of each test patch by location; both tables have at least one row.

    Milà et al. (2022, Methods in Ecology and Evolution 13, 1304-1316) and Meyer and Pebesma (2022, Nature
    Communications 13, 2208) use the distribution of these distances to judge how well a test represents unseen
    locations.
    """
    distance, position = cKDTree(geocentric(train)).query(geocentric(test))
    return Nearest(position.astype(np.int64), distance, contact(test, train))


def contact(test: pd.DataFrame, train: pd.DataFrame) -> npt.NDArray[np.int8]:
    """Find the contact of each test patch with any training patch; see :attr:`Nearest.contact`.

    Exact in whole metres within a UTM zone. Patches of different zones are rotated against each other: any contact
    counts as overlap.
    """
    found = np.full(len(test), APART, np.int8)
    zone, centres = test.epsg.to_numpy(), geocentric(test)
    for epsg, trained in train[list(PLACE)].drop_duplicates().groupby("epsg"):
        same = np.flatnonzero(zone == epsg)
        found[same] = np.maximum(found[same], _contact_in_zone(test.iloc[same], trained))
        others = np.flatnonzero((zone != epsg) & (found != OVERLAPPING))
        if others.size:
            meets = _meets_across_zones(test.iloc[others], centres[others], trained)
            found[others[meets]] = OVERLAPPING
    return found


def _contact_in_zone(test: pd.DataFrame, train: pd.DataFrame) -> npt.NDArray[np.int8]:
    found = np.full(len(test), APART, np.int8)
    centres, sides = centres_xy(test), test.side.to_numpy()
    for side in train.side.unique().tolist():
        # Squares intersect where their centres are closer than their sides, in the larger of the two directions.
        # Centres on a grid are often in line: a balanced tree would take long to find its medians.
        tree = cKDTree(centres_xy(train[train.side == side]), balanced_tree=False, compact_nodes=False)
        distance, _ = tree.query(centres, p=np.inf)
        reach = (sides + side) / 2
        found = np.maximum(found, np.select([distance < reach, distance == reach], [OVERLAPPING, TOUCHING], APART))
    return found.astype(np.int8)


def _meets_across_zones(test: pd.DataFrame, centres: _Floats, train: pd.DataFrame) -> _Bools:
    """Mask of the patches whose squares intersect a training patch; these are all of one other zone."""
    meets = np.zeros(len(test), bool)
    trained, reach = geocentric(train), (test.side.max() + train.side.max()) * _DIAGONAL * _STRETCH
    near = np.flatnonzero(cKDTree(trained).query(centres, distance_upper_bound=reach)[0] < np.inf)
    if near.size:
        squares = _squares(train[cKDTree(centres[near]).query(trained, distance_upper_bound=reach)[0] < np.inf])
        for epsg in test.epsg.iloc[near].unique().tolist():
            rows = near[test.epsg.iloc[near] == epsg]
            hits, _ = squares.to_crs(epsg).sindex.query(_squares(test.iloc[rows]), predicate="intersects")
            meets[rows[hits]] = True
    return meets


def _squares(places: pd.DataFrame) -> gpd.GeoSeries:
    west, north, side = places.minx, places.maxy, places.side
    return gpd.GeoSeries(shapely.box(west, north - side, west + side, north), crs=places.epsg.iloc[0])


# Similarity of labels: boolean matrices of shape (patch, class)


def jaccard(left: _Bools, right: _Bools) -> _Floats:
    """Compute the Jaccard similarity of pairs of label sets: size of the intersection by size of the union.

    From 0 (disjoint) to 1 (equal); two empty label sets are equal.
    """
    shared, either = (np.count_nonzero(sets, axis=1) for sets in (left & right, left | right))
    similarity: _Floats = np.divide(shared, either, out=np.ones(len(shared)), where=either > 0)
    return similarity


def similarity_within(labels: _Bools, pairs: int = PAIRS, seed: int = SEED) -> float:
    """Compute the mean Jaccard similarity of random pairs of different patches; of all pairs if at most ``pairs``.

    Needs at least two patches; the same seed draws the same pairs.
    """
    patches = len(labels)
    if patches * (patches - 1) // 2 <= pairs:
        one, other = np.triu_indices(patches, 1)
    else:
        random = np.random.default_rng(seed)
        one = random.integers(patches, size=pairs)
        other = (one + random.integers(1, patches, size=pairs)) % patches
    return float(jaccard(labels[one], labels[other]).mean())


def similarity_between(left: _Bools, right: _Bools, pairs: int = PAIRS, seed: int = SEED) -> float:
    """Compute the mean Jaccard similarity of random pairs, one patch of each side; of all pairs if at most ``pairs``.

    Needs at least one patch per side; the same seed draws the same pairs.
    """
    if len(left) * len(right) <= pairs:
        one, other = (grid.ravel() for grid in np.indices((len(left), len(right))))
    else:
        random = np.random.default_rng(seed)
        one, other = (random.integers(len(sets), size=pairs) for sets in (left, right))
    return float(jaccard(left[one], right[other]).mean())


def above_chance(observed: float, by_chance: float) -> float:
    """Rescale a similarity to 0 for chance and 1 for equal labels, as in kappa (Cohen 1960)."""
    return (observed - by_chance) / (1 - by_chance) if by_chance < 1 else 0.0


def correlogram(
    centres: _Floats, labels: _Bools, *, edges_m: _Floats = EDGES_M, pairs: int = PAIRS, seed: int = SEED
) -> pd.DataFrame:
    """Measure the similarity of labels by distance: mean Jaccard similarity and Moran's I of each distance class.

    About ``pairs`` pairs are drawn per class, each with the same chance; a class with few pairs is used whole. Pairs of
    a patch with itself are excluded, pairs of two images of one location are not. Lower limits are inclusive. The same
    seed draws the same pairs. Returns a row for each class that has pairs: ``from_m``, ``to_m``, ``pairs``, and their
    means ``distance_m``, ``jaccard`` and ``moran_i`` (NaN if no label ever differs).

    Notes
    -----
    Mean Jaccard similarity by distance is the distance decay of similarity of Nekola and White (1999, Journal of
    Biogeography 26, 867-878). Moran's I (Moran 1950, Biometrika 37, 17-23; by distance class as in Cliff and Ord 1981,
    Spatial Processes) is of the presence of all classes together: the sum over classes of the covariance of pairs, by
    the sum of their variances. That is the trace of Wartenberg's matrix (1985, Geographical Analysis 17, 263-283) for
    centred, unscaled variables: 1 for equal labels and about 0 for random pairs, for any number of classes and labels;
    the mean Jaccard similarity of random pairs depends on these numbers.
    """
    columns = ["from_m", "to_m", "pairs", "distance_m", "jaccard", "moran_i"]
    if len(labels) < 2:
        return pd.DataFrame(columns=columns, dtype=np.float64)
    random = np.random.default_rng(seed)
    within, frequency = _pairs_within(centres, edges_m, random), labels.mean(axis=0)
    rows = []
    for lower, upper, below, inside in zip(edges_m[:-1], edges_m[1:], within[:-1], within[1:], strict=True):
        share = min(1.0, pairs / max(inside - below, 1.0), _LOOKED_AT * pairs / max(inside, 1.0))
        one, other, distance = _draw(centres, (lower, upper), share, random)
        if distance.size:
            left, right = labels[one], labels[other]
            means = (distance.mean(), jaccard(left, right).mean(), _moran_i(left, right, frequency))
            rows.append((lower, upper, distance.size, *means))
    return pd.DataFrame(rows, columns=columns)


def _moran_i(left: _Bools, right: _Bools, frequency: _Floats) -> float:
    """Moran's I of the presence of all classes, with weight 1 for the given pairs and 0 for all others."""
    variance = float((frequency * (1 - frequency)).sum())
    if not variance:
        return math.nan
    # The sum over classes of (a - p) (b - p), for presences a, b of 0 and 1.
    shared, carried = (left & right).mean(axis=0).sum(), left.mean(axis=0) + right.mean(axis=0)
    return float((shared - carried @ frequency + frequency @ frequency) / variance)


def _pairs_within(centres: _Floats, radii: _Floats, random: np.random.Generator) -> _Floats:
    """Estimate the number of pairs of patches closer than each radius, from the neighbours of a sample."""
    patches = len(centres)
    pilots = random.choice(patches, min(patches, _PILOTS), replace=False)
    closer = cKDTree(centres[pilots]).count_neighbors(cKDTree(centres), np.nextafter(radii, -np.inf))
    pairs: _Floats = np.maximum(closer - len(pilots), 0) * (patches / len(pilots)) / 2
    return pairs


def _draw(
    centres: _Floats, between: tuple[float, float], share: float, random: np.random.Generator
) -> tuple[_Rows, _Rows, _Floats]:
    """Draw pairs of a distance class, each with the same chance; with a share of 1, all of them.

    Each round pairs few patches with few others, which finds near pairs without a full search; several rounds spread
    them.
    """
    rounds = 1 if share == 1 else _ROUNDS
    size = math.ceil(len(centres) * math.sqrt(share / rounds))
    drawn = []
    for _ in range(rounds):
        left, right = (random.choice(len(centres), size, replace=False) for _ in range(2))
        trees = cKDTree(centres[left]), cKDTree(centres[right])
        found = trees[0].sparse_distance_matrix(trees[1], between[1], output_type="ndarray")
        one, other, distance = left[found["i"]], right[found["j"]], found["v"]
        chosen = (one < other) & (distance >= between[0]) & (distance < between[1])
        drawn.append((one[chosen], other[chosen], distance[chosen]))
    one, other, distance = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    return one, other, distance


# The splits of a dataset


@dataclass(frozen=True)
class SplitCorrelation:
    """Distance and similarity between the test and training patches of one split column."""

    columns: tuple[str, ...]
    """Split column; several if they are equal."""
    test: _Rows
    train: _Rows
    """Positions of the test and training patches among the kept patches."""
    nearest: Nearest
    similarity: _Floats
    """Jaccard similarity of the labels of each test patch and its nearest training patch."""
    by_chance: float
    """Mean similarity of random pairs of a test and a training patch."""

    @property
    def strategy(self) -> str:
        """Strategy in the column name, else ``split``."""
        return " = ".join(name.removeprefix(EXTRA_SPLITS) for name in self.columns if name != SPLIT) or SPLIT

    @property
    def title(self) -> str:
        """Strategy, with a mark on the published split."""
        return self.strategy + f" ({SPLIT})" * (SPLIT in self.columns and self.strategy != SPLIT)

    def measures(self) -> dict[str, float]:
        """Return counts, shares of the test patches (0 to 1), distances in metres, and similarities."""
        touch, similarity = self.nearest.contact, float(self.similarity.mean())
        distances = np.quantile(self.nearest.distance_m, list(QUANTILES.values())).tolist()
        return {
            "test patches": len(self.test),
            "training patches": len(self.train),
            "touch or overlap a training patch": float(np.mean(touch != APART)),
            "overlap a training patch": float(np.mean(touch == OVERLAPPING)),
            **{f"distance {name}": value for name, value in zip(QUANTILES, distances, strict=True)},
            "Jaccard nearest": similarity,
            "Jaccard random": self.by_chance,
            "above chance": above_chance(similarity, self.by_chance),
        }


@dataclass(frozen=True)
class SpatialCorrelation:
    """Spatial correlation in one dataset."""

    kept: PatchSet
    splits: tuple[SplitCorrelation, ...]
    """Split columns that have test and training patches."""
    without: Mapping[str, str]
    """Other split columns, each with a phrase for the missing patches."""
    correlogram: pd.DataFrame
    by_chance: float
    """Mean Jaccard similarity of random pairs of kept patches; NaN for fewer than two patches."""


def spatial_correlation(dataset: PatchSet) -> SpatialCorrelation:
    """Measure the spatial correlation between the splits of a dataset, and of its labels."""
    kept = dataset.kept()
    splits: list[SplitCorrelation] = []
    without = {} if len(kept) else {SPLIT: f"none of its {len(dataset):,} candidates is kept"}
    for names, column in _distinct_splits(kept) if len(kept) else ():
        test, train = (np.flatnonzero(column == name) for name in ("test", "train"))
        if test.size and train.size:
            splits.append(_measure(kept, names, test, train))
        else:
            missing = "training" if test.size else "test"
            without[names[0]] = f"none of the {len(kept):,} kept patches is a {missing} patch by column {names[0]}"
    carried = kept.labels.carried
    by_chance = similarity_within(carried) if len(kept) > 1 else math.nan
    return SpatialCorrelation(kept, tuple(splits), without, correlogram(geocentric(kept.places), carried), by_chance)


def _distinct_splits(kept: PatchSet) -> Iterator[tuple[tuple[str, ...], npt.NDArray[np.object_]]]:
    """Distinct split columns: the dataset's split may repeat the column of a strategy."""
    contents = {name: kept.patches[name].astype(object).fillna("").to_numpy() for name in kept.splits}
    while contents:
        first = next(iter(contents.values()))
        same = tuple(name for name, column in contents.items() if (column == first).all())
        contents = {name: column for name, column in contents.items() if name not in same}
        yield same, first


def _measure(kept: PatchSet, names: tuple[str, ...], test: _Rows, train: _Rows) -> SplitCorrelation:
    places, carried = kept.places, kept.labels.carried
    nearest = nearest_training(places.iloc[test], places.iloc[train])
    similarity = jaccard(carried[test], carried[train[nearest.train]])
    return SplitCorrelation(names, test, train, nearest, similarity, similarity_between(carried[test], carried[train]))
