"""The reference map, against asking each pixel centre which polygon contains it."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st
from oracle import centres
from rasterio.features import rasterize
from rasterio.transform import from_origin

from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.reference_map import overlap_column, rasterize_map

EPSG, ULX, ULY = 32633, 634_380, 5_840_280
SIDE_M = 600
SMALL = PatchGrid(EPSG, ULX, ULY, ShapeYX(SIDE_M + 50, SIDE_M + 10), SIDE_M)
NEAR_M = 1e-6
"""Centres as near to a border as this are decided by rounding; the test does not look at them."""


def _map(polygons: list[shapely.Geometry], codes: list[int], crs: object = EPSG) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame({"code": codes, "order": range(len(codes))}, geometry=polygons, crs=crs)


def reference_map(polygons: gpd.GeoDataFrame, *grids: PatchGrid) -> np.ndarray:
    return rasterize_map(polygons, *grids).codes


def _asked(polygons: gpd.GeoDataFrame, grid: PatchGrid) -> tuple[np.ndarray, np.ndarray]:
    """Code of the last polygon that contains each centre, and which centres lie too near to a border to say."""
    xs, ys = centres(grid.covered_bounds())
    codes, unsure = np.full(xs.shape, 999), np.zeros(xs.shape, bool)
    points = shapely.points(xs, ys)
    for code, polygon in zip(polygons["code"], polygons.geometry, strict=True):
        boundary = polygon.boundary
        shapely.prepare([polygon, boundary])
        codes[shapely.contains_xy(polygon, xs, ys)] = code
        unsure |= shapely.dwithin(boundary, points, NEAR_M)
    return codes, unsure


@st.composite
def polygon_lists(draw: st.DrawFn) -> list[shapely.Geometry]:
    """Up to five polygons, some with holes or of several parts, on, across or beside the tile."""
    coordinate = st.integers(-2000, SIDE_M * 10 + 2000).map(lambda decimetres: decimetres / 10)
    points = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=8, unique=True)
    polygons = []
    for _ in range(draw(st.integers(1, 5))):
        ring = np.array(draw(points)) * (1, -1) + (ULX, ULY)
        area = shapely.buffer(shapely.Polygon(ring), 0)
        if draw(st.booleans()):
            hole = shapely.convex_hull(shapely.multipoints(np.array(draw(points)) * (1, -1) + (ULX, ULY)))
            area = shapely.difference(area, hole)
        if area.geom_type in {"Polygon", "MultiPolygon"} and not area.is_empty:
            polygons.append(area)
    assume(polygons)
    return polygons


@given(polygon_lists(), st.data())
def test_a_pixel_belongs_to_the_last_polygon_that_contains_its_centre(
    polygons: list[shapely.Geometry], data: st.DataObject
) -> None:
    table = _map(polygons, data.draw(st.permutations([111, 211, 312, 411, 523]))[: len(polygons)])
    codes, unsure = _asked(table, SMALL)
    assume(not unsure.all())
    shuffled = table.iloc[data.draw(st.permutations(range(len(table))))]
    burnt = reference_map(shuffled, SMALL)
    assert burnt.dtype == np.uint16
    assert burnt[~unsure].tolist() == codes[~unsure].tolist()


@given(polygon_lists(), st.data())
def test_pixels_under_several_polygons_are_counted(polygons: list[shapely.Geometry], data: st.DataObject) -> None:
    table = _map(polygons, data.draw(st.permutations([111, 211, 312, 411, 523]))[: len(polygons)])
    xs, ys = centres(SMALL.covered_bounds())
    _, unsure = _asked(table, SMALL)
    inside = sum(shapely.contains_xy(polygon, xs, ys).astype(int) for polygon in polygons)
    burnt = rasterize_map(table, SMALL)
    overlap = np.unpackbits(burnt.overlap_bits, axis=1, count=60)
    assert overlap[~unsure].tolist() == (inside > 1)[~unsure].tolist()
    # The grid is a single patch.
    assert overlap_column(burnt.overlap_bits, SMALL).tolist() == [overlap.sum()]


def test_an_edge_along_the_centres_of_a_row() -> None:
    """GDAL leaves out four of its seven pixels when it adds, which finds overlaps in the same pass."""
    corners = [(85, 10), (89.375, -64.375), (130, -155), (94.70588235294117, -155), (95, -160), (94, -155), (60, -155)]
    polygon = shapely.Polygon([(ULX + x, ULY + y) for x, y in [*corners, (-20, 0)]])
    expected = rasterize([(polygon, 211)], (60, 60), 999, transform=from_origin(ULX, ULY, 10, 10), dtype="uint16")
    assert (expected[15] == 211).sum() == 7
    assert reference_map(_map([polygon], [211]), SMALL).tolist() == expected.tolist()


@given(st.data())
def test_every_pixel_is_the_one_that_gdal_burns_polygon_by_polygon(data: st.DataObject) -> None:
    """Also those whose centres are on an edge: coordinates are multiples of half a pixel."""
    coordinate = st.integers(-10, 50).map(lambda halves: 5 * halves)
    rings = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=6, unique=True)
    drawn = data.draw(st.lists(rings, min_size=1, max_size=6))
    areas = (shapely.buffer(shapely.Polygon(np.array(ring) * (1, -1) + (ULX, ULY)), 0) for ring in drawn)
    polygons = [area for area in areas if area.geom_type in {"Polygon", "MultiPolygon"} and not area.is_empty]
    assume(polygons)
    codes = data.draw(st.lists(st.sampled_from([0, 111, 211, 65_535]), min_size=6, max_size=6))[: len(polygons)]
    expected = rasterize(
        zip(polygons, codes, strict=True), (60, 60), 999, transform=from_origin(ULX, ULY, 10, 10), dtype="uint16"
    )
    assert reference_map(_map(polygons, codes), SMALL).tolist() == expected.tolist()


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "polygons"), [(2, 30_000), (30, 100), (1_000, 1_000), (32_768, 32_768)])
def test_many_polygons_of_many_classes_on_one_another(classes: int, polygons: int) -> None:
    """The sums by which they are told apart outgrow 16 bits."""
    west, south, east, north = SMALL.covered_bounds()
    # The last one leaves the last column to the one before.
    layers = [*[shapely.box(west, south, east, north)] * (polygons - 1), shapely.box(west, south, east - 10, north)]
    codes = 1 + np.arange(polygons) % classes
    burnt = rasterize_map(_map(layers, codes.tolist()).iloc[::-1], SMALL)
    assert (burnt.codes[:, :-1] == codes[-1]).all()
    assert (burnt.codes[:, -1] == codes[-2]).all()
    assert np.unpackbits(burnt.overlap_bits, axis=1, count=60).all()


@given(polygon_lists(), st.lists(st.sampled_from([0, 60, 180, 300, 540]), min_size=1, max_size=3, unique=True))
def test_the_map_of_several_grids_is_one_map(polygons: list[shapely.Geometry], offsets: list[int]) -> None:
    """It begins at the tile's corner, ends with the last patch of any grid, and each grid is cut from it."""
    tile = ShapeYX(2 * SIDE_M + 130, SIDE_M + 540)
    grids = [PatchGrid(EPSG, ULX, ULY, tile, SIDE_M, offset) for offset in offsets]
    table = _map(polygons, [111, 211, 312, 411, 523][: len(polygons)])
    burnt = reference_map(table, *grids)
    ends = np.array([grid.covered_bounds() for grid in grids if grid.size])
    assert burnt.shape == ((ULY - ends[:, 1].min()) // 10, (ends[:, 2].max() - ULX) // 10)
    for grid in grids:
        codes, unsure = _asked(table, grid)
        found = grid.cut(burnt, 10)
        assert found.shape == codes.shape
        assert found[~unsure].tolist() == codes[~unsure].tolist()


@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]])
def test_the_larger_order_wins_whatever_the_order_of_the_rows(rows: list[int]) -> None:
    box = shapely.box(*SMALL.covered_bounds())
    table = _map([box] * 3, [111, 312, 211]).iloc[rows]
    assert (reference_map(table, SMALL) == 211).all()
    assert (reference_map(table[table["order"] < 2], SMALL) == 312).all()


@pytest.mark.parametrize(
    ("width", "pixels"), [(4.9, 0), (5.1, 1), (14.9, 1), (15.1, 2), (594.9, 59), (595.1, 60), (9999.0, 60)]
)
def test_the_centre_decides(width: float, pixels: int) -> None:
    strip = shapely.box(ULX - 50, ULY - 5000, ULX + width, ULY + 50)
    row = [311] * pixels + [999] * (60 - pixels)
    assert (reference_map(_map([strip], [311]), SMALL) == row).all()


def test_polygons_beside_the_tile_leave_no_trace() -> None:
    beside = [shapely.box(ULX - 900, ULY - 900, ULX - 1, ULY), shapely.box(ULX, ULY + 1, ULX + 900, ULY + 900)]
    assert (reference_map(_map(beside, [111, 112]), SMALL) == 999).all()


@pytest.mark.parametrize("shape", [ShapeYX(1200, 1200), ShapeYX(1300, 2450), ShapeYX(0, 0)])
def test_without_polygons_all_is_999(shape: ShapeYX) -> None:
    grid = PatchGrid(EPSG, ULX, ULY, shape)
    codes = reference_map(_map([], []), grid)
    assert codes.shape == (120 * (shape.y // 1200), 120 * (shape.x // 1200))
    assert codes.dtype == np.uint16
    assert (codes == 999).all()


def _moved(polygons: gpd.GeoDataFrame, epsg: int) -> gpd.GeoDataFrame:
    """Each vertex transformed by pyproj, and none added."""
    transformer = pyproj.Transformer.from_crs(polygons.crs, epsg, always_xy=True)
    moved = shapely.transform(polygons.geometry.to_numpy(), transformer.transform, interleaved=False)
    return polygons.set_geometry(gpd.GeoSeries(moved, crs=epsg, index=polygons.index))


def test_edges_stay_straight_after_the_transformation() -> None:
    """An edge of 300 km in EPSG:3035, seen from its middle: adding vertices would move it by six pixels."""
    to_map = pyproj.Transformer.from_crs(EPSG, 3035, always_xy=True)
    east, north = (round(value) for value in to_map.transform(ULX + SIDE_M / 2, ULY - SIDE_M / 2))
    half = shapely.box(east - 80_000, north - 150_000, east, north + 150_000)
    grid = PatchGrid(EPSG, ULX - 1800, ULY + 1800, ShapeYX(4800, 4800))
    table = _map([half], [211], 3035)
    codes, unsure = _asked(_moved(table, EPSG), grid)
    densified, _ = _asked(_moved(table.set_geometry(table.segmentize(100)), EPSG), grid)
    assert not unsure.any()
    assert set(np.unique(codes)) == {211, 999}
    assert (densified != codes).sum() > 1000, "the case does not tell both readings apart"
    assert (reference_map(table, grid) == codes).all()


def _landcover(path: Path, layer: str) -> gpd.GeoDataFrame:
    table = gpd.read_file(path, layer=layer)
    code = next(column for column in table.columns if column.lower() == "code_18")
    return table[["geometry"]].assign(code=table[code].astype(int), order=range(len(table)))


def test_real_polygons_in_the_system_of_the_official_map(data_dir: Path) -> None:
    table = _landcover(data_dir / "landcover" / "clc2018_poznan_3035.gpkg", "U2018_CLC2018_V2020_20u1")
    grid = PatchGrid(EPSG, ULX, ULY, ShapeYX(4800, 4800))
    near = _moved(table, EPSG).cx[ULX : ULX + 4800, ULY - 4800 : ULY]
    codes, unsure = _asked(near, grid)
    assert unsure.sum() == 0
    assert (reference_map(table, grid) == codes).all()


def test_one_map_in_two_systems_gives_the_same_codes(data_dir: Path) -> None:
    """EPSG:25830 as found, and reprojected to EPSG:3035: 4 of 2,692,800 pixels differ.

    Reprojecting back leaves each vertex within about a millimetre of its place, and the centres of those pixels lie
    as near to a border as that.
    """
    found = _landcover(data_dir / "landcover" / "clc_lanjaron_original_25830.gpkg", "clc")
    reprojected = _landcover(data_dir / "landcover" / "clc2018_lanjaron_3035.gpkg", "U2018_CLC2018_V2020_20u1")
    grid = PatchGrid(32630, 452_400, 4_100_400, ShapeYX(20_400, 13_200))
    ours, theirs = reference_map(found, grid), reference_map(reprojected, grid)
    placed, again = _moved(found, grid.epsg).geometry, _moved(reprojected, grid.epsg).geometry
    vertex_shift = np.hypot(*(shapely.get_coordinates(placed) - shapely.get_coordinates(again)).T).max()
    assert vertex_shift < 0.0015

    rows, columns = np.nonzero(ours != theirs)
    differing = shapely.points(grid.ulx + 10 * columns + 5, grid.uly - 10 * rows - 5)
    assert (ours != 999).mean() > 0.5
    assert len(differing) <= 4
    assert all(placed.boundary.distance(centre).min() <= vertex_shift for centre in differing)
