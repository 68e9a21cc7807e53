"""A job from Python is the job of the command line: the same inputs reach it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from reben_dask.job.dataset import make_dataset, plan_dataset

from reben_dask.cli import main
from reben_dask.cluster import ClusterOptions
from reben_dask.errors import InputError
from reben_dask.job.run import JobResult

Call = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]

ARGUMENTS = {
    "s2": ["tiles", "more"],
    "landcover": "map.gpkg",
    "recipe": "seasonet",
    "countries": "countries.gpkg",
    "s1": "s1",
    "s1_pairs": "pairs.csv",
    "published": ["a.parquet", "b.parquet"],
    "snow_list": "snow.csv",
    "cloud_list": "cloud.csv",
    "code_column": "CODE",
    "lmdb_shards": 3,
    "layers": {"urbanisation": "RegioStaR.gpkg"},
    "exports": ["geotiff"],
}
COMMAND = (
    *("--s2", "tiles", "more", "--landcover", "map.gpkg", "--recipe", "seasonet", "--countries", "countries.gpkg"),
    *("--s1", "s1", "--s1-pairs", "pairs.csv", "--published", "a.parquet", "--published", "b.parquet"),
    *("--snow-list", "snow.csv", "--cloud-list", "cloud.csv", "--code-column", "CODE", "--lmdb-shards", "3"),
    *("--join", "urbanisation=RegioStaR.gpkg", "--export", "geotiff"),
)
CLUSTER_OPTIONS = ("--out", "out", "--workers", "2", "--threads", "1", "--dashboard-address", ":0")
CLUSTER = ClusterOptions(workers=2, threads=1, dashboard_address=":0")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What reaches the job, which does nothing."""
    found: list[Call] = []

    def note(inputs: dict[str, Any], cluster: dict[str, Any], **how: bool) -> JobResult:
        found.append((dict(inputs), dict(cluster), how))
        return JobResult(needs_report=False, is_complete=True)

    monkeypatch.setattr("reben_dask.job.run.run_job", note)
    monkeypatch.setattr("reben_dask.job.dataset.run_job", note)
    return found


def _plain(inputs: dict[str, Any]) -> dict[str, Any]:
    """Without options that were not given, and whatever the kind of list."""
    given = {name: value for name, value in inputs.items() if value not in (None, ())}
    return {name: list(value) if isinstance(value, (list, tuple)) else value for name, value in given.items()}


@pytest.mark.parametrize("kind", [str, Path])
def test_all_options_are_those_of_the_command_line(calls: list[Call], kind: type) -> None:
    paths = {
        name: kind(value) for name, value in ARGUMENTS.items() if name in {"landcover", "countries", "s1", "s1_pairs"}
    }
    made = make_dataset(kind("out"), **{**ARGUMENTS, **paths}, cluster=CLUSTER)
    assert made == Path("out")
    done = CliRunner().invoke(main, ["run", *COMMAND, *CLUSTER_OPTIONS, "--no-report"])
    assert done.exit_code == 0, done.output
    here, there = calls
    assert _plain(here[0]) == _plain(there[0])
    assert here[1] == there[1]


def test_what_is_not_given_is_as_on_the_command_line(calls: list[Call]) -> None:
    make_dataset("out", s2="tiles", landcover="map.gpkg", countries=None)
    CliRunner().invoke(main, ["run", "--s2", "tiles", "--landcover", "map.gpkg", "--out", "out", "--no-report"])
    here, there = calls
    assert _plain(here[0]) == _plain(there[0])


def test_a_plan_is_a_dry_run(calls: list[Call]) -> None:
    assert plan_dataset("out", s2=["tiles"], landcover="map.gpkg") is None
    assert [how for *_, how in calls] == [{"dry_run": True}]


@pytest.mark.parametrize(
    ("name", "hint"), [("lmdb_shard", "did you mean lmdb_shards?"), ("xyz", "there are recipe, countries, s1, ")]
)
def test_an_option_that_does_not_exist(calls: list[Call], name: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        make_dataset("out", s2="tiles", landcover="map.gpkg", **{name: 1})
    assert str(caught.value).startswith(f"There is no option {name}; {hint}")
    assert not calls
