"""Distances and contact of patches against geodesics and shapely; similarity of labels against all pairs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from reben_dask.analysis.correlation import (
    APART,
    OVERLAPPING,
    TOUCHING,
    above_chance,
    contact,
    correlogram,
    geocentric,
    jaccard,
    nearest_training,
    similarity_between,
    similarity_within,
)

# Distance and contact

GEOD = pyproj.Geod(ellps="WGS84")


def _places(rows: list[tuple[int, int, int, int]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["epsg", "minx", "maxy", "side"], dtype="int64")


def _squares(places: pd.DataFrame) -> list[shapely.Polygon]:
    return [
        shapely.box(x, y - side, x + side, y)
        for x, y, side in zip(places.minx.tolist(), places.maxy.tolist(), places.side.tolist(), strict=True)
    ]


def _footprints(places: pd.DataFrame) -> list[shapely.Polygon]:
    """Squares in longitude and latitude, patch by patch, through geopandas."""
    squares = zip(_squares(places), places.epsg.tolist(), strict=True)
    return [gpd.GeoSeries([square], crs=epsg).to_crs(4326).iloc[0] for square, epsg in squares]


def _lonlat(places: pd.DataFrame) -> np.ndarray:
    """Centres, patch by patch, through geopandas."""
    found = [
        gpd.GeoSeries([square.centroid], crs=epsg).to_crs(4326).iloc[0]
        for square, epsg in zip(_squares(places), places.epsg.tolist(), strict=True)
    ]
    return np.array([(point.x, point.y) for point in found])


def _geodesic(test: pd.DataFrame, train: pd.DataFrame) -> np.ndarray:
    """Distances along the ellipsoid, shape (test, train)."""
    one, other = (np.repeat(_lonlat(test), len(train), axis=0), np.tile(_lonlat(train), (len(test), 1)))
    return GEOD.inv(*one.T, *other.T)[2].reshape(len(test), len(train))


def _at_a_zone_border(seed: int) -> pd.DataFrame:
    """Patches on the ground around 12 E 48 N, in both zones that meet there."""
    random = np.random.default_rng(seed)
    rows = []
    for epsg in (32632, 32633):
        x, y = pyproj.Transformer.from_crs(4326, epsg, always_xy=True).transform(12.0, 48.0)
        corner = 60 * int(x // 60), 60 * int(y // 60)
        cells = random.choice(15 * 15, 25, replace=False)
        rows += [(epsg, corner[0] + 1200 * int(c // 15), corner[1] - 1200 * int(c % 15), 1200) for c in cells]
    return _places(rows)


def test_centres_in_space_are_those_of_the_textbook() -> None:
    """Through the radius of curvature in the prime vertical, at height 0."""
    places = _at_a_zone_border(1)
    lon, lat = np.radians(_lonlat(places)).T
    vertical = GEOD.a / np.sqrt(1 - GEOD.es * np.sin(lat) ** 2)
    flat = vertical * np.cos(lat)
    expected = np.column_stack([flat * np.cos(lon), flat * np.sin(lon), vertical * (1 - GEOD.es) * np.sin(lat)])
    np.testing.assert_allclose(geocentric(places), expected, rtol=0, atol=1e-6)


def _row(epsg: int, x: int, y: int) -> pd.DataFrame:
    return _places([(epsg, x + 1260 * step, y, 1200) for step in range(3)])


ACROSS = {
    "a border of zones": (_at_a_zone_border(2), _at_a_zone_border(3)),
    "the date line": (_row(32601, 300_000, 5_000_000), _row(32660, 700_000, 5_000_000)),
    "the equator": (_row(32733, 500_000, 9_999_000), _row(32633, 500_000, 3_000)),
    "half the globe": (_row(32633, 500_000, 5_400_000), _row(32733, 500_000, 6_000_000)),
}


@pytest.mark.parametrize("case", ACROSS)
def test_the_nearest_training_patch_across_zones(case: str) -> None:
    """Brute force along the ellipsoid; a straight line is shorter by the third power by 24 squares of the radius."""
    test, train = ACROSS[case]
    along = _geodesic(test, train)
    found = nearest_training(test, train)
    nearest = along.min(axis=1)
    if case != "half the globe":
        np.testing.assert_allclose(found.distance_m, nearest - nearest**3 / 24 / 6.371e6**2, rtol=1e-7, atol=1e-4)
    np.testing.assert_allclose(along[np.arange(len(test)), found.train], nearest, rtol=1e-9, atol=1e-3)


def test_distances_in_one_zone_as_shapely_measures_them() -> None:
    """A metre on the map is 1 / 0.9996 metres on the ground at the central meridian."""
    train = _places([(32633, 499_400 + 1200 * k, 5_400_000, 1200) for k in range(2)])
    test = _places([(32633, 499_400, 5_400_000 - 1200 * k, 1200) for k in (1, 2, 5, 9)])
    flat = [
        min(square.centroid.distance(other.centroid) for other in _squares(train)) / 0.9996 for square in _squares(test)
    ]
    np.testing.assert_allclose(nearest_training(test, train).distance_m, flat, rtol=1e-6)


@given(
    *[
        st.lists(
            st.tuples(
                st.sampled_from([32632, 32633]), st.integers(0, 12), st.integers(0, 12), st.sampled_from([1200, 600])
            ),
            min_size=1,
            max_size=12,
        )
    ]
    * 2
)
def test_contact_within_a_zone_is_that_of_shapely(
    test: list[tuple[int, int, int, int]], train: list[tuple[int, int, int, int]]
) -> None:
    """Zones of the same numbers lie far apart on the ground."""
    here, there = (
        _places([(epsg, 500_000 + 300 * x, 5_400_000 + 300 * y, side) for epsg, x, y, side in rows])
        for rows in (test, train)
    )
    expected = []
    for square, epsg in zip(_squares(here), here.epsg, strict=True):
        met = [other for other, zone in zip(_squares(there), there.epsg, strict=True) if zone == epsg]
        met = [other for other in met if square.intersects(other)]
        overlapping = any(square.intersection(other).area > 0 for other in met)
        expected.append(OVERLAPPING if overlapping else TOUCHING if met else APART)
    assert contact(here, there).tolist() == expected


@pytest.mark.parametrize("seed", range(4))
def test_contact_across_zones_is_that_of_the_footprints(seed: int) -> None:
    """In longitude and latitude, where the package does not look; within a zone in metres."""
    test, train = _at_a_zone_border(seed), _at_a_zone_border(seed + 10)
    expected = []
    trained = list(zip(_footprints(train), train.epsg.tolist(), strict=True))
    for square, flat, epsg in zip(_footprints(test), _squares(test), test.epsg, strict=True):
        across = any(square.intersects(other) for other, zone in trained if zone != epsg)
        same = [other for other, zone in zip(_squares(train), train.epsg, strict=True) if zone == epsg]
        overlapping = across or any(flat.intersection(other).area > 0 for other in same)
        expected.append(OVERLAPPING if overlapping else TOUCHING if any(map(flat.intersects, same)) else APART)
    assert contact(test, train).tolist() == expected
    assert len({*expected}) > 1


def test_two_images_of_one_place_overlap_at_no_distance() -> None:
    place = _places([(32633, 500_000, 5_400_000, 1200)])
    found = nearest_training(place, place.iloc[[0, 0, 0]])
    assert found.distance_m.tolist() == [0]
    assert found.contact.tolist() == [OVERLAPPING]


def test_half_a_patch_away_is_an_overlap() -> None:
    train = _places([(32633, 500_000, 5_400_000, 1200)])
    around = [
        (600, 600, OVERLAPPING),
        (1200, 1200, TOUCHING),
        (1200, 0, TOUCHING),
        (1201, 0, APART),
        (0, 0, OVERLAPPING),
    ]
    for east, south, expected in around:
        test = _places([(32633, 500_000 + east, 5_400_000 - south, 1200)])
        assert contact(test, train).tolist() == [expected]


@pytest.mark.slow
def test_the_published_split_keeps_test_patches_away_from_training_patches(data_dir: Path) -> None:
    """A real tile of reBEN, and the same patches in a random split; a ring of validation patches lies between."""
    tile, (ulx, uly) = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP", (300_000, 5_400_000)
    of_tile = [("patch_id", ">", f"{tile}_"), ("patch_id", "<", f"{tile}`")]
    rows = pd.read_parquet(data_dir / "bigearthnet" / "metadata.parquet", filters=of_tile)
    x, y = (rows["patch_id"].str[place].astype(int) for place in (slice(-5, -3), slice(-2, None)))
    places = _places([(32633, ulx + 1200 * column, uly - 1200 * row, 1200) for column, row in zip(x, y, strict=True)])
    random = np.random.default_rng(2).choice(["train", "train", "validation", "test"], len(rows))
    found = {
        name: nearest_training(places[split == "test"], places[split == "train"])
        for name, split in (("geographic", rows["split"].to_numpy()), ("random", random))
    }
    assert (found["geographic"].contact == APART).all()
    assert found["geographic"].distance_m.min() > 10 * 1190
    assert (found["random"].contact == TOUCHING).mean() > 0.99
    assert np.median(found["random"].distance_m) < 1210


# Similarity of labels

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


@given(st.integers(1, 70), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_jaccard_is_that_of_sets(classes: int, pairs: int, seed: int) -> None:
    left, right = np.random.default_rng(seed).random((2, pairs, classes)) < 2 / classes
    sets = [[set(np.flatnonzero(row)) for row in side] for side in (left, right)]
    expected = [len(a & b) / len(a | b) if a | b else 1.0 for a, b in zip(*sets, strict=True)]
    np.testing.assert_allclose(jaccard(left, right), expected, rtol=1e-15)


def test_few_patches_are_taken_pair_by_pair() -> None:
    centres, presence = _landscape(200, 1)
    found = correlogram(centres, presence, edges_m=EDGES_M, pairs=20_000)
    pd.testing.assert_frame_equal(found, _by_hand(centres, presence), check_dtype=False, rtol=1e-9)


def test_a_sample_of_many_pairs_is_near_to_all_of_them() -> None:
    """The pairs that are drawn are always the same, so this does not depend on luck."""
    centres, presence = _landscape(1500, 2)
    expected = _by_hand(centres, presence)
    found = correlogram(centres, presence, edges_m=EDGES_M, pairs=4000)
    assert (found["pairs"] < expected["pairs"].clip(upper=8000)).all()
    assert (found["pairs"] > 2000).all()
    np.testing.assert_allclose(found["distance_m"], expected["distance_m"], rtol=0.03)
    np.testing.assert_allclose(found["jaccard"], expected["jaccard"], atol=0.03)
    np.testing.assert_allclose(found["moran_i"], expected["moran_i"], atol=0.04)
    again = correlogram(centres, presence, edges_m=EDGES_M, pairs=4000)
    pd.testing.assert_frame_equal(found, again)
    other = correlogram(centres, presence, edges_m=EDGES_M, pairs=4000, seed=1)
    assert (other["jaccard"] != found["jaccard"]).any()


def test_labels_without_order_in_space_have_no_correlation() -> None:
    centres, presence = _landscape(1000, 3)
    presence = np.random.default_rng(4).permutation(presence)
    found = correlogram(centres, presence, edges_m=EDGES_M)
    assert (found["moran_i"].abs() < 0.04).all()
    chance = similarity_within(presence)
    assert (abs(found["jaccard"] - chance) < 0.02).all()


def test_labels_that_never_differ() -> None:
    centres, presence = _landscape(50, 5)
    found = correlogram(centres, np.ones_like(presence), edges_m=EDGES_M)
    assert (found["jaccard"] == 1).all()
    assert found["moran_i"].isna().all()


@pytest.mark.parametrize("patches", [0, 1])
def test_one_patch_has_no_pairs(patches: int) -> None:
    assert correlogram(np.zeros((patches, 3)), np.ones((patches, 3), bool)).empty


def test_random_pairs() -> None:
    _, presence = _landscape(300, 6)
    shared, either = (presence[:, None] & presence).sum(axis=2), (presence[:, None] | presence).sum(axis=2)
    similarity = np.where(either == 0, 1, shared / np.maximum(either, 1))
    left, right = presence[:100], presence[100:]
    between, within = similarity[:100, 100:].mean(), similarity[np.triu_indices(300, 1)].mean()
    assert similarity_between(left, right) == pytest.approx(between, rel=1e-12)
    assert similarity_within(presence) == pytest.approx(within, rel=1e-12)
    assert similarity_between(left, right, pairs=10_000) == pytest.approx(between, abs=0.01)
    assert similarity_within(presence, pairs=10_000) == pytest.approx(within, abs=0.01)
    assert similarity_within(presence, pairs=50) == similarity_within(presence, pairs=50)


@pytest.mark.parametrize(
    ("observed", "by_chance", "expected"), [(0.2, 0.2, 0), (1, 0.2, 1), (0.6, 0.2, 0.5), (0.1, 0.2, -0.125), (1, 1, 0)]
)
def test_above_chance(observed: float, by_chance: float, expected: float) -> None:
    assert above_chance(observed, by_chance) == pytest.approx(expected)
