"""Workspace of a conversion: resumed with the same inputs, refused with others, published in one step."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from reben_dask.errors import OutputError
from reben_dask.workspace import Workspace

INPUTS = {"trees": ["S2", "S1"], "bytes": 7}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "lmdb")


def _attempt(workspace: Workspace, inputs: dict[str, object], mark: str) -> None:
    with workspace.resumed(inputs):
        (workspace.building / mark).touch()
        workspace.state.mark_done("blocks", mark, 3)


def test_a_second_attempt_resumes_the_first(workspace: Workspace) -> None:
    _attempt(workspace, INPUTS, "a")
    _attempt(Workspace(workspace.root), INPUTS, "b")
    assert workspace.state.done("blocks") == {"a": 3, "b": 3}
    assert not workspace.root.exists()


@pytest.mark.parametrize(
    ("inputs", "said"),
    [({"trees": ["S2"], "bytes": 7}, r"other inputs \(another trees\); give"), ({}, "another trees; another bytes")],
)
def test_other_inputs_are_refused(workspace: Workspace, inputs: dict[str, object], said: str) -> None:
    _attempt(workspace, INPUTS, "a")
    with pytest.raises(OutputError, match=said):
        _attempt(workspace, inputs, "b")


def test_a_damaged_note_is_refused(workspace: Workspace) -> None:
    _attempt(workspace, INPUTS, "a")
    (workspace.building / "state" / "origin.json").write_text("{")
    with pytest.raises(OutputError, match="other inputs; give the same inputs"):
        _attempt(workspace, INPUTS, "b")


def test_a_second_process_is_refused(workspace: Workspace) -> None:
    with (
        workspace.resumed(INPUTS),
        pytest.raises(OutputError, match=f"writing to {workspace.root} .+{socket.gethostname()}"),
    ):
        _attempt(Workspace(workspace.root), INPUTS, "b")


def test_what_is_complete_takes_its_place(workspace: Workspace) -> None:
    with workspace.resumed(INPUTS):
        (workspace.building / "made").write_text("complete")
        workspace.release(workspace.building / "made")
    assert [path.name for path in workspace.root.parent.iterdir()] == ["lmdb"]
    with pytest.raises(OutputError, match="exists; give a new folder"):
        _attempt(workspace, INPUTS, "b")


def test_what_has_come_to_the_place_since_stays(workspace: Workspace) -> None:
    with workspace.resumed(INPUTS):
        (workspace.building / "made").write_text("complete")
        workspace.root.write_text("mine")
        with pytest.raises(OutputError, match=r"created by another program since; the complete result is .+made"):
            workspace.release(workspace.building / "made")
    assert workspace.root.read_text() == "mine"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        _attempt(Workspace(tmp_path / "file" / "lmdb"), INPUTS, "a")
