"""The job on the synthetic region: several tiles and seasons, a zip file, offsets, and everything that goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import lmdb
import numpy as np
import oracle
import pandas as pd
import pytest
import rasterio
import xarray as xr
import yaml
from conftest import ROOT, run_here
from processes import Cluster
from safetensors.numpy import load

from reben_dask.demo import DemoRegion

TILES = 5
PATCHES_PER_TILE = 16
REASON = {"nodata": "nodata", "label": "too_little_labeled"}


@pytest.fixture(scope="module")
def table(small_run: Path) -> gpd.GeoDataFrame:
    return gpd.read_parquet(small_run / "patches.parquet")


@pytest.fixture(scope="module")
def expected(small_region: DemoRegion, small_folders: list[Path]) -> list[oracle.Patch]:
    """Results of the oracle for each product that passed its quality check."""
    datasets = (oracle.dataset_of(folder, small_region.landcover, small_region.countries) for folder in small_folders)
    return [patch for dataset in datasets for patch in dataset.values()]


def test_every_candidate_is_on_record(table: gpd.GeoDataFrame) -> None:
    assert len(table) == TILES * PATCHES_PER_TILE
    assert table["patch_id"].is_unique
    assert set(table["status"]) == {"kept", "rejected"}
    assert (table["reason"].isna() == (table["status"] == "kept")).all()


def test_the_tile_that_failed_its_quality_is_left_out_with_all_its_patches(
    table: gpd.GeoDataFrame, small_run: Path
) -> None:
    failed = table[table["failed_quality"].notna()]
    assert set(failed["reason"]) == {"tile_quality"}
    assert set(failed["failed_quality"]) == {"GEOMETRIC"}
    assert len(failed) == PATCHES_PER_TILE
    assert failed["labels"].isna().all()
    assert failed["snow_fraction"].isna().all()
    name = failed["tile"].iloc[0]
    assert not (small_run / "cubes.zarr" / name).exists()
    record = json.loads((small_run / "run" / "record.json").read_text())
    assert any(name in warning and "GEOMETRIC" in warning for warning in record["warnings"])


def test_every_patch_of_the_other_tiles_is_as_the_oracle_says(
    table: gpd.GeoDataFrame, expected: list[oracle.Patch]
) -> None:
    rows = table[table["failed_quality"].isna()].set_index("patch_id")
    assert set(rows.index) == {patch.patch_id for patch in expected}
    for patch in expected:
        row = rows.loc[patch.patch_id]
        found = (
            *(list(row["labels"]), row["labeled_fraction"], row["split"], row["season"], row["nodata"]),
            *(row["snow_fraction"], row["cloud_fraction"], row["shadow_fraction"]),
            *(row["contains_seasonal_snow"], row["contains_cloud_or_shadow"]),
        )
        pixels = patch.scl_pixels
        wanted = (
            *(patch.labels, patch.labeled_pixels / 14_400, patch.split, patch.season, patch.nodata),
            *(patch.snow_pixels / pixels, patch.cloud_pixels / pixels, patch.shadow_pixels / pixels),
            *(patch.contains_seasonal_snow, patch.contains_cloud_or_shadow),
        )
        assert found == wanted, patch.patch_id
        assert row["country"] in patch.countries, patch.patch_id
        reason = None if pd.isna(row["reason"]) else row["reason"]
        assert reason == (patch.reason and REASON[patch.reason]), patch.patch_id


def test_reference_maps_are_as_the_oracle_says(small_run: Path, expected: list[oracle.Patch]) -> None:
    maps = {
        tile: xr.open_zarr(small_run / "cubes.zarr", group=f"{tile}/reference_map").reference_map.load()
        for tile in {patch.tile for patch in expected}
    }
    for patch in expected:
        window = {"x": slice(patch.x * 120, patch.x * 120 + 120), "y": slice(patch.y * 120, patch.y * 120 + 120)}
        np.testing.assert_array_equal(maps[patch.tile].isel(window), patch.reference_map, patch.patch_id)


def test_metadata_and_lmdb_hold_the_same_patches(small_run: Path, expected: list[oracle.Patch]) -> None:
    main = pd.read_parquet(small_run / "metadata.parquet")
    apart = pd.read_parquet(small_run / "metadata_for_patches_with_snow_cloud_or_shadow.parquet")
    kept = {patch.patch_id: patch for patch in expected if patch.reason is None}
    flagged = {name for name, patch in kept.items() if patch.contains_seasonal_snow or patch.contains_cloud_or_shadow}
    assert set(main["patch_id"]) == set(kept) - flagged
    assert set(apart["patch_id"]) == flagged
    assert len(flagged) >= 2
    environment = lmdb.open(str(small_run / "lmdb"), readonly=True, lock=False)
    with environment.begin() as transaction:
        assert {key.decode() for key in transaction.cursor().iternext(values=False)} == {
            *kept,
            *(f"{name}_reference_map" for name in kept),
        }
        for name, patch in kept.items():
            bands = load(transaction.get(name.encode()))
            assert sorted(bands) == sorted(patch.bands)
            for band, pixels in patch.bands.items():
                np.testing.assert_array_equal(bands[band], pixels, f"{name} {band}")
    environment.close()


def test_a_recipe_of_ones_own(
    small_inputs: list[object], small_region: DemoRegion, cluster: Cluster, tmp_path: Path
) -> None:
    """Harmonized DN, three bands, another split, and classes from a CSV file beside the recipe."""
    shipped = ROOT / "reben_dask" / "recipes" / "reben.yaml"
    recipe = yaml.safe_load(shipped.read_text())
    recipe |= {"name": "mine", "harmonize": True, "bands": ["B01", "B02", "B8A"], "nomenclature": "water.csv"}
    recipe |= {"labeled_fraction": {"threshold": 0, "comparison": "more_than"}, "countries": None}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    codes = pd.read_csv(shipped.parent.parent / "nomenclatures" / "clc44.csv")["code"]
    rows = [f"{code},{'Water' if code >= 511 else ''}" for code in codes]
    (tmp_path / "water.csv").write_text("\n".join(["code,class", *rows]))

    out = tmp_path / "out"
    done = run_here(*small_inputs, "--out", out, "--recipe", tmp_path / "mine.yaml", *cluster.options)
    assert done.returncode == 0, done.stderr
    table = gpd.read_parquet(out / "patches.parquet")
    kept = table[table["status"] == "kept"]
    assert 0 < len(kept) < len(table)
    assert {tuple(labels) for labels in kept["labels"]} == {("Water",)}
    assert set(table["country"]) <= {"Austria", "Luxembourg", "Portugal", "Switzerland"}

    tile = next(name for name in kept["tile"] if "_N0500_" in name)
    cube = xr.open_zarr(out / "cubes.zarr", group=f"{tile}/r10m").dn.sel(band="B02").to_numpy()
    product = next(path for path in small_region.s2.iterdir() if path.name.startswith(tile))
    assert product.is_dir()
    with rasterio.open(next(product.rglob("*_B02_10m.jp2"))) as source:
        dn = source.read(1)[:480, :480].astype(int)
    np.testing.assert_array_equal(cube, np.where(dn == 0, 0, np.maximum(dn - 1000, 1)))
