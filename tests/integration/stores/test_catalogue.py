"""The catalogue of a dataset, as the readers of STAC-GeoParquet open it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pyproj
import pystac
import pytest
import rustac
import shapely
import xarray as xr
from pystac.extensions.eo import EOExtension
from pystac.extensions.mgrs import MgrsExtension
from pystac.extensions.projection import ProjectionExtension
from stac_geoparquet.arrow import stac_table_to_items

from reben_dask.formats.columns import KEPT

NAMES = ("patches", "tiles")


@pytest.fixture(scope="module")
def table(small_run: Path) -> gpd.GeoDataFrame:
    """All candidates by name."""
    return gpd.read_parquet(small_run / "patches.parquet").set_index("patch_id").sort_index()


@pytest.fixture(scope="module")
def kept(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    return table[table.status == KEPT]


@pytest.fixture(scope="module")
def items(small_run: Path) -> dict[str, list[dict[str, Any]]]:
    """Items of both collections, as the reference implementation reads them."""
    return {name: list(stac_table_to_items(pq.read_table(small_run / "stac" / f"{name}.parquet"))) for name in NAMES}


def test_items_and_collections_are_valid_stac(small_run: Path, items: dict[str, list[dict[str, Any]]]) -> None:
    # Takes 4 s to import: jsonschema compiles the grammars of all formats that it may meet.
    from pystac.validation.stac_validator import JsonSchemaSTACValidator  # noqa: PLC0415

    validator = JsonSchemaSTACValidator()
    for name in NAMES:
        for item in items[name]:
            validator.validate_core(item, pystac.STACObjectType.ITEM, item["stac_version"])
        collection = json.loads((small_run / "stac" / f"{name}.json").read_text())
        validator.validate_core(collection, pystac.STACObjectType.COLLECTION, collection["stac_version"])
        metadata = json.loads(pq.read_schema(small_run / "stac" / f"{name}.parquet").metadata[b"stac-geoparquet"])
        assert metadata == {"version": "1.1.0", "collections": {collection["id"]: collection}}
        assert {item["collection"] for item in items[name]} == {collection["id"]}
        assert (small_run / "stac" / collection["assets"]["items"]["href"]).is_file()


def test_items_are_the_kept_patches_and_the_tiles(
    table: gpd.GeoDataFrame, kept: gpd.GeoDataFrame, items: dict[str, list[dict[str, Any]]]
) -> None:
    assert [item["id"] for item in items["patches"]] == kept.index.tolist()
    assert [item["id"] for item in items["tiles"]] == sorted(set(table.tile))


def test_properties_of_patches(kept: gpd.GeoDataFrame, items: dict[str, list[dict[str, Any]]]) -> None:
    splits = {"train": "train", "validation": "validate", "test": "test"}
    for item in items["patches"]:
        row, found, properties = kept.loc[item["id"]], pystac.Item.from_dict(item), item["properties"]
        assert found.datetime == row.sensing_time.to_pydatetime()
        assert shapely.geometry.shape(item["geometry"]).equals(row.geometry)
        assert item["bbox"] == list(row.geometry.bounds)
        projection, mgrs = ProjectionExtension.ext(found), MgrsExtension.ext(found)
        assert (projection.code, projection.shape) == (f"EPSG:{row.epsg}", [120, 120])
        assert projection.bbox == [row.minx, row.miny, row.maxx, row.maxy]
        assert projection.transform == [10, 0, row.minx, 0, -10, row.maxy]
        assert row.tile.endswith(f"_T{mgrs.utm_zone:02d}{mgrs.latitude_band}{mgrs.grid_square}")
        assert row.epsg == 32600 + mgrs.utm_zone
        assert EOExtension.ext(found).cloud_cover == pytest.approx(100 * row.cloud_fraction)
        assert EOExtension.ext(found).snow_cover == pytest.approx(100 * row.snow_fraction)
        assert properties["ml-aoi:split"] == splits[row.split]
        (labels,) = properties["label:properties"]
        assert properties[labels] == row.labels.tolist()
        for name in ("tile", "grid", "x", "y", "country", "season", "contains_seasonal_snow", "labeled_fraction"):
            assert properties[f"reben:{name}"] == row[name]


def test_assets_lead_to_the_pixels(
    small_run: Path, kept: gpd.GeoDataFrame, items: dict[str, list[dict[str, Any]]]
) -> None:
    cubes = xr.open_datatree(small_run / "cubes.zarr", engine="zarr", chunks={})
    for item in items["patches"][:: len(items["patches"]) // 4]:
        row, assets = kept.loc[item["id"]], item["assets"]
        assert all((small_run / "stac" / asset["href"]).is_dir() for asset in assets.values())
        assert (small_run / "stac" / assets["cubes"]["href"]).resolve() == small_run.resolve() / "cubes.zarr" / row.tile
        west, south, east, north = item["properties"]["proj:bbox"]
        band = cubes[row.tile]["r10m"].dn.sel(x=slice(west, east), y=slice(north, south))
        assert band.shape[1:] == (120, 120)
        offset = assets["cubes"]["raster:offset"]
        assert offset == (None if np.isnan(row.boa_add_offset) else row.boa_add_offset / 10000)
        codes = xr.open_zarr(small_run / "stac" / assets["reference_map"]["href"], consolidated=False)
        assert codes.reference_map.sel(x=slice(west, east), y=slice(north, south)).shape == (120, 120)


def test_properties_of_tiles(small_run: Path, table: gpd.GeoDataFrame, items: dict[str, list[dict[str, Any]]]) -> None:
    for item in items["tiles"]:
        rows, properties = table[table.tile == item["id"]], item["properties"]
        failed = rows.failed_quality.iloc[0]
        assert properties["reben:candidates"] == len(rows)
        assert properties["reben:kept"] == (rows.status == KEPT).sum()
        assert properties["processing:version"].replace(".", "") == item["id"].split("_")[3][1:]
        assert properties["platform"] == f"sentinel-2{item['id'][2].lower()}"
        assert (properties["reben:failed_quality"] or "") == (failed if isinstance(failed, str) else "")
        assert ("cubes" in item["assets"]) == (properties["reben:failed_quality"] is None)
        hrefs = [asset["href"] for asset in item["assets"].values()]
        assert all((small_run / "stac" / href).exists() for href in hrefs)
        west, south, east, north = properties["proj:bbox"]
        to_degrees = pyproj.Transformer.from_crs(properties["proj:code"], 4326, always_xy=True)
        corners = [to_degrees.transform(x, y) for x in (west, east) for y in (south, north)]
        square = shapely.MultiPoint(corners).convex_hull
        assert shapely.geometry.shape(item["geometry"]).symmetric_difference(square).area < 1e-12
        cover = rows[rows.grid == 1].cloud_fraction.mean()
        assert properties["eo:cloud_cover"] == (None if np.isnan(cover) else pytest.approx(100 * cover))


def test_duckdb_finds_patches_by_place_time_cloud_and_label(small_run: Path, kept: gpd.GeoDataFrame) -> None:
    label = kept.labels.explode().mode().iloc[0]
    west, _, east, _ = kept.total_bounds
    middle, time = (west + east) / 2, datetime.fromisoformat("2018-06-01T00:00:00Z")
    query = """
        SELECT id FROM read_parquet(?)
        WHERE bbox.xmax < ? AND datetime >= ? AND "eo:cloud_cover" < 10 AND list_contains("reben:labels", ?)
        ORDER BY id
    """
    with duckdb.connect() as database:
        place = str(small_run / "stac" / "patches.parquet")
        found = [name for (name,) in database.execute(query, [place, middle, time, label]).fetchall()]
    is_meant = (kept.bounds.maxx < middle) & (kept.sensing_time >= time) & (kept.cloud_fraction < 0.1)
    wanted = kept[is_meant & kept.labels.map(lambda labels: label in labels)].index.tolist()
    assert 0 < len(wanted) < len(kept)
    assert found == wanted


def test_rustac_and_geopandas_read_the_same_items(small_run: Path, items: dict[str, list[dict[str, Any]]]) -> None:
    for name in NAMES:
        path = small_run / "stac" / f"{name}.parquet"
        found = rustac.read_sync(str(path))["features"]
        assert [item["id"] for item in found] == [item["id"] for item in items[name]]
        for one, other in zip(found, items[name], strict=True):
            # Properties that are null are left out there.
            stated = {name for name, value in other["properties"].items() if value is not None}
            assert stated == one["properties"].keys()
            hrefs = [{key: asset["href"] for key, asset in item["assets"].items()} for item in (one, other)]
            assert hrefs[0] == hrefs[1]
        frame = gpd.read_parquet(path)
        assert (frame.crs, len(frame)) == ("OGC:CRS84", len(found))
