"""Bad input ends in one clear sentence and a non-zero exit, and leaves nothing that looks finished."""

from __future__ import annotations

import shutil
from pathlib import Path

import geopandas as gpd
import pytest
from conftest import run_here
from processes import Cluster

from reben_dask.demo import DemoRegion

FINISHED = ("cubes.zarr", "patches.parquet", "metadata.parquet", "lmdb", "run")


@pytest.fixture
def product(small_region: DemoRegion, tmp_path: Path) -> Path:
    """A copy of a small product that a test may damage."""
    (source,) = small_region.s2.glob("*20180725*UVP*")
    copy = tmp_path / "products" / source.name
    shutil.copytree(source, copy, copy_function=shutil.copyfile)
    return copy


@pytest.fixture
def landcover(small_region: DemoRegion) -> Path:
    return small_region.landcover


def _refused(*arguments: object, out: Path) -> str:
    """Run the job, which must fail cleanly, and give its one sentence."""
    done = run_here(*arguments, "--out", out)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    assert not [name for name in FINISHED if (out / name).exists()]
    message = done.stderr.strip()
    assert message.count("\n") == 0, message
    assert message.startswith("Error: ")
    return message


def _image(product: Path, name: str) -> Path:
    return next(product.rglob(f"*_{name}.jp2"))


def test_no_product(landcover: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    message = _refused("--s2", tmp_path / "empty", "--landcover", landcover, out=tmp_path / "out")
    assert "No Sentinel-2 L2A product found" in message
    assert ".SAFE" in message


def test_a_product_without_a_band(product: Path, landcover: Path, tmp_path: Path) -> None:
    _image(product, "B11_20m").unlink()
    message = _refused("--s2", product, "--landcover", landcover, out=tmp_path / "out")
    assert "B11" in message
    assert "download it again" in message


def test_a_truncated_image(product: Path, landcover: Path, cluster: Cluster, tmp_path: Path) -> None:
    image = _image(product, "B08_10m")
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    message = _refused("--s2", product.parent, "--landcover", landcover, *cluster.options, out=tmp_path / "out")
    assert "B08" in message
    assert str(image) in message
    assert "download it again" in message


def test_debug_shows_the_traceback(landcover: Path, tmp_path: Path) -> None:
    done = run_here("--s2", tmp_path / "none", "--landcover", landcover, "--out", tmp_path / "out", "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def _map_with(landcover: Path, path: Path, **columns: object) -> Path:
    table = gpd.read_file(landcover).assign(**columns)
    table.to_file(path, driver="GPKG")
    return path


def test_a_map_without_a_code_column(product: Path, landcover: Path, tmp_path: Path) -> None:
    table = gpd.read_file(landcover).rename(columns={"Code_18": "Kode_18"})
    table.to_file(tmp_path / "map.gpkg", driver="GPKG")
    message = _refused("--s2", product, "--landcover", tmp_path / "map.gpkg", out=tmp_path / "out")
    assert "did you mean Kode_18?" in message
    assert "--code-column" in message


def test_an_unknown_code(product: Path, landcover: Path, cluster: Cluster, tmp_path: Path) -> None:
    path = _map_with(landcover, tmp_path / "map.gpkg", Code_18="777")
    message = _refused("--s2", product, "--landcover", path, *cluster.options, out=tmp_path / "out")
    assert "does not know: 777" in message
    assert "nomenclature" in message


def test_an_output_that_is_not_empty(product: Path, landcover: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    message = _refused("--s2", product, "--landcover", landcover, out=out)
    assert "thesis.txt" in message
    assert "--overwrite" in message
    assert (out / "thesis.txt").read_text() == "mine"


def test_an_unreachable_scheduler(product: Path, landcover: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run_here("--s2", product, "--landcover", landcover, "--out", out, "--scheduler", "tcp://127.0.0.1:9")
    assert done.returncode == 1
    assert "tcp://127.0.0.1:9" in done.stderr
    assert "dask scheduler" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--scheduler", "tcp://127.0.0.1:9", "--workers", "2"], "--workers is for an embedded cluster"),
        (["--memory-limit", "lots"], "4GiB"),
        (["--memory-limit", "100MB"], "give it more memory (--memory-limit)"),
        (["--recipe", "rebn"], "did you mean reben?"),
        (["--lmdb-shard", "2"], "--lmdb-shards"),
    ],
)
def test_contradictions_and_slips(small_inputs: list[object], tmp_path: Path, arguments: list[str], hint: str) -> None:
    done = run_here(*small_inputs, "--out", tmp_path / "out", *arguments)
    assert done.returncode != 0
    assert hint in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_overwrite_replaces_only_a_complete_dataset(
    product: Path, landcover: Path, cluster: Cluster, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["--landcover", landcover, "--out", out, *cluster.options]
    assert run_here("--s2", product, *arguments).returncode == 0
    (out / "thesis.txt").write_text("mine")
    before = (out / "metadata.parquet").read_bytes()

    image = _image(product, "B08_10m")
    whole = image.read_bytes()
    image.write_bytes(whole[:1000])
    assert run_here("--s2", product, *arguments, "--overwrite").returncode == 1
    assert (out / "metadata.parquet").read_bytes() == before

    image.write_bytes(whole)
    (out / "metadata.parquet").write_bytes(b"old")
    assert run_here("--s2", product, *arguments, "--overwrite").returncode == 0
    assert (out / "metadata.parquet").read_bytes() == before
    assert (out / "thesis.txt").read_text() == "mine"
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_a_map_of_somewhere_else_is_noticed(product: Path, data_dir: Path, cluster: Cluster, tmp_path: Path) -> None:
    elsewhere = data_dir / "landcover" / "clc2018_lanjaron_3035.gpkg"
    done = run_here("--s2", product, "--landcover", elsewhere, "--out", tmp_path / "out", *cluster.options)
    assert done.returncode == 3, done.stderr
    assert "lies outside the land-cover map" in done.stdout
    assert "No patch was kept" in done.stdout
    assert set(gpd.read_parquet(tmp_path / "out" / "patches.parquet")["status"]) == {"rejected"}
