"""Files and folders that appear complete or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from reben_dask.atomic import atomic_path, read_json, write_json, write_text


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "new" / "a.txt") as draft:
        draft.write_text("1")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert (tmp_path / "new" / "a.txt").read_text() == "1"
    assert _names(tmp_path / "new") == ["a.txt"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_what_was_there_stays_if_the_block_fails(tmp_path: Path, is_folder: bool) -> None:  # noqa: FBT001
    place = tmp_path / "a"
    if is_folder:
        place.mkdir()
    else:
        place.write_text("old")
    with pytest.raises(RuntimeError):  # noqa: PT012, SIM117 - the block is what fails
        with atomic_path(place) as draft:
            draft.mkdir() if is_folder else draft.write_text("new")
            raise RuntimeError
    assert place.is_dir() if is_folder else place.read_text() == "old"
    assert _names(tmp_path) == ["a"]


@pytest.mark.parametrize("keep_existing", [False, True])
def test_a_folder_takes_the_place_of_another_or_leaves_it(tmp_path: Path, keep_existing: bool) -> None:  # noqa: FBT001
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    with atomic_path(tmp_path / "a", keep_existing=keep_existing) as draft:
        draft.mkdir()
        (draft / "new").touch()
    assert _names(tmp_path / "a") == (["old"] if keep_existing else ["new"])
    assert _names(tmp_path) == ["a"]


def test_nothing_written_is_nothing_changed(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    with atomic_path(tmp_path / "a"):
        pass
    assert (tmp_path / "a").read_text() == "old"


def test_json_comes_back_and_damage_is_none(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ä": [1, None]})
    assert read_json(tmp_path / "a.json") == {"ä": [1, None]}
    (tmp_path / "a.json").write_text("{")
    assert read_json(tmp_path / "a.json") is None
    assert read_json(tmp_path / "b.json") is None
