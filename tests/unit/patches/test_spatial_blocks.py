"""Blocks of the globe, against their definition in plain numbers; no ground in two sets, against projected outlines."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from reben_dask.errors import InputError, RebenError, RecipeError
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.candidates import footprints
from reben_dask.patches.spatial_blocks import (
    adjusted_split_fractions,
    blocks_of,
    blocks_per_patch,
    patch_blocks,
    splits_of_patches,
)
from reben_dask.patches.splits import random_split

RADIUS = 6_371_008.8
ON_AN_EDGE = np.linspace(0, 1, 65)
NAMES = np.array(["train", "validation", "test"])


def _columns(block_m: float) -> list[int]:
    bands = round(math.pi * RADIUS / block_m)
    middles = [math.radians(-90 + 180 * (band + 0.5) / bands) for band in range(bands)]
    return [max(1, round(2 * math.pi * RADIUS * math.cos(middle) / block_m)) for middle in middles]


def _block(longitude: float, latitude: float, block_m: float) -> int:
    columns = _columns(block_m)
    band = min(int((latitude + 90) / (180 / len(columns))), len(columns) - 1)
    around = (longitude + 180) % 360
    return sum(columns[:band]) + min(int(around / (360 / columns[band])), columns[band] - 1)


@cache
def _to_degrees(epsg: int) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(epsg, 4326, always_xy=True)


def _outline(epsg: int, minx: float, miny: float, side: float) -> np.ndarray:
    """Many points on the four edges of a square of a UTM zone, in degrees; the first of each edge is a corner."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]])
    edges = corners[:-1, None] + ON_AN_EDGE[:, None] * (corners[1:, None] - corners[:-1, None]).reshape(4, 1, 2)
    x, y = (edges * side + (minx, miny)).reshape(-1, 2).T
    return np.column_stack(_to_degrees(epsg).transform(x, y)).reshape(4, len(ON_AN_EDGE), 2)


@given(st.floats(-180, 540), st.floats(-90, 90), st.sampled_from([6_000, 24_000, 100_000.5, 1_000_000]))
def test_blocks_are_those_of_their_definition(longitude: float, latitude: float, block_m: float) -> None:
    found = blocks_of(np.array([[longitude, latitude]]), block_m)
    near = [_block(longitude + east, latitude, block_m) for east in (-1e-9, 0, 1e-9)]
    near += [_block(longitude, max(-90, min(90, latitude + north)), block_m) for north in (-1e-9, 1e-9)]
    assert found[0] in near
    assert found.dtype == np.int64


def test_each_block_has_a_number_of_its_own() -> None:
    block_m = 500_000
    columns = _columns(block_m)
    bands = [(band + 0.5) / len(columns) * 180 - 90 for band in range(len(columns))]
    centres = [
        ((c + 0.5) / n * 360 - 180, latitude) for n, latitude in zip(columns, bands, strict=True) for c in range(n)
    ]
    assert blocks_of(np.array(centres), block_m).tolist() == list(range(sum(columns)))


@pytest.mark.parametrize("block_m", [6_000, 12_000, 24_000])
def test_blocks_are_nearly_square(block_m: int) -> None:
    columns = _columns(block_m)
    for latitude in range(-80, 85, 5):
        band = int((latitude + 90) / 180 * len(columns))
        middle = math.radians((band + 0.5) / len(columns) * 180 - 90)
        assert math.pi * RADIUS / len(columns) == pytest.approx(block_m, rel=0.001)
        assert 2 * math.pi * RADIUS * math.cos(middle) / columns[band] == pytest.approx(block_m, rel=0.003)


@pytest.mark.parametrize("latitude", [-89.99, -33.0, 0.0, 52.5, 84.0])
def test_the_date_line_is_a_border_like_any_other(latitude: float) -> None:
    points = np.array([[x, latitude] for x in (180, -180, 540, -180 + 1e-6, 180 - 1e-6, -180 - 1e-6, -180 - 1e-17)])
    east, *others, west, also_west, _ = blocks_of(points, 12_000)
    assert others == [east] * 3
    assert west == also_west
    assert west > east


@pytest.mark.parametrize("latitude", [-90.0, 90.0])
def test_a_pole_lies_in_three_blocks(latitude: float) -> None:
    points = np.array([[longitude, latitude] for longitude in range(-180, 180)])
    assert len(np.unique(blocks_of(points, 12_000))) == 3


Place = tuple[int, float, float, float, float, tuple[float, float]]


@st.composite
def _patches_on_a_vertex(draw: Callable[..., float]) -> Place:
    """A patch somewhere in UTM, moved so that a corner of a block lies on it or within metres of it."""
    zone, latitude = draw(st.integers(1, 60)), draw(st.floats(-79.9, 83.9))
    longitude = zone * 6 - 183 + draw(st.floats(-3.5, 3.5))
    side = draw(st.sampled_from([600.0, 1200.0, 5000.0]))
    block_m = side * draw(st.sampled_from([4.0, 5.0, 20.0]))
    fractions = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0]))
    centimetres = st.integers(-100, 100).map(lambda n: n / 100)
    across, along = (draw(fractions) + draw(centimetres) / side for _ in range(2))
    return zone + (32600 if latitude >= 0 else 32700), longitude, latitude, side, block_m, (across, along)


def _placed(place: Place) -> tuple[np.ndarray, float]:
    """Outline of the patch, and the side of a block."""
    epsg, longitude, latitude, side, block_m, (across, along) = place
    columns = _columns(block_m)
    band = round((latitude + 90) / 180 * len(columns))
    column = round((longitude + 180) / 360 * columns[band])
    vertex = column / columns[band] * 360 - 180, band / len(columns) * 180 - 90
    x, y = _to_degrees(epsg).transform(*vertex, direction="INVERSE")
    return _outline(epsg, x - across * side, y - along * side, side), block_m


@given(_patches_on_a_vertex())
def test_a_patch_lies_in_the_blocks_that_it_touches(place: Place) -> None:
    outline, block_m = _placed(place)
    corners = outline[None, :, 0]
    touched = set(patch_blocks(corners, block_m)[0].tolist())
    assert set(blocks_of(outline.reshape(-1, 2), block_m).tolist()) <= touched


@pytest.mark.parametrize(
    "place",
    [
        # Both upper corners less than the bulge below a parallel, which the edge between them crosses.
        (32633, 15.0, 70.0, 1200.0, 12_000.0, (0.5, 1 - 0.05 / 1200)),
        # A corner of blocks just within the western edge of a patch that is turned against the meridians.
        (32633, 18.4, 70.0, 1200.0, 12_000.0, (0.004, 0.5)),
    ],
)
def test_the_blocks_of_the_corners_alone_would_not_do(place: Place) -> None:
    outline, block_m = _placed(place)
    lies_in = set(blocks_of(outline.reshape(-1, 2), block_m).tolist())
    assert not lies_in <= set(blocks_of(outline[:, 0], block_m).tolist())
    assert lies_in <= set(patch_blocks(outline[None, :, 0], block_m)[0].tolist())


def test_no_ground_is_in_two_splits_where_zones_grids_and_tiles_overlap() -> None:
    side, block_m, cells = 1200, 6000, 16
    patches, outlines = [], []
    for epsg in (32632, 32633):
        x, y = _to_degrees(epsg).transform(12.0, 52.0, direction="INVERSE")
        for shift in (0, 600, 130):
            for column in range(cells):
                for row in range(cells):
                    minx, miny = (start + shift + side * (n - cells / 2) for start, n in ((x, column), (y, row)))
                    outlines.append(_outline(epsg, minx, miny, side))
                    patches.append(outlines[-1][:, 0])
    blocks = patch_blocks(np.array(patches), block_m)
    sets_of_blocks = {block: str(NAMES[block * 7 % 3]) for block in np.unique(blocks).tolist()}
    sets = splits_of_patches(blocks, sets_of_blocks)
    assert all(np.count_nonzero(sets == name) > 50 for name in NAMES)
    assert np.count_nonzero(sets == None) > 50  # noqa: E711 - elementwise
    polygons = shapely.polygons([outline[:, :-1].reshape(-1, 2) for outline in outlines])
    one, other = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    both = (sets[one] != sets[other]) & np.not_equal(sets[one], None) & np.not_equal(sets[other], None)
    assert len(one) > 10 * len(polygons)
    assert not both.any()


def test_footprints_of_a_tile_are_understood() -> None:
    grid = PatchGrid(32633, 300_000, 5_800_020, ShapeYX(12_000, 24_000))
    series = footprints(grid)
    corners = shapely.get_coordinates(series.to_numpy()).reshape(-1, 5, 2)[:, :4]
    assert patch_blocks(series, 6000).tolist() == patch_blocks(corners, 6000).tolist()
    assert len(patch_blocks(series[:0], 6000)) == 0


def test_patches_on_the_date_line() -> None:
    x, y = _to_degrees(32601).transform(-180.0, 60.03, direction="INVERSE")
    outline = _outline(32601, x - 600, y, 1200)
    assert outline[..., 0].min() < -179.9
    assert outline[..., 0].max() > 179.9
    (touched,) = patch_blocks(outline[None, :, 0], 12_000)
    columns = _columns(12_000)
    assert len(set(touched.tolist())) == 2
    assert touched.max() - touched.min() == columns[round(150 / 180 * len(columns))] - 1


@pytest.mark.parametrize(
    ("touched", "expected"),
    [
        ([1, 1, 1, 1], "train"),
        ([1, 2, 1, 2], "train"),
        ([1, 3, 1, 3], None),
        ([3, 3, 4, 4], "test"),
        ([1, 1, 1, 9], None),  # block 9 has no set
        ([9, 9, 9, 9], None),
        ([2, 1, 3, 5], None),
    ],
)
def test_sets_of_patches(touched: list[int], expected: str | None) -> None:
    set_of_block = {1: "train", 2: "train", 3: "test", 4: "test", 5: "validation"}
    assert splits_of_patches(np.array([touched]), set_of_block).tolist() == [expected]


def test_sets_of_no_patches_and_of_no_blocks() -> None:
    assert splits_of_patches(np.empty((0, 4), np.int64), {1: "train"}).tolist() == []
    assert splits_of_patches(np.array([[1, 1, 1, 1]]), {}).tolist() == [None]


@pytest.fixture(scope="module")
def blocks_of_many_patches() -> np.ndarray:
    return patch_blocks(footprints(PatchGrid(32633, 200_000, 5_800_020, ShapeYX(600_000, 600_000))), 6_000)


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [(0.1, 0.2), (0.25, 0.25), (0.02, 0.9)])
def test_patches_that_remain_have_the_shares_wanted(
    blocks_of_many_patches: np.ndarray, wanted: tuple[float, float]
) -> None:
    numbers = np.unique(blocks_of_many_patches).tolist()
    off = []
    for validation, test in (
        adjusted_split_fractions(blocks_per_patch(blocks_of_many_patches), validation=wanted[0], test=wanted[1]),
        wanted,
    ):
        splits = random_split([str(number) for number in numbers], validation=validation, test=test, seed=1)
        sets = splits_of_patches(blocks_of_many_patches, dict(zip(numbers, splits.tolist(), strict=True)))
        left = [np.count_nonzero(sets == name) for name in NAMES]
        found = np.array(left) / sum(left)
        off.append(np.abs(found - (1 - sum(wanted), *wanted)).max())
    corrected, as_wanted = off
    assert corrected < 0.01 < as_wanted


@pytest.mark.parametrize("blocks", [np.empty((0, 4), np.int64), np.repeat(np.arange(9), 4).reshape(9, 4)])
def test_without_patches_between_blocks_the_shares_wanted_are_those_to_ask_for(blocks: np.ndarray) -> None:
    assert adjusted_split_fractions(blocks_per_patch(blocks), validation=0.1, test=0.2) == (0.1, 0.2)


SQUARE = np.array([[[15, 52], [15.0175, 52], [15.0175, 52.0108], [15, 52.0108]]])


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (
            lambda: patch_blocks(SQUARE, 4_000),
            RecipeError,
            "4,000 m are too small for patches of 1,20. m; .* least 4,8",
        ),
        (lambda: patch_blocks(SQUARE, 0), RecipeError, "too small"),
        (lambda: blocks_of(SQUARE[0], 0), RecipeError, "Blocks of 0 m are not possible"),
        (lambda: blocks_of(SQUARE[0], math.nan), RecipeError, "not possible"),
        (lambda: patch_blocks(SQUARE, 2_000_000), RecipeError, "up to 1,000,000 m"),
        (lambda: blocks_of(np.array([[15.0, 95]]), 6_000), InputError, "latitude 95.0 is not on the globe"),
        (lambda: blocks_of(np.array([[np.inf, 0]]), 6_000), InputError, "inf"),
        (lambda: patch_blocks(SQUARE + np.array([0, 34]), 12_000), InputError, "latitude 86.011 lies outside UTM"),
        (lambda: patch_blocks(gpd.GeoSeries(shapely.polygons(SQUARE)), 6_000), InputError, "in None, not in EPSG:4326"),
        (lambda: patch_blocks(_buffered(), 6_000), InputError, "Footprint number 0 is not a square"),
    ],
)
def test_what_cannot_be_placed(call: Callable[[], object], error: type[RebenError], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        call()


def _buffered() -> gpd.GeoSeries:
    return gpd.GeoSeries([shapely.Point(15, 52).buffer(0.01)], crs=4326)


def test_four_sides_are_enough() -> None:
    corners = _outline(32633, 300_000, 5_800_000, 1200)[None, :, 0]
    assert patch_blocks(corners, 4 * 1200).shape == (1, 4)
