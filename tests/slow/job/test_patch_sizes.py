"""Patches of other sizes, from the cubes to shards, trees of GeoTIFFs and verification, against the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import oracle
import pytest
import rasterio
from building import build
from click.testing import CliRunner
from datasets import Dataset
from distributed import Client

from reben_dask.cli.verify import verify
from reben_dask.demo import DemoRegion
from reben_dask.errors import InputError
from reben_dask.job.plan import make_plan
from reben_dask.recipes import Recipe, load_recipe

BANDS = ("B02", "B05", "B01")
SHARDS = 2
PATCHES = {420: 12**2, 1680: 3**2}
NAMES = {420: ("_00_11", "_11_00"), 1680: ("_0_2", "_2_0")}


def _recipe(patch_size_m: int) -> Recipe:
    changes = {"bands": BANDS, "patch_size_m": patch_size_m}
    return Recipe.model_validate(load_recipe("reben").model_dump(mode="json") | changes)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
        yield client


@pytest.fixture(scope="module")
def product(small_folders: list[Path]) -> Path:
    return next(path for path in small_folders if "20190116" in path.name and "T33UVP" in path.name)


@pytest.fixture(scope="module", params=sorted(PATCHES))
def side_m(request: pytest.FixtureRequest) -> Iterator[int]:
    """Side of a patch, for the job and for the oracle."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oracle, "PATCH_M", request.param)
        yield request.param


@pytest.fixture(scope="module")
def dataset(
    client: Client, side_m: int, product: Path, small_region: DemoRegion, tmp_path_factory: pytest.TempPathFactory
) -> Dataset:
    plan = make_plan(
        s2=[str(product)],
        landcover=str(small_region.landcover),
        countries=str(small_region.countries),
        recipe=_recipe(side_m),
        lmdb_shards=SHARDS,
        exports=["geotiff"],
    )
    out = build(client, plan, tmp_path_factory.mktemp(f"patches-{side_m}") / "out")
    protocol = replace(oracle.REBEN, bands=BANDS)
    patches = oracle.patches_of(product, small_region.landcover, small_region.countries, protocol)
    return Dataset(out, "", {patch.patch_id: patch for patch in patches})


def test_every_candidate_and_column(dataset: Dataset, side_m: int) -> None:
    assert len(dataset.patches) == PATCHES[side_m]
    assert {patch.reason for patch in dataset.patches.values()} == {None, "label"}
    for end in NAMES[side_m]:
        assert any(name.endswith(f"_T33UVP{end}") for name in dataset.patches)
    datasets.expect_every_candidate(dataset)
    datasets.expect_columns(dataset, {"split": {name: patch.split for name, patch in dataset.patches.items()}})
    datasets.expect_footprints(dataset)


def test_every_pixel(dataset: Dataset) -> None:
    datasets.expect_cubes(dataset)
    datasets.expect_places_of_cubes(dataset, 1)


def test_metadata_and_shards(dataset: Dataset) -> None:
    datasets.expect_metadata(dataset)
    datasets.expect_lmdb(dataset)
    datasets.expect_index_of_shards(dataset, SHARDS)


def test_the_trees(dataset: Dataset) -> None:
    for tree, files in (("BigEarthNet-S2", BANDS), ("Reference_Maps", ("reference_map",))):
        folders = {path.name for path in dataset.out.glob(f"{tree}/*/*")}
        assert folders == set(dataset.kept)
        for name, patch in dataset.kept.items():
            for file in files:
                with rasterio.open(dataset.out / tree / patch.tile / name / f"{name}_{file}.tif") as image:
                    assert tuple(image.bounds) == patch.bounds
                    assert image.crs.to_epsg() == patch.epsg
                    pixels = patch.reference_map if tree == "Reference_Maps" else patch.bands[file]
                    np.testing.assert_array_equal(image.read(1), pixels)


def test_the_dataset_is_verified(dataset: Dataset) -> None:
    done = CliRunner().invoke(verify, [str(dataset.out), "--full"])
    assert done.exit_code == 0, done.output
    assert f"{len(dataset.kept)} patches: complete and consistent." in done.output


def test_a_patch_that_is_larger_than_its_tile(product: Path, small_region: DemoRegion) -> None:
    inputs = {"s2": [str(product)], "landcover": str(small_region.landcover)}
    assert make_plan(**inputs, recipe=_recipe(5_040)).candidates == 1
    with pytest.raises(InputError) as caught:
        make_plan(**inputs, recipe=_recipe(5_100))
    tile = product.name.rsplit("_", 1)[0]
    assert str(caught.value) == f"The tile {tile} is smaller than one patch of 5100 m."
