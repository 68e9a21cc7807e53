"""The same job on an embedded cluster and on one started from the shell."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import lmdb
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from acquisitions import acquire_again, sky
from conftest import ROOT, run_job
from digest import digest_of
from processes import Cluster

from reben_dask.demo import DemoRegion


@pytest.fixture(scope="module")
def scheduler_file(cluster: Cluster) -> Path:
    """A real scheduler and two real workers, as processes."""
    return cluster.file


@pytest.fixture(scope="module")
def remote_run(scheduler_file: Path, mini_inputs: list[object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("remote") / "out"
    done = run_job(*mini_inputs, "--out", out, "--scheduler-file", scheduler_file, "--lmdb-shards", 3)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("name", ["metadata.parquet", "metadata_for_patches_with_snow_cloud_or_shadow.parquet"])
def test_metadata_has_the_same_bytes(mini_run: Path, remote_run: Path, name: str) -> None:
    assert (remote_run / name).read_bytes() == (mini_run / name).read_bytes()


def test_patch_table_has_the_same_bytes(mini_run: Path, remote_run: Path) -> None:
    ours, theirs = (sorted((run / "patches.parquet").iterdir()) for run in (mini_run, remote_run))
    assert [part.name for part in ours] == [part.name for part in theirs]
    assert [part.read_bytes() for part in ours] == [part.read_bytes() for part in theirs]


def test_cubes_have_the_same_arrays(mini_run: Path, remote_run: Path) -> None:
    ours, theirs = (xr.open_datatree(run / "cubes.zarr", engine="zarr") for run in (mini_run, remote_run))
    assert sum(np.any(node["dn"].values) for node in ours.leaves if "dn" in node) == 3
    xr.testing.assert_identical(ours.load(), theirs.load())


def test_shards_hold_what_the_single_environment_holds(mini_run: Path, remote_run: Path) -> None:
    index = json.loads((remote_run / "lmdb" / "index.json").read_text())
    assert len(index["shards"]) == 3
    pieces = [_content(remote_run / "lmdb" / shard["path"]) for shard in index["shards"]]
    for shard, piece in zip(index["shards"], pieces, strict=True):
        patches = sorted(key.decode() for key in piece if not key.endswith(b"_reference_map"))
        assert (patches[0], patches[-1], len(patches)) == (shard["first"], shard["last"], shard["patches"])
    together = {key: value for piece in pieces for key, value in piece.items()}
    assert sum(map(len, pieces)) == len(together)
    assert together == _content(mini_run / "lmdb")


# What is decided once all tiles are in the patch table: images of a place, and sets of ground


@pytest.fixture(scope="module")
def seen_twice(
    demo_folders: list[Path], demo_region: DemoRegion, tmp_path_factory: pytest.TempPathFactory
) -> list[object]:
    """Arguments for a job that has to choose between two images of a tile, and to split it together with another."""
    folder = tmp_path_factory.mktemp("seen-twice")
    west, east = sorted(path for path in demo_folders if "20180725" in path.name)
    for day in (5, 15):
        hazy = sky(510, day, snow=(0,), cloud=(0, 45, 90), shadow=(0, 45))
        acquire_again(west, folder, datetime(2018, 7, day, 10, 0, 31, tzinfo=UTC), scl=hazy)
    recipe = yaml.safe_load((ROOT / "reben_dask" / "recipes" / "seasonet.yaml").read_text(encoding="utf-8"))
    recipe |= {"name": "mine", "bands": ["B01", "B05"], "attributes": {}}
    recipe["split"] |= {"block_m": 4800, "validation": 0.2}
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return ["--s2", east, folder, "--landcover", demo_region.landcover, "--recipe", folder / "mine.yaml"]


def test_the_second_look_is_the_same_on_both(scheduler_file: Path, seen_twice: list[object], tmp_path: Path) -> None:
    address = json.loads(scheduler_file.read_text())["address"]
    embedded, remote = tmp_path / "embedded", tmp_path / "remote"
    here = ("--workers", 2, "--threads", 1, "--dashboard-address", ":0")
    for out, options in ((embedded, here), (remote, ("--scheduler", address, "--lmdb-shards", 2))):
        done = run_job(*seen_twice, "--out", out, *options)
        assert done.returncode == 0, done.stderr
    assert address.startswith("tcp://127.0.0.1:")
    assert digest_of(remote) == digest_of(embedded)
    assert (remote / "run" / "counts.csv").read_bytes() == (embedded / "run" / "counts.csv").read_bytes()
    table = pd.read_parquet(remote / "patches.parquet").astype(object)
    kept = table[table["status"] == "kept"]
    chosen = kept[kept["tile"].str.endswith("T33UVP")]
    assert chosen["tile"].nunique() == 2, "always the same image is the clearest"
    assert (table["reason"] == "not_chosen").sum() > 10
    assert set(kept["split"].fillna("none")) == {"train", "validation", "test", "none"}


def test_dask_configuration_names_the_scheduler(
    scheduler_file: Path, mini_inputs: list[object], tmp_path: Path
) -> None:
    address = json.loads(scheduler_file.read_text())["address"]
    done = run_job(*mini_inputs, "--out", tmp_path / "out", "--dry-run", DASK_SCHEDULER_ADDRESS=address)
    assert done.returncode == 0, done.stderr
    assert f"those of the scheduler at {address}" in done.stdout


def test_dask_reben_is_the_same_command(scheduler_file: Path, mini_inputs: list[object], tmp_path: Path) -> None:
    address = json.loads(scheduler_file.read_text())["address"]
    command = [sys.executable, "-m", "dask", "reben", *map(str, mini_inputs)]
    command += ["--out", str(tmp_path / "out"), "--scheduler", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "metadata.parquet").is_file()


def _content(path: Path) -> dict[bytes, bytes]:
    environment = lmdb.open(str(path), readonly=True, lock=False, create=False)
    try:
        with environment.begin() as transaction:
            return dict(transaction.cursor())
    finally:
        environment.close()
