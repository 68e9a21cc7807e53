"""BigEarthNet v1 from the small region and from the mini product, against the oracle."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import datasets
import oracle
import protocols
import pytest
from conftest import run_here
from datasets import Dataset
from processes import Cluster

from reben_dask.demo import DemoRegion
from reben_dask.recipes import load_recipe

FIFTH = Fraction(1, 5)


def _build(inputs: list[object], out: Path) -> str:
    done = run_here(*inputs, "--recipe", "bigearthnet-v1", "--out", out)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _dataset(out: Path, printed: str, folders: list[Path], names: list[oracle.Product], *maps: Path) -> Dataset:
    protocol = protocols.bigearthnet_v1(names)
    patches = (patch for folder in folders for patch in oracle.patches_of(folder, *maps, protocol))
    return Dataset(out, printed, {patch.patch_id: patch for patch in patches})


@pytest.fixture(scope="module")
def small(
    small_inputs: list[object],
    small_region: DemoRegion,
    small_folders: list[Path],
    cluster: Cluster,
    tmp_path_factory: pytest.TempPathFactory,
) -> Dataset:
    out = tmp_path_factory.mktemp("small-v1") / "out"
    printed = _build([*small_inputs, *cluster.options], out)
    products = datasets.open_products(small_folders)
    return _dataset(out, printed, small_folders, products, small_region.landcover, small_region.countries)


@pytest.fixture(scope="module")
def mini(
    mini_inputs: list[object], data_dir: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Dataset:
    out = tmp_path_factory.mktemp("mini-v1") / "out"
    printed = _build([*mini_inputs, *cluster.options], out)
    folders = sorted((data_dir / "mini").glob("*.SAFE"))
    landcover = data_dir / "landcover" / "clc2018_poznan_3035.gpkg"
    countries = data_dir / "countries" / "ne_110m_admin_0_ten_countries.gpkg"
    return _dataset(out, printed, folders, datasets.open_products(folders), landcover, countries)


@pytest.fixture(params=["small", "mini"])
def dataset(request: pytest.FixtureRequest) -> Dataset:
    found: Dataset = request.getfixturevalue(request.param)
    return found


def test_the_cases_that_matter_are_there(small: Dataset, mini: Dataset) -> None:
    assert {patch.reason for patch in mini.patches.values()} == {None, "nodata", "label"}
    partly = [patch for patch in mini.kept.values() if 0 < patch.labeled_fraction < 0.75]
    assert partly, "no patch is kept that reBEN would reject"
    assert {patch.set_apart for patch in small.kept.values()} == {True, False}
    of_reben = set(oracle.CLASS_OF_CODE.values())
    assert any(set(patch.labels) - of_reben for patch in small.kept.values())


def test_every_candidate_is_on_record(small: Dataset, mini: Dataset) -> None:
    datasets.expect_every_candidate(small, left_out=16)
    datasets.expect_every_candidate(mini)


def test_names_are_those_of_version_1(small: Dataset, mini: Dataset) -> None:
    """The two tiles of a day have their product's name in common, and a patch of each would be called alike."""
    assert "S2B_MSIL2A_20180507T100029_0_7" in mini.rows
    assert "S2A_MSIL2A_20180725T100031_T33UVP_3_0" in small.rows
    assert "S2A_MSIL2A_20180725T100031_T33UWP_3_0" in small.rows
    assert "S2A_MSIL2A_20180416T100031_0_0" in small.rows  # the only product of its day
    warnings = json.loads((small.out / "run" / "record.json").read_text())["warnings"]
    assert sum("are named S2A_MSIL2A_20180725T100031_T33U" in warning for warning in warnings) == 2


def test_every_column_is_as_the_oracle_says(dataset: Dataset) -> None:
    splits = {
        "split": {name: protocols.random_split(name, FIFTH, FIFTH, 42) for name in dataset.patches},
        "split_grid": {name: protocols.grid_split(patch.x, patch.y, 1) for name, patch in dataset.patches.items()},
        "split_geographic": {name: patch.split for name, patch in dataset.patches.items()},
    }
    datasets.expect_columns(dataset, splits)
    datasets.expect_footprints(dataset)


def test_every_pixel_is_as_the_oracle_says(dataset: Dataset) -> None:
    datasets.expect_cubes(dataset)
    datasets.expect_places_of_cubes(dataset, 1)


def test_metadata_and_lmdb_hold_the_kept_patches(dataset: Dataset) -> None:
    datasets.expect_metadata(dataset)
    datasets.expect_lmdb(dataset)


def test_what_is_printed_agrees_with_the_patch_table(dataset: Dataset) -> None:
    datasets.expect_printed_funnel(dataset)
    datasets.expect_printed_sets(dataset)
    datasets.expect_counts_of_all_kept_patches(dataset)
    datasets.expect_recorded_counts(dataset)


def test_the_recipe_beside_the_dataset_builds_it_again(dataset: Dataset) -> None:
    assert load_recipe(str(dataset.out / "run" / "recipe.yaml")) == load_recipe("bigearthnet-v1")
