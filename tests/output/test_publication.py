"""Publishing: whatever moment it is interrupted at, what is there is never a mixture that looks complete."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reben_dask.formats.dataset import ARTEFACTS, BUILDING
from reben_dask.output import files
from reben_dask.output.folder import Output
from reben_dask.output.publication import finish_publication, is_interrupted, publish
from reben_dask.output.state import State

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
        patch.setattr(files, "COPIED_BYTES", 0)
        for name in STEPS:
            patch.setattr(os, name, counted(getattr(os, name)))
        yield lambda: taken


def _fill(folder: Path, names: Sequence[str], mark: str) -> None:
    for name in names:
        if name.endswith((".parquet", ".csv")) and name != "patches.parquet":
            (folder / name).write_text(mark)
        else:
            (folder / name).mkdir()
            (folder / name / "content").write_text(mark)
    if "run" in names:
        (folder / "run" / "record.json").write_text(mark)


def _prepare(root: Path) -> None:
    """A dataset, and another that is complete in the hidden folder."""
    (root / BUILDING).mkdir(parents=True)
    _fill(root, ("winter", *NAMES[1:]), "old")
    (root / "thesis.txt").write_text("mine")
    _fill(root / BUILDING, NAMES, "new")
    state = State(root / BUILDING / "state")
    state.begin({"tiles": {}}, {})
    state.mark("tiles", "A")


def _marks(root: Path) -> dict[str, str]:
    """Content of every artefact that is there, and of what is the user's."""
    found = {}
    for path in root.iterdir():
        if path.name != BUILDING:
            found[path.name] = (path / "content" if path.is_dir() else path).read_text()
    return found


OLD = dict.fromkeys(("winter", *NAMES[1:]), "old") | {"thesis.txt": "mine"}
NEW = dict.fromkeys(NAMES, "new") | {"thesis.txt": "mine"}


def _require_no_mixture(root: Path) -> None:
    """A record stands beside the whole of its dataset, or there is none."""
    if (root / "run" / "record.json").exists():
        found = _marks(root)
        assert found in (OLD, NEW)
        assert {found[name] for name in ARTEFACTS} == {(root / "run" / "record.json").read_text()}


def _publish(root: Path, *, keep: bool) -> None:
    publish(root, NAMES, EARLIER_EXPORTS, keep=keep)


def _require_published(root: Path, *, keep: bool) -> None:
    assert _marks(root) == NEW
    assert not is_interrupted(root)
    assert (root / BUILDING).exists() == keep
    if keep:
        kept = {path.name: path for path in (root / BUILDING).iterdir() if path.name != "state"}
        assert set(kept) == set(NAMES)
        assert {(path / "content" if path.is_dir() else path).read_text() for path in kept.values()} == {"new"}
        assert State(root / BUILDING / "state").done("tiles") == {"A": None}


def _steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, keep: bool) -> int:
    _prepare(tmp_path / "whole")
    with _killed_at(monkeypatch, 0) as taken:
        _publish(tmp_path / "whole", keep=keep)
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
        _prepare(root)
        with _killed_at(monkeypatch, step), pytest.raises(_KilledError):
            _publish(root, keep=keep)
        _require_no_mixture(root)
        if is_interrupted(root):
            finish_publication(root)
            finished += 1
        else:
            # Before the journal, or after it: nothing has changed, or everything.
            assert _marks(root) in (OLD, NEW)
            if _marks(root) == NEW:
                continue
            _publish(root, keep=keep)
        _require_published(root, keep=keep)
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
    _prepare(root)
    steps = _steps(tmp_path, monkeypatch, keep=keep)
    with _killed_at(monkeypatch, steps // 2), pytest.raises(_KilledError):
        _publish(root, keep=keep)
    for later in range(step, steps + step, step):
        _require_no_mixture(root)
        if not is_interrupted(root):
            break
        try:
            with _killed_at(monkeypatch, later):
                finish_publication(root)
        except _KilledError:
            continue
    _require_no_mixture(root)
    finish_publication(root)
    assert _marks(root) == NEW
    assert not is_interrupted(root)


def test_there_is_nothing_to_finish(tmp_path: Path) -> None:
    _fill(tmp_path, ARTEFACTS, "old")
    finish_publication(tmp_path)
    assert set(_marks(tmp_path).values()) == {"old"}


def test_a_second_publication_takes_nothing_of_the_first(tmp_path: Path) -> None:
    """Copies of a publication that never began are not those of the next."""
    _prepare(tmp_path)
    (tmp_path / BUILDING / "ready" / "lmdb").mkdir(parents=True)
    (tmp_path / BUILDING / "ready" / "lmdb" / "of before").write_text("x")
    _publish(tmp_path, keep=True)
    assert [path.name for path in (tmp_path / "lmdb").iterdir()] == ["content"]


# What is kept beside


def test_large_files_are_on_disk_once_and_metadata_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "COPIED_BYTES", 4)
    _prepare(tmp_path)
    cubes = tmp_path / BUILDING / "cubes.zarr"
    for name, text in {"shard": "pixels", "zarr.json": "metadata", "tiny": "x"}.items():
        (cubes / name).write_text(text)
    _publish(tmp_path, keep=True)
    links = {path.name: path.stat().st_nlink for path in (tmp_path / "cubes.zarr").iterdir()}
    assert links == {"shard": 2, "zarr.json": 1, "tiny": 1, "content": 1}


def test_a_disk_without_links_has_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(files, "COPIED_BYTES", 0)
    monkeypatch.setattr(os, "link", refuse)
    _prepare(tmp_path)
    _publish(tmp_path, keep=True)
    _require_published(tmp_path, keep=True)


def test_what_is_built_on_later_does_not_change_what_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the next job does it: files are moved to their places, metadata and the record are written anew there."""
    monkeypatch.setattr(files, "COPIED_BYTES", 4)
    output = Output(tmp_path)
    with output.owned():
        output.begin({"tiles": {}}, {})
        _fill(output.building, [name for name in NAMES if name != "run"], "the first")
        (output.run / "content").write_text("the first")
        (output.cubes / "zarr.json").write_text("the first")
        (output.run / "record.json").write_text("{}")
        (output.run / "performance.html").write_text("the first")
        output.state.mark("tiles", "A")
        output.state.set_aside("B", ValueError(), 3)
        output.with_exports(NAMES[:2]).publish()
    before = _contents(tmp_path)
    again = Output(tmp_path)
    with again.owned():
        again.begin({"tiles": {}}, {})
        (again.run / "performance.html").write_text("the second")
        (again.cubes / "zarr.json").write_text("the second")
        for name in ("metadata.parquet", "cubes.zarr/content", "lmdb/content"):
            (again.work / name).parent.mkdir(exist_ok=True)
            (again.work / name).write_text("the second")
            again.keep(name)
    assert _contents(tmp_path) == before


def _contents(root: Path) -> dict[str, bytes]:
    hidden = root / BUILDING
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file() and hidden not in path.parents}
