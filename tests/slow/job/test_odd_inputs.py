"""Inputs that are in order and yet odd: names with spaces and letters of any language, relative paths, empty tiles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from conftest import maps_of, run_here
from digest import digest_of
from processes import Cluster

from reben_dask.cli import main
from reben_dask.demo import DemoRegion

ODD = "Ünï côdé 東京 {0} 'a' \"b\" %s (1), &"


def _odd_inputs(inputs: list[object], folder: Path) -> list[str]:
    """Inputs at odd places, as they are called there."""
    odd = []
    for option, path in zip(inputs[::2], inputs[1::2], strict=True):
        source = Path(str(path))
        copied = folder / f"{ODD} {source.name}"
        shutil.copytree(source, copied) if source.is_dir() else shutil.copy(source, copied)
        odd += [str(option), copied.name]
    return odd


def test_odd_names_and_relative_paths_make_no_difference(
    three_inputs: list[object],
    three_digest: dict[str, str],
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / ODD
    folder.mkdir()
    inputs = _odd_inputs(three_inputs, folder)
    for path in folder.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    monkeypatch.chdir(folder)
    out = f"out {ODD}"
    done = run_here(*inputs, "--out", out, *cluster.options)
    assert done.returncode == 0, done.stderr
    assert digest_of(folder / out) == three_digest


@pytest.fixture(scope="module")
def empty_product(small_region: DemoRegion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small product without a single pixel."""
    (source,) = small_region.s2.glob("*20180725*UVP*")
    product = shutil.copytree(source, tmp_path_factory.mktemp("empty") / source.name)
    (product / "manifest.safe").unlink()
    for image in product.rglob("*.jp2"):
        with rasterio.open(image) as dataset:
            profile, nothing = dataset.profile, np.zeros((1, *dataset.shape), dataset.dtypes[0])
        with rasterio.open(image, "w", **{**profile, "QUALITY": "100", "REVERSIBLE": "YES"}) as dataset:
            dataset.write(nothing)
    return product


def test_a_tile_without_pixels_is_a_tile_whose_patches_are_rejected(
    empty_product: Path, small_region: DemoRegion, cluster: Cluster, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run_here("--s2", empty_product, *maps_of(small_region), "--out", out, *cluster.options)
    assert done.returncode == 3, done.stderr
    assert "No patch was kept" in done.stdout
    reasons = duckdb.sql(f"SELECT DISTINCT status, reason FROM '{out}/patches.parquet/*.parquet'").fetchall()  # noqa: S608
    assert reasons == [("rejected", "nodata")]
    assert json.loads((out / "run" / "record.json").read_text())["counts"]["status"] == {"rejected": 16}
    for command in ("verify", "report"):
        done = CliRunner().invoke(main, [command, str(out)])
        assert done.exit_code == 0, done.output
