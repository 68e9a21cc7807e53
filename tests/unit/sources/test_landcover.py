"""Land-cover maps as they are published and as they are sorted: opening, naming, and what a sorted map tells."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import warnings
from pathlib import Path

import duckdb
import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely
from results import error_of

from reben_dask.sources.landcover import SortedMap, is_sorted_landcover, open_landcover, sort_landcover, sorting

OFFICIAL = "U2018_CLC2018_V2020_20u1"
POZNAN = "clc2018_poznan_3035.gpkg"


@pytest.fixture(scope="module")
def folder(data_dir: Path) -> Path:
    return data_dir / "landcover"


@pytest.fixture(scope="module")
def poznan(folder: Path) -> gpd.GeoDataFrame:
    """The map around Poznań as geopandas reads it."""
    return gpd.read_file(folder / POZNAN)


@pytest.fixture(scope="module")
def sorted_map(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> SortedMap:
    """The same map, sorted, in parts of 50 polygons and row groups of 20."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorting, "POLYGONS_PER_PART", 50)
        patch.setattr(sorting, "POLYGONS_PER_ROW_GROUP", 20)
        return sort_landcover(open_landcover(str(folder / POZNAN)), tmp_path_factory.mktemp("map") / "sorted")


def _squares(count: int, **columns: object) -> gpd.GeoDataFrame:
    boxes = [shapely.box(10 * i, 0, 10 * i + 10, 10) for i in range(count)]
    return gpd.GeoDataFrame(columns, geometry=boxes, crs=3035, index=range(count))


def _write(table: gpd.GeoDataFrame, path: Path, **options: object) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a map without a coordinate reference system is meant
        pyogrio.write_dataframe(table, path, **options)
    return str(path)


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


@pytest.mark.parametrize("name", ["map.gpkg", "map.geojson", "map.geojsonl", "map.shp", "map.fgb", "map.gml"])
def test_formats(tmp_path: Path, name: str) -> None:
    """If a file does not keep its number of rows or its bounds, as a GeoPackage need not, they are gathered."""
    crs, codes = 4326 if "json" in name else 3035, [str(code) for code in range(111, 131)]
    table = _squares(len(codes), Code_18=codes).set_crs(crs, allow_override=True)
    path = _write(table, tmp_path / name, **({"SPATIAL_INDEX": "NO"} if name == "map.gpkg" else {}))
    if name == "map.gpkg":
        with sqlite3.connect(path) as database:
            database.execute("UPDATE gpkg_contents SET min_x = NULL, min_y = NULL, max_x = NULL, max_y = NULL")
            database.execute("DELETE FROM gpkg_ogr_contents")
    source = open_landcover(path)
    assert (source.code_column, source.crs, source.polygons) == ("Code_18", f"EPSG:{crs}", 20)
    made, read = sort_landcover(source, tmp_path / "sorted"), gpd.read_file(path)
    found = gpd.read_parquet(made.folder).sort_values("order")
    assert sorted(read["Code_18"]) == codes
    assert list(found["code"]) == list(read["Code_18"].astype(int))
    assert list(found.geometry.to_wkb()) == list(read.geometry.to_wkb())
    assert made.bounds == (0, 0, 200, 10)


def test_polygons_in_a_layer_of_any_geometry(tmp_path: Path) -> None:
    """Many programs declare the type of a layer as "unknown"; what counts is that it holds polygons."""
    path = _write(_squares(2, Code_18=["111", "211"]), tmp_path / "map.gpkg", geometry_type="Unknown")
    assert open_landcover(path).polygons == 2


def test_of_several_layers_the_one_with_polygons_and_codes(tmp_path: Path) -> None:
    path = tmp_path / "map.gpkg"
    points = _squares(1, Code_18=["111"]).set_geometry(gpd.points_from_xy([0], [0], crs=3035))
    _write(points, path, layer="points")
    _write(_squares(2, Name=["a", "b"]), path, layer="names")
    pyogrio.write_dataframe(pd.DataFrame({"Code_18": ["111"]}), path, layer="table")
    _write(_squares(3, Code_18=["111"] * 3), path, layer="first")
    assert open_landcover(str(path)).layer == "first"


def test_a_map_that_does_not_exist(tmp_path: Path) -> None:
    path = str(tmp_path / "none.gpkg")
    assert error_of(lambda: open_landcover(path)) == f"The land-cover map {path} does not exist."


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0", b"<html>404</html>", b"PK\x03\x04"])
def test_a_file_that_is_no_map(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "map.gpkg"
    path.write_bytes(content)
    assert str(path) in error_of(lambda: open_landcover(str(path)))


def test_a_folder_that_is_no_map(tmp_path: Path) -> None:
    assert str(tmp_path) in error_of(lambda: open_landcover(str(tmp_path)))


def test_a_map_of_points(tmp_path: Path) -> None:
    points = _squares(1, Code_18=["111"]).set_geometry(gpd.points_from_xy([0], [0], crs=3035))
    path = _write(points, tmp_path / "map.gpkg")
    assert error_of(lambda: open_landcover(path)) == f"The land-cover map {path} has no layer of polygons."


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
    message = error_of(lambda: open_landcover(path, code_column=asked))
    assert message.startswith(f"The land-cover map {path} {words}")
    assert message.endswith("Set --code-column.")


def test_a_map_without_a_reference_system(tmp_path: Path) -> None:
    table = _squares(1, Code_18=["111"]).set_crs(None, allow_override=True)
    path = _write(table, tmp_path / "map.shp")
    message = error_of(lambda: open_landcover(path))
    assert message == f"The land-cover map {path} has no coordinate reference system; assign the one it was made in."


# The name of a sorted copy


def test_an_unchanged_map_keeps_its_name(tmp_path: Path) -> None:
    path = _write(_squares(2, Code_18=["111", "211"]), tmp_path / "map.gpkg")
    name = open_landcover(path).cache_name
    gpd.read_file(path)
    moved = Path(shutil.copytree(tmp_path, tmp_path / "elsewhere")) / "map.gpkg"
    assert name == open_landcover(path, code_column="CODE_18").cache_name == open_landcover(str(moved)).cache_name
    assert name.startswith("map-")
    assert name.endswith(".parquet")


def test_another_layer_or_column_has_another_name(tmp_path: Path) -> None:
    table = _squares(2, Code_18=["111", "211"], Klasse=["111", "111"])
    first, second = tmp_path / "a" / "map.gpkg", tmp_path / "b" / "map.gpkg"
    for path in (first, second):
        path.parent.mkdir()
        _write(table, path, layer=path.parent.name)
        os.utime(path, ns=(0, 0))
    assert first.stat().st_size == second.stat().st_size
    by_column = {open_landcover(str(first), code_column=column).cache_name for column in ("Code_18", "Klasse")}
    assert len(by_column) == 2
    assert open_landcover(str(second)).cache_name not in by_column


@pytest.mark.parametrize("change", ["time", "size"])
def test_a_changed_file_has_another_name(tmp_path: Path, change: str) -> None:
    path = Path(_write(_squares(2, Code_18=["111", "211"]), tmp_path / "map.gpkg"))
    name, status = open_landcover(str(path)).cache_name, path.stat()
    if change == "size":
        _write(_squares(2000, Code_18=["111"] * 2000), path)
        assert path.stat().st_size != status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + (change == "time")))
    assert open_landcover(str(path)).cache_name != name


def test_changed_codes_of_a_shapefile_have_another_name(tmp_path: Path) -> None:
    """They stand in a file beside the one that is named."""
    path = _write(_squares(1, Code_18=["111"]), tmp_path / "map.shp")
    name = open_landcover(path).cache_name
    table = tmp_path / "map.dbf"
    table.write_bytes(table.read_bytes().replace(b"111", b"211"))
    os.utime(table, ns=(0, 0))
    assert list(gpd.read_file(path)["Code_18"]) == ["211"]
    assert open_landcover(path).cache_name != name


# The sorted map


def test_geopandas_reads_the_folder(sorted_map: SortedMap, poznan: gpd.GeoDataFrame) -> None:
    table = gpd.read_parquet(sorted_map.folder).sort_values("order")
    assert table.crs == poznan.crs
    assert list(table["code"]) == list(poznan["Code_18"].astype(int))
    assert (table.geometry.to_wkb().to_numpy() == poznan.geometry.to_wkb().to_numpy()).all()


def test_duckdb_reads_the_folder(sorted_map: SortedMap, poznan: gpd.GeoDataFrame) -> None:
    rows = duckdb.sql(
        f"SELECT code, bbox.xmin, bbox.ymin, bbox.xmax, bbox.ymax FROM '{sorted_map.folder}/*.parquet' "  # noqa: S608
        'ORDER BY "order"'
    ).fetchall()
    boxes = poznan.bounds.to_records(index=False).tolist()
    assert rows == [(int(code), *box) for code, box in zip(poznan["Code_18"], boxes, strict=True)]


def test_parts_say_where_their_polygons_lie(sorted_map: SortedMap) -> None:
    """The metadata names the columns of the covering, and each row group has its own extent."""
    assert len(sorted_map.parts) == 31
    for part in sorted_map.parts:
        metadata = pq.read_metadata(part)
        column = json.loads(metadata.metadata[b"geo"])["columns"]["geometry"]
        assert column["covering"]["bbox"] == {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}
        assert np.allclose(column["bbox"], gpd.read_parquet(part).total_bounds, atol=1e-6)
        assert metadata.num_row_groups == -(-metadata.num_rows // 20)
        for group in range(metadata.num_row_groups):
            columns = [metadata.row_group(group).column(number) for number in range(metadata.num_columns)]
            assert all(column.statistics.has_min_max for column in columns if column.path_in_schema != "geometry")


@pytest.mark.usefixtures("nothing_computes")
def test_the_frame_is_lazy(sorted_map: SortedMap) -> None:
    frame = sorted_map.frame
    assert frame.dtypes.astype(str).to_dict() == {"code": "uint16", "order": "int64", "geometry": "geometry"}
    assert frame.crs == 3035
    assert frame.npartitions == len(frame.spatial_partitions) == 31


@pytest.mark.slow
def test_a_partition_is_a_part_and_covers_its_polygons(sorted_map: SortedMap) -> None:
    frame = sorted_map.frame
    areas = frame.spatial_partitions
    assert areas.crs == 3035
    for number, (area, part) in enumerate(zip(areas, sorted_map.parts, strict=True)):
        content = gpd.read_parquet(part, columns=["code", "order", "geometry"])
        assert shapely.covers(area, content.geometry.to_numpy()).all()
        pd.testing.assert_frame_equal(frame.partitions[number].compute(), content)


def test_partitions_are_compact(sorted_map: SortedMap, poznan: gpd.GeoDataFrame) -> None:
    """Sorted along a curve, they overlap little; in the order of the file, each would span the map."""
    whole = shapely.box(*poznan.total_bounds).area
    unsorted = [shapely.box(*poznan.iloc[start : start + 50].total_bounds).area for start in range(0, 1521, 50)]
    assert sorted_map.frame.spatial_partitions.area.sum() < 3 * whole
    assert sum(unsorted) > 10 * whole


def test_what_a_sorted_map_knows(sorted_map: SortedMap, folder: Path, poznan: gpd.GeoDataFrame) -> None:
    assert SortedMap(sorted_map.folder) == sorted_map
    assert (sorted_map.path, sorted_map.crs) == (str(sorted_map.folder), "EPSG:3035")
    assert (sorted_map.polygons, sorted_map.left_out) == (1521, 0)
    assert np.allclose(sorted_map.bounds, poznan.total_bounds, atol=1e-3)
    record = sorted_map.record
    assert record["source"]["name"] == POZNAN
    assert record["source"]["bytes"] == {POZNAN: (folder / POZNAN).stat().st_size}
    assert json.loads(json.dumps(record)) == record
    codes = poznan["Code_18"].value_counts()
    assert {code: count["rows"] for code, count in sorted_map.description["codes"].items()} == codes.to_dict()


def test_what_is_a_sorted_map(sorted_map: SortedMap, folder: Path, tmp_path: Path) -> None:
    assert is_sorted_landcover(sorted_map.folder)
    assert is_sorted_landcover(str(sorted_map.folder))
    others = (tmp_path, tmp_path / "none", folder, folder / POZNAN, sorted_map.parts[0])
    assert not any(is_sorted_landcover(path) for path in others)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b'{"version": 2}', b'{"version": 1, "crs"', b"\xff"])
def test_a_damaged_description(folder: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "sorted"
    made = sort_landcover(open_landcover(str(folder / "clc2018_lanjaron_3035.gpkg")), path)
    (path / "_landcover.json").write_bytes(content)
    assert is_sorted_landcover(path)
    for read in (lambda: SortedMap(path).crs, lambda: SortedMap(path).bounds, lambda: SortedMap(path).record):
        assert error_of(read).startswith(f"{made.folder / '_landcover.json'} is damaged")


def test_an_empty_map(tmp_path: Path) -> None:
    path = _write(_squares(0, Code_18=np.array([], object)), tmp_path / "map.gpkg", geometry_type="MultiPolygon")
    found = open_landcover(path)
    assert found.polygons == 0
    made = sort_landcover(found, tmp_path / "sorted")
    assert (made.polygons, made.left_out, made.bounds, len(made.parts)) == (0, 0, None, 1)
    assert len(made.frame.compute()) == len(gpd.read_parquet(made.folder)) == 0
    assert made.codes == {}
