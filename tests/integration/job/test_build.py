"""A job from Python is the job of the command line: the same options reach it, and the caller's cluster is used."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from distributed import Client

import reben_dask as rb
from reben_dask.cli import main
from reben_dask.cli.configuration import option_defaults
from reben_dask.errors import InputError
from reben_dask.job.build import Inputs
from reben_dask.job.run import JobResult
from reben_dask.options import ClusterOptions, JobOptions

Call = tuple[JobOptions, Any, dict[str, Any]]

ARGUMENTS: dict[str, Any] = {
    "s2": ["tiles", "more"],
    "landcover": "map.gpkg",
    "title": "Peat bogs",
    "recipe": "seasonet",
    "countries": "countries.gpkg",
    "s1": "s1",
    "s1_pairs": "pairs.csv",
    "published": ["a.parquet", "b.parquet"],
    "snow_list": "snow.csv",
    "cloud_list": "cloud.csv",
    "keep_reprocessed": True,
    "code_column": "CODE",
    "lmdb_shards": 3,
    "layers": {"urbanisation": "RegioStaR.gpkg"},
    "exports": ["geotiff"],
}
COMMAND = (
    *("--s2", "tiles", "more", "--landcover", "map.gpkg", "--recipe", "seasonet", "--countries", "countries.gpkg"),
    *("--title", "Peat bogs", "--keep-reprocessed"),
    *("--s1", "s1", "--s1-pairs", "pairs.csv", "--published", "a.parquet", "--published", "b.parquet"),
    *("--snow-list", "snow.csv", "--cloud-list", "cloud.csv", "--code-column", "CODE", "--lmdb-shards", "3"),
    *("--join", "urbanisation=RegioStaR.gpkg", "--export", "geotiff"),
)
NO_FIELDS = {"client", "cluster", "correction", "inputs", "overwrite", "restart"}
CLUSTER_OPTIONS = ("--out", "out", "--workers", "2", "--threads", "1", "--dashboard-address", ":0")
CLUSTER = ClusterOptions(workers=2, threads=1, dashboard_address=":0")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Arguments that reach the job, which does nothing."""
    found: list[Call] = []

    def note(options: JobOptions, cluster: Any, _correction: Any = None, **how: bool) -> JobResult:
        found.append((options, cluster, how))
        return JobResult(needs_report=False, is_complete=True)

    monkeypatch.setattr("reben_dask.job.run.run_job", note)
    monkeypatch.setattr("reben_dask.job.build.run_job", note)
    return found


@pytest.mark.parametrize("kind", [str, Path])
def test_all_options_are_those_of_the_command_line(calls: list[Call], kind: type) -> None:
    paths = {
        name: kind(value) for name, value in ARGUMENTS.items() if name in {"landcover", "countries", "s1", "s1_pairs"}
    }
    assert rb.build(kind("out"), **{**ARGUMENTS, **paths}, cluster=CLUSTER) == Path("out")
    done = CliRunner().invoke(main, ["run", *COMMAND, *CLUSTER_OPTIONS, "--no-report"])
    assert done.exit_code == 0, done.output
    here, there = calls
    assert here[:2] == there[:2] == (here[0], CLUSTER)
    assert here[0].model_fields_set == {*ARGUMENTS, "out"}


def test_what_is_not_given_is_as_on_the_command_line(calls: list[Call]) -> None:
    rb.build("out", s2="tiles", landcover="map.gpkg", countries=None)
    CliRunner().invoke(main, ["run", "--s2", "tiles", "--landcover", "map.gpkg", "--out", "out", "--no-report"])
    here, there = calls
    assert here[0] == there[0]


def test_a_plan_is_a_dry_run(calls: list[Call]) -> None:
    assert rb.plan("out", s2=["tiles"], landcover="map.gpkg") is None
    assert [how for *_, how in calls] == [{"dry_run": True}]


def test_arguments_are_the_fields_of_the_model() -> None:
    named = {name for name in inspect.signature(rb.build).parameters if name not in NO_FIELDS}
    assert named | Inputs.__annotations__.keys() == JobOptions.model_fields.keys()


def test_settings_are_fields_with_the_same_defaults() -> None:
    names = {"exports": "export", "layers": "join"}
    fields = {**JobOptions.model_fields, **ClusterOptions.model_fields}
    parameters = {name: field.default for name, field in fields.items() if name not in names}
    for name, value in option_defaults().items():
        if name != "dashboard_address":  # the setting names the default that None stands for
            assert value == parameters[name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lmdb_shard": 1}, "lmdb_shard is 1, which cannot be used"),
        ({"lmdb_shards": 0}, "lmdb_shards is 0, which cannot be used: Input should be greater than or equal to 1"),
        ({"exports": ["tiff"]}, "exports.0 is 'tiff', which cannot be used: Input should be 'geotiff', 'geo"),
        ({"layers": {"urbanisation": 3}}, "layers.urbanisation is 3, which cannot be used"),
    ],
)
def test_wrong_options_are_named(calls: list[Call], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        rb.build("out", s2="tiles", landcover="map.gpkg", **arguments)
    assert str(caught.value).startswith(message)
    assert not calls


def test_the_cluster_is_the_clients_or_the_active_one_or_a_new_one(calls: list[Call]) -> None:
    rb.build("out", s2="tiles", landcover="map.gpkg")
    with Client(processes=False, n_workers=1, dashboard_address=None, set_as_default=False) as given:
        rb.build("out", s2="tiles", landcover="map.gpkg", client=given)
        with Client(processes=False, n_workers=1, dashboard_address=None) as active:
            rb.build("out", s2="tiles", landcover="map.gpkg")
            rb.build("out", s2="tiles", landcover="map.gpkg", client=given)
            rb.build("out", s2="tiles", landcover="map.gpkg", cluster=CLUSTER)
    assert [cluster for _, cluster, _ in calls] == [ClusterOptions(), given, active, given, CLUSTER]
