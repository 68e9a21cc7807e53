"""Opening and planning compute nothing, and the graph does not grow with the patches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import dask
import pytest
import rasterio

from reben_dask.job.graph import BatchGraph, batch_graph
from reben_dask.job.plan import Plan, make_plan
from reben_dask.recipes import load_recipe
from reben_dask.sources.landcover import sort_landcover
from reben_dask.sources.sentinel2 import find_products, open_tile, read_tile
from reben_dask.stores.cubes import create_store


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


def _graph(plan: Plan, folder: Path) -> BatchGraph:
    landcover = sort_landcover(plan.landcover, folder / "landcover")
    paths = {"cubes": folder / "cubes.zarr", "table": folder / "table"}
    return batch_graph(plan, plan.tiles, landcover, **paths, job=folder.name)


def _tasks(graph: BatchGraph) -> int:
    merged = {}
    for tasks in graph.stages.values():
        for task in tasks:
            merged.update(task.__dask_graph__())
    return len(merged)


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
    monkeypatch.setattr("reben_dask.sources.sentinel2.pixels.read_window", _refuse)
    cube = open_tile(read_tile(find_products([data_dir / "mini"])[0]))
    assert cube["r10m"].dn.shape == (4, 1068, 1068)


@pytest.mark.usefixtures("nothing_computes")
def test_building_the_graph_computes_and_writes_nothing(plan: Plan, tmp_path: Path) -> None:
    graph = _graph(plan, tmp_path)
    assert set(graph.stages) == {"bands", "labels", "patches"}
    assert graph.patches.npartitions == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["landcover"]


def test_tasks_do_not_depend_on_the_number_of_patches(plan: Plan, tmp_path: Path) -> None:
    fine = replace(plan, recipe=plan.recipe.model_copy(update={"patch_size_m": 300}))
    assert fine.candidates > 15 * plan.candidates
    assert _tasks(_graph(fine, tmp_path / "fine")) == _tasks(_graph(plan, tmp_path / "coarse"))
    assert fine.tasks == plan.tasks


def test_the_plan_counts_the_tasks_of_the_graph(plan: Plan, tmp_path: Path) -> None:
    assert abs(_tasks(_graph(plan, tmp_path)) - plan.tasks) <= 5


def test_partitions_have_the_columns_and_types_of_the_formats(plan: Plan, tmp_path: Path) -> None:
    graph = _graph(plan, tmp_path)
    for store in (tmp_path / "cubes.zarr", tmp_path / "table"):
        store.mkdir()
    create_store(tmp_path / "cubes.zarr", {})
    with dask.config.set(scheduler="synchronous"):
        found = graph.patches.compute()
    meta = graph.patches._meta
    assert list(found.columns) == list(meta.columns)
    assert {str(name): str(kind) for name, kind in found.dtypes.items()} == {
        str(name): str(kind) for name, kind in meta.dtypes.items()
    }
    assert found.crs == meta.crs == "EPSG:4326"
