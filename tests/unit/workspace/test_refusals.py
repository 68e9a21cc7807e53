"""Actions on a folder that a job refuses, with their messages, and those that it performs."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from records import write_record

from reben_dask.errors import OutputError
from reben_dask.workspace import Origin, Output, explaining_full_disk

ORIGIN: Origin = {"recipe": "r", "tiles": {"A": "1", "B": "2"}}
MORE: Origin = {"recipe": "r", "tiles": {"A": "1", "B": "2", "C": "3"}}
CHANGED_A: Origin = {"recipe": "r", "tiles": {"A": "9", "B": "2"}}
CHANGED_B: Origin = {"recipe": "r", "tiles": {"A": "1", "B": "9"}}
OTHER: Origin = {"recipe": "s", "tiles": {"A": "1", "B": "2"}}

_CHOICES = "give the same inputs again to resume it, --restart to discard it, or another folder."
_REPLACE = "give a new folder, or --overwrite to replace it once the new one is complete."


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(tmp_path / "out")


def _begin(output: Output) -> None:
    """An unfinished job: A is done."""
    with output.owned():
        output.start(ORIGIN, {})
        output.state.mark_done("tiles", "A")


def _record(output: Output, **content: Any) -> None:
    write_record(output.root / "run", **content)


def _refusal(output: Output, origin: Origin, **options: bool) -> str:
    with pytest.raises(OutputError) as caught:
        output.check(origin, **({"overwrite": False} | options))
    return str(caught.value)


# An unfinished job


@pytest.mark.parametrize("origin", [ORIGIN, CHANGED_B])
def test_an_unfinished_job_goes_on(output: Output, origin: Origin) -> None:
    """Nothing is made from B yet: it may have been mended."""
    _begin(output)
    output.check(origin, overwrite=False)


@pytest.mark.parametrize(
    ("origin", "other"),
    [
        (OTHER, "another recipe"),
        (CHANGED_A, "other tiles: 1 changed (A)"),
        (MORE, "other tiles: 1 more (C)"),
        ({"recipe": "s", "tiles": {"B": "2"}}, "another recipe; other tiles: 1 missing (A)"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_unfinished_job_of_something_else(
    output: Output,
    origin: Origin,
    other: str,
    overwrite: bool,  # noqa: FBT001
) -> None:
    _begin(output)
    said = f"{output.root} holds an unfinished job with other inputs ({other}); {_CHOICES}"
    assert _refusal(output, origin, overwrite=overwrite) == said
    output.check(origin, overwrite=False, restart=True)


# A finished dataset


@pytest.mark.parametrize(("origin", "other"), [(OTHER, "another recipe"), (MORE, "other tiles: 1 more (C)")])
def test_a_dataset_of_something_else(output: Output, origin: Origin, other: str) -> None:
    _record(output, origin=ORIGIN)
    said = f"{output.root} holds a dataset that was built from other inputs ({other}); {_REPLACE}"
    assert _refusal(output, origin) == said
    assert _refusal(output, origin, restart=True) == said
    output.check(origin, overwrite=True)


def test_a_dataset_that_is_to_be_made_again(output: Output) -> None:
    _record(output, origin=ORIGIN)
    output.check(ORIGIN, overwrite=False)
    assert output.finished(ORIGIN)
    assert not output.finished(OTHER)


def test_tiles_that_failed_may_have_been_mended(output: Output) -> None:
    _record(output, origin=ORIGIN, failures=[{"tile": "B", "error": "no", "tries": 3}])
    output.check(CHANGED_B, overwrite=False)
    assert not output.finished(ORIGIN)
    assert "1 changed (A)" in _refusal(output, CHANGED_A)


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"format": 1, "origin": {"tiles": {}}}'])
def test_a_dataset_of_another_version(output: Output, record: str) -> None:
    """It may be replaced, but nothing of it is read."""
    (output.root / "run").mkdir(parents=True)
    (output.root / "run" / "record.json").write_text(record)
    assert not output.finished({"tiles": {}})
    assert _refusal(output, ORIGIN).endswith(
        "is not empty (it holds run); give a new folder, or --overwrite to replace the dataset, once the new one is "
        "complete."
    )
    output.check(ORIGIN, overwrite=True)


# A full disk


class _DiskError(Exception):
    """As libraries in C raise them."""


def _caused(error: Exception) -> Exception:
    outer = ValueError("the task failed")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "voll"),
        OSError(errno.EDQUOT, "voll"),
        _DiskError("mdb_txn_commit: No space left on device"),
        _caused(OSError(errno.ENOSPC, "voll")),
        _caused(_DiskError("Disk quota exceeded")),
    ],
)
def test_a_full_disk_is_explained(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(OutputError, match=rf"^No space left on the disk of {tmp_path}.+ free space there"):
        _fail(tmp_path, error)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "no"), ValueError("full"), KeyboardInterrupt()])
def test_other_errors_are_what_they_are(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        _fail(tmp_path, error)
    assert caught.value is error


def _fail(root: Path, error: BaseException) -> None:
    with explaining_full_disk(root):
        raise error
