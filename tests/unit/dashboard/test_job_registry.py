"""Records that the scheduler keeps of the messages of jobs."""

from __future__ import annotations

from typing import Any

import pytest

from reben_dask.dashboard.jobs import GONE, JOBS_KEPT, JobRegistry

FACTS = {"recipe": "reBEN", "out": "/data/out", "tiles": 3, "client": "Client-1"}
STAGES = [{"title": "Bands to Zarr", "group": "band", "done": 1, "total": 12}]


def _begun(*jobs: str) -> JobRegistry:
    registry = JobRegistry()
    for job in jobs:
        registry.update({"job": job, "begin": FACTS})
    return registry


def _one(registry: JobRegistry, **seen: int) -> dict[str, Any]:
    (job,) = registry.changes_since(seen)
    return job


def test_a_job_from_its_beginning_to_its_end() -> None:
    registry = _begun("a")
    begun = _one(registry)
    assert begun.pop("seconds") >= 0
    facts = {"job": "a", "recipe": "reBEN", "out": "/data/out", "tiles": 3}
    assert begun == facts | {"stages": [], "known": 0, "changes": [], "ended": None}
    registry.update({"job": "a", "stages": STAGES, "tiles": [["one", "working", ""], ["two", "working", ""]]})
    registry.update({"job": "a", "tiles": [["one", "again", "damaged"]]})
    told = _one(registry)
    assert told["stages"] == STAGES
    assert told["changes"] == [("one", "working", ""), ("two", "working", ""), ("one", "again", "damaged")]
    registry.update({"job": "a", "end": ""})
    assert _one(registry)["ended"] == ""
    assert _one(registry)["seconds"] == _one(registry)["seconds"]


@pytest.mark.parametrize(("seen", "known", "changes"), [(0, 0, 3), (2, 2, 1), (3, 3, 0), (9, 3, 0)])
def test_a_page_gets_what_it_does_not_know(seen: int, known: int, changes: int) -> None:
    registry = _begun("a")
    registry.update({"job": "a", "tiles": [[name, "done", ""] for name in "xyz"]})
    told = _one(registry, a=seen)
    assert (told["known"], [name for name, _, _ in told["changes"]]) == (known, list("xyz")[3 - changes :])


def test_the_latest_job_comes_first_and_the_oldest_are_forgotten() -> None:
    registry = _begun(*map(str, range(JOBS_KEPT + 2)))
    assert [job["job"] for job in registry.changes_since({})] == [str(number) for number in range(JOBS_KEPT + 1, 1, -1)]


def test_a_job_ends_with_its_client_unless_it_has_ended_before() -> None:
    registry = _begun("a", "b")
    registry.update({"job": "a", "end": "InputError: no such band"})
    registry.mark_disconnected("Client-2")
    assert [job["ended"] for job in registry.changes_since({})] == [None, "InputError: no such band"]
    registry.mark_disconnected("Client-1")
    assert [job["ended"] for job in registry.changes_since({})] == [GONE, "InputError: no such band"]


@pytest.mark.parametrize(
    "message", ["text", 3, None, {}, {"tiles": []}, {"job": "unknown", "tiles": [["x", "done", ""]]}]
)
def test_what_others_log_is_ignored(message: object) -> None:
    registry = JobRegistry()
    registry.update(message)
    assert registry.changes_since({}) == []
