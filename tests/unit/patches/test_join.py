"""The join of tiles with the land-cover map: every polygon that a tile needs is found, and little else is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyogrio
import pyproj
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from reben_dask.errors import InputError
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.join import MARGIN_M, join_partitions, partitions_of_tiles, search_area, search_areas
from reben_dask.sources.landcover import SortedMap, open_landcover, read_polygons, sort_landcover, sorting

POZNAN = "clc2018_poznan_3035.gpkg"

MINI = PatchGrid(32633, 634_380, 5_840_280, ShapeYX(10_680, 10_680))
FULL = PatchGrid(32633, 600_000, 5_900_040, ShapeYX(109_800, 109_800))
MIDDLE = PatchGrid(32633, 445_080, 5_900_040, ShapeYX(109_800, 109_800))
NEXT_ZONE = PatchGrid(32634, 228_960, 5_845_980, ShapeYX(6000, 6000))
FAR = PatchGrid(32633, 300_000, 5_400_000, ShapeYX(109_800, 109_800))
SOUTH = PatchGrid(32733, 300_000, 9_900_040, ShapeYX(109_800, 109_800))
ALL = [FAR, MINI, NEXT_ZONE, FULL, MINI, SOUTH]


@pytest.fixture(scope="module")
def poznan(data_dir: Path) -> gpd.GeoDataFrame:
    """The map around Poznań as geopandas reads it, with the position of each polygon."""
    table = gpd.read_file(data_dir / "landcover" / POZNAN)
    return table[["geometry"]].assign(code=table["Code_18"].astype(int), order=range(len(table)))


@pytest.fixture(scope="module")
def sorted_map(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> SortedMap:
    """The same map, sorted, in parts of 50 polygons and row groups of 10."""
    source = open_landcover(str(data_dir / "landcover" / POZNAN))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorting, "POLYGONS_PER_PART", 50)
        patch.setattr(sorting, "POLYGONS_PER_ROW_GROUP", 10)
        return sort_landcover(source, tmp_path_factory.mktemp("map") / "sorted")


def _content(table: pd.DataFrame) -> set[tuple[int, int, bytes]]:
    return set(zip(table["order"], table["code"], table.geometry.to_wkb(), strict=True))


def _outline(grid: PatchGrid, crs: object) -> shapely.MultiPoint:
    """Ten thousand points on the outline of a tile's patches, in another system."""
    minx, miny, maxx, maxy = grid.covered_bounds()
    ring = shapely.box(minx, miny, maxx, maxy).exterior
    points = shapely.line_interpolate_point(ring, np.linspace(0, 1, 10_000), normalized=True)
    transformer = pyproj.Transformer.from_crs(grid.epsg, crs, always_xy=True)
    return shapely.multipoints(np.column_stack(transformer.transform(shapely.get_x(points), shapely.get_y(points))))


def _partitions(sorted_map: SortedMap, grid: PatchGrid) -> list[int]:
    """Positions of the partitions that one tile overlaps."""
    (numbers,) = partitions_of_tiles(sorted_map.spatial_partitions, [grid])
    return numbers


def _found(sorted_map: SortedMap, grid: PatchGrid) -> tuple[set[int], int]:
    """Positions of the polygons that are found for a tile, and how many partitions are opened for them."""
    numbers = _partitions(sorted_map, grid)
    if not numbers:
        return set(), 0
    near = read_polygons([sorted_map.parts[number] for number in numbers], search_area(grid, sorted_map.crs).bounds)
    assert not near["order"].duplicated().any()
    return set(near["order"]), len(numbers)


def _intersecting(polygons: gpd.GeoDataFrame, grid: PatchGrid) -> set[int]:
    """Positions of the polygons that intersect the patches of a tile, asked of all of them in the tile's system."""
    tile = gpd.GeoDataFrame(geometry=[shapely.box(*grid.covered_bounds())], crs=grid.epsg)
    return set(gpd.sjoin(polygons.to_crs(grid.epsg), tile, predicate="intersects")["order"])


# Where to search


@pytest.mark.parametrize("crs", [3035, 4326, 25830, 32634, 3857])
@pytest.mark.parametrize("grid", [MINI, MIDDLE, NEXT_ZONE, FULL, SOUTH])
def test_the_search_area_holds_the_tile_with_a_margin(grid: PatchGrid, crs: int) -> None:
    """Asked of a dense outline; towards each side the margin is there, and it is not much larger."""
    area = search_area(grid, crs)
    outline = _outline(grid, crs)
    assert shapely.contains_properly(area, outline)
    minx, miny, maxx, maxy = outline.bounds
    centre_x, centre_y = outline.envelope.centroid.coords[0]
    forth = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
    geod = pyproj.Geod(ellps="GRS80")
    sides = [(minx, centre_y, area.bounds[0], centre_y), (maxx, centre_y, area.bounds[2], centre_y)]
    sides += [(centre_x, miny, centre_x, area.bounds[1]), (centre_x, maxy, centre_x, area.bounds[3])]
    for x, y, area_x, area_y in sides:
        _, _, margin = geod.inv(*forth.transform(x, y), *forth.transform(area_x, area_y))
        assert 0.9 * MARGIN_M < margin < 2 * MARGIN_M


@pytest.mark.parametrize("crs", [3035, 4326])
def test_one_tile_is_searched_as_many_are(crs: int) -> None:
    together = search_areas(ALL, crs)
    assert together.shape == (len(ALL),)
    assert all(area.equals(search_area(grid, crs)) for grid, area in zip(ALL, together, strict=True))
    assert all(shapely.equals(area, shapely.envelope(area)) for area in together)


def test_no_tile_has_no_area(sorted_map: SortedMap) -> None:
    assert search_areas([], 3035).shape == (0,)
    assert partitions_of_tiles(sorted_map.spatial_partitions, []) == []


# Partitions


@pytest.mark.usefixtures("nothing_computes")
def test_partitions_are_found_without_computing(sorted_map: SortedMap) -> None:
    found = partitions_of_tiles(sorted_map.spatial_partitions, [MINI, FULL])
    assert all(found)
    assert all(type(number) is int for numbers in found for number in numbers)


@pytest.mark.slow
def test_partitions_are_those_that_meet_the_tile(sorted_map: SortedMap) -> None:
    """Asked of the bounds of what each part holds: none is missing, and none lies beyond the margin."""
    parts = shapely.box(*np.array([gpd.read_parquet(part).total_bounds for part in sorted_map.parts]).T)
    for grid, numbers in zip(ALL, partitions_of_tiles(sorted_map.spatial_partitions, ALL), strict=True):
        tile = shapely.envelope(_outline(grid, 3035))
        assert numbers == sorted(set(numbers))
        assert set(numbers) >= set(np.flatnonzero(shapely.intersects(parts, tile)))
        assert set(numbers) <= set(np.flatnonzero(shapely.distance(parts, tile) < 3 * MARGIN_M))


def test_tiles_of_several_zones_together(sorted_map: SortedMap) -> None:
    together = partitions_of_tiles(sorted_map.spatial_partitions, ALL)
    assert together == [_partitions(sorted_map, grid) for grid in ALL]
    assert [bool(numbers) for numbers in together] == [False, True, True, True, True, False]
    assert together[1] == together[4]
    assert 3 * len(together[1]) < len(together[3])


def test_a_frame_without_spatial_partitions_is_refused(sorted_map: SortedMap) -> None:
    frame = SortedMap(sorted_map.folder).frame
    frame.spatial_partitions = None
    with pytest.raises(InputError) as caught:
        join_partitions(frame, frame)
    assert str(caught.value).startswith("The land-cover frame has no spatial_partitions, which Dask drops when")


def test_an_empty_map_meets_no_tile(tmp_path: Path) -> None:
    path = tmp_path / "map.gpkg"
    empty = gpd.GeoDataFrame({"Code_18": np.array([], object)}, geometry=[], crs=3035)
    pyogrio.write_dataframe(empty, path, geometry_type="MultiPolygon")
    found = sort_landcover(open_landcover(str(path)), tmp_path / "sorted")
    assert partitions_of_tiles(found.spatial_partitions, [MINI, FULL]) == [[], []]


def test_a_polygon_without_end_hides_no_other(poznan: gpd.GeoDataFrame, tmp_path: Path) -> None:
    """Reprojection leaves infinite coordinates where a polygon lies outside of what a system can show."""
    lost = shapely.Polygon([(np.inf, np.inf), (np.inf, 3_300_000), (4_900_000, np.inf)])
    table = gpd.GeoDataFrame({"Code_18": ["523", *poznan["code"].astype(str)]}, geometry=[lost, *poznan.geometry])
    pyogrio.write_dataframe(table.set_crs(3035), tmp_path / "map.gpkg")
    made = sort_landcover(open_landcover(str(tmp_path / "map.gpkg")), tmp_path / "sorted")
    found, _ = _found(made, MINI)
    assert found >= {order + 1 for order in _intersecting(poznan, MINI)}


# Polygons


@pytest.mark.parametrize(("grid", "most_parts"), [(MINI, 8), (FULL, 31), (NEXT_ZONE, 8), (FAR, 0), (SOUTH, 0)])
def test_every_polygon_that_meets_a_tile_is_found(
    sorted_map: SortedMap, poznan: gpd.GeoDataFrame, grid: PatchGrid, most_parts: int
) -> None:
    found, opened = _found(sorted_map, grid)
    needed = _intersecting(poznan, grid)
    assert needed <= found <= set(poznan["order"])
    assert bool(needed) == bool(most_parts)
    assert opened <= most_parts


@pytest.mark.slow
@given(
    st.sampled_from([(32633, 598, 680), (32634, 187, 268)]), st.data(), st.integers(57_600, 58_700), st.integers(1, 9)
)
def test_every_polygon_is_found_wherever_the_tile_lies(
    sorted_map: SortedMap,
    poznan: gpd.GeoDataFrame,
    zone: tuple[int, int, int],
    data: st.DataObject,
    north: int,
    rows: int,
) -> None:
    epsg, west, east = zone
    ulx, columns = 1000 * data.draw(st.integers(west, east)), data.draw(st.integers(1, 9))
    grid = PatchGrid(epsg, ulx, 100 * north, ShapeYX(1200 * rows, 1200 * columns))
    found, _ = _found(sorted_map, grid)
    assert found >= _intersecting(poznan, grid)


def _boxes(west: float, south: float, east: float, north: float) -> st.SearchStrategy[tuple[float, ...]]:
    corner = st.tuples(st.floats(west, east), st.floats(south, north))
    return st.tuples(corner, corner).map(lambda c: (*map(min, *c), *map(max, *c)))


@pytest.mark.slow
@given(_boxes(4_650_000, 3_250_000, 4_800_000, 3_380_000), st.sets(st.integers(0, 30), min_size=1))
def test_what_is_read_are_the_polygons_whose_bounds_meet(
    sorted_map: SortedMap, poznan: gpd.GeoDataFrame, bounds: tuple[float, ...], numbers: set[int]
) -> None:
    parts = [sorted_map.parts[number] for number in sorted(numbers)]
    inside = {order for part in parts for order in pq.read_table(part, columns=["order"])["order"].to_pylist()}
    boxes = shapely.box(*poznan.bounds.to_numpy().T)
    expected = poznan[shapely.intersects(boxes, shapely.box(*bounds)) & poznan["order"].isin(inside)]
    near = read_polygons(parts, bounds)
    assert len(near) == len(expected)
    assert _content(near) == _content(expected)


@pytest.mark.parametrize("grid", [MINI, FULL])
def test_polygons_come_with_their_codes(sorted_map: SortedMap, poznan: gpd.GeoDataFrame, grid: PatchGrid) -> None:
    near = read_polygons(sorted_map.parts, search_area(grid, 3035).bounds)
    assert near.dtypes.astype(str).to_dict() == {"code": "uint16", "order": "int64", "geometry": "geometry"}
    assert near.crs == 3035
    assert list(near.index) == list(range(len(near)))
    assert _content(near) <= _content(poznan)


def test_nothing_near_is_a_table_without_rows(sorted_map: SortedMap) -> None:
    near = read_polygons(sorted_map.parts[:2], search_area(SOUTH, 3035).bounds)
    assert near.dtypes.astype(str).to_dict() == {"code": "uint16", "order": "int64", "geometry": "geometry"}
    assert len(near) == 0
    assert near.crs == 3035


def _spoil(part: Path, is_needed: Callable[[tuple[float, ...]], bool], copy: Path) -> tuple[int, int]:
    """Copy a part, but destroy its row groups that are not needed; give their number and that of all."""
    content = bytearray(part.read_bytes())
    metadata = pq.read_metadata(part)
    spoilt = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
        low = [columns[f"bbox.{side}"].statistics.min for side in ("xmin", "ymin")]
        high = [columns[f"bbox.{side}"].statistics.max for side in ("xmax", "ymax")]
        if not is_needed((*low, *high)):
            spoilt += 1
            for column in columns.values():
                start = column.dictionary_page_offset or column.data_page_offset
                content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    copy.write_bytes(content)
    return spoilt, metadata.num_row_groups


def test_row_groups_that_are_not_near_are_not_decoded(
    sorted_map: SortedMap, poznan: gpd.GeoDataFrame, tmp_path: Path
) -> None:
    """All that lies elsewhere is destroyed, and the tile does not notice."""
    area = search_area(MINI, 3035)
    copies = [tmp_path / part.name for part in sorted_map.parts]
    counts = [
        _spoil(part, lambda bounds: shapely.box(*bounds).intersects(area), copy)
        for part, copy in zip(sorted_map.parts, copies, strict=True)
    ]
    spoilt, groups = map(sum, zip(*counts, strict=True))
    assert groups == 153
    assert spoilt > groups / 2
    numbers = _partitions(sorted_map, MINI)
    assert any(counts[number][0] for number in numbers)
    near = read_polygons([copies[number] for number in numbers], area.bounds)
    assert _content(near) == _content(poznan[poznan.geometry.envelope.intersects(area)])
    with pytest.raises(OSError, match=r"."):
        read_polygons(copies, tuple(poznan.total_bounds))
