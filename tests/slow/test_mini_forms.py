"""The small real product in each form, from disk and by HTTP: the dataset is that of its ``.SAFE`` folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import MadeOnce, run_here
from digest import digest_of
from forms import PLANETARY_COMPUTER, with_offsets, write_cogs, write_eopf, write_l1c
from processes import Cluster
from serving import serving

from reben_dask.recipes import load_recipe

Job = Callable[..., Path]
COMPARED = ("metadata", "lmdb")


@pytest.fixture(scope="module")
def forms(data_dir: Path, made_once: MadeOnce) -> Path:
    """Forms of the product in folders of their own: as it is, and with offsets of -1000 in its metadata."""

    def make(folder: Path) -> None:
        mini = next((data_dir / "mini").glob("*.SAFE"))
        copy = with_offsets(mini, folder / "offset-safe")
        write_eopf(mini, folder / "eopf")
        write_cogs(mini, folder / "cogs")
        write_eopf(copy, folder / "offset-eopf")
        write_cogs(copy, folder / "offset-cogs")
        pc = {"assets": PLANETARY_COMPUTER, "offset_key": None, "product_metadata": "product-metadata"}
        write_cogs(copy, folder / "offset-pc", **pc)
        write_l1c(mini, folder / "l1c")

    return made_once("mini-forms", make)


@pytest.fixture
def job(mini_inputs: list[object], cluster: Cluster, tmp_path: Path) -> Job:
    """Runs a job on products instead of the small one."""

    def run(*products: object, recipe: object = "reben") -> Path:
        out = tmp_path / "out"
        done = run_here(*products, *mini_inputs[2:], "--out", out, "--recipe", recipe, *cluster.options)
        assert done.returncode == 0, done.stderr
        return out

    return run


def _same(out: Path, expected: Path) -> None:
    found, wanted = digest_of(out), digest_of(expected)
    compared = [name for name in wanted if name.startswith(COMPARED) or name.endswith(("/dn", "/reference_map"))]
    assert {name: found[name] for name in compared} == {name: wanted[name] for name in compared}
    tables = [pd.read_parquet(folder / "patches.parquet") for folder in (out, expected)]
    left, right = (table.drop(columns=["boa_add_offset", "boa_offset_source"]) for table in tables)
    pd.testing.assert_frame_equal(left, right)


def test_offsets_that_are_not_applied_change_no_pixel(forms: Path, job: Job, mini_run: Path) -> None:
    _same(job("--s2", forms / "offset-eopf"), mini_run)


@pytest.mark.parametrize("form", ["eopf", "cogs"])
def test_the_dataset_from_a_server(forms: Path, job: Job, mini_run: Path, form: str) -> None:
    product = next(path for path in (forms / form).iterdir() if path.suffix in (".zarr", ".json"))
    with serving(forms) as served:
        _same(job("--s2", f"{served.address}/{form}/{product.name}"), mini_run)


@pytest.fixture(scope="module")
def harmonized(mini_inputs: list[object], forms: Path, cluster: Cluster, made_once: MadeOnce) -> Path:
    """Folder of a recipe that harmonizes, and of the dataset of the folder with offsets by it."""

    def make(folder: Path) -> None:
        recipe = load_recipe("reben").model_dump(mode="json") | {"name": "harmonized", "harmonize": True}
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        options = ("--recipe", folder / "recipe.yaml", "--out", folder / "out", *cluster.options)
        done = run_here("--s2", forms / "offset-safe", *mini_inputs[2:], *options)
        assert done.returncode == 0, done.stderr

    return made_once("mini-harmonized", make)


@pytest.mark.parametrize("form", ["offset-eopf", "offset-cogs", "offset-pc"])
def test_offsets_are_applied_alike(forms: Path, job: Job, harmonized: Path, mini_run: Path, form: str) -> None:
    out = job("--s2", forms / form, recipe=harmonized / "recipe.yaml")
    _same(out, harmonized / "out")
    assert digest_of(out)["lmdb"] != digest_of(mini_run)["lmdb"]
    assert set(pd.read_parquet(out / "patches.parquet")["boa_add_offset"]) == {0}


def test_a_dataset_of_level_1c(forms: Path, job: Job, mini_run: Path) -> None:
    """The pixels are those of the L2A product: all but names, flags and B10 is the same."""
    out = job("--s2", forms / "l1c", recipe="bigearthnet-l1c")
    found, expected = (pd.read_parquet(folder / "patches.parquet") for folder in (out, mini_run))
    assert set(found["tile"]) == {expected["tile"].iloc[0].replace("L2A", "L1C")}
    same = ["x", "y", "status", "reason", "labels", "split", "country", "nodata", "geometry"]
    pd.testing.assert_frame_equal(found[same], expected[same])
    assert found[["snow_fraction", "cloud_fraction", "shadow_fraction"]].isna().all(axis=None)
    assert not found[["contains_seasonal_snow", "contains_cloud_or_shadow"]].any(axis=None)
    cubes = {name: digest for name, digest in digest_of(out).items() if name.endswith(("r10m/dn", "r20m/dn"))}
    before = {name: digest for name, digest in digest_of(mini_run).items() if name.endswith(("r10m/dn", "r20m/dn"))}
    assert {name.replace("L1C", "L2A"): digest for name, digest in cubes.items()} == before
    assert "from 1 Sentinel-2 L1C tile (2018)" in (out / "README.md").read_text()
