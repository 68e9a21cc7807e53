"""The patch table and the metadata files, as pyarrow, geopandas and DuckDB read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import pytest
import shapely
from patch_tables import with_nulls
from pyarrow import types

from reben_dask.formats.columns import METADATA
from reben_dask.formats.dataset import FLAGGED_METADATA_FILE, METADATA_FILE
from reben_dask.formats.names import TileName
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.candidates import Scene, candidate_patches
from reben_dask.recipes import load_recipe
from reben_dask.stores import metadata
from reben_dask.stores.metadata import write_metadata
from reben_dask.stores.patch_table import part_files, read_rows, write_part

CLASSES = ["Arable land", "Broad-leaved forest", "Pastures"]
TILES = [
    "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP",
    "S2A_MSIL2A_20170613T101031_N9999_R022_T34VER",
    "S2B_MSIL2A_20170613T101031_N9999_R022_T31UGR",
]
EPSG = {TILES[0]: 32633, TILES[1]: 32634, TILES[2]: 32631}


def _patches(tile: str, seed: int, shape: ShapeYX = ShapeYX(4, 3)) -> gpd.GeoDataFrame:  # noqa: B008
    """A finished tile with every combination of status, flags and labels, some of it null."""
    grid = PatchGrid(EPSG[tile], 399_960, 5_400_000, ShapeYX(1200 * shape.y, 1200 * shape.x))
    patches = candidate_patches(
        Scene(TileName(tile, ""), datetime(2017, 6, 13, 10, 10, 31, tzinfo=UTC), (grid,), None), load_recipe("reben")
    )
    random = np.random.default_rng(seed)
    count = len(patches)
    labels = [sorted(random.choice(CLASSES, random.integers(0, 4), replace=False).tolist()) for _ in range(count)]
    kept = random.random(count) < 0.7
    patches = patches.assign(
        status=pd.Series(np.where(kept, "kept", "rejected"), dtype="str"),
        reason=pd.Series(np.where(kept, None, "nodata"), dtype="str"),
        labels=pd.Series(labels, dtype=object),
        labeled_fraction=random.random(count),
        country=pd.Series(random.choice(["Austria", "Serbia"], count), dtype="str"),
        snow_fraction=random.random(count),
        cloud_fraction=random.random(count),
        shadow_fraction=random.random(count),
        contains_seasonal_snow=random.random(count) < 0.2,
        contains_cloud_or_shadow=random.random(count) < 0.2,
        nodata=~kept,
    )
    return with_nulls(patches)


@pytest.fixture(scope="module")
def tiles() -> dict[str, gpd.GeoDataFrame]:
    return {tile: _patches(tile, seed) for seed, tile in enumerate(TILES)}


@pytest.fixture(scope="module")
def table(tiles: dict[str, gpd.GeoDataFrame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A patch table of three tiles, written in another order than that of their names."""
    folder = tmp_path_factory.mktemp("table") / "patches.parquet"
    for tile in reversed(TILES):
        write_part(tiles[tile], folder, CLASSES)
    return folder


@pytest.fixture(scope="module")
def files(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the two metadata files of that table."""
    folder = tmp_path_factory.mktemp("metadata")
    write_metadata(part_files(table), folder, CLASSES)
    return folder


def _expected(tiles: dict[str, gpd.GeoDataFrame]) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Rows of the two metadata files, picked one by one."""
    clear, apart = [], []
    for tile in TILES:
        for row in tiles[tile].to_dict("records"):
            if row["status"] != "kept":
                continue
            flags = {name: bool(row[name]) for name in ("contains_seasonal_snow", "contains_cloud_or_shadow")}
            picked = {str(name): row[name] for name in METADATA} | flags
            (apart if any(flags.values()) else clear).append(picked)
    return clear, apart


def _write(patches: Sequence[gpd.GeoDataFrame], folder: Path) -> tuple[int, int]:
    for tile in patches:
        write_part(tile, folder / "patches.parquet", CLASSES)
    return write_metadata(part_files(folder / "patches.parquet"), folder, CLASSES)


# The patch table


def test_one_part_for_each_tile_in_the_order_of_names(table: Path) -> None:
    assert [part.name for part in part_files(table)] == [f"{tile}.parquet" for tile in TILES]
    assert sorted(path.name for path in table.iterdir()) == [f"{tile}.parquet" for tile in TILES]


def test_unfinished_parts_are_not_parts(tmp_path: Path, tiles: dict[str, gpd.GeoDataFrame]) -> None:
    part = write_part(tiles[TILES[0]], tmp_path, CLASSES)
    (tmp_path / f".{part.name}.4711").write_bytes(b"cut short")
    (tmp_path / ".hidden.parquet").write_bytes(b"cut short")
    assert part_files(tmp_path) == [part]


def test_every_value_comes_back(table: Path, tiles: dict[str, gpd.GeoDataFrame]) -> None:
    for part, tile in zip(part_files(table), TILES, strict=True):
        rows = pq.read_table(part).to_pandas()
        patches = tiles[tile]
        for name in patches.columns.drop("geometry"):
            expected, found = patches[name].tolist(), rows[name].tolist()
            if name == "labels":
                found = [labels.tolist() for labels in found]
            assert [None if np.all(pd.isna(a)) else a for a in found] == [
                None if np.all(pd.isna(b)) else b for b in expected
            ], name
        assert rows["geometry"].tolist() == patches.geometry.to_wkb().tolist()


def test_types_of_the_columns(table: Path) -> None:
    schema = pq.read_schema(part_files(table)[0])
    kinds = {name: schema.field(name).type for name in schema.names}
    texts = [
        "patch_id",
        "tile",
        "status",
        "reason",
        "split",
        "country",
        "season",
        "s1_name",
        "s2v1_name",
        "failed_quality",
    ]
    assert all(kinds[name] == pa.string() for name in texts)
    assert all(types.is_boolean(kinds[name]) for name in kinds if name.startswith("contains_") or name == "nodata")
    assert all(kinds[name] == pa.float64() for name in kinds if name.endswith("_fraction"))
    assert all(kinds[name] == pa.int32() for name in ("minx", "miny", "maxx", "maxy"))
    assert all(kinds[name] == pa.int32() for name in ("x", "y", "epsg"))
    assert kinds["labels"] == pa.list_(pa.string())
    assert kinds["sensing_time"] == pa.timestamp("us", tz="UTC")
    assert all(pq.read_schema(part).equals(schema) for part in part_files(table))


def test_geopandas_reads_the_folder(table: Path, tiles: dict[str, gpd.GeoDataFrame]) -> None:
    read = gpd.read_parquet(table)
    assert read.crs == "EPSG:4326"
    assert len(read) == sum(map(len, tiles.values()))
    assert read["patch_id"].is_unique
    for _, row in read.iterrows():
        corners = [
            (row["minx"], row["maxy"]),
            (row["maxx"], row["maxy"]),
            (row["maxx"], row["miny"]),
            (row["minx"], row["miny"]),
        ]
        move = pyproj.Transformer.from_crs(row["epsg"], 4326, always_xy=True)
        square = shapely.Polygon([move.transform(*corner) for corner in corners])
        assert shapely.equals_exact(shapely.normalize(row.geometry), shapely.normalize(square), 1e-12)


def test_geopandas_reads_a_box_alone(table: Path, tiles: dict[str, gpd.GeoDataFrame]) -> None:
    bounds = tiles[TILES[1]].geometry.iloc[0].centroid.bounds
    found = gpd.read_parquet(table, bbox=bounds)
    assert found["patch_id"].tolist() == [tiles[TILES[1]]["patch_id"].iloc[0]]


def test_duckdb_counts_it(table: Path, tiles: dict[str, gpd.GeoDataFrame]) -> None:
    everything = pd.concat(tiles.values())
    query = f"SELECT status, count(*) FROM read_parquet('{table}/*.parquet') GROUP BY status"  # noqa: S608
    assert dict(duckdb.sql(query).fetchall()) == everything["status"].value_counts().to_dict()
    query = f"SELECT count(*) FROM read_parquet('{table}/*.parquet') WHERE list_contains(labels, 'Pastures')"  # noqa: S608
    assert duckdb.sql(query).fetchall() == [(sum("Pastures" in labels for labels in everything["labels"]),)]


def test_pyarrow_reads_it_as_a_dataset(table: Path, tiles: dict[str, gpd.GeoDataFrame]) -> None:
    dataset = pq.ParquetDataset(table).read(columns=["patch_id", "tile"])
    assert dataset["patch_id"].to_pylist() == [name for tile in TILES for name in tiles[tile]["patch_id"]]
    assert dataset["tile"].to_pylist() == [tile for tile in TILES for _ in range(len(tiles[tile]))]


def test_geoparquet_metadata(table: Path, tiles: dict[str, gpd.GeoDataFrame]) -> None:
    for part, tile in zip(part_files(table), TILES, strict=True):
        file = pq.ParquetFile(part)
        geo = json.loads(file.schema_arrow.metadata[b"geo"])
        column = geo["columns"][geo["primary_column"]]
        assert geo["version"] == "1.1.0"
        assert geo["primary_column"] == "geometry"
        assert column["encoding"] == "WKB"
        assert column["geometry_types"] == ["Polygon"]
        assert pyproj.CRS.from_json_dict(column["crs"]) == pyproj.CRS("EPSG:4326")
        assert column["bbox"] == tiles[tile].total_bounds.tolist()
        covering = column["covering"]["bbox"]
        assert covering == {edge: ["bbox", edge] for edge in ("xmin", "ymin", "xmax", "ymax")}
        rows = file.read().to_pandas()
        boxes = [tuple(box[edge] for edge in covering) for box in rows["bbox"]]
        assert boxes == [shape.bounds for shape in shapely.from_wkb(rows["geometry"])]


def test_classes_travel_with_each_file(table: Path, files: Path) -> None:
    for path in [*part_files(table), files / METADATA_FILE, files / FLAGGED_METADATA_FILE]:
        assert json.loads(pq.read_schema(path).metadata[b"reben:classes"]) == CLASSES


@pytest.mark.parametrize("status", [None, "kept", "rejected"])
def test_rows_of_one_status(table: Path, tiles: dict[str, gpd.GeoDataFrame], status: str | None) -> None:
    for part, tile in zip(part_files(table), TILES, strict=True):
        patches = tiles[tile]
        chosen = patches if status is None else patches[patches["status"] == status]
        rows = read_rows(part, ["y", "patch_id"], status=status)
        assert rows["patch_id"].to_pylist() == chosen["patch_id"].tolist()
        assert rows["y"].to_pylist() == chosen["y"].tolist()


def test_the_same_patches_give_the_same_bytes(table: Path, tiles: dict[str, gpd.GeoDataFrame], tmp_path: Path) -> None:
    for part, tile in zip(part_files(table), TILES, strict=True):
        shuffled_columns = tiles[tile][list(reversed(tiles[tile].columns))]
        again = write_part(shuffled_columns, tmp_path / "again", CLASSES)
        assert again.read_bytes() == part.read_bytes()
        assert write_part(tiles[tile], tmp_path / "again", CLASSES).read_bytes() == part.read_bytes()


def test_a_column_that_no_step_computes_is_an_error(tiles: dict[str, gpd.GeoDataFrame], tmp_path: Path) -> None:
    complete = tiles[TILES[0]]
    for column in complete.columns.drop("geometry"):
        if column in ("s1_name", "s2v1_name", "boa_add_offset", "boa_offset_source"):
            write_part(complete.drop(columns=column), tmp_path / "optional", CLASSES)
        else:
            with pytest.raises(ValueError, match=f"computes the column {column} of the patch table"):
                write_part(complete.drop(columns=column), tmp_path, CLASSES)
    with pytest.raises(ValueError, match="computes the column split_random, soil of the patch table"):
        write_part(complete, tmp_path, CLASSES, ["split_random", "soil"])
    (part,) = part_files(tmp_path / "optional")
    assert pq.read_table(part)["s2v1_name"].null_count == len(complete)


def test_a_tile_that_was_not_looked_at_keeps_its_types(tmp_path: Path) -> None:
    patches = _patches(TILES[0], 0)
    unseen = ["labels", "labeled_fraction", "country", "nodata", "snow_fraction", "contains_seasonal_snow"]
    nulls = {name: pd.Series([None] * len(patches), dtype=object) for name in unseen}
    part = write_part(patches.assign(**nulls), tmp_path, CLASSES)
    full = write_part(_patches(TILES[1], 1), tmp_path, CLASSES)
    assert pq.read_schema(part).equals(pq.read_schema(full))
    rows = pq.read_table(part, partitioning=None)
    assert all(rows[name].null_count == len(patches) for name in unseen)


# The metadata files


def test_schema_and_order_are_those_of_the_published_files(files: Path, data_dir: Path) -> None:
    for name in (METADATA_FILE, FLAGGED_METADATA_FILE):
        published = pq.read_schema(data_dir / "bigearthnet" / name)
        ours = pq.read_schema(files / name)
        assert ours.names == list(METADATA)
        assert pa.schema(list(ours)[: len(published)]).equals(published.remove_metadata())
        wanted = [str(kind) for kind in pd.read_parquet(data_dir / "bigearthnet" / name).dtypes]
        assert [str(kind) for kind in pd.read_parquet(files / name).dtypes][: len(wanted)] == wanted


def test_only_kept_patches_and_snow_or_cloud_apart(files: Path, tiles: dict[str, gpd.GeoDataFrame]) -> None:
    clear, apart = _expected(tiles)
    assert clear
    assert apart
    assert pq.read_table(files / METADATA_FILE).to_pylist() == clear
    assert pq.read_table(files / FLAGGED_METADATA_FILE).to_pylist() == apart


def test_both_files_are_ordered_by_patch(files: Path) -> None:
    for name in (METADATA_FILE, FLAGGED_METADATA_FILE):
        ids = pq.read_table(files / name)["patch_id"].to_pylist()
        assert ids == sorted(ids)
        assert len({patch[:-4] for patch in ids}) == 3


def test_counts_are_given_back(tiles: dict[str, gpd.GeoDataFrame], tmp_path: Path) -> None:
    clear, apart = _expected(tiles)
    assert _write(list(tiles.values()), tmp_path) == (len(clear), len(apart))


def test_flags_are_real_bools_without_a_null(files: Path) -> None:
    for name in (METADATA_FILE, FLAGGED_METADATA_FILE):
        rows = pd.read_parquet(files / name)
        assert rows["contains_seasonal_snow"].dtype == bool
        assert rows["contains_cloud_or_shadow"].dtype == bool
        either = rows["contains_seasonal_snow"] | rows["contains_cloud_or_shadow"]
        assert either.all() if name == FLAGGED_METADATA_FILE else not either.any()


def test_unknown_flags_count_as_clear(tmp_path: Path) -> None:
    """A product without a scene classification."""
    nulls = pd.Series([None] * 12, dtype=object)
    patches = _patches(TILES[0], 0).assign(contains_seasonal_snow=nulls, contains_cloud_or_shadow=nulls)
    clear, apart = _write([patches], tmp_path)
    assert (clear, apart) == (int((patches["status"] == "kept").sum()), 0)
    assert not pd.read_parquet(tmp_path / METADATA_FILE)["contains_seasonal_snow"].any()


@pytest.mark.parametrize("status", ["kept", "rejected"])
def test_null_countries_and_empty_labels_keep_their_types(tmp_path: Path, status: str) -> None:
    patches = _patches(TILES[0], 0)
    patches = patches.assign(
        status=pd.Series([status] * len(patches), dtype="str"),
        country=pd.Series([None] * len(patches), dtype="str"),
        labels=pd.Series([[] for _ in range(len(patches))], dtype=object),
    )
    _write([patches], tmp_path)
    for name in (METADATA_FILE, FLAGGED_METADATA_FILE):
        schema = pq.read_schema(tmp_path / name)
        assert schema.field("country").type == pa.string()
        assert schema.field("labels").type == pa.list_(pa.string())
        rows = pq.read_table(tmp_path / name)
        assert rows["country"].null_count == len(rows)
        assert set(map(tuple, rows["labels"].to_pylist())) <= {()}
    assert (len(pq.read_table(tmp_path / METADATA_FILE)) > 0) == (status == "kept")


def test_no_tiles_make_two_empty_files(tmp_path: Path) -> None:
    assert write_metadata([], tmp_path, CLASSES) == (0, 0)
    for name in (METADATA_FILE, FLAGGED_METADATA_FILE):
        assert pq.read_table(tmp_path / name).num_rows == 0
        assert pq.read_schema(tmp_path / name).names[0] == "patch_id"


def test_the_same_run_gives_the_same_bytes(tiles: dict[str, gpd.GeoDataFrame], files: Path, tmp_path: Path) -> None:
    _write(list(tiles.values()), tmp_path)
    for name in (METADATA_FILE, FLAGGED_METADATA_FILE):
        assert (tmp_path / name).read_bytes() == (files / name).read_bytes()


@pytest.mark.parametrize("rows", [1, 5, 7, 1000])
def test_row_groups_have_one_size_whatever_the_size_of_the_tiles(
    tiles: dict[str, gpd.GeoDataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(metadata, "ROWS_PER_GROUP", rows)
    clear, _ = _write(list(tiles.values()), tmp_path)
    file = pq.ParquetFile(tmp_path / METADATA_FILE)
    sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert sizes == [rows] * (clear // rows) + [clear % rows] * (clear % rows > 0)
    assert file.read().to_pylist() == _expected(tiles)[0]


def test_groups_of_a_real_dataset_have_the_published_size() -> None:
    assert metadata.ROWS_PER_GROUP == 122_880


def test_duckdb_joins_metadata_and_table(table: Path, files: Path, tiles: dict[str, gpd.GeoDataFrame]) -> None:
    query = f"""
        SELECT count(*), count(DISTINCT t.tile)
        FROM read_parquet(['{files / METADATA_FILE}', '{files / FLAGGED_METADATA_FILE}']) m
        JOIN read_parquet('{table}/*.parquet') t USING (patch_id)
        WHERE t.status = 'kept' AND m.split = t.split AND m.labels = t.labels
    """  # noqa: S608
    kept = sum(int((patches["status"] == "kept").sum()) for patches in tiles.values())
    assert duckdb.sql(query).fetchall() == [(kept, 3)]
