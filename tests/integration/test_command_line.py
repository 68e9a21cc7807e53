"""The command line: fixed names, several ways in, and a plan without a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import run_here

from reben_dask.cli import main
from reben_dask.cluster import loopback_unless_asked
from reben_dask.errors import ClusterError
from reben_dask.run import expand_values, run

FIXED = [
    "--s2",
    "--landcover",
    "--out",
    "--recipe",
    "--countries",
    "--s1",
    "--s1-pairs",
    "--s1-scenes",
    "--published",
    "--snow-list",
    "--cloud-list",
    "--scheduler",
    "--scheduler-file",
    "--workers",
    "--threads",
    "--memory-limit",
    "--dashboard-address",
    "--lmdb-shards",
    "--dry-run",
    "--overwrite",
    "--debug",
]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--s2", "a"], ["--s2", "a"]),
        (["--s2", "a", "b", "--out", "o"], ["--s2", "a", "--s2", "b", "--out", "o"]),
        (["--out", "o", "--s2", "a", "b"], ["--out", "o", "--s2", "a", "--s2", "b"]),
        (["--s2", "a", "--s2", "b", "c"], ["--s2", "a", "--s2", "b", "--s2", "c"]),
        (["--s2=a", "--out", "o"], ["--s2=a", "--out", "o"]),
        (["--dry-run"], ["--dry-run"]),
    ],
)
def test_s2_takes_all_the_values_that_follow(given: list[str], expected: list[str]) -> None:
    assert expand_values(given) == expected


def test_options_that_others_script_against() -> None:
    assert set(FIXED) <= {name for parameter in run.params for name in parameter.opts}


@pytest.mark.parametrize("module", ["reben_dask", "reben_dask.run"])
def test_help_teaches(module: str) -> None:
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: python -m ")
    assert "reben demo" in done.stdout


@pytest.mark.parametrize("arguments", [["run", "--help"], ["--s2", "x", "--help"]])
def test_options_alone_mean_run(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    assert "--landcover" in result.output


def test_an_unknown_command_is_explained() -> None:
    result = CliRunner().invoke(main, ["demmo"])
    assert result.exit_code == 2
    assert "Did you mean 'demo'?" in result.output


@pytest.mark.parametrize(
    ("given", "expected"),
    [(":8787", "127.0.0.1:8787"), ("8787", "127.0.0.1:8787"), ("0.0.0.0:1", "0.0.0.0:1"), ("node1:2", "node1:2")],
)
def test_the_dashboard_listens_on_loopback_unless_asked(given: str, expected: str) -> None:
    assert loopback_unless_asked(given) == expected


@pytest.mark.parametrize("given", ["99999999", "node1", ":", "node1:x", "node1:-1"])
def test_an_address_without_a_port(given: str) -> None:
    with pytest.raises(ClusterError, match=r"has no port from 0 to 65535; write it as :8787"):
        loopback_unless_asked(given)


@pytest.mark.slow
def test_a_script_that_its_workers_import_again(small_inputs: list[object], tmp_path: Path) -> None:
    """It has no guard; the last that it says is what to change, and nothing about ports."""
    inputs = dict(zip(map(str, small_inputs[::2]), map(str, small_inputs[1::2]), strict=True))
    script = tmp_path / "script.py"
    script.write_text(
        "from reben_dask.cluster import ClusterOptions\nfrom reben_dask.job.build import build\n"
        f"build({str(tmp_path / 'out')!r}, s2={inputs['--s2']!r}, landcover={inputs['--landcover']!r}, "
        "cluster=ClusterOptions(workers=1, dashboard_address=':0'))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0
    last = done.stderr.rstrip().splitlines()[-1]
    assert last.endswith('put the code that builds the dataset below: if __name__ == "__main__":')
    assert "--dashboard-address" not in done.stderr
    assert not (tmp_path / "out" / "metadata.parquet").exists()


def test_a_dry_run_prints_the_plan_and_writes_nothing(small_inputs: list[object], tmp_path: Path) -> None:
    done = run_here(*small_inputs, "--out", tmp_path / "out", "--dry-run")
    assert done.returncode == 0, done.stderr
    for words in ("80 candidates", "Tasks", "Disk", "Memory", "251 polygons", "bigearthnet19"):
        assert words in done.stdout
    assert not (tmp_path / "out").exists()
