"""Distances and contact between patches, against geodesics and shapely."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from reben_dask.patches.places import Places
from reben_dask.patches.split_distance import APART, OVERLAPPING, TOUCHING, contact, nearest_training

GEOD = pyproj.Geod(ellps="WGS84")


def _places(rows: list[tuple[int, int, int, int]]) -> Places:
    return Places(*np.array(rows, np.int64).reshape(-1, 4).T)


def _squares(places: Places) -> list[shapely.Polygon]:
    return [
        shapely.box(x, y - side, x + side, y)
        for x, y, side in zip(places.minx.tolist(), places.maxy.tolist(), places.side.tolist(), strict=True)
    ]


def _footprints(places: Places) -> list[shapely.Polygon]:
    """Squares in longitude and latitude, patch by patch, through geopandas."""
    squares = zip(_squares(places), places.epsg.tolist(), strict=True)
    return [gpd.GeoSeries([square], crs=epsg).to_crs(4326).iloc[0] for square, epsg in squares]


def _lonlat(places: Places) -> np.ndarray:
    """Centres, patch by patch, through geopandas."""
    found = [
        gpd.GeoSeries([square.centroid], crs=epsg).to_crs(4326).iloc[0]
        for square, epsg in zip(_squares(places), places.epsg.tolist(), strict=True)
    ]
    return np.array([(point.x, point.y) for point in found])


def _geodesic(test: Places, train: Places) -> np.ndarray:
    """Distances along the ellipsoid, shape (test, train)."""
    one, other = (np.repeat(_lonlat(test), len(train), axis=0), np.tile(_lonlat(train), (len(test), 1)))
    return GEOD.inv(*one.T, *other.T)[2].reshape(len(test), len(train))


def _at_a_zone_border(seed: int) -> Places:
    """Patches on the ground around 12 E 48 N, in both zones that meet there."""
    random = np.random.default_rng(seed)
    rows = []
    for epsg in (32632, 32633):
        x, y = pyproj.Transformer.from_crs(4326, epsg, always_xy=True).transform(12.0, 48.0)
        corner = 60 * int(x // 60), 60 * int(y // 60)
        cells = random.choice(15 * 15, 25, replace=False)
        rows += [(epsg, corner[0] + 1200 * int(c // 15), corner[1] - 1200 * int(c % 15), 1200) for c in cells]
    return _places(rows)


def test_centres_in_space_are_those_of_proj() -> None:
    places = _at_a_zone_border(1)
    to_space = pyproj.Transformer.from_pipeline("+proj=pipeline +step +proj=cart +ellps=WGS84")
    lon, lat = np.radians(_lonlat(places)).T
    expected = np.column_stack(to_space.transform(lon, lat, np.zeros(len(lon)), radians=True))
    np.testing.assert_allclose(places.geocentric(), expected, rtol=0, atol=1e-6)


def _row(epsg: int, x: int, y: int) -> Places:
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


@settings(deadline=None, max_examples=60)
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
    found = nearest_training(place, place.take(np.array([0, 0, 0])))
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


def test_the_published_split_keeps_test_patches_away_from_training_patches(data_dir: Path) -> None:
    """A real tile of reBEN, and the same patches in a random split; a ring of validation patches lies between."""
    tile, (ulx, uly) = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP", (300_000, 5_400_000)
    of_tile = [("patch_id", ">", f"{tile}_"), ("patch_id", "<", f"{tile}`")]
    rows = pd.read_parquet(data_dir / "bigearthnet" / "metadata.parquet", filters=of_tile)
    x, y = (rows["patch_id"].str[place].astype(int) for place in (slice(-5, -3), slice(-2, None)))
    places = _places([(32633, ulx + 1200 * column, uly - 1200 * row, 1200) for column, row in zip(x, y, strict=True)])
    random = np.random.default_rng(2).choice(["train", "train", "validation", "test"], len(rows))
    found = {
        name: nearest_training(places.take(split == "test"), places.take(split == "train"))
        for name, split in (("geographic", rows["split"].to_numpy()), ("random", random))
    }
    assert (found["geographic"].contact == APART).all()
    assert found["geographic"].distance_m.min() > 10 * 1190
    assert (found["random"].contact == TOUCHING).mean() > 0.99
    assert np.median(found["random"].distance_m) < 1210
