"""A finished run on the mini product, compared with the oracle: every patch, every column, every pixel.

`mini_run` is the output folder of a reBEN job over mini/*.SAFE, the Poznań land cover and the ten countries, without
Sentinel-1 and without published metadata.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import lmdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import pytest
import rioxarray  # noqa: F401  (brings the .rio accessor)
import safetensors.numpy
import shapely
import xarray as xr
import zarr
from oracle import (
    BAND_RESOLUTION_M,
    XY,
    Patch,
    Pixels,
    Product,
    dataset_of,
    differing_pixels,
    open_product,
    read_polygons,
)

Truth = dict[XY, Patch]

SNOW_XY: XY = (2, 4)
CLOUD_XY: XY = (1, 3)
HALF_SHADOW_XY: XY = (4, 3)
NODATA_XY: set[XY] = {(6, 6), (7, 7)}

METADATA = "metadata.parquet"
METADATA_APART = "metadata_for_patches_with_snow_cloud_or_shadow.parquet"
TABLE_COLUMNS = {
    *("patch_id", "tile", "x", "y", "status", "reason", "labels", "labeled_fraction", "split", "country", "season"),
    *("sensing_time", "snow_fraction", "cloud_fraction", "shadow_fraction", "contains_seasonal_snow"),
    *("contains_cloud_or_shadow", "s1_name", "epsg", "geometry", "minx", "miny", "maxx", "maxy"),
}
RESOLUTION_OF_NODE = {"r10m": 10, "r20m": 20, "r60m": 60, "reference_map": 10}
BANDS_OF_NODE = {f"r{m}m": {band for band, of in BAND_RESOLUTION_M.items() if of == m} for m in (10, 20, 60)}
NODES = pytest.mark.parametrize("node", list(RESOLUTION_OF_NODE))
BAND_NODES = pytest.mark.parametrize("node", list(BANDS_OF_NODE))


# ---------------------------------------------------------------------------------------------------- what must be


@pytest.fixture(scope="session")
def safe_folder(data_dir: Path) -> Path:
    (folder,) = (data_dir / "mini").glob("*.SAFE")
    return folder


@pytest.fixture(scope="session")
def product(safe_folder: Path) -> Product:
    return open_product(safe_folder)


@pytest.fixture(scope="session")
def truth(data_dir: Path, safe_folder: Path) -> Truth:
    land_cover = data_dir / "landcover" / "clc2018_poznan_3035.gpkg"
    return dataset_of(safe_folder, land_cover, data_dir / "countries" / "ne_110m_admin_0_ten_countries.gpkg")


@pytest.fixture(scope="session")
def kept(truth: Truth) -> dict[str, Patch]:
    return {p.patch_id: p for p in truth.values() if p.status == "kept"}


# ------------------------------------------------------------------------------------------- what the run has made


@pytest.fixture(scope="session")
def table(mini_run: Path) -> gpd.GeoDataFrame:
    return gpd.read_parquet(mini_run / "patches.parquet")


@pytest.fixture(scope="session")
def rows(table: gpd.GeoDataFrame) -> dict[str, dict[str, Any]]:
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    return {row["patch_id"]: row for row in records}


@pytest.fixture(scope="session", params=["open_datatree", "open_zarr"])
def nodes(request: pytest.FixtureRequest, mini_run: Path, product: Product) -> dict[str, xr.Dataset]:
    """Return the tile's four cubes as both of xarray's doors show them, nothing but the path given."""
    store = mini_run / "cubes.zarr"
    if request.param == "open_datatree":
        tree = xr.open_datatree(store, engine="zarr")
        return {node: tree[f"{product.tile}/{node}"].to_dataset() for node in RESOLUTION_OF_NODE}
    return {node: xr.open_zarr(store, group=f"{product.tile}/{node}") for node in RESOLUTION_OF_NODE}


@pytest.fixture(scope="session")
def database(mini_run: Path) -> dict[str, bytes]:
    """Return all that the LMDB holds; it is closed again at once, as one process may open a path only once."""
    with lmdb.open(str(mini_run / "lmdb"), readonly=True, lock=False) as env, env.begin() as txn:
        return {bytes(key).decode(): bytes(value) for key, value in txn.cursor()}


# --------------------------------------------------------------------------------------------------------- helpers


def nothing_wrong(problems: Iterable[str]) -> None:
    """Fail with one line per problem."""
    lines = list(problems)
    assert not lines, f"{len(lines)} differences:\n" + "\n".join(lines)


def differences(patch_id: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Name every column of a patch whose value is not the expected one (null is never right)."""
    return [
        f"{patch_id}: {column} is {found[column]!r}, must be {value!r}"
        for column, value in expected.items()
        if found[column] is None or found[column] is pd.NA or found[column] != value
    ]


def pixel_difference(patch: Patch, what: str, found: np.ndarray, expected: np.ndarray) -> list[str]:
    """Name the patch if an array is not the expected one: type, shape and every value."""
    if (found.dtype, found.shape) != (expected.dtype, expected.shape):
        shapes = f"{found.dtype} {found.shape}, must be {expected.dtype} {expected.shape}"
        return [f"{patch.patch_id}: {what} is {shapes}"]
    wrong = int((found != expected).sum())
    return [f"{patch.patch_id}: {what} has {wrong} wrong pixels"] if wrong else []


def cut(array: np.ndarray, patch: Patch, resolution_m: int) -> np.ndarray:
    """Cut a patch out of a tile's 2-D array."""
    px = 1200 // resolution_m
    return array[patch.y * px : (patch.y + 1) * px, patch.x * px : (patch.x + 1) * px]


def kind_of_reason(reason: object) -> str | None:
    """Tell the rule behind a reason's text (the words are the package's own), or None where there is no reason."""
    text = "" if pd.isna(reason) else str(reason).lower().replace("_", "").replace("-", "").replace(" ", "")
    kinds = [kind for kind in ("nodata", "label") if kind in text]
    assert len(kinds) == (1 if text else 0), f"cannot tell what the reason {reason!r} means"
    return kinds[0] if kinds else None


# -------------------------------------------------------------------------------------------------- the oracle itself


def test_the_mini_product_has_the_cases_that_matter(truth: Truth) -> None:
    assert set(truth) == {(x, y) for x in range(8) for y in range(8)}
    assert {xy for xy, p in truth.items() if p.nodata} == NODATA_XY
    assert {xy for xy, p in truth.items() if p.contains_seasonal_snow} == {SNOW_XY}
    assert {xy for xy, p in truth.items() if p.contains_cloud_or_shadow} == {CLOUD_XY}
    assert truth[HALF_SHADOW_XY].shadow_pixels * 2 == truth[HALF_SHADOW_XY].scl_pixels
    assert {p.reason for p in truth.values()} == {None, "nodata", "label"}
    assert {p.split for p in truth.values() if p.status == "kept"} == {"train", "validation", "test"}


def test_point_in_polygon_and_gdal_make_the_same_maps(data_dir: Path, product: Product) -> None:
    clc = read_polygons(data_dir / "landcover" / "clc2018_poznan_3035.gpkg", "Code_18", product.epsg)
    differ = differing_pixels(product, clc)
    nothing_wrong(f"{product.patch_id(*xy)}: {n} pixels differ" for xy, n in differ.items() if n)


# ------------------------------------------------------------------------------------------------------ patch table


def test_table_is_geoparquet_in_parts_with_its_columns(mini_run: Path, table: gpd.GeoDataFrame) -> None:
    parts = sorted((mini_run / "patches.parquet").glob("*.parquet"))
    assert parts, "patches.parquet has no part files"
    nothing_wrong(f"{p.name} is no GeoParquet" for p in parts if b"geo" not in (pq.read_schema(p).metadata or {}))
    assert TABLE_COLUMNS - set(table.columns) == set()
    assert table.geometry.name == "geometry"
    assert table.crs.to_epsg() == 4326


def test_table_has_every_candidate_once(table: gpd.GeoDataFrame, truth: Truth) -> None:
    assert sorted(table["patch_id"]) == sorted(p.patch_id for p in truth.values())


def test_table_names_and_places(rows: dict[str, dict[str, Any]], truth: Truth) -> None:
    nothing_wrong(
        line
        for p in truth.values()
        for line in differences(
            p.patch_id,
            rows[p.patch_id],
            {"tile": p.tile, "x": p.x, "y": p.y, "epsg": p.epsg}
            | dict(zip(("minx", "miny", "maxx", "maxy"), p.bounds, strict=True)),
        )
    )


def test_table_footprints_lie_on_the_patches(rows: dict[str, dict[str, Any]], truth: Truth) -> None:
    for p in truth.values():
        to_tile = pyproj.Transformer.from_crs(4326, p.epsg, always_xy=True).transform
        found = shapely.transform(rows[p.patch_id]["geometry"], to_tile, interleaved=False)
        distance_m = shapely.hausdorff_distance(found.exterior, shapely.box(*p.bounds).exterior)
        assert distance_m < 1e-3, f"{p.patch_id}: the footprint is {distance_m} m off"


def test_table_status_and_reason(rows: dict[str, dict[str, Any]], truth: Truth) -> None:
    nothing_wrong(
        line
        for p in truth.values()
        for line in differences(
            p.patch_id,
            {"status": rows[p.patch_id]["status"], "reason": str(kind_of_reason(rows[p.patch_id]["reason"]))},
            {"status": p.status, "reason": str(p.reason)},
        )
    )


def test_table_labels_of_all_patches(rows: dict[str, dict[str, Any]], truth: Truth) -> None:
    for p in truth.values():
        found = rows[p.patch_id]["labels"]
        assert found is not None, f"{p.patch_id}: labels are null, must be {p.labels}"
        assert list(found) == p.labels, f"{p.patch_id}: labels are {list(found)}, must be {p.labels}"


def test_table_fractions_are_exact_in_pixels(rows: dict[str, dict[str, Any]], truth: Truth) -> None:
    def check(p: Patch, column: str, pixels: int, of: int) -> Iterable[str]:
        found = float(rows[p.patch_id][column])
        if not abs(found - pixels / of) < 1e-6:  # a float32 passes, a single pixel (1 / 14,400) or a NaN does not
            yield f"{p.patch_id}: {column} is {found} ({found * of} of {of} pixels), must be {pixels} of {of}"

    nothing_wrong(
        line
        for p in truth.values()
        for column, pixels, of in (
            ("labeled_fraction", p.labeled_pixels, p.reference_map.size),
            ("snow_fraction", p.snow_pixels, p.scl_pixels),
            ("cloud_fraction", p.cloud_pixels, p.scl_pixels),
            ("shadow_fraction", p.shadow_pixels, p.scl_pixels),
        )
        for line in check(p, column, pixels, of)
    )


def test_table_flags_split_and_season(rows: dict[str, dict[str, Any]], truth: Truth) -> None:
    columns = ("split", "season", "contains_seasonal_snow", "contains_cloud_or_shadow")
    nothing_wrong(
        line
        for p in truth.values()
        for line in differences(p.patch_id, rows[p.patch_id], {c: getattr(p, c) for c in columns})
    )


def test_table_sensing_time_is_the_products(table: gpd.GeoDataFrame, product: Product) -> None:
    times = pd.to_datetime(table.set_index("patch_id")["sensing_time"], utc=True)
    nothing_wrong(
        f"{patch_id}: sensing_time is {time}, must be {product.sensing_time}"
        for patch_id, time in times.items()
        if time != pd.Timestamp(product.sensing_time)
    )


def test_table_country_is_a_nearest_one(rows: dict[str, dict[str, Any]], truth: Truth) -> None:
    nothing_wrong(
        f"{p.patch_id}: country is {rows[p.patch_id]['country']!r}, must be one of {p.countries}"
        for p in truth.values()
        if rows[p.patch_id]["country"] not in p.countries
    )


def test_table_has_no_sentinel1_partners(table: gpd.GeoDataFrame) -> None:
    assert table["s1_name"].isna().all(), "there was no Sentinel-1 input"


# ------------------------------------------------------------------------------------------------------------ cubes


@BAND_NODES
def test_cube_has_its_bands(nodes: dict[str, xr.Dataset], node: str) -> None:
    dn = nodes[node]["dn"]
    assert dn.dims == ("band", "y", "x")
    assert dn.dtype == np.uint16
    assert sorted(dn["band"].to_numpy().tolist()) == sorted(BANDS_OF_NODE[node])


@BAND_NODES
def test_cube_pixels_of_every_patch_and_band(nodes: dict[str, xr.Dataset], node: str, truth: Truth) -> None:
    for band in sorted(BANDS_OF_NODE[node]):
        whole = nodes[node]["dn"].sel(band=band).to_numpy()
        nothing_wrong(
            line
            for p in truth.values()
            for line in pixel_difference(p, band, cut(whole, p, RESOLUTION_OF_NODE[node]), p.bands[band])
        )


def test_cube_reference_map_of_every_patch(nodes: dict[str, xr.Dataset], truth: Truth) -> None:
    codes = nodes["reference_map"]["reference_map"]
    assert codes.dims == ("y", "x")
    nothing_wrong(
        line
        for p in truth.values()
        for line in pixel_difference(p, "reference map", cut(codes.to_numpy(), p, 10), p.reference_map)
    )


@NODES
def test_cube_lies_where_the_tile_does(nodes: dict[str, xr.Dataset], node: str, product: Product) -> None:
    # a plain opening leaves CF's spatial_ref among the variables; "all" is how xarray makes it the arrays' coordinate
    located = xr.decode_cf(nodes[node], decode_coords="all")
    array = located["reference_map" if node == "reference_map" else "dn"]
    pixel = RESOLUTION_OF_NODE[node]
    assert array.rio.crs is not None, "no CRS"
    assert array.rio.crs.to_epsg() == product.epsg
    assert tuple(array.rio.transform())[:6] == (pixel, 0, product.ulx, 0, -pixel, product.uly)
    px_y, px_x = array.sizes["y"], array.sizes["x"]
    assert array["x"].to_numpy().tolist() == [product.ulx + pixel * (i + 0.5) for i in range(px_x)]
    assert array["y"].to_numpy().tolist() == [product.uly - pixel * (i + 0.5) for i in range(px_y)]


@NODES
def test_stored_chunk_is_one_patch_inside_a_shard(mini_run: Path, product: Product, node: str) -> None:
    name = "reference_map" if node == "reference_map" else "dn"
    array = zarr.open_group(mini_run / "cubes.zarr", mode="r")[f"{product.tile}/{node}/{name}"]
    px = 1200 // RESOLUTION_OF_NODE[node]
    assert isinstance(array, zarr.Array)
    assert array.metadata.zarr_format == 3
    assert array.chunks[-2:] == (px, px), "the inner chunk is not one patch"
    assert array.shards is not None, "the array is not sharded"
    assert all(s % c == 0 for s, c in zip(array.shards, array.chunks, strict=True)), "a shard cuts a patch"


# --------------------------------------------------------------------------------------------------------- metadata


@pytest.mark.parametrize("name", [METADATA, METADATA_APART])
def test_metadata_schema_begins_with_the_published_one(mini_run: Path, data_dir: Path, name: str) -> None:
    ours, published = (
        pq.read_schema(folder / name).remove_metadata() for folder in (mini_run, data_dir / "bigearthnet")
    )
    assert pa.schema(list(ours)[: len(published)]).equals(published), f"{ours}\nis not\n{published}"


@pytest.mark.parametrize(("name", "apart"), [(METADATA, False), (METADATA_APART, True)])
def test_metadata_lists_exactly_the_kept_patches(
    mini_run: Path, kept: dict[str, Patch], name: str, *, apart: bool
) -> None:
    found = pq.read_table(mini_run / name).to_pylist()
    assert [row["patch_id"] for row in found] == sorted(i for i, p in kept.items() if p.set_apart is apart)
    columns = ("labels", "split", "contains_seasonal_snow", "contains_cloud_or_shadow")
    for row in found:
        p = kept[row["patch_id"]]
        nothing_wrong(differences(p.patch_id, row, {c: getattr(p, c) for c in columns}))
        assert row["country"] in p.countries, f"{p.patch_id}: country is {row['country']!r}"
        assert row["s1_name"] is None, f"{p.patch_id}: there was no Sentinel-1 input"


@pytest.mark.parametrize("xy", [SNOW_XY, CLOUD_XY])
def test_covered_patch_is_listed_apart_only(mini_run: Path, truth: Truth, xy: XY) -> None:
    patch_id = truth[xy].patch_id
    ids = {name: pq.read_table(mini_run / name)["patch_id"].to_pylist() for name in (METADATA, METADATA_APART)}
    assert ids[METADATA].count(patch_id) == 0, f"{patch_id} is in {METADATA}"
    assert ids[METADATA_APART].count(patch_id) == 1, f"{patch_id} is not once in {METADATA_APART}"


def test_partly_labeled_patches_are_kept_from_three_quarters_on(mini_run: Path, truth: Truth) -> None:
    listed = {i for name in (METADATA, METADATA_APART) for i in pq.read_table(mini_run / name)["patch_id"].to_pylist()}
    partly = [p for p in truth.values() if not p.nodata and 0 < p.labeled_fraction < 1]
    assert {p.labeled_fraction >= 0.75 for p in partly} == {True, False}, "the mini product no longer has both cases"
    nothing_wrong(
        f"{p.patch_id}: {p.labeled_fraction:.4f} labelled, {'listed' if p.patch_id in listed else 'not listed'}"
        for p in partly
        if (p.patch_id in listed) != (p.labeled_fraction >= 0.75)
    )


# ------------------------------------------------------------------------------------------------------------- LMDB


def test_lmdb_has_two_keys_per_kept_patch(database: dict[str, bytes], kept: dict[str, Patch]) -> None:
    expected = set(kept) | {f"{patch_id}_reference_map" for patch_id in kept}
    nothing_wrong(f"{key} is {'missing' if key in expected else 'too much'}" for key in expected ^ set(database))


def test_lmdb_values_are_the_source_pixels(database: dict[str, bytes], kept: dict[str, Patch]) -> None:
    def check(patch: Patch, key: str, expected: dict[str, Pixels], size: int) -> Iterable[str]:
        if key not in database:
            yield f"{key} is missing"
            return
        found = safetensors.numpy.load(database[key])
        if set(found) != set(expected):
            yield f"{key} holds {sorted(found)}, must be {sorted(expected)}"
            return
        for name, pixels in expected.items():
            yield from pixel_difference(patch, name, found[name], pixels)
        if len(database[key]) != size or database[key] != safetensors.numpy.save(expected):
            yield f"{key}: {len(database[key])} bytes are not those that safetensors writes ({size})"

    nothing_wrong(
        line
        for patch_id, p in kept.items()
        for key, expected, size in (
            (patch_id, p.bands, 160_832),
            (f"{patch_id}_reference_map", {"Data": p.reference_map}, 28_880),
        )
        for line in check(p, key, expected, size)
    )


def test_lmdb_asks_for_a_modest_map(mini_run: Path, database: dict[str, bytes]) -> None:
    with lmdb.open(str(mini_run / "lmdb"), readonly=True, lock=False) as env:
        assert sum(map(len, database.values())) < env.info()["map_size"] < 2**40
