"""GeoPackages on disks without locks are read without them, and are not called locked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import geopandas as gpd
import pyogrio
import pytest
import shapely

from reben_dask.sources import vector_files
from reben_dask.sources.landcover import open_landcover, sort_landcover
from reben_dask.sources.vector_files import without_locks

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("mine", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def landcover(tmp_path: Path) -> Path:
    """A map with one polygon."""
    path = tmp_path / "U2018_CLC2018_V2020_20u1.gpkg"
    table = gpd.GeoDataFrame({"Code_18": ["211"]}, geometry=[shapely.box(0, 0, 1, 1)], crs=3035)
    pyogrio.write_dataframe(table, path, layer=path.stem)
    return path


@pytest.fixture(autouse=True)
def locks_of_gdal() -> Iterator[None]:
    """Restore the settings of GDAL, which are those of the process."""
    yield
    pyogrio.set_gdal_config_options({"SQLITE_USE_OGR_VFS": None})


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock: to SQLite, a disk on which every lock fails is one on which another has it."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "mine\n"
        yield
        process.kill()


def test_a_map_on_a_disk_without_locks_is_read(
    landcover: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_files, "supports_record_locks", lambda _: False)
    with _locked(landcover):
        made = sort_landcover(open_landcover(str(landcover)), tmp_path / "sorted.parquet", lambda _: None)
    assert made.polygons == 1


@pytest.mark.parametrize("has_locks", [False, True])
@pytest.mark.parametrize(("name", "is_database"), [("a.gpkg", True), ("a.parquet", False), ("/vsizip/a.gpkg", False)])
def test_only_databases_need_locks(
    name: str, monkeypatch: pytest.MonkeyPatch, *, is_database: bool, has_locks: bool
) -> None:
    monkeypatch.setattr(vector_files, "supports_record_locks", lambda _: has_locks)
    assert without_locks(name) == (is_database and not has_locks)
