"""Software and settings with which nothing can be built: one sentence with the setting and what to do."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyproj
import pytest
import rasterio

from reben_dask import environment
from reben_dask.environment import dask_problem, jpeg2000_problem, library_problem, names_proj_data, proj_problem
from reben_dask.errors import ClusterError
from reben_dask.job.plan import needs_jpeg2000
from reben_dask.job.preflight import check_environment, inspect_worker
from reben_dask.sources.sentinel2 import read_tile

ALONE = """
import sys
{before}
import reben_dask as rb
from reben_dask.errors import RebenError
try:
    rb.build("out", s2="s2", landcover="map")
except RebenError as error:
    print(type(error).__name__, error)
"""
RUN = ("run", "--s2", "s2", "--landcover", "map", "--out", "out")
UNKNOWN_FCNTL = "sys.modules['fcntl'] = None"


def _run(script: str, **settings: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env={**os.environ, **settings}
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def _reben(*words: object, before: str = "", **settings: str) -> str:
    """Message of a command in a process of its own, its last line; the others are warnings of GDAL."""
    script = f"import sys\n{before}\nfrom reben_dask.cli import main\nmain({[*map(str, words)]!r})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env={**os.environ, **settings}
    )
    assert done.returncode == 1
    *others, last = done.stderr.splitlines()
    assert all(line.startswith("Warning 1: ") for line in others), done.stderr
    return last


# Windows


@pytest.mark.parametrize(
    "words", [("run", "--s2", "s2", "--landcover", "map", "--out", "out"), ("convert", "--s2", "s2", "out")]
)
def test_without_system_locks_nothing_is_built(words: tuple[str, ...]) -> None:
    assert _reben(*words, before=UNKNOWN_FCNTL) == (
        "Error: Datasets are built and converted on Linux, macOS, or Windows with WSL only: this Python has no module "
        "fcntl. Reading, verifying and training work here."
    )


def test_nor_from_python() -> None:
    said = _run(ALONE.format(before=UNKNOWN_FCNTL))
    assert said.startswith("SetupError Datasets are built and converted on Linux, macOS, or Windows with WSL only")


READ = """
import sys
sys.modules["fcntl"] = None
from click.testing import CliRunner
import reben_dask as rb
from reben_dask.cli import main

out = sys.argv[1]
# First, as an LMDB can be open only once in a process.
for words in (["verify", out], ["status", out], ["table", out]):
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
dataset = rb.open_dataset(out)
samples = dataset.samples(split="train")
print(len(samples), samples[0]["image"].shape)
print(dataset.patch(samples.patch_ids[0])["r20m"]["dn"].dims)
"""


@pytest.mark.slow
def test_reading_verifying_and_training_work_without(small_run: Path) -> None:
    done = subprocess.run([sys.executable, "-c", READ, small_run], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "('band', 'y', 'x')" in done.stdout


# Dask


@pytest.mark.slow
def test_query_planning_that_is_switched_off(tmp_path: Path) -> None:
    (tmp_path / "dask.yaml").write_text("dataframe:\n  query-planning: false\n")
    variable = "DASK_DATAFRAME__QUERY_PLANNING"
    setting = "Dask's configuration sets dataframe.query-planning: false"
    expected = {
        f"{setting} in {where}, which Dask no longer supports; remove it."
        for where in (tmp_path / "dask.yaml", f"the variable {variable}")
    }
    said = {_reben(*RUN, DASK_CONFIG=str(tmp_path)), _reben(*RUN, **{variable: "False"})}
    assert said == {f"Error: {message}" for message in expected}
    assert _run(ALONE.format(before=""), DASK_CONFIG=str(tmp_path)).removeprefix("SetupError ").strip() in expected


def test_other_settings_of_dask_are_none_of_our_business() -> None:
    assert dask_problem() is None


# PROJ


@pytest.fixture(params=["old", "none"])
def other_proj(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """PROJ data of an older installation, or a folder without any."""
    if request.param == "old":
        database = tmp_path / "proj.db"
        database.write_bytes(Path(pyproj.datadir.get_data_dir(), "proj.db").read_bytes())
        with sqlite3.connect(database) as connection:
            connection.execute("UPDATE metadata SET value = '0' WHERE key = 'DATABASE.LAYOUT.VERSION.MINOR'")
        connection.close()
    return tmp_path


@pytest.mark.parametrize("setting", ["PROJ_DATA", "PROJ_LIB"])
@pytest.mark.parametrize("words", [RUN, ("demo", "region")])
def test_proj_data_of_another_installation(other_proj: Path, setting: str, words: tuple[str, ...]) -> None:
    said = _reben(*words, **{setting: str(other_proj)})
    assert said.startswith(
        f"Error: {setting}={other_proj} gives the PROJ data of another installation, in which rasterio"
    )
    assert said.endswith(f"; unset {setting}.")


def test_proj_data_that_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not names_proj_data()
    monkeypatch.setenv("PROJ_DATA", str(Path(rasterio.__file__).parent / "proj_data"))
    assert names_proj_data()
    assert proj_problem() is None


# JPEG 2000


def test_this_installation_reads_everything() -> None:
    assert jpeg2000_problem() is None
    assert library_problem(jpeg2000=True) is None


@pytest.mark.slow
def test_a_driver_that_is_left_out(tmp_path: Path, small_inputs: list[object]) -> None:
    words = ("run", *small_inputs, "--out", tmp_path / "out")
    assert _reben(*words, GDAL_SKIP="JP2OpenJPEG") == (
        "Error: GDAL has no driver for JPEG 2000 (GDAL_SKIP=JP2OpenJPEG leaves it out), in which the images of "
        "Sentinel-2 products are; unset GDAL_SKIP."
    )
    assert not (tmp_path / "out").exists()


@pytest.fixture
def without_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the check find no driver, as with conda's GDAL, of which it is a package of its own."""
    monkeypatch.setattr(environment, "jpeg2000_problem", lambda: "GDAL has no driver for JPEG 2000.")


@pytest.mark.usefixtures("without_driver")
def test_a_worker_without_the_driver(tmp_path: Path) -> None:
    (tmp_path / "probe").write_text(tmp_path.name)
    found = inspect_worker([], str(tmp_path / "probe"), jpeg2000=True)
    here = inspect_worker([], str(tmp_path / "probe"))
    assert (found.problem, here.problem) == ("GDAL has no driver for JPEG 2000.", None)
    with pytest.raises(ClusterError, match=r"^Worker w cannot do the work: GDAL has no driver for JPEG 2000.$"):
        check_environment("w", found, here)


def test_images_in_geotiff_need_no_driver(small_folders: list[Path]) -> None:
    tile = read_tile(small_folders[0])
    assert needs_jpeg2000([tile])
    images = {name: replace(image, source=image.source.replace(".jp2", ".tif")) for name, image in tile.images.items()}
    assert not needs_jpeg2000([replace(tile, images=images)])
