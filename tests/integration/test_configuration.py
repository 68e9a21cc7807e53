"""Settings: which of several holds, and where it comes from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import run_job

from reben_dask.cli.configuration import DEFAULTS_FILE
from reben_dask.run import run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty folder in which Dask looks for settings."""
    folder = tmp_path / "config"
    folder.mkdir()
    return folder


def _config(home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    keep = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    return subprocess.run(
        [sys.executable, "-m", "reben_dask", "config"],
        capture_output=True,
        text=True,
        env={**keep, "COLUMNS": "200", "DASK_CONFIG": str(home), **environment},
        check=False,
    )


def _row(done: subprocess.CompletedProcess[str], key: str) -> list[str]:
    assert done.returncode == 0, done.stderr
    return next(line for line in done.stdout.splitlines() if line.startswith(f"{key} ")).split()[1:]


def test_defaults_hold_where_nobody_says_otherwise(home: Path) -> None:
    done = _config(home)
    assert _row(done, "recipe") == ["reben", "default"]
    assert _row(done, "memory-limit") == ["default"]
    assert str(home / "reben.yaml") in done.stdout


def test_a_commented_copy_is_placed_once(home: Path) -> None:
    assert _config(home).returncode == 0
    copy = home / "reben.yaml"
    assert yaml.safe_load(copy.read_text()) is None
    whole = [line.removeprefix("# ") for line in copy.read_text().splitlines()]
    assert yaml.safe_load("\n".join(line for line in whole if ":" in line and "`" not in line)) is not None
    copy.write_text("reben:\n  workers: 3\n")
    assert _row(_config(home), "workers") == ["3", str(copy)]
    assert copy.read_text() == "reben:\n  workers: 3\n"


def test_the_environment_comes_before_files_and_later_files_before_earlier(home: Path) -> None:
    (home / "a.yaml").write_text("reben:\n  memory-limit: 1GiB\n  threads: 1\n  workers: 1\n")
    (home / "b.yaml").write_text("reben:\n  memory_limit: 2GiB\n  workers: 2\n")
    done = _config(home, DASK_REBEN__WORKERS="3")
    assert _row(done, "threads") == ["1", str(home / "a.yaml")]
    assert _row(done, "memory-limit") == ["2GiB", str(home / "b.yaml")]
    assert _row(done, "workers") == ["3", "DASK_REBEN__WORKERS"]


@pytest.mark.parametrize(
    ("content", "environment", "said"),
    [
        ("reben:\n  memry-limit: 1GiB\n", {}, "a.yaml: reben.memry-limit is not a setting; did you mean"),
        ("reben: 3\n", {}, "a.yaml: reben is 3, and not a section"),
        ("", {"DASK_REBEN__WORKER": "2"}, "DASK_REBEN__WORKER is not a setting; did you mean reben.workers?"),
    ],
)
def test_settings_that_are_none(home: Path, content: str, environment: dict[str, str], said: str) -> None:
    (home / "a.yaml").write_text(content)
    done = _config(home, **environment)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_every_setting_is_an_option_of_run() -> None:
    options = {option.removeprefix("--") for parameter in run.params for option in parameter.opts}
    assert yaml.safe_load(DEFAULTS_FILE.read_text())["reben"].keys() <= options


def test_options_come_before_settings(home: Path, small_inputs: list[object], tmp_path: Path) -> None:
    """The plan says what holds."""
    (home / "a.yaml").write_text("reben:\n  workers: 1\n  threads: 1\n  memory-limit: 5GiB\n")
    asked = [*small_inputs, "--out", tmp_path / "out", "--dry-run"]
    done = run_job(*asked, "--threads", 2, DASK_CONFIG=str(home), DASK_REBEN__MEMORY_LIMIT="6GiB")
    assert done.returncode == 0, done.stderr
    assert "embedded: 1 worker of 2 threads, 6.00 GiB each" in done.stdout


@pytest.mark.slow
def test_settings_of_an_embedded_cluster_are_not_in_the_way_of_another(
    home: Path, small_inputs: list[object], tmp_path: Path
) -> None:
    asked = [*small_inputs, "--out", tmp_path / "out", "--dry-run", "--scheduler", "tcp://127.0.0.1:9"]
    done = run_job(*asked, DASK_CONFIG=str(home), DASK_REBEN__WORKERS="2")
    assert done.returncode == 0, done.stderr
    assert "those of the scheduler at tcp://127.0.0.1:9" in done.stdout


def test_a_setting_that_is_none_stops_a_job(home: Path, small_inputs: list[object], tmp_path: Path) -> None:
    done = run_job(*small_inputs, "--out", tmp_path / "out", DASK_CONFIG=str(home), DASK_REBEN__WORKES="2")
    assert done.returncode == 2
    assert "DASK_REBEN__WORKES is not a setting; did you mean reben.workers?" in done.stderr
