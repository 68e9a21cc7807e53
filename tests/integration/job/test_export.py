"""The published trees, written by a job as loose files and straight into archives."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import rasterio
import xarray as xr

TREES = {"BigEarthNet-S1": 2, "BigEarthNet-S2": 12, "Reference_Maps": 1}
"""Trees, and files of a patch in each."""


@pytest.fixture
def exported(tile_run: Path) -> Path:
    return tile_run


@pytest.fixture
def kept(exported: Path) -> pd.DataFrame:
    names = ("metadata.parquet", "metadata_for_patches_with_snow_cloud_or_shadow.parquet")
    return pd.concat([pd.read_parquet(exported / name) for name in names], ignore_index=True)


@pytest.mark.parametrize("tree", TREES)
def test_each_kept_patch_has_its_files_and_nothing_is_left_over(exported: Path, kept: pd.DataFrame, tree: str) -> None:
    files = [path for path in (exported / tree).rglob("*") if path.is_file()]
    assert len(files) == TREES[tree] * len(kept) > 0
    names = kept["s1_name" if tree == "BigEarthNet-S1" else "patch_id"]
    assert {path.parent.name for path in files} == set(names)
    assert all(path.name.startswith(f"{path.parent.name}_") and path.suffix == ".tif" for path in files)


@pytest.mark.parametrize("tree", TREES)
def test_an_archive_holds_the_same_bytes(exported: Path, tree: str) -> None:
    with pa.input_stream(str(exported / f"{tree}.tar.zst"), compression="zstd") as stream:
        content = io.BytesIO(stream.read())
    root = exported / tree
    loose = {f"{tree}/{path.relative_to(root)}": path for path in root.rglob("*.tif")}
    with tarfile.open(fileobj=content) as archive:
        assert set(archive.getnames()) == loose.keys()
        assert all(archive.extractfile(name).read() == path.read_bytes() for name, path in loose.items())


def test_pixels_are_those_of_the_cubes(exported: Path) -> None:
    patches = pd.read_parquet(exported / "patches.parquet", columns=["patch_id", "tile", "x", "y", "status", "s1_name"])
    row = patches[patches["status"] == "kept"].iloc[7]
    cube = xr.open_datatree(exported / "cubes.zarr", engine="zarr")[row["tile"]]
    place = {"x": slice(row["x"] * 120, row["x"] * 120 + 120), "y": slice(row["y"] * 120, row["y"] * 120 + 120)}
    (image,) = (exported / "BigEarthNet-S2").rglob(f"{row['patch_id']}_B04.tif")
    with rasterio.open(image) as dataset:
        np.testing.assert_array_equal(dataset.read(1), cube["r10m"]["dn"].sel(band="B04").isel(place))
        assert dataset.crs.to_epsg() == cube["r10m"].to_dataset().rio.crs.to_epsg()
        assert dataset.xy(0, 0) == (cube["r10m"]["x"][place["x"]][0], cube["r10m"]["y"][place["y"]][0])
    (radar,) = (exported / "BigEarthNet-S1").rglob(f"{row['s1_name']}_VV.tif")
    with rasterio.open(radar) as dataset:
        np.testing.assert_array_equal(dataset.read(1), cube["s1"]["db"].sel(polarisation="VV").isel(place))
