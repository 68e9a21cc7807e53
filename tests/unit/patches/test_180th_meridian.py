"""Tiles across the 180th meridian: footprints that do not span the globe, and labels of maps on both sides."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import dask_geopandas
import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pyogrio
import pyproj
import pytest
import shapely

from reben_dask.formats.columns import PATCH_TABLE
from reben_dask.formats.footprints import footprint_bounds
from reben_dask.formats.names import TileName
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.candidates import Scene, candidate_patches, footprints
from reben_dask.patches.join import join_partitions, partitions_of_tiles, search_area, search_boxes
from reben_dask.patches.reference_map import rasterize_map
from reben_dask.patches.spatial_blocks import patch_blocks
from reben_dask.recipes import load_recipe
from reben_dask.sources.landcover import SortedMap, open_landcover, read_polygons, sort_landcover, sorting
from reben_dask.stores.patch_table import write_part

# In zone 1, 180° is 167 km west of the central meridian at 60° N. The tile is 4 patches wide and 2 high.
GRID = PatchGrid(32601, 330_600, 6_655_200, ShapeYX(2400, 4800))
SOUTH = PatchGrid(32760, 815_760, 8_000_000, ShapeYX(2400, 4800))
INLAND = PatchGrid(32633, 500_000, 5_400_000, ShapeYX(2400, 2400))


def _longitudes(grid: PatchGrid, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return pyproj.Transformer.from_crs(grid.epsg, 4326, always_xy=True).transform(x, y)[0]


def _corners(grid: PatchGrid) -> np.ndarray:
    """Longitude, from 0 to 360 degrees, of the corners of each patch."""
    minx, miny, maxx, maxy = grid.bounds().T
    x, y = np.column_stack([minx, maxx, maxx, minx]), np.column_stack([miny, miny, maxy, maxy])
    return _longitudes(grid, x, y) % 360


@pytest.mark.parametrize("grid", [GRID, SOUTH])
def test_a_footprint_is_split_where_it_crosses(grid: PatchGrid) -> None:
    found, corners = footprints(grid), _corners(grid)
    crosses = (corners.min(axis=1) < 180) & (corners.max(axis=1) > 180)
    assert 0 < crosses.sum() < len(found)
    assert (found.geom_type == np.where(crosses, "MultiPolygon", "Polygon")).all()
    for polygon, longitude in zip(found, corners, strict=True):
        assert polygon.is_valid
        parts = [part.bounds for part in shapely.get_parts(polygon)]
        assert all(-180 <= west < east <= 180 and east - west < 0.1 for west, _, east, _ in parts)
        # Together they are the square: its area by the shoelace formula, which knows no meridian.
        west, east = longitude.min(), longitude.max()
        widths = sum(right - left for left, _, right, _ in parts)
        assert widths == pytest.approx(east - west)
        assert all(part.exterior.is_ccw for part in shapely.get_parts(polygon))


def test_a_square_elsewhere_stays_as_it_is() -> None:
    expected = gpd.GeoSeries(shapely.box(*INLAND.bounds().T), crs=32633).to_crs(4326)
    assert footprints(INLAND).geom_equals(expected).all()
    assert (footprint_bounds(expected.to_numpy()) == expected.bounds.to_numpy()).all()


def test_bounds_in_the_patch_table(tmp_path: Path) -> None:
    product = "S2A_MSIL2A_20180701T231931_N9999_R044"
    scene = Scene(TileName(f"{product}_T01VAA", product), datetime(2018, 7, 1, tzinfo=UTC), (GRID,), None)
    rows = candidate_patches(scene, load_recipe("reben"))
    for column in PATCH_TABLE:
        if column not in rows and not column.optional and column not in {"geometry", "bbox"}:
            rows[column] = None
    part = write_part(rows, tmp_path, ["Pastures"])
    corners = _corners(GRID)
    table = pq.read_table(part)
    west, east = (np.array([row[edge] for row in table["bbox"].to_pylist()]) for edge in ("xmin", "xmax"))
    assert np.allclose(west % 360, corners.min(axis=1), atol=1e-9)
    assert np.allclose(east % 360, corners.max(axis=1), atol=1e-9)
    crosses = gpd.read_parquet(part).geom_type == "MultiPolygon"
    assert ((west > east) == crosses).all()
    geo = pq.read_metadata(part).metadata[b"geo"].decode()
    assert '"geometry_types": ["MultiPolygon", "Polygon"]' in geo
    box = json.loads(geo)["columns"]["geometry"]["bbox"]
    assert box[0] == pytest.approx(corners.min())
    assert box[2] == pytest.approx(corners.max() - 360)


def test_blocks_of_a_split_footprint_are_those_of_its_corners() -> None:
    minx, miny, maxx, maxy = GRID.bounds().T
    x, y = np.stack([maxx, maxx, minx, minx], axis=1), np.stack([miny, maxy, maxy, miny], axis=1)
    lonlat = pyproj.Transformer.from_crs(GRID.epsg, 4326, always_xy=True).transform(x, y)
    expected = patch_blocks(np.stack(lonlat, axis=-1), 5_000)
    found = patch_blocks(footprints(GRID), 5_000)
    assert [set(blocks) for blocks in found.tolist()] == [set(blocks) for blocks in expected.tolist()]


def _halves(east: float) -> gpd.GeoDataFrame:
    """Pastures to the west of 180°, a forest to the east of it, from 180° or -180° on; and much that is far away."""
    boxes = [shapely.box(178, 59, 180, 61), shapely.box(east, 59, east + 2, 61)]
    boxes += [shapely.box(west, 59, west + 1, 61) for west in range(-170, 170, 10)]
    codes = ["231", "312", *["111"] * (len(boxes) - 2)]
    return gpd.GeoDataFrame({"Code_18": codes}, geometry=shapely.segmentize(boxes, 0.01), crs=4326)


@pytest.fixture(params=["-180 to 180 degrees", "0 to 360 degrees", "Mercator"])
def landcover(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same map in three systems, sorted, a polygon in each part."""
    table = _halves(180 if request.param == "0 to 360 degrees" else -180)
    if request.param == "Mercator":
        table = table.to_crs(3857)
        edge = 20_037_508.342789244
        halves = [shapely.box(edge - 200_000, 8e6, edge, 9e6), shapely.box(-edge, 8e6, 200_000 - edge, 9e6)]
        table.loc[[0, 1], "geometry"] = shapely.segmentize(halves, 1000)
    pyogrio.write_dataframe(table, tmp_path / "map.gpkg")
    monkeypatch.setattr(sorting, "POLYGONS_PER_PART", 1)
    return sort_landcover(open_landcover(str(tmp_path / "map.gpkg")), tmp_path / "sorted").folder


def test_labels_on_both_sides(landcover: Path) -> None:
    found = SortedMap(landcover)
    (numbers,) = partitions_of_tiles(found.spatial_partitions, [GRID])
    assert len(numbers) == 2
    polygons = read_polygons([found.parts[number] for number in numbers], *search_boxes(GRID, found.crs))
    assert sorted(polygons["code"]) == [231, 312]
    codes = rasterize_map(polygons, GRID).codes
    x = GRID.ulx + 5 + 10 * np.arange(480)
    y = GRID.uly - 5 - 10 * np.arange(240)
    longitude = _longitudes(GRID, *np.meshgrid(x, y))
    assert (np.abs(longitude) > 179).all()
    assert (codes == np.where(longitude > 0, 231, 312)).mean() > 0.9999
    assert set(np.unique(codes)) <= {231, 312, 999}


def test_partitions_of_a_lazy_frame(landcover: Path) -> None:
    rows = gpd.GeoDataFrame(geometry=footprints(GRID))
    frame = dask_geopandas.from_geopandas(rows, npartitions=1)
    area = shapely.intersection(search_area(GRID, 4326), shapely.box(-180, -90, 180, 90))
    frame.spatial_partitions = gpd.GeoSeries([area], crs=4326)
    (numbers,) = join_partitions(frame, SortedMap(landcover).frame)
    assert len(numbers) == 2
