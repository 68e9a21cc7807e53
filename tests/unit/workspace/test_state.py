"""Notes of what is done: whatever pieces are called, and whenever the writer ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from reben_dask.errors import InputError
from reben_dask.workspace import State

ODD_NAMES = [
    "",
    "_",
    "%",
    "%25",
    ".",
    "..",
    ".hidden",
    "a/b",
    "a%2Fb",
    "../../x",
    "A",
    "a b",
    "ä ö",
    "part-0",
    "a.json",
]


@pytest.fixture
def state(tmp_path: Path) -> State:
    state = State(tmp_path / "out" / "state")
    state.start({"tiles": {"A": "1"}}, {"A": "/tiles/A.SAFE"})
    return state


def test_what_was_noted_is_found_again(state: State) -> None:
    again = State(state.folder)
    assert again.origin() == {"tiles": {"A": "1"}}
    assert again.paths() == {"A": "/tiles/A.SAFE"}
    assert again.done("tiles") == {}


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_piece_of_an_odd_name(state: State, name: str) -> None:
    state.mark_done("lmdb", name, {"keys": 1})
    assert state.done("lmdb") == {name: {"keys": 1}}
    assert [path.parent for path in state.folder.rglob("*.json") if path.name != "origin.json"] == [
        state.folder / "lmdb"
    ]
    assert list(state.folder.parent.iterdir()) == [state.folder]


def test_odd_names_do_not_take_each_others_place(state: State) -> None:
    for number, name in enumerate(ODD_NAMES):
        state.mark_done("lmdb", name, number)
    assert state.done("lmdb") == {name: number for number, name in enumerate(ODD_NAMES)}


def test_a_later_note_replaces_the_earlier_one(state: State) -> None:
    state.mark_done("tiles", "A", 1)
    state.mark_done("tiles", "A", 2)
    assert state.done("tiles") == {"A": 2}


def test_a_note_that_was_not_finished_is_none(state: State) -> None:
    state.mark_done("tiles", "A", 1)
    (state.folder / "tiles" / ".B.json.77").write_text('{"name": "B", "resu')
    (state.folder / "tiles" / "C.json").write_text("")
    assert state.done("tiles") == {"A": 1}


def test_stages_are_forgotten_one_by_one(state: State) -> None:
    for stage in ("tiles", "choice", "lmdb"):
        state.mark_done(stage, "A")
    state.reset_stages("choice", "lmdb", "geotiff")
    assert [state.done(stage) for stage in ("tiles", "choice", "lmdb")] == [{"A": None}, {}, {}]


def test_everything_is_forgotten(state: State) -> None:
    state.mark_done("tiles", "A")
    state.clear()
    assert (state.origin(), state.paths(), state.done("tiles")) == (None, {}, {})
    assert not state.folder.exists()
    state.clear()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"origin": {}}', "null"])
def test_a_damaged_note_of_the_origin_is_none(state: State, text: str) -> None:
    (state.folder / "origin.json").write_text(text)
    assert (state.origin(), state.paths()) == (None, {})


def test_tiles_that_were_set_aside(state: State) -> None:
    with pytest.raises(InputError) as caught:
        raise InputError("B has no bands.")
    state.record_failure("B", caught.value, 3)
    state.record_failure("A", ValueError("7"), 2)
    notes = {note["tile"]: note for note in state.failures()}
    assert {name: (note["error"], note["tries"]) for name, note in notes.items()} == {
        "A": ("ValueError: 7", 2),
        "B": ("B has no bands.", 3),
    }
    assert "Traceback" in notes["B"]["details"]
    state.reset_stages("failures")
    assert state.failures() == []
