"""Publishing: whatever moment it is interrupted at, what is there is never a mixture that looks complete."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from records import write_record

from reben_dask import workspace
from reben_dask.formats.dataset import ARTEFACTS, BUILDING, RunRecord
from reben_dask.workspace import Output

NAMES = ("spring", "meta.csv", *ARTEFACTS)
EARLIER_EXPORTS = ("winter", "meta.csv")
STEPS = ("rename", "replace", "unlink", "rmdir", "mkdir", "link", "open", "fsync")
"""Everything of the operating system that changes what is on disk."""


class _KilledError(BaseException):
    """Nobody catches it, as nobody catches a kill."""


@contextmanager
def _killed_at(monkeypatch: pytest.MonkeyPatch, step: int) -> Iterator[Callable[[], int]]:
    """The ``step``-th change to the disk ends everything; gives how many there have been."""
    taken = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal taken
            taken += 1
            if taken == step:
                raise _KilledError
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        # Where copies are made in C, no step is taken that could be counted.
        patch.setattr(workspace, "COPIED_BYTES", 0)
        for name in STEPS:
            patch.setattr(os, name, counted(getattr(os, name)))
        yield lambda: taken


def _fill(folder: Path, names: Sequence[str], mark: str) -> None:
    for name in names:
        if name == "README.md":
            (folder / name).write_text(f"---\nreben_dask: test\n---\n{mark}")
        elif name.endswith((".parquet", ".csv")) and name != "patches.parquet":
            (folder / name).write_text(mark)
        else:
            (folder / name).mkdir()
            (folder / name / "content").write_text(mark)
    if "run" in names:
        write_record(folder / "run", exports=EARLIER_EXPORTS, workers=mark)


def _prepare(root: Path, *, keep: bool) -> Output:
    """A dataset, and another that is complete in the hidden folder, but for a tile that failed if it is to be kept."""
    output = Output(root, exports=NAMES[:2])
    output.building.mkdir(parents=True)
    _fill(root, ("winter", *NAMES[1:]), "old")
    (root / "thesis.txt").write_text("mine")
    _fill(output.building, NAMES, "new")
    output.state.start({"tiles": {}})
    output.state.mark_done("tiles", "A")
    if keep:
        output.state.record_failure("B", ValueError(), 3)
    return output


def _recover(output: Output) -> None:
    """Finish an interrupted publication, as the next job does."""
    with output.owned():
        pass


def _mark(path: Path) -> str:
    return (path / "content" if path.is_dir() else path).read_text().rpartition("\n")[2]


def _marks(root: Path) -> dict[str, str]:
    """Content of every artefact that is there, and of what is the user's."""
    found = {}
    for path in root.iterdir():
        if path.name != BUILDING and not path.name.startswith(".lock"):
            found[path.name] = _mark(path)
    return found


OLD = dict.fromkeys(("winter", *NAMES[1:]), "old") | {"thesis.txt": "mine"}
NEW = dict.fromkeys(NAMES, "new") | {"thesis.txt": "mine"}


def _require_no_mixture(root: Path) -> None:
    """A record stands beside the whole of its dataset, or there is none."""
    if (root / "run" / "record.json").exists():
        found = _marks(root)
        assert found in (OLD, NEW)
        assert {found[name] for name in ARTEFACTS} == {RunRecord.read(root).workers}


def _require_published(output: Output, *, keep: bool) -> None:
    assert _marks(output.root) == NEW
    assert not output.needs_recovery
    assert output.building.exists() == keep
    if keep:
        kept = {path.name: path for path in output.building.iterdir() if path.name != "state"}
        assert set(kept) == set(NAMES)
        assert {_mark(path) for path in kept.values()} == {"new"}
        assert output.state.done("tiles") == {"A": None}


def _steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, keep: bool) -> int:
    output = _prepare(tmp_path / "whole", keep=keep)
    with _killed_at(monkeypatch, 0) as taken:
        output.publish()
        return taken()


@pytest.mark.parametrize("keep", [False, True])
def test_an_interruption_at_any_step_is_made_good(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    keep: bool,  # noqa: FBT001
) -> None:
    steps = _steps(tmp_path, monkeypatch, keep=keep)
    assert steps > 2 * len(NAMES)
    finished = 0
    for step in range(1, steps + 1):
        root = tmp_path / f"{step}"
        output = _prepare(root, keep=keep)
        with _killed_at(monkeypatch, step), pytest.raises(_KilledError):
            output.publish()
        _require_no_mixture(root)
        if output.needs_recovery:
            _recover(output)
            finished += 1
        else:
            # Before the journal, or after it: nothing has changed, or everything.
            assert _marks(root) in (OLD, NEW)
            if _marks(root) == NEW:
                continue
            output.publish()
        _require_published(output, keep=keep)
    assert finished > 2 * len(ARTEFACTS)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("step", [1, 2, 3, 5, 8, 13, 21])
def test_so_is_one_of_the_repair(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    keep: bool,  # noqa: FBT001
) -> None:
    """Interrupted again and again, some steps later each time, until nothing is left to do."""
    root = tmp_path / "out"
    output = _prepare(root, keep=keep)
    steps = _steps(tmp_path, monkeypatch, keep=keep)
    with _killed_at(monkeypatch, steps // 2), pytest.raises(_KilledError):
        output.publish()
    for later in range(step, steps + step, step):
        _require_no_mixture(root)
        if not output.needs_recovery:
            break
        try:
            with _killed_at(monkeypatch, later):
                _recover(output)
        except _KilledError:
            continue
    _require_no_mixture(root)
    _recover(output)
    assert _marks(root) == NEW
    assert not output.needs_recovery


def test_there_is_nothing_to_finish(tmp_path: Path) -> None:
    _fill(tmp_path, ARTEFACTS, "old")
    _recover(Output(tmp_path))
    assert set(_marks(tmp_path).values()) == {"old"}


def test_a_second_publication_takes_nothing_of_the_first(tmp_path: Path) -> None:
    """Copies of a publication that never began are not those of the next."""
    output = _prepare(tmp_path, keep=True)
    (output.building / "ready" / "lmdb").mkdir(parents=True)
    (output.building / "ready" / "lmdb" / "of before").write_text("x")
    output.publish()
    assert [path.name for path in (tmp_path / "lmdb").iterdir()] == ["content"]


# What is kept beside


def test_large_files_are_on_disk_once_and_metadata_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "COPIED_BYTES", 4)
    output = _prepare(tmp_path, keep=True)
    cubes = output.building / "cubes.zarr"
    for name, text in {"shard": "pixels", "zarr.json": "metadata", "tiny": "x"}.items():
        (cubes / name).write_text(text)
    assert output.publish() is None
    links = {path.name: path.stat().st_nlink for path in (tmp_path / "cubes.zarr").iterdir()}
    assert links == {"shard": 2, "zarr.json": 1, "tiny": 1, "content": 1}


def test_a_disk_without_links_has_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(workspace, "COPIED_BYTES", 0)
    monkeypatch.setattr(os, "link", refuse)
    output = _prepare(tmp_path, keep=True)
    assert str(output.publish()).startswith(f"The disk of {tmp_path} supports no hard links: ")
    _require_published(output, keep=True)


def test_what_is_built_on_later_does_not_change_what_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the next job does it: files are moved to their places, metadata and the record are written anew there."""
    monkeypatch.setattr(workspace, "COPIED_BYTES", 4)
    output = Output(tmp_path)
    with output.owned():
        output.start({"tiles": {}}, {})
        _fill(output.building, [name for name in NAMES if name != "run"], "the first")
        (output.run / "content").write_text("the first")
        (output.cubes / "zarr.json").write_text("the first")
        (output.run / "record.json").write_text("{}")
        (output.run / "performance.html").write_text("the first")
        output.state.mark_done("tiles", "A")
        output.state.record_failure("B", ValueError(), 3)
        output.with_exports(NAMES[:2]).publish()
    before = _contents(tmp_path)
    again = Output(tmp_path)
    with again.owned():
        again.start({"tiles": {}}, {})
        (again.run / "performance.html").write_text("the second")
        (again.cubes / "zarr.json").write_text("the second")
        for name in ("metadata.parquet", "cubes.zarr/content", "lmdb/content"):
            (again.work / name).parent.mkdir(exist_ok=True)
            (again.work / name).write_text("the second")
            again.accept(name)
    assert _contents(tmp_path) == before


def _contents(root: Path) -> dict[str, bytes]:
    hidden = root / BUILDING
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file() and hidden not in path.parents}
