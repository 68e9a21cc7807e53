"""The job with Sentinel-1: pairs and pixels against the GeoTIFFs, for published patches and for scenes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
import yaml
import zarr
from conftest import ROOT, run_here
from numpy.typing import NDArray
from processes import Cluster
from rasterio.transform import from_origin
from safetensors.numpy import load

from reben_dask.demo import DemoRegion
from reben_dask.stores.lmdb import find_environments, merge_environments

FILES = ("metadata.parquet", "metadata_for_patches_with_snow_cloud_or_shadow.parquet")
UNPAIRED = "S2A_MSIL2A_20180725T100031_N0500_R122_T33UVP_1_2"
LOST = "S2A_MSIL2A_20180725T100031_N0500_R122_T33UWP_2_3"


@dataclass(frozen=True)
class Dataset:
    """A finished dataset, as programs other than the package read it."""

    out: Path

    @property
    def table(self) -> pd.DataFrame:
        columns = ["patch_id", "tile", "x", "y", "status", "reason", "s1_name", "s2v1_name", "failed_quality"]
        return pd.read_parquet(self.out / "patches.parquet", columns=columns).set_index("patch_id")

    @property
    def kept(self) -> pd.DataFrame:
        return pd.concat([pd.read_parquet(self.out / name) for name in FILES]).set_index("patch_id").sort_index()

    def radar(self, tile: str) -> zarr.Array[Any]:
        return zarr.open_array(self.out / "cubes.zarr" / tile / "s1" / "db", mode="r")

    def lmdb(self, shard: str = "") -> dict[str, bytes]:
        folder = str(self.out / "lmdb" / shard)
        with lmdb.open(folder, readonly=True, lock=False) as environment, environment.begin() as transaction:
            return {bytes(key).decode(): bytes(value) for key, value in transaction.cursor()}


def _make(out: Path, *arguments: object) -> Dataset:
    done = run_here(*arguments, "--out", out)
    assert done.returncode == 0, done.stderr
    return Dataset(out)


def _recipe(path: Path, **changes: object) -> Path:
    """The shipped recipe with changes, and only the bands that decode quickly."""
    recipe = yaml.safe_load((ROOT / "reben_dask" / "recipes" / "reben.yaml").read_text())
    path.write_text(yaml.safe_dump({**recipe, "name": "mine", "bands": ["B01", "B05"], **changes}))
    return path


def _pixels(root: Path, s1_name: str) -> dict[str, NDArray[np.float32]]:
    folder = root / s1_name.rsplit("_", 3)[0] / s1_name
    images = {}
    for polarisation in ("VV", "VH"):
        with rasterio.open(folder / f"{s1_name}_{polarisation}.tif") as image:
            images[polarisation] = image.read(1)
    return images


def _maps(names: pd.Index) -> set[str]:
    return {f"{name}_reference_map" for name in names}


@pytest.fixture(scope="module")
def pairs(small_region: DemoRegion) -> pd.Series:
    return pd.read_csv(small_region.s1_pairs, index_col="s2_name")["s1_name"]


@pytest.fixture(scope="module")
def inputs(small_inputs: list[object], cluster: Cluster) -> list[object]:
    return [*small_inputs, *cluster.options]


# Published patches; of one acquisition a patch has no partner


@pytest.fixture(scope="module")
def paired(inputs: list[object], small_region: DemoRegion, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    given = ("--s1", small_region.s1, "--s1-pairs", small_region.s1_pairs)
    return _make(tmp_path_factory.mktemp("paired") / "out", *inputs, *given)


def test_every_kept_patch_has_its_pair_and_the_one_without_is_rejected(
    paired: Dataset, small_run: Path, pairs: pd.Series
) -> None:
    table = paired.table
    before = Dataset(small_run).table
    assert table.index.equals(before.index)
    assert before["reason"][[UNPAIRED]].isna().all()
    assert table.index[table["reason"] == "no_sentinel1"].tolist() == [UNPAIRED]
    assert table["reason"].drop(UNPAIRED).equals(before["reason"].drop(UNPAIRED))
    kept = table[table["status"] == "kept"]
    assert len(kept) > 50
    assert kept["s1_name"].to_dict() == pairs[kept.index].to_dict()


def test_patches_that_are_rejected_keep_their_names_too(paired: Dataset, pairs: pd.Series) -> None:
    """But those of the tile that failed its quality check, which was not looked at, have none."""
    table = paired.table
    assert table["failed_quality"].notna().sum() == 16
    assert table["s1_name"][table["failed_quality"].notna()].isna().all()
    assert table["s1_name"].dropna().to_dict() == pairs.to_dict()


def test_metadata_names_the_pairs(paired: Dataset, pairs: pd.Series) -> None:
    kept, table = paired.kept, paired.table
    assert set(kept.index) == set(table.index[table["status"] == "kept"])
    assert kept["s1_name"].to_dict() == pairs[kept.index].to_dict()
    assert kept["s2v1_name"].isna().all()


def test_pixels_in_the_store_are_those_of_the_files(
    paired: Dataset, small_region: DemoRegion, pairs: pd.Series
) -> None:
    for tile, rows in paired.table.groupby("tile"):
        if rows["failed_quality"].notna().all():
            assert not (paired.out / "cubes.zarr" / str(tile)).exists()
            continue
        array = paired.radar(str(tile))
        assert (array.shape, array.dtype, array.chunks) == ((2, 480, 480), np.float32, (1, 120, 120))
        assert zarr.open_array(array.store_path.store.root.parent / "polarisation", mode="r")[:].tolist() == [
            "VV",
            "VH",
        ]
        cube = array[:]
        for name, row in rows.iterrows():
            block = cube[:, row["y"] * 120 : row["y"] * 120 + 120, row["x"] * 120 : row["x"] * 120 + 120]
            if name not in pairs:
                assert np.isnan(block).all()
                continue
            images = _pixels(small_region.s1, pairs[name])
            np.testing.assert_array_equal(block, np.stack([images["VV"], images["VH"]]))


def test_the_store_opens_with_place_and_system(paired: Dataset, small_region: DemoRegion, pairs: pd.Series) -> None:
    name = UNPAIRED.replace("_1_2", "_1_3")
    tile = name.rsplit("_", 2)[0]
    with rasterio.open(next((small_region.s1).rglob(f"{pairs[name]}_VV.tif"))) as image:
        epsg, corner, pixels = image.crs.to_epsg(), (image.transform.c, image.transform.f), image.read(1)
    with xr.open_datatree(paired.out / "cubes.zarr", engine="zarr") as tree:
        assert tree[f"{tile}/s1"].ds.rio.crs.to_epsg() == epsg
    node = xr.open_zarr(paired.out / "cubes.zarr", group=f"{tile}/s1")
    assert node.db.rio.crs.to_epsg() == epsg
    place = node.db.rio.transform()
    assert (place.c + 1200, place.f - 3 * 1200, place.a, place.e) == (*corner, 10, -10)
    east, south = corner[0] + 1200, corner[1] - 1200
    chosen = node.db.sel(polarisation="VV", x=slice(corner[0], east), y=slice(corner[1], south))
    np.testing.assert_array_equal(chosen, pixels)
    assert node.db.attrs["units"] == "dB"


def test_lmdb_has_a_value_for_each_partner(paired: Dataset, small_region: DemoRegion) -> None:
    content, kept = paired.lmdb(), paired.kept
    assert set(content) == set(kept.index) | _maps(kept.index) | set(kept["s1_name"])
    for s1_name in kept["s1_name"]:
        assert re.fullmatch(r"S1[AB]_IW_GRDH_1SDV_\d{8}T\d{6}_33U[VW]P_[0-3]_[0-3]", s1_name)
        assert len(content[s1_name]) == 115_344
        tensors = load(content[s1_name])
        images = _pixels(small_region.s1, s1_name)
        assert sorted(tensors) == ["VH", "VV"]
        for polarisation, pixels in images.items():
            assert tensors[polarisation].dtype == np.float32
            np.testing.assert_array_equal(tensors[polarisation], pixels)


def test_bands_and_maps_are_those_of_a_run_without_sentinel1(paired: Dataset, small_run: Path) -> None:
    content, before = paired.lmdb(), Dataset(small_run).lmdb()
    assert set(before) - set(content) == {UNPAIRED, f"{UNPAIRED}_reference_map"}
    assert all(content[key] == before[key] for key in before if key in content)


def test_the_record_says_where_partners_came_from(paired: Dataset, small_region: DemoRegion) -> None:
    inputs = json.loads((paired.out / "run" / "record.json").read_text())["inputs"]
    assert str(small_region.s1) in inputs["sentinel1"]
    assert inputs["pairs"] == str(small_region.s1_pairs)


def test_the_plan_says_what_becomes_of_patches_without_a_partner(
    small_inputs: list[object], small_region: DemoRegion, tmp_path: Path
) -> None:
    given = ["--s1", small_region.s1, "--dry-run", "--out", tmp_path / "out"]
    done = run_here(*small_inputs, *given, "--s1-pairs", small_region.s1_pairs)
    assert done.returncode == 0, done.stderr
    assert f"published patches in {small_region.s1}; patches without a partner are rejected" in done.stdout
    alone = run_here(*small_inputs, *given)
    assert alone.returncode == 1
    assert alone.stderr.startswith("Error: The Sentinel-1 patches of")
    assert alone.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


# Pairs by names of version 1, not required; one of the patches is lost, lists of snow and cloud, two shards


@pytest.fixture(scope="module")
def version1(pairs: pd.Series) -> pd.Series:
    """Names of version 1 of all pairs; only their seconds tell tiles apart, and may lie beyond 59 as published ones."""
    parts = pairs.index.to_series().str.extract(r"(S2._MSIL2A_\d{8}T\d{4}).*_T(\w{5})(_\d+_\d+)")
    return parts[0] + parts[1].map({"33UVP": "61", "33UWP": "07"}) + parts[2]


@pytest.fixture(scope="module")
def not_required(
    inputs: list[object],
    small_region: DemoRegion,
    pairs: pd.Series,
    version1: pd.Series,
    tmp_path_factory: pytest.TempPathFactory,
) -> Dataset:
    folder = tmp_path_factory.mktemp("not-required")
    for scene in small_region.s1.iterdir():
        (folder / "s1" / scene.name).mkdir(parents=True)
        for patch in scene.iterdir():
            if patch.name != pairs[LOST]:
                (folder / "s1" / scene.name / patch.name).symlink_to(patch)
    pd.DataFrame({"s2v1_name": version1, "s1_name": pairs}).to_csv(folder / "pairs.csv", index=False)
    (folder / "snow.csv").write_text("\n".join(version1.iloc[::9]))
    (folder / "cloud.txt").write_text("\n".join(version1.iloc[1::9]) + "\nS2A_MSIL2A_20170613T9312_1_2\n")
    recipe = _recipe(folder / "mine.yaml", sentinel1={"required": False, "max_days": 6})
    lists = ("--snow-list", folder / "snow.csv", "--cloud-list", folder / "cloud.txt")
    given = ("--s1", folder / "s1", "--s1-pairs", folder / "pairs.csv", *lists)
    return _make(folder / "out", *inputs, *given, "--recipe", recipe, "--lmdb-shards", 2)


def test_patches_without_a_partner_are_kept_if_none_is_required(
    not_required: Dataset, pairs: pd.Series, version1: pd.Series
) -> None:
    table, kept = not_required.table, not_required.kept
    assert "no_sentinel1" not in set(table["reason"])
    assert kept.index[kept["s1_name"].isna()].tolist() == [UNPAIRED, LOST]
    assert kept["s1_name"].dropna().to_dict() == pairs[kept.index.drop([UNPAIRED, LOST])].to_dict()
    assert kept["s2v1_name"].drop(UNPAIRED).to_dict() == version1[kept.index.drop(UNPAIRED)].to_dict()
    assert pd.isna(kept["s2v1_name"][UNPAIRED])


def test_flags_come_from_the_lists(not_required: Dataset, version1: pd.Series) -> None:
    snow, cloud = set(version1.index[::9]), set(version1.index[1::9])
    kept = not_required.kept
    assert set(kept.index[kept["contains_seasonal_snow"]]) == snow & set(kept.index)
    assert set(kept.index[kept["contains_cloud_or_shadow"]]) == cloud & set(kept.index)
    apart = pd.read_parquet(not_required.out / FILES[1])
    assert set(apart["patch_id"]) == (snow | cloud) & set(kept.index)


def test_shards_hold_partners_beside_their_patches(not_required: Dataset, small_region: DemoRegion) -> None:
    kept = not_required.kept
    index = json.loads((not_required.out / "lmdb" / "index.json").read_text())
    seen = 0
    for shard in index["shards"]:
        content = not_required.lmdb(shard["path"])
        mine = kept[(kept.index >= shard["first"]) & (kept.index <= shard["last"])]
        assert set(content) == set(mine.index) | _maps(mine.index) | set(mine["s1_name"].dropna())
        assert (shard["patches"], shard["keys"]) == (len(mine), len(content))
        first = mine["s1_name"].dropna().iloc[0]
        for polarisation, pixels in _pixels(small_region.s1, first).items():
            np.testing.assert_array_equal(load(content[first])[polarisation], pixels)
        seen += len(mine)
    assert seen == len(kept)


# Scenes


@pytest.fixture(scope="module")
def from_scenes(
    inputs: list[object], small_region: DemoRegion, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Dataset, Path]:
    """Two acquisitions of one tile, half a year apart, and one scene between them over most of it."""
    folder = tmp_path_factory.mktemp("scenes")
    products = [path for path in sorted(small_region.s2.iterdir()) if re.search(r"_N(0500|9999)_.*_T33UVP_", path.name)]
    assert len(products) == 2
    with rasterio.open(next(products[0].rglob("*_B02_10m.jp2"))) as image:
        epsg, west, north = image.crs.to_epsg(), image.transform.c, image.transform.f
    db = np.random.default_rng(5).normal(-12, 3, (2, 480, 400)).astype(np.float32)
    profile = {"driver": "GTiff", "dtype": "float32", "count": 1, "height": 480, "width": 400}
    (folder / "s1").mkdir()
    for pixels, polarisation in zip(db, ("VV", "VH"), strict=True):
        path = folder / "s1" / f"S1B_IW_GRDH_1SDV_20181022T165131_{polarisation}.tif"
        with rasterio.open(path, "w", crs=epsg, transform=from_origin(west, north, 10, 10), **profile) as file:
            file.write(pixels, 1)
    np.save(folder / "db.npy", db)
    recipe = _recipe(folder / "mine.yaml", sentinel1={"required": True, "max_days": 100})
    given = ("--s2", *products, *inputs[2:], "--s1-scenes", folder / "s1", "--recipe", recipe)
    return _make(folder / "out", *given, "--lmdb-shards", 2), folder / "db.npy"


def test_a_job_with_scenes(from_scenes: tuple[Dataset, Path]) -> None:
    dataset, pixels = from_scenes
    db, table, kept = np.load(pixels), dataset.table, dataset.kept
    assert kept["s1_name"].notna().all()
    covered = table["x"] < 3
    names = "S1B_IW_GRDH_1SDV_20181022T165131_33UVP_" + table["x"].astype(str) + "_" + table["y"].astype(str)
    assert table["s1_name"][covered].equals(names[covered])
    assert table["s1_name"][~covered].isna().all()
    assert set(table["reason"][covered]) <= {None, np.nan, "nodata", "too_little_labeled"}
    assert "no_sentinel1" in set(table["reason"][~covered])
    assert table["reason"][~covered].notna().all()
    for shard in ("part-00000-of-00002", "part-00001-of-00002"):
        content = dataset.lmdb(shard)
        rows = kept[[name in content for name in kept.index]]
        assert len(rows) > 8
        for name in rows["s1_name"]:
            x, y = (int(index) * 120 for index in name.rsplit("_", 2)[1:])
            tensors = load(content[name])
            np.testing.assert_array_equal([tensors["VV"], tensors["VH"]], db[:, y : y + 120, x : x + 120])


def test_cubes_say_what_they_were_made_from(
    from_scenes: tuple[Dataset, Path], paired: Dataset, small_region: DemoRegion
) -> None:
    """Names of patches have only the beginnings of both names."""
    for dataset, scenes in ((from_scenes[0], ["S1B_IW_GRDH_1SDV_20181022T165131"]), (paired, None)):
        for tile in dataset.kept.index.str.rsplit("_", n=2).str[0].unique():
            attributes = zarr.open_group(dataset.out / "cubes.zarr" / tile, mode="r").attrs
            assert attributes.get("sentinel1_scenes") == scenes
            assert attributes["product"] in {path.stem for path in small_region.s2.iterdir()}
            assert attributes["product"].startswith(f"{tile}_")


def test_shards_that_share_partners_are_merged(from_scenes: tuple[Dataset, Path], tmp_path: Path) -> None:
    """A scene may be the closest one to several acquisitions; its values are then the same in all of them."""
    dataset, _ = from_scenes
    kept = dataset.kept
    assert kept["s1_name"].duplicated().any()
    merge_environments(find_environments([dataset.out / "lmdb"]), tmp_path / "lmdb")
    with lmdb.open(str(tmp_path / "lmdb"), readonly=True, lock=False) as environment:
        assert environment.stat()["entries"] == 2 * len(kept) + kept["s1_name"].nunique()
