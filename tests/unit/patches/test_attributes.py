"""Attributes of patches from another polygon layer, against shapely, patch by patch."""

from __future__ import annotations

from collections import defaultdict

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.attributes import largest_share

EPSG, ULX, ULY = 32633, 490_680, 5_400_000
GRID = PatchGrid(EPSG, ULX, ULY, ShapeYX(3000, 2500))
SHIFTED = PatchGrid(EPSG, ULX, ULY, ShapeYX(3000, 3100), offset_m=600)


def _layer(polygons: list[tuple[str, shapely.Geometry]], crs: object = EPSG) -> gpd.GeoDataFrame:
    values = [value for value, _ in polygons]
    return gpd.GeoDataFrame({"value": values}, geometry=[polygon for _, polygon in polygons], crs=crs)


def _box(left: float, top: float, right: float, bottom: float) -> shapely.Polygon:
    """A box in metres from the tile's upper-left corner, eastwards and southwards."""
    return shapely.box(ULX + left, ULY - bottom, ULX + right, ULY - top)


def _areas(grid: PatchGrid, polygons: list[tuple[str, shapely.Geometry]]) -> list[dict[str, float]]:
    """For each patch, column by column, the area that each value covers; overlaps count for each polygon."""
    found = []
    for x in range(grid.shape_yx.x):
        for y in range(grid.shape_yx.y):
            left, top = grid.offset_m + x * grid.patch_m, grid.offset_m + y * grid.patch_m
            patch = _box(left, top, left + grid.patch_m, top + grid.patch_m)
            areas: dict[str, float] = defaultdict(float)
            for value, polygon in polygons:
                areas[value] += patch.intersection(polygon).area
            found.append({value: area for value, area in areas.items() if area > 0})
    return found


def _largest(areas: dict[str, float]) -> str | None:
    return min(areas, key=lambda value: (-areas[value], value), default=None)


@st.composite
def boxes(draw: st.DrawFn) -> list[tuple[str, shapely.Geometry]]:
    """Up to eight boxes, in whole hundreds of metres: many overlap, and many areas are equal, without rounding."""
    edge = st.integers(-5, 35).map(lambda hundreds: 100 * hundreds)
    polygons = []
    for _ in range(draw(st.integers(0, 8))):
        (left, right), (top, bottom) = (sorted(draw(st.tuples(edge, edge))) for _ in range(2))
        if left < right and top < bottom:
            polygons.append((draw(st.sampled_from(["b", "a", "Z", "10", "9"])), _box(left, top, right, bottom)))
    return polygons


@given(boxes(), st.sampled_from([GRID, SHIFTED]))
def test_the_value_with_the_largest_area(polygons: list[tuple[str, shapely.Geometry]], grid: PatchGrid) -> None:
    found = largest_share(grid, _layer(polygons))
    assert found.dtype == object
    assert found.tolist() == [_largest(areas) for areas in _areas(grid, polygons)]


def test_polygons_of_one_value_count_together() -> None:
    two_strips = [("town", _box(0, 0, 350, 1200)), ("town", _box(850, 0, 1200, 1200))]
    assert largest_share(GRID, _layer([*two_strips, ("field", _box(350, 0, 850, 1200))]))[0] == "town"
    one_multipolygon = [("town", shapely.union_all([polygon for _, polygon in two_strips]))]
    assert largest_share(GRID, _layer([*one_multipolygon, ("field", _box(350, 0, 850, 1200))]))[0] == "town"


def test_overlapping_polygons_all_count() -> None:
    """Twice the same ground counts twice: a layer should not overlap itself, and if it does, nothing is dropped."""
    layer = _layer([("a", _box(0, 0, 500, 1200)), ("a", _box(0, 0, 500, 1200)), ("b", _box(500, 0, 1200, 1200))])
    assert largest_share(GRID, layer)[0] == "a"


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_of_equal_areas_the_first_in_the_alphabet(order: list[int]) -> None:
    thirds = [(value, _box(400 * place, 0, 400 * place + 400, 1200)) for place, value in enumerate("cab")]
    assert largest_share(GRID, _layer([thirds[number] for number in order]))[0] == "a"


def test_a_little_is_enough_where_there_is_nothing_else() -> None:
    found = largest_share(GRID, _layer([("a", _box(1199, 1199, 1200, 1200))]))
    assert found.tolist() == ["a", None, None, None]


def test_what_only_touches_a_patch_covers_none_of_it() -> None:
    layer = _layer([("beside", _box(1200, 0, 2400, 1200)), ("corner", _box(1200, 1200, 1300, 1300))])
    assert largest_share(GRID, layer).tolist() == [None, None, "beside", "corner"]


@pytest.mark.parametrize(
    "polygons",
    [
        [],
        [("far", shapely.box(ULX + 90_000, ULY, ULX + 91_000, ULY + 1000))],
        [("empty", shapely.Polygon())],
        [("line", shapely.LineString([(ULX, ULY), (ULX + 3000, ULY - 3000)]))],
        [("point", shapely.Point(ULX + 5, ULY - 5))],
    ],
)
def test_what_covers_nothing(polygons: list[tuple[str, shapely.Geometry]]) -> None:
    assert largest_share(GRID, _layer(polygons)).tolist() == [None] * 4


def test_a_ring_that_crosses_itself_counts_where_it_is() -> None:
    """A bow tie of two triangles; its plain area would be zero."""
    corners = [(0, 0), (1200, 1200), (1200, 0), (0, 1200)]
    tie = shapely.Polygon([(ULX + east, ULY - south) for east, south in corners])
    assert not tie.is_valid
    assert largest_share(GRID, _layer([("tie", tie), ("b", _box(0, 0, 500, 1200))]))[0] == "tie"
    assert largest_share(GRID, _layer([("tie", tie), ("b", _box(0, 0, 700, 1200))]))[0] == "b"


def test_a_hole_does_not_count() -> None:
    frame = _box(0, 0, 1200, 1200).difference(_box(200, 200, 1100, 1100))
    assert largest_share(GRID, _layer([("frame", frame), ("b", _box(200, 200, 1100, 1100))]))[0] == "b"
    assert largest_share(GRID, _layer([("frame", frame)]))[0] == "frame"


@pytest.mark.parametrize("crs", [4326, 3035, 25832, 3857])
def test_layers_in_any_system(crs: int) -> None:
    """Each vertex is moved to the tile's system, and none is added."""
    random = np.random.default_rng(crs)
    to_layer = pyproj.Transformer.from_crs(EPSG, crs, always_xy=True)
    to_tile = pyproj.Transformer.from_crs(crs, EPSG, always_xy=True)
    triangles = [(f"v{number % 5}", shapely.Polygon(random.uniform(-500, 3500, (3, 2)))) for number in range(12)]
    there, here = [], []
    for value, triangle in triangles:
        placed = shapely.transform(triangle, lambda xy: xy * (1, -1) + (ULX, ULY))
        moved = shapely.transform(placed, to_layer.transform, interleaved=False)
        there.append((value, moved))
        here.append((value, shapely.transform(moved, to_tile.transform, interleaved=False)))
    areas = _areas(SHIFTED, here)
    for of_patch in areas:
        first, second, *_ = [*sorted(of_patch.values(), reverse=True), 0, 0]
        assert first - second > 1, "the case is decided by rounding"
    assert largest_share(SHIFTED, _layer(there, crs)).tolist() == [_largest(of_patch) for of_patch in areas]


def test_polygons_that_have_no_place_in_the_tiles_system_are_left_out() -> None:
    """A layer of the whole world reaches where a UTM zone does not."""
    to_degrees = pyproj.Transformer.from_crs(EPSG, 4326, always_xy=True)
    here = shapely.transform(_box(0, 0, 1200, 1200), to_degrees.transform, interleaved=False)
    layer = _layer(
        [("here", here), ("pole", shapely.box(100, -90, 110, -80)), ("date line", shapely.box(170, 0, 180, 9))], 4326
    )
    found = largest_share(GRID, layer)
    assert found[0] == "here"
    assert set(found) <= {"here", None}


def test_attributes_of_no_patches() -> None:
    nothing = PatchGrid(EPSG, ULX, ULY, ShapeYX(0, 0))
    assert largest_share(nothing, _layer([("a", _box(0, 0, 9, 9))])).tolist() == []
    assert largest_share(nothing, _layer([])).tolist() == []
