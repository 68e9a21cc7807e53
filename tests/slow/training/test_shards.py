"""A dataset that the real command made in shards trains like one with a single environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import run_here
from processes import Cluster

from reben_dask.formats.lmdb import ShardIndex
from reben_dask.training import close_environments, lmdb_samples

BANDS = ("B02", "B05", "B01")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close the environments afterwards: LMDB opens a path once in a process."""
    yield
    close_environments()


@pytest.fixture(scope="module")
def sharded_run(three_inputs: list[object], cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards") / "out"
    done = run_here(*three_inputs, "--lmdb-shards", 3, "--out", out, *cluster.options)
    assert done.returncode == 0, done.stderr
    return out


def test_every_patch_of_every_shard_is_that_of_the_single_environment(sharded_run: Path, three_run: Path) -> None:
    sharded, single = lmdb_samples(sharded_run, bands=BANDS), lmdb_samples(three_run, bands=BANDS)
    assert sharded.patch_ids == single.patch_ids
    for number in range(len(single)):
        np.testing.assert_equal(sharded[number], single[number])
    index = ShardIndex.read(sharded_run / "lmdb")
    assert [shard.patches for shard in index.shards if not shard.patches] == []
    assert len(index.shards) == 3
    held = {name for name in sharded.patch_ids for shard in index.shards if shard.may_hold(name)}
    assert held == set(sharded.patch_ids)
