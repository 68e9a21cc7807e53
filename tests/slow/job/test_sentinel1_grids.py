"""Sentinel-1 in two grids, with names and trees of version 1: pairs and pixels against what the scenes were made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import lmdb
import numpy as np
import pandas as pd
import pytest
import rasterio
import tree_readers
import yaml
import zarr
from building import build
from click.testing import CliRunner
from conftest import ROOT, run_here
from distributed import Client
from processes import Cluster
from rasterio.transform import from_origin
from safetensors.numpy import load

from reben_dask.cli.verify import verify
from reben_dask.demo import DemoRegion
from reben_dask.job.plan import make_plan
from reben_dask.job.published import Published
from reben_dask.job.sentinel1 import Sentinel1Inputs
from reben_dask.recipes import Recipe, load_recipe

SHIFT_PX = {1: 0, 2: 60}
"""Pixels of 10 m from the tile's corner to that of each grid."""

SIDE_PX, PATCH_PX, PATCHES = 504, 120, {1: 4, 2: 3}
CHANGES = {
    "name": "mine",
    "bands": ["B01"],
    "grid_offsets_m": [0, 600],
    "patch_name": "{product}_{grid}_{x}_{y}",
    "countries": None,
}


@dataclass(frozen=True)
class Scene:
    """A scene on the pixels of the tile, from column ``first`` on."""

    name: str
    first: int
    db: np.ndarray

    @property
    def short(self) -> str:
        return "_".join(self.name.split("_")[:5])

    @property
    def time(self) -> datetime:
        return datetime.strptime(self.name.split("_")[4], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)

    def patch(self, grid: int, x: int, y: int) -> np.ndarray | None:
        """Pixels of a patch, if all of it is covered."""
        left, top = (SHIFT_PX[grid] + PATCH_PX * index for index in (x, y))
        if not self.first <= left <= self.first + self.db.shape[2] - PATCH_PX:
            return None
        return self.db[:, top : top + PATCH_PX, left - self.first : left - self.first + PATCH_PX]


@dataclass(frozen=True)
class Dataset:
    """A finished dataset, and the scenes that it was made from."""

    out: Path
    scenes: tuple[Scene, ...]

    @cached_property
    def table(self) -> pd.DataFrame:
        return pd.read_parquet(self.out / "patches.parquet").set_index("patch_id")

    @cached_property
    def kept(self) -> pd.DataFrame:
        return self.table[self.table["status"] == "kept"]

    def partner(self, row: pd.Series) -> tuple[str, np.ndarray] | None:
        """Name and pixels of a patch's partner: the closest scene in time that covers all of it."""
        for scene in sorted(self.scenes, key=lambda scene: abs(scene.time - row["sensing_time"])):
            pixels = scene.patch(row["grid"], row["x"], row["y"])
            if pixels is not None:
                place = {1: "33UVP", 2: "600M_33UVP"}[row["grid"]]
                return f"{scene.short}_{place}_{row['x']}_{row['y']}", pixels
        return None

    def content(self) -> dict[str, bytes]:
        with lmdb.open(str(self.out / "lmdb"), readonly=True, lock=False) as environment, environment.begin() as txn:
            return {bytes(key).decode(): bytes(value) for key, value in txn.cursor()}


def _products(region: DemoRegion) -> list[Path]:
    """Summer and winter of the western tile."""
    return [next(region.s2.glob(f"*_{day}T*_T33UVP_*")) for day in ("20180725", "20190116")]


def _make_scene(folder: Path, name: str, first: int, stop: int, corner: tuple[int, float, float]) -> Scene:
    db = np.random.default_rng(first).normal(-12, 3, (2, SIDE_PX, stop - first)).astype(np.float32)
    epsg, west, north = corner
    place = from_origin(west + 10 * first, north, 10, 10)
    profile = {"driver": "GTiff", "dtype": "float32", "count": 1, "height": SIDE_PX, "width": stop - first}
    for pixels, polarisation in zip(db, ("VV", "VH"), strict=True):
        with rasterio.open(folder / f"{name}_{polarisation}.tif", "w", crs=epsg, transform=place, **profile) as file:
            file.write(pixels, 1)
    return Scene(name, first, db)


@pytest.fixture(scope="module")
def dataset(small_region: DemoRegion, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two scenes, of which one is closer to summer, and the other to winter; neither covers the whole tile."""
    folder = tmp_path_factory.mktemp("scenes-grids")
    products = _products(small_region)
    with rasterio.open(next(products[0].rglob("*_B02_10m.jp2"))) as image:
        corner = (image.crs.to_epsg(), image.transform.c, image.transform.f)
    (folder / "s1").mkdir()
    scenes = (
        _make_scene(folder / "s1", "S1B_IW_GRDH_1SDV_20180726T165131_20180726T165156_011_0D_1A2B_dB", 0, 250, corner),
        _make_scene(folder / "s1", "S1A_IW_GRDH_1SDV_20181222T165043_20181222T165108_013_1D_3C4D_dB", 90, 470, corner),
    )
    recipe = yaml.safe_load((ROOT / "reben_dask" / "recipes" / "bigearthnet_v1.yaml").read_text(encoding="utf-8"))
    recipe |= CHANGES | {"sentinel1": {"required": True, "max_days": 400}}
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    inputs = ("--s2", *products, "--landcover", small_region.landcover, "--s1-scenes", folder / "s1")
    options = ("--recipe", folder / "mine.yaml", "--export", "geotiff", "--out", folder / "out")
    done = run_here(*inputs, *options, *cluster.options)
    assert done.returncode == 0, done.stderr
    return Dataset(folder / "out", scenes)


def test_each_patch_has_the_closest_scene_that_covers_all_of_it(dataset: Dataset) -> None:
    partners = {name: dataset.partner(row) for name, row in dataset.table.iterrows()}
    assert {row: partner and partner[0] for row, partner in partners.items()} == {
        name: None if pd.isna(partner) else partner for name, partner in dataset.table["s1_name"].items()
    }
    alone = dataset.table[dataset.table["s1_name"].isna()]
    assert set(alone["x"]) == {3}
    assert set(alone["reason"]) <= {"no_sentinel1", "nodata", "too_little_labeled"}
    assert (alone["reason"] == "no_sentinel1").sum() > 5
    kept = dataset.kept
    used = {(grid, name.split("_")[0]) for grid, name in zip(kept["grid"], kept["s1_name"], strict=True)}
    assert used == {(1, "S1A"), (1, "S1B"), (2, "S1A"), (2, "S1B")}


def test_partners_of_one_place_in_two_grids_have_two_names(dataset: Dataset) -> None:
    pairs = dataset.kept[["s1_name", "grid"]].drop_duplicates()
    assert pairs["s1_name"].is_unique
    assert len(pairs) < len(dataset.kept), "no scene is the partner of two acquisitions"


def test_cubes_of_both_grids_have_their_own_backscatter(dataset: Dataset) -> None:
    for (tile, grid), rows in dataset.table.groupby(["tile", "grid"]):
        group = tile if grid == 1 else f"{tile}/grid{grid}"
        cube = zarr.open_array(dataset.out / "cubes.zarr" / group / "s1" / "db", mode="r")[:]
        side = PATCHES[grid] * PATCH_PX
        expected = np.full((2, side, side), np.nan, np.float32)
        for _, row in rows.iterrows():
            if partner := dataset.partner(row):
                top, left = row["y"] * PATCH_PX, row["x"] * PATCH_PX
                expected[:, top : top + PATCH_PX, left : left + PATCH_PX] = partner[1]
        np.testing.assert_array_equal(cube, expected)


def test_lmdb_has_the_partner_of_each_patch(dataset: Dataset) -> None:
    content, kept = dataset.content(), dataset.kept
    assert set(content) == set(kept.index) | {f"{name}_reference_map" for name in kept.index} | set(kept["s1_name"])
    for _, row in kept.iterrows():
        name, pixels = dataset.partner(row)
        tensors = load(content[name])
        np.testing.assert_array_equal([tensors["VV"], tensors["VH"]], pixels)


def test_the_tree_of_version_1_has_the_partner_of_each_patch(dataset: Dataset) -> None:
    patches = tree_readers.read_v1(dataset.out, tree_readers.V1_S1)
    products = {scene.short: "_".join(scene.name.split("_")[:9]) for scene in dataset.scenes}
    assert set(patches) == set(dataset.kept["s1_name"])
    for name, row in dataset.kept.drop_duplicates("s1_name").iterrows():
        partner, pixels = dataset.partner(row)
        patch = patches[partner]
        assert patch.bounds == tuple(row[["minx", "miny", "maxx", "maxy"]])
        assert patch.document["corresponding_s2_patch"] == name
        assert patch.document["scene_source"] == products["_".join(partner.split("_")[:5])]
        assert patch.time == pd.Timestamp(partner.split("_")[4], tz="UTC")
        if row["y"] == 2:
            images = [patch.images[polarisation] for polarisation in ("VV", "VH")]
            np.testing.assert_array_equal([image.pixels[0] for image in images], pixels)
            assert {image.bounds for image in images} == {patch.bounds}


def test_the_dataset_is_verified(dataset: Dataset) -> None:
    done = CliRunner().invoke(verify, [str(dataset.out), "--full"])
    assert done.exit_code == 0, done.output


# Published patches are those of the grid that is not shifted


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
        yield client


def test_published_patches_serve_the_grid_that_is_not_shifted(
    client: Client, small_region: DemoRegion, tmp_path: Path
) -> None:
    changes = CHANGES | {"sentinel1": {"required": False, "max_days": 6}}
    recipe = Recipe.model_validate({**load_recipe("bigearthnet-v1").model_dump(mode="json"), **changes})
    plan = make_plan(
        s2=[str(_products(small_region)[1])],
        landcover=str(small_region.landcover),
        recipe=recipe,
        sentinel1=Sentinel1Inputs(patches=str(small_region.s1)),
        published=Published(pairs=small_region.s1_pairs),
    )
    made = Dataset(build(client, plan, tmp_path / "out"), ())
    pairs = pd.read_csv(small_region.s1_pairs, index_col="s2_name")["s1_name"]
    kept = made.kept
    assert set(kept["grid"]) == {1, 2}
    assert kept["s1_name"][kept["grid"] == 2].isna().all()
    first = kept[kept["grid"] == 1]
    names = [pairs[f"{row['tile']}_{row['x']}_{row['y']}"] for _, row in first.iterrows()]
    assert first["s1_name"].tolist() == names
    content = made.content()
    assert set(content) == set(kept.index) | {f"{name}_reference_map" for name in kept.index} | set(names)
    for name in names:
        tensors = load(content[name])
        for polarisation in ("VV", "VH"):
            with rasterio.open(next(small_region.s1.rglob(f"{name}_{polarisation}.tif"))) as image:
                np.testing.assert_array_equal(tensors[polarisation], image.read(1))
    shifted = zarr.open_array(made.out / "cubes.zarr" / kept["tile"].iloc[0] / "grid2" / "s1" / "db", mode="r")
    assert np.isnan(shifted[:]).all()
