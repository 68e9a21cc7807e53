"""Land-cover maps: opening, sorting, and finding the polygons of a tile; nothing is lost on the way."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import dask
import dask_geopandas
import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import CLASS_OF_CODE, UNLABELED_CODES

from reben_dask.errors import InputError
from reben_dask.patches.grid import PatchGrid, ShapeYX
from reben_dask.patches.join import polygons_near, polygons_of_tiles
from reben_dask.sources import landcover
from reben_dask.sources.landcover import open_landcover, read_sorted_landcover, sort_landcover

CODES = frozenset(CLASS_OF_CODE) | UNLABELED_CODES
OFFICIAL = "U2018_CLC2018_V2020_20u1"
POZNAN = "clc2018_poznan_3035.gpkg"
OpenedMap = tuple[dask_geopandas.GeoDataFrame, dict[str, gpd.GeoDataFrame]]

MINI = PatchGrid(32633, 634_380, 5_840_280, ShapeYX(10_680, 10_680))
FULL = PatchGrid(32633, 600_000, 5_900_040, ShapeYX(109_800, 109_800))


@pytest.fixture(scope="module")
def folder(data_dir: Path) -> Path:
    return data_dir / "landcover"


@pytest.fixture(scope="module")
def poznan(folder: Path) -> gpd.GeoDataFrame:
    """The map around Poznań as geopandas reads it, with the position of each polygon."""
    table = gpd.read_file(folder / POZNAN)
    return table[["geometry"]].assign(code=table["Code_18"].astype(int), order=range(len(table)))


@pytest.fixture(scope="module")
def sorted_map(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same map, sorted, in parts of 50 polygons."""
    destination = tmp_path_factory.mktemp("map") / "sorted"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landcover, "POLYGONS_PER_PART", 50)
        return sort_landcover(open_landcover(str(folder / POZNAN)), destination, known_codes=CODES)


@pytest.fixture(scope="module")
def opened_map(sorted_map: Path) -> OpenedMap:
    """The sorted map as a lazy frame, and its partitions as they come out of it, by key."""
    frame = read_sorted_landcover(sorted_map)
    lazy = frame.to_delayed()
    return frame, dict(zip([part.key for part in lazy], dask.compute(*lazy), strict=True))


def _squares(count: int, **columns: object) -> gpd.GeoDataFrame:
    boxes = [shapely.box(10 * i, 0, 10 * i + 10, 10) for i in range(count)]
    return gpd.GeoDataFrame(columns, geometry=boxes, crs=3035, index=range(count))


def _write(table: gpd.GeoDataFrame, path: Path, **options: object) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a map without a coordinate reference system is meant
        pyogrio.write_dataframe(table, path, **options)
    return str(path)


def _refused(action: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


def _content(table: pd.DataFrame) -> set[tuple[int, int, bytes]]:
    return set(zip(table["order"], table["code"], table.geometry.to_wkb(), strict=True))


# Opening


@pytest.mark.parametrize(
    ("name", "layer", "column", "crs", "polygons"),
    [
        (POZNAN, OFFICIAL, "Code_18", "EPSG:3035", 1521),
        ("clc2018_lanjaron_3035.gpkg", OFFICIAL, "Code_18", "EPSG:3035", 136),
        ("clc_lanjaron_original_25830.gpkg", "clc", "CODE_18", "EPSG:25830", 136),
    ],
)
def test_real_maps(folder: Path, name: str, layer: str, column: str, crs: str, polygons: int) -> None:
    path = str(folder / name)
    for asked in (None, column, column.lower(), column.upper()):
        found = open_landcover(path, code_column=asked)
        assert (found.path, found.layer, found.code_column) == (path, layer, column)
        assert (found.crs, found.polygons) == (crs, polygons)


@pytest.mark.parametrize("column", ["code_18", "CODE_12", "Code_06", "clc_code", "CLC", "Code"])
def test_the_column_of_any_release_is_found(tmp_path: Path, column: str) -> None:
    path = _write(_squares(1, **{"ID": ["a"], column: ["111"], "Remark": [""]}), tmp_path / "map.gpkg")
    assert open_landcover(path).code_column == column


def test_another_column_can_be_asked_for(tmp_path: Path) -> None:
    path = _write(_squares(1, Code_18=["111"], Klasse=["112"]), tmp_path / "map.gpkg")
    assert open_landcover(path).code_column == "Code_18"
    assert open_landcover(path, code_column="klasse").code_column == "Klasse"


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "shp", "fgb", "gml"])
def test_other_formats(tmp_path: Path, suffix: str) -> None:
    crs = 4326 if suffix == "geojson" else 3035
    table = _squares(3, Code_18=["111", "211", "311"]).set_crs(crs, allow_override=True)
    path = _write(table, tmp_path / f"map.{suffix}")
    found = open_landcover(path)
    assert (found.code_column, found.crs, found.polygons) == ("Code_18", f"EPSG:{crs}", 3)


def test_polygons_in_a_layer_of_any_geometry(tmp_path: Path) -> None:
    """Many programs declare the type of a layer as "unknown"; what counts is that it holds polygons."""
    path = _write(_squares(2, Code_18=["111", "211"]), tmp_path / "map.gpkg", geometry_type="Unknown")
    assert open_landcover(path).polygons == 2


def test_of_several_layers_the_first_with_polygons_and_codes(tmp_path: Path) -> None:
    path = tmp_path / "map.gpkg"
    points = _squares(1, Code_18=["111"]).set_geometry(gpd.points_from_xy([0], [0], crs=3035))
    _write(points, path, layer="points")
    _write(_squares(2, Name=["a", "b"]), path, layer="names")
    pyogrio.write_dataframe(pd.DataFrame({"Code_18": ["111"]}), path, layer="table")
    _write(_squares(3, Code_18=["111"] * 3), path, layer="first")
    _write(_squares(4, Code_18=["111"] * 4), path, layer="second")
    assert open_landcover(str(path)).layer == "first"


def test_a_map_that_does_not_exist(tmp_path: Path) -> None:
    path = str(tmp_path / "none.gpkg")
    assert _refused(lambda: open_landcover(path)) == f"The land-cover map {path} does not exist."


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0", b"<html>404</html>", b"PK\x03\x04"])
def test_a_file_that_is_no_map(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "map.gpkg"
    path.write_bytes(content)
    assert str(path) in _refused(lambda: open_landcover(str(path)))


def test_a_folder_that_is_no_map(tmp_path: Path) -> None:
    assert str(tmp_path) in _refused(lambda: open_landcover(str(tmp_path)))


def test_a_map_of_points(tmp_path: Path) -> None:
    points = _squares(1, Code_18=["111"]).set_geometry(gpd.points_from_xy([0], [0], crs=3035))
    path = _write(points, tmp_path / "map.gpkg")
    assert _refused(lambda: open_landcover(path)) == f"The land-cover map {path} has no layer of polygons."


@pytest.mark.parametrize(
    ("columns", "asked", "words"),
    [
        (["Kode_18"], None, "has no column Code_18 with the class codes; did you mean Kode_18? Set --code-column."),
        (["Land", "ID"], None, "has no column Code_18 with the class codes; its columns are ID, Land."),
        (["Klasse", "Code_18"], "Classe", "has no column Classe with the class codes; did you mean Klasse?"),
        ([], None, "has no column Code_18 with the class codes; its columns are none."),
    ],
)
def test_a_map_without_the_column(tmp_path: Path, columns: list[str], asked: str | None, words: str) -> None:
    path = _write(_squares(1, **{name: ["111"] for name in columns}), tmp_path / "map.gpkg")
    message = _refused(lambda: open_landcover(path, code_column=asked))
    assert message.startswith(f"The land-cover map {path} {words}")
    assert message.endswith("Set --code-column.")


def test_a_map_without_a_reference_system(tmp_path: Path) -> None:
    table = _squares(1, Code_18=["111"]).set_crs(None, allow_override=True)
    path = _write(table, tmp_path / "map.shp")
    message = _refused(lambda: open_landcover(path))
    assert message == f"The land-cover map {path} has no coordinate reference system; assign the one it was made in."


# Sorting


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        (["111", "777", "211", "778"], "the code '777' (column Code_18, row 1; 2 rows in all have such)"),
        (["111", "211", None], "row 2; 1 rows in all have such)"),
        (["1.1.1"], "the code '1.1.1' (column Code_18, row 0;"),
        ([""], "the code '' (column Code_18, row 0;"),
        (["-111"], "the code '-111'"),
        ([111, 112, 113], "(column Code_18, row 2; 1 rows in all have such)"),
        ([111.0, np.nan], "row 1; 1 rows in all have such)"),
        ([111.5], "the code "),
    ],
)
def test_codes_that_nobody_knows(tmp_path: Path, codes: list[object], words: str) -> None:
    path = _write(_squares(len(codes), Code_18=codes), tmp_path / "map.gpkg")
    message = _refused(lambda: sort_landcover(open_landcover(path), tmp_path / "sorted", known_codes=CODES))
    assert message.startswith(f"The land-cover map {path} has the code ")
    assert words in message
    assert message.endswith("which the recipe's nomenclature does not know.")
    assert not (tmp_path / "sorted").exists()


@pytest.mark.parametrize("codes", [["111", "999"], [111, 999], [111.0, 999.0]])
def test_codes_of_any_type(tmp_path: Path, codes: list[object]) -> None:
    path = _write(_squares(2, Code_18=codes), tmp_path / "map.gpkg")
    folder = sort_landcover(open_landcover(path), tmp_path / "sorted", known_codes=CODES)
    table = read_sorted_landcover(folder).compute()
    assert sorted(table["code"]) == [111, 999]
    assert table["code"].dtype == np.uint16
    assert table["order"].dtype == np.int64


@pytest.mark.parametrize("per_part", [50, 1000, 1521, 8000])
def test_nothing_is_lost_or_changed(
    folder: Path, poznan: gpd.GeoDataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_part: int
) -> None:
    monkeypatch.setattr(landcover, "POLYGONS_PER_PART", per_part)
    source = open_landcover(str(folder / POZNAN))
    frame = read_sorted_landcover(sort_landcover(source, tmp_path / "sorted", known_codes=CODES))
    table = frame.compute()
    assert len(table) == 1521
    assert _content(table) == _content(poznan)
    assert table.crs == poznan.crs
    assert frame.npartitions == -(-1521 // per_part)


def test_other_geometries_are_left_out(tmp_path: Path) -> None:
    table = _squares(5, Code_18=["111", "112", "211", "212", "311"])
    table.loc[1, "geometry"] = None
    table.loc[2, "geometry"] = shapely.Polygon()
    table.loc[3, "geometry"] = shapely.LineString([(0, 0), (1, 1)])
    path = _write(table, tmp_path / "map.gpkg", geometry_type="Polygon")
    folder = sort_landcover(open_landcover(path), tmp_path / "sorted", known_codes=CODES)
    rows = read_sorted_landcover(folder).compute()
    assert sorted(zip(rows["order"], rows["code"], strict=True)) == [(0, 111), (4, 311)]


def test_sorting_may_be_repeated(folder: Path, tmp_path: Path) -> None:
    """A scheduler repeats the task of a worker that was lost, whose files are still there."""
    source = open_landcover(str(folder / "clc2018_lanjaron_3035.gpkg"))
    destination = tmp_path / "sorted"
    first = read_sorted_landcover(sort_landcover(source, destination, known_codes=CODES)).compute()
    again = read_sorted_landcover(sort_landcover(source, destination, known_codes=CODES)).compute()
    assert _content(again) == _content(first)
    assert len(again) == len(first)


def test_the_same_map_sorts_to_the_same_bytes(folder: Path, sorted_map: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landcover, "POLYGONS_PER_PART", 50)
        again = sort_landcover(open_landcover(str(folder / POZNAN)), tmp_path / "again", known_codes=CODES)
    ours, theirs = (sorted(path.iterdir()) for path in (sorted_map, again))
    assert [path.name for path in ours] == [path.name for path in theirs]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(ours, theirs, strict=True))


def test_partitions_cover_their_polygons(opened_map: OpenedMap) -> None:
    frame, loaded = opened_map
    areas = frame.spatial_partitions
    assert frame.npartitions == len(areas) == len(loaded) == 31
    assert areas.crs == 3035
    for area, part in zip(areas, loaded.values(), strict=True):
        assert shapely.covers(area, part.geometry.to_numpy()).all()


def test_partitions_are_compact(sorted_map: Path, poznan: gpd.GeoDataFrame) -> None:
    """Sorted along a curve, the parts overlap little; in the order of the file, each would span the map."""
    areas = read_sorted_landcover(sorted_map).spatial_partitions.area
    whole = shapely.box(*poznan.total_bounds).area
    unsorted = [shapely.box(*poznan.iloc[start : start + 50].total_bounds).area for start in range(0, 1521, 50)]
    assert areas.sum() < 3 * whole
    assert sum(unsorted) > 10 * whole


@pytest.mark.usefixtures("nothing_computes")
def test_opening_a_sorted_map_computes_nothing(sorted_map: Path) -> None:
    frame = read_sorted_landcover(sorted_map)
    assert list(frame.columns) == ["code", "order", "geometry"]
    assert frame.crs == 3035
    assert all(len(parts) for parts in polygons_of_tiles(frame, [MINI, FULL]))


def test_an_empty_map(tmp_path: Path) -> None:
    path = _write(_squares(0, Code_18=np.array([], object)), tmp_path / "map.gpkg", geometry_type="MultiPolygon")
    found = open_landcover(path)
    assert found.polygons == 0
    frame = read_sorted_landcover(sort_landcover(found, tmp_path / "sorted", known_codes=CODES))
    assert len(frame.compute()) == 0
    (parts,) = polygons_of_tiles(frame, [MINI])
    assert all(polygons_near(MINI, [part]).empty for part in dask.compute(*parts))


# The join of tiles and polygons


def _found(opened_map: OpenedMap, grid: PatchGrid) -> tuple[set[int], int]:
    """Positions of the polygons that are found for a tile, and how many partitions are opened for them."""
    frame, loaded = opened_map
    (parts,) = polygons_of_tiles(frame, [grid])
    if not parts:
        return set(), 0
    near = polygons_near(grid, [loaded[part.key] for part in parts])
    assert not near["order"].duplicated().any()
    return set(near["order"]), len(parts)


def _intersecting(polygons: gpd.GeoDataFrame, grid: PatchGrid) -> set[int]:
    """Positions of the polygons that intersect the patches of a tile, asked of all of them in the tile's system."""
    minx, miny, maxx, maxy = grid.covered_bounds()
    tile = gpd.GeoDataFrame(geometry=[shapely.box(minx, miny, maxx, maxy)], crs=grid.epsg)
    return set(gpd.sjoin(polygons.to_crs(grid.epsg), tile, predicate="intersects")["order"])


@pytest.mark.parametrize(
    ("grid", "most_parts"),
    [
        (MINI, 8),
        (FULL, 31),
        (PatchGrid(32634, 228_960, 5_845_980, ShapeYX(6000, 6000)), 8),  # the neighbouring zone
        (PatchGrid(32633, 300_000, 5_400_000, ShapeYX(109_800, 109_800)), 0),  # far away
    ],
)
def test_every_polygon_that_meets_a_tile_is_found(
    opened_map: OpenedMap, poznan: gpd.GeoDataFrame, grid: PatchGrid, most_parts: int
) -> None:
    found, opened = _found(opened_map, grid)
    needed = _intersecting(poznan, grid)
    assert found >= needed
    assert bool(needed) == bool(most_parts)
    assert opened <= most_parts
    assert found <= set(poznan["order"])


@settings(max_examples=40, deadline=None)
@given(st.integers(5_980, 6_800), st.integers(57_600, 58_700), st.integers(1, 9), st.integers(1, 9))
def test_every_polygon_is_found_wherever_the_tile_lies(
    opened_map: OpenedMap, poznan: gpd.GeoDataFrame, east: int, north: int, rows: int, columns: int
) -> None:
    grid = PatchGrid(32633, 100 * east, 100 * north, ShapeYX(1200 * rows, 1200 * columns))
    found, _ = _found(opened_map, grid)
    assert found >= _intersecting(poznan, grid)


def test_polygons_come_with_their_codes(sorted_map: Path, poznan: gpd.GeoDataFrame) -> None:
    (parts,) = polygons_of_tiles(read_sorted_landcover(sorted_map), [MINI])
    near = polygons_near(MINI, dask.compute(*parts))
    assert _content(near) <= _content(poznan)
    assert near.crs == 3035


def test_each_tile_has_its_own_parts(opened_map: OpenedMap) -> None:
    grids = [FULL, MINI, PatchGrid(32633, 0, 0, ShapeYX(1200, 1200))]
    together = polygons_of_tiles(opened_map[0], grids)
    assert [len(parts) for parts in together] == [_found(opened_map, grid)[1] for grid in grids]
    assert len(together[2]) == 0


def test_a_frame_that_is_not_sorted_is_refused(sorted_map: Path) -> None:
    frame = read_sorted_landcover(sorted_map)
    frame.spatial_partitions = None
    message = _refused(lambda: polygons_of_tiles(frame, [MINI]))
    assert message == "The land-cover frame has no spatial partitions; sort it first (sort_landcover)."
