"""The benchmarks run, on the small region and few tiles, and what they say of exactness and order holds."""

from __future__ import annotations

import json
import subprocess
import sys
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from reben_dask.demo import DemoRegion
from reben_dask.job.scheduling import BATCHES_IN_FLIGHT

BENCH = ROOT / "tests" / "bench"
BATCH = 8


def _run(script: str, *arguments: object) -> str:
    command = [sys.executable, str(BENCH / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tile(small_region: DemoRegion, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("bench")
    _run("bench_tile.py", "--region", small_region.s2.parent, "--sample", 2, "--out", out)
    found: dict[str, Any] = json.loads((out / "tile.json").read_text())
    return found


def test_each_stage_is_measured(tile: dict[str, Any]) -> None:
    assert len(tile["stages"]) == 14
    assert all(stage["wall_s"] > 0 and stage["peak_bytes"] > 2**20 for stage in tile["stages"].values())
    assert len(tile["ratios"]) == 6
    assert all(map(isfinite, tile["ratios"].values()))
    assert tile["machine"]["cores"] > 0


def test_the_map_is_that_of_each_patch_by_itself(tile: dict[str, Any]) -> None:
    assert tile["exactness"] == {"patches": 16, "pixels": 16 * 120 * 120, "different": 0} | {
        "farthest_from_an_edge_m": None
    }


def test_the_number_of_workers_does_not_matter(tile: dict[str, Any]) -> None:
    assert tile["same_digest_with_1_and_2_workers"] is True


def test_a_job_larger_than_the_window(tmp_path: Path) -> None:
    tiles = BATCH * BATCHES_IN_FLIGHT + 6
    _run("bench_scale.py", tiles, "--batch", BATCH, "--polygons", 1_000, "--out", tmp_path)
    (found,) = json.loads((tmp_path / "scale.json").read_text())["tiles"]
    assert found["tiles"] == tiles
    assert found["tasks"] == 15 * tiles
    assert found["tasks_at_once"] <= 15 * BATCH * BATCHES_IN_FLIGHT


def test_codecs(small_region: DemoRegion) -> None:
    product = next(path for path in small_region.s2.iterdir() if path.is_dir())
    table = _run("bench_codecs.py", product, "--patches", 13).splitlines()
    assert len(table) == 3 + 12


def test_conversion_gives_what_the_naive_way_gives(tmp_path: Path) -> None:
    _run("bench_convert.py", "--patches", 6, "--out", tmp_path)
    assert json.loads((tmp_path / "convert.json").read_text())["same_content"] is True
