"""Inputs that somebody looked at between two attempts of a job are the same; changed ones are named."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import geopandas as gpd
import pyogrio
import pytest
import shapely

from reben_dask.job.plan import LANDCOVER, Plan, changed_landcover, make_plan, origin_of, with_known_landcover
from reben_dask.job.sentinel1 import PublishedPartners
from reben_dask.recipes import load_recipe
from reben_dask.sources.landcover import LandcoverMap, open_landcover, sort_landcover
from reben_dask.sources.vector_files import files_on_disk
from reben_dask.workspace import differences

LAYER = "U2018_CLC2018_V2020_20u1"


@pytest.fixture
def landcover(data_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(data_dir / "landcover" / "clc2018_poznan_3035.gpkg", tmp_path / "map.gpkg"))


def _plan(data_dir: Path, landcover: Path, **more: str) -> Plan:
    return make_plan(s2=[str(data_dir / "mini")], landcover=str(landcover), recipe=load_recipe("reben"), **more)


def _sorted(plan: Plan, folder: Path) -> Path:
    assert isinstance(plan.landcover, LandcoverMap)
    return sort_landcover(plan.landcover, folder / plan.landcover.cache_name).folder


def _look_with_qgis(landcover: Path) -> None:
    """Write-ahead logging is switched on and off, which changes the header of the file."""
    before = landcover.read_bytes()
    with sqlite3.connect(landcover) as database:
        database.execute("PRAGMA journal_mode = wal").fetchall()
        database.execute("SELECT count(*) FROM gpkg_contents").fetchall()
        database.execute("PRAGMA journal_mode = delete").fetchall()
    database.close()
    os.utime(landcover, (2_000_000_000, 2_000_000_000))
    assert landcover.read_bytes() != before


def test_a_map_that_was_looked_at_is_the_same(data_dir: Path, landcover: Path, tmp_path: Path) -> None:
    first = _plan(data_dir, landcover)
    copy, origin = _sorted(first, tmp_path), origin_of(first)
    _look_with_qgis(landcover)
    second = _plan(data_dir, landcover)
    assert differences(origin, origin_of(second)) == ["another land-cover map: time of modification"]
    found = with_known_landcover(second, origin, tmp_path.joinpath)
    assert origin_of(found) == origin
    assert isinstance(found.landcover, LandcoverMap)
    assert tmp_path / found.landcover.cache_name == copy
    (note,) = set(found.warnings) - set(second.warnings)
    assert note == f"The file {landcover} has changed since the job began, but its codes and polygons are the same."


@pytest.mark.parametrize(
    "change",
    [
        f"UPDATE {LAYER} SET Code_18 = '112' WHERE fid = (SELECT min(fid) FROM {LAYER})",  # noqa: S608 - a constant
        f"DELETE FROM {LAYER} WHERE fid = (SELECT max(fid) FROM {LAYER})",  # noqa: S608 - a constant
    ],
)
def test_a_map_whose_content_changed_is_another(data_dir: Path, landcover: Path, tmp_path: Path, change: str) -> None:
    first = _plan(data_dir, landcover)
    copy, origin = _sorted(first, tmp_path), origin_of(first)
    with sqlite3.connect(landcover) as database:
        triggers = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            database.execute(f'DROP TRIGGER "{name}"')
        database.execute(change)
        database.execute("UPDATE gpkg_ogr_contents SET feature_count = NULL")
    database.close()
    os.utime(landcover, (2_000_000_000, 2_000_000_000))
    second = _plan(data_dir, landcover)
    assert with_known_landcover(second, origin, tmp_path.joinpath) is second
    found = changed_landcover(second, origin, tmp_path.joinpath)
    assert found is not None
    assert found.folder == copy
    assert origin_of(_plan(data_dir, copy)) == origin
    shutil.rmtree(copy)
    assert changed_landcover(second, origin, tmp_path.joinpath) is None


def test_countries_are_known_by_their_content(data_dir: Path, landcover: Path, tmp_path: Path) -> None:
    given = data_dir / "countries" / "ne_110m_admin_0_ten_countries.gpkg"
    table = gpd.read_file(given)
    table.to_parquet(tmp_path / "again.parquet")
    moved = table.set_geometry(table.translate(0.001))
    moved.to_parquet(tmp_path / "moved.parquet")
    paths = (given, tmp_path / "again.parquet", tmp_path / "moved.parquet")
    first, again, other = (origin_of(_plan(data_dir, landcover, countries=str(path))) for path in paths)
    assert first == again
    assert differences(first, other) == ["another country layer: names and borders"]


def test_what_other_programs_leave_is_no_input(tmp_path: Path) -> None:
    squares = gpd.GeoDataFrame({"Code_18": ["111"]}, geometry=[shapely.box(0, 0, 1, 1)], crs=3035)
    database, shape = tmp_path / "clc.gdb", tmp_path / "clc.shp"
    pyogrio.write_dataframe(squares, database, driver="OpenFileGDB")
    pyogrio.write_dataframe(squares, shape)
    before = [files_on_disk(str(path)) for path in (database, shape)]
    identities = [open_landcover(str(path)).identity for path in (database, shape)]
    (database / "_gdb.HOST.1234.5678.sr.lock").touch()
    (database / ".DS_Store").touch()
    (tmp_path / "clc.lock").touch()
    (tmp_path / ".clc.tmp").touch()
    assert [files_on_disk(str(path)) for path in (database, shape)] == before
    assert [open_landcover(str(path)).identity for path in (database, shape)] == identities
    assert {file.suffix for file in before[1]} >= {".shp", ".dbf", ".shx"}


def test_finder_leaves_no_patches_of_sentinel1(tmp_path: Path) -> None:
    (tmp_path / "S1A_IW_GRDH_1SDV_20180725T165043").mkdir()
    partners = PublishedPartners(SimpleNamespace(root=tmp_path), SimpleNamespace())  # type: ignore[arg-type]
    before = partners.identity()
    (tmp_path / ".DS_Store").touch()
    assert partners.identity() == before


@pytest.mark.parametrize(
    ("earlier", "now", "said"),
    [
        ({"layer": "CLC2018"}, {"layer": "CLC2012"}, "another land-cover map: layer 'CLC2012', before 'CLC2018'"),
        (
            {"bytes": {"a.gpkg": 1}, "modified_ns": {"a.gpkg": 1}, "layer": "a"},
            {"bytes": {"a.gpkg": 2}, "modified_ns": {"a.gpkg": 2}, "layer": "a"},
            "another land-cover map: size, time of modification",
        ),
        (None, {"layer": "a"}, "another land-cover map"),
    ],
)
def test_what_differs_is_named(earlier: object, now: object, said: str) -> None:
    assert differences({LANDCOVER: earlier}, {LANDCOVER: now}) == [said]
