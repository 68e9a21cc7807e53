"""A job sorts a land-cover map once, keeps the sorted copy beside its output, and takes one that is there."""

from __future__ import annotations

import shutil
from pathlib import Path
from subprocess import CompletedProcess

import pandas as pd
import pytest
from conftest import run_here
from processes import Cluster

from reben_dask.demo import DemoRegion
from reben_dask.sources.landcover import SortedMap, open_landcover, sort_landcover


@pytest.fixture(scope="module")
def two_runs(
    small_region: DemoRegion, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, int]]]:
    """A folder with two datasets, and what stood of the sorted map in it after each job: times by file."""
    folder = tmp_path_factory.mktemp("two")
    source = shutil.copy(small_region.landcover, folder / "map.gpkg")
    seen = []
    for out in ("first", "second"):
        done = _run(small_region, Path(source), folder / out, cluster)
        assert done.returncode == 0, done.stderr
        seen.append({str(path): path.stat().st_mtime_ns for path in folder.glob("map-*.parquet/*")})
    return folder, seen


def _run(small_region: DemoRegion, landcover: Path, out: Path, cluster: Cluster) -> CompletedProcess[str]:
    (product,) = small_region.s2.glob("*20180725*UVP*")
    return run_here("--s2", product, "--landcover", landcover, "--out", out, *cluster.options)


def test_the_copy_is_beside_the_output(two_runs: tuple[Path, list[dict[str, int]]]) -> None:
    folder, _ = two_runs
    source = open_landcover(str(folder / "map.gpkg"))
    assert SortedMap(folder / source.cache_name).polygons == 251
    assert {path.name for path in folder.iterdir()} == {"map.gpkg", source.cache_name, "first", "second"}


def test_the_next_job_takes_it_as_it_is(two_runs: tuple[Path, list[dict[str, int]]]) -> None:
    _, (after_first, after_second) = two_runs
    assert after_first
    assert after_first == after_second


def test_both_jobs_give_the_same(two_runs: tuple[Path, list[dict[str, int]]]) -> None:
    folder, _ = two_runs
    first, second = ((folder / out / "metadata.parquet").read_bytes() for out in ("first", "second"))
    assert first == second


def test_a_sorted_map_may_be_given(
    two_runs: tuple[Path, list[dict[str, int]]], small_region: DemoRegion, cluster: Cluster, tmp_path: Path
) -> None:
    folder, _ = two_runs
    sort_landcover(open_landcover(str(small_region.landcover)), tmp_path / "sorted.parquet")
    done = _run(small_region, tmp_path / "sorted.parquet", tmp_path / "out", cluster)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"sorted.parquet", "out"}
    expected = pd.read_parquet(folder / "first" / "metadata.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out" / "metadata.parquet"), expected)


def test_a_damaged_sorted_map(small_region: DemoRegion, cluster: Cluster, tmp_path: Path) -> None:
    sort_landcover(open_landcover(str(small_region.landcover)), tmp_path / "sorted.parquet")
    (tmp_path / "sorted.parquet" / "_landcover.json").write_text('{"version": 99}')
    done = _run(small_region, tmp_path / "sorted.parquet", tmp_path / "out", cluster)
    assert done.returncode == 1
    assert "convert the map again" in done.stderr
    assert "Traceback" not in done.stderr
