"""Opening and planning compute nothing, and the graph does not grow with the patches."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import rasterio
from dask.delayed import Delayed
from dask.utils import key_split

from reben_dask.job.graph import TileGraph
from reben_dask.job.plan import Plan, make_plan
from reben_dask.recipes import load_recipe
from reben_dask.sources.landcover import sort_landcover
from reben_dask.sources.sentinel2 import find_products, read_tile
from reben_dask.sources.sentinel2.lazy_cube import open_tile


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("something was computed that should have stayed lazy")


@pytest.fixture
def plan(data_dir: Path) -> Plan:
    return make_plan(
        s2=[str(data_dir / "mini")],
        landcover=str(data_dir / "landcover" / "clc2018_poznan_3035.gpkg"),
        recipe=load_recipe("reben"),
        countries=str(data_dir / "countries" / "ne_110m_admin_0_ten_countries.gpkg"),
    )


def _tasks(plan: Plan, folder: Path) -> dict[str, Delayed]:
    """Tasks of all tiles by key."""
    landcover = sort_landcover(plan.landcover, folder / "landcover")
    graph = TileGraph(plan, landcover, folder / "cubes.zarr", folder / "table", job=folder.name)
    return {task.key: task for tile in plan.tiles for task in graph.tasks(tile).values()}


@pytest.mark.usefixtures("nothing_computes")
def test_planning_opens_no_image(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasterio, "open", _refuse)
    plan = make_plan(
        s2=[str(data_dir / "mini")],
        landcover=str(data_dir / "landcover" / "clc2018_poznan_3035.gpkg"),
        recipe=load_recipe("reben"),
    )
    assert plan.candidates == 64


@pytest.mark.usefixtures("nothing_computes")
def test_a_cube_opens_without_pixels(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reben_dask.sources.sentinel2.lazy_cube.read_window", _refuse)
    cube = open_tile(read_tile(find_products([data_dir / "mini"])[0]))
    assert cube["r10m"].dn.shape == (4, 1068, 1068)


@pytest.mark.usefixtures("nothing_computes")
def test_building_the_graph_computes_and_writes_nothing(plan: Plan, tmp_path: Path) -> None:
    tasks = _tasks(plan, tmp_path)
    assert Counter(key_split(key) for key in tasks) == {"band": 12, "scl": 1, "labels": 1, "patches": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["landcover"]


def test_tasks_do_not_depend_on_the_number_of_patches(plan: Plan, tmp_path: Path) -> None:
    fine = replace(plan, recipe=plan.recipe.model_copy(update={"patch_size_m": 300}))
    assert fine.candidates > 15 * plan.candidates
    assert len(_tasks(fine, tmp_path / "fine")) == len(_tasks(plan, tmp_path / "coarse"))
    assert fine.tasks == plan.tasks


def test_the_plan_counts_the_tasks_of_the_graph(plan: Plan, tmp_path: Path) -> None:
    graph = next(iter(reversed(_tasks(plan, tmp_path).values()))).__dask_graph__()
    assert len(graph) <= 16
    assert abs(len(graph) - plan.tasks) <= 3
