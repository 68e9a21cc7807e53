"""Ways to name a running scheduler."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import run_job
from processes import Cluster, status_of


def test_dask_configuration_names_the_scheduler(cluster: Cluster, tile_inputs: list[object], tmp_path: Path) -> None:
    done = run_job(*tile_inputs, "--out", tmp_path / "out", "--dry-run", DASK_SCHEDULER_ADDRESS=cluster.address)
    assert done.returncode == 0, done.stderr
    assert cluster.address.startswith("tcp://127.0.0.1:")
    assert f"those of the scheduler at {cluster.address}" in done.stdout


def test_dask_reben_is_the_same_command(cluster: Cluster, tile_inputs: list[object], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dask", "reben", *map(str, tile_inputs)]
    command += ["--out", str(tmp_path / "out"), "--scheduler", cluster.address, "--no-report"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert status_of(tmp_path / "out")["is_settled"]
