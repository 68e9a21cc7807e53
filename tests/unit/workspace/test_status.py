"""Output of ``reben status`` for a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from records import write_record

from reben_dask.errors import InputError, OutputError
from reben_dask.formats.dataset import RecordedTile
from reben_dask.workspace import Origin, Output, Status, read_status

ORIGIN: Origin = {"tiles": {"A": "1", "B": "2", "C": "3"}}
PATHS = {name: f"/tiles/{name}" for name in "ABC"}
FAILURE = {"tile": "B", "error": "B has no bands.", "tries": 3}


def _identities(**changes: str | None) -> Any:
    """Identity of the product at a path; ``None`` if it is gone."""
    found = ORIGIN["tiles"] | changes
    return lambda location: found[Path(location).name]


def _record(output: Output, **changes: Any) -> None:
    tiles = tuple(RecordedTile(tile=name, path=path, metadata_sha256="") for name, path in PATHS.items())
    write_record(output.root / "run", **({"tiles": tiles, "origin": ORIGIN} | changes))


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(tmp_path / "out")


def _status(output: Output, **changes: str | None) -> Status:
    return read_status(output.root, _identities(**changes))


@pytest.mark.parametrize("make", [False, True])
def test_there_is_nothing(output: Output, make: bool) -> None:  # noqa: FBT001
    if make:
        output.root.mkdir()
    expected = "holds neither a dataset nor an unfinished job" if make else "does not exist"
    with pytest.raises(OutputError, match=expected):
        _status(output)


@pytest.mark.parametrize(
    ("changes", "record", "states", "is_settled"),
    [
        ({}, {}, "done done done", True),
        ({"C": "9"}, {}, "done done stale", False),
        ({"C": None}, {}, "done done stale", False),
        ({}, {"failures": [FAILURE]}, "done failed done", False),
        ({"B": None}, {"failures": [FAILURE]}, "done failed done", False),
        ({}, {"tiles": ()}, "stale stale stale", False),
    ],
)
def test_of_a_dataset(
    output: Output,
    changes: dict[str, str | None],
    record: dict[str, Any],
    states: str,
    is_settled: bool,  # noqa: FBT001
) -> None:
    _record(output, **record)
    found = _status(output, **changes)
    assert list(found.dataset.values()) == states.split()
    assert found.is_settled == is_settled
    assert (found.recipe, found.finished, found.unfinished) == ("reben", "2026-01-01T00:00:00+00:00", {})
    assert found.errors == ({"B": "B has no bands."} if "failed" in states else {})


@pytest.mark.parametrize(
    ("changes", "done", "failed", "states"),
    [
        ({}, "", "", "waiting waiting waiting"),
        ({}, "AC", "", "done waiting done"),
        ({}, "AC", "B", "done failed done"),
        ({"A": "9", "B": "9"}, "AC", "", "stale stale done"),
        ({}, "ABC", "", "done done done"),
    ],
)
def test_of_an_unfinished_job(
    output: Output, changes: dict[str, str | None], done: str, failed: str, states: str
) -> None:
    with output.owned():
        output.start(ORIGIN, PATHS)
        for name in done:
            output.state.mark_done("tiles", name)
        for name in failed:
            output.state.record_failure(name, InputError("no"), 3)
        during = _status(output, **changes)
    found = _status(output, **changes)
    assert list(found.unfinished.values()) == states.split()
    assert not found.is_settled
    assert (found.finished, found.dataset) == (None, {})
    assert found.errors == dict.fromkeys(failed, "no")
    assert during.owner is not None
    assert during.owner.endswith(output.job)
    assert found.owner is None


def test_of_a_dataset_and_an_unfinished_job(output: Output) -> None:
    _record(output, failures=[FAILURE])
    with output.owned():
        output.start(ORIGIN, PATHS)
        output.state.mark_done("tiles", "A")
    found = _status(output)
    assert list(found.dataset.values()) == ["done", "failed", "done"]
    assert list(found.unfinished.values()) == ["done", "waiting", "waiting"]
    assert not found.is_settled


def test_looking_changes_nothing(output: Output) -> None:
    with output.owned():
        output.start(ORIGIN, PATHS)
    before = sorted(output.root.rglob("*"))
    _status(output)
    assert sorted(output.root.rglob("*")) == before
