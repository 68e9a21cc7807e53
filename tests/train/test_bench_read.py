"""The benchmark of reads runs, and both ways read the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from conftest import ROOT


def test_reads_are_measured(tmp_path: Path) -> None:
    options = ("--patches", 16, "--batch", 8, "--rounds", 1, "--workers", 1, "--out", tmp_path)
    command = [sys.executable, ROOT / "tests" / "bench" / "bench_read.py", *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "read.json").read_text())
    assert min(found["cpu_us"].values()) > 0
    assert found["with_workers"].keys() == {"straightforward", "load_batches"}
