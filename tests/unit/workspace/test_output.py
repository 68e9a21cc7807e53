"""The output folder: nothing of the user's is lost, and a dataset is either complete or not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from records import write_record

from reben_dask.errors import OutputError, RecipeError
from reben_dask.formats.dataset import ARTEFACTS
from reben_dask.workspace import Origin, Output

FOLDERS = {"cubes.zarr", "patches.parquet", "lmdb", "stac", "run"}
FILES = {"metadata.parquet", "metadata_for_patches_with_snow_cloud_or_shadow.parquet"}
FILES |= {"README.md", "croissant.json", "statistics.json"}
FRONT_MATTER = "---\npretty_name: mine\nreben_dask:\n  recipe: reben\n---\n"
ORIGIN: Origin = {"recipe": "reben", "tiles": {"A": "1", "B": "2"}}
PATHS = {"A": "/tiles/A.SAFE", "B": "/tiles/B.SAFE"}


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(tmp_path / "out")


def _build(output: Output, mark: str) -> None:
    """Make every artefact below the hidden folder, as a job does."""
    for name in FOLDERS:
        (output.building / name).mkdir(parents=True, exist_ok=True)
        (output.building / name / "content").write_text(mark)
    for name in FILES:
        (output.building / name).write_text(FRONT_MATTER * (name == "README.md") + mark)
    (output.run / "record.json").write_text(mark)
    (output.building / "landcover.parquet").mkdir()
    (output.building / "landcover.parquet" / "part-00000.parquet").write_text(mark)


def _publish(output: Output, mark: str) -> None:
    """Build and publish, as one job does."""
    with output.owned():
        output.start(ORIGIN, PATHS)
        _build(output, mark)
        output.publish()


def _marks(root: Path) -> dict[str, str]:
    """Content of each artefact."""
    paths = {name: root / name / "content" if name in FOLDERS else root / name for name in ARTEFACTS}
    return {name: path.read_text().removeprefix(FRONT_MATTER) for name, path in paths.items()}


def test_the_names_that_a_job_makes() -> None:
    assert set(ARTEFACTS) == FOLDERS | FILES
    assert ARTEFACTS[-1] == "run"


def test_artefacts_are_built_under_their_own_names(output: Output) -> None:
    places = [output.cubes, output.patches, output.run]
    assert {place.name for place in places} <= set(ARTEFACTS)
    assert all(place.parent == output.building for place in places)
    assert output.building.parent == output.root
    assert output.building.name.startswith(".")


def test_a_sorted_map_is_kept_beside_the_output(output: Output) -> None:
    assert output.landcover("map.parquet") == output.root.parent / "map.parquet"


def test_where_nothing_can_be_kept_a_sorted_map_is_for_one_job(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert output.landcover("map.parquet") == output.building / "map.parquet"


# Before the job


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_new_or_empty_folder_will_do(output: Output, overwrite: bool) -> None:  # noqa: FBT001
    output.check(ORIGIN, overwrite=overwrite)
    assert not output.root.exists()
    output.root.mkdir()
    output.check(ORIGIN, overwrite=overwrite)


def test_checking_changes_nothing(output: Output) -> None:
    output.building.mkdir(parents=True)
    (output.building / "remains").write_text("x")
    output.check(ORIGIN, overwrite=False)
    output.check(ORIGIN, overwrite=True)
    assert (output.building / "remains").read_text() == "x"


@pytest.mark.parametrize("name", ["thesis.txt", ".hidden", "metadata.parquet", "run", "building"])
def test_a_folder_with_something_in_it_needs_overwrite(output: Output, name: str) -> None:
    output.root.mkdir()
    (output.root / name).write_text("mine")
    with pytest.raises(OutputError) as caught:
        output.check(ORIGIN, overwrite=False)
    message = f"The output folder {output.root} is not empty (it holds {name}); give a new folder"
    beside = "" if name in ARTEFACTS else ", or --overwrite to write beside the existing files"
    assert str(caught.value) == f"{message}{beside}."
    if name in ARTEFACTS:
        with pytest.raises(OutputError, match="already exists and is not part"):
            output.check(ORIGIN, overwrite=True)
    else:
        output.check(ORIGIN, overwrite=True)
    assert (output.root / name).read_text() == "mine"


@pytest.mark.parametrize(
    ("count", "shown"), [(2, "(it holds f0, f1);"), (3, "(it holds f0, f1, f2);"), (9, "(it holds f0, f1, f2, …);")]
)
def test_of_many_things_three_are_named(output: Output, count: int, shown: str) -> None:
    output.root.mkdir()
    for number in range(count):
        (output.root / f"f{number}").mkdir()
    with pytest.raises(OutputError) as caught:
        output.check(ORIGIN, overwrite=False)
    assert shown in str(caught.value)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_is_no_folder(output: Output, overwrite: bool) -> None:  # noqa: FBT001
    output.root.write_text("mine")
    with pytest.raises(OutputError, match="is a file; give a folder"):
        output.check(ORIGIN, overwrite=overwrite)
    assert output.root.read_text() == "mine"


# Begin


def test_begin_removes_remains_that_nothing_is_noted_of_and_nothing_else(output: Output) -> None:
    _build(output, "unfinished")
    (output.root / "thesis.txt").write_text("mine")
    with output.owned():
        output.start(ORIGIN, PATHS)
    assert {path.name for path in output.building.rglob("*")} == {"run", "state", "origin.json", output.work.name}
    assert (output.root / "thesis.txt").read_text() == "mine"


def test_start_resumes_what_is_finished(output: Output) -> None:
    with output.owned():
        output.start(ORIGIN, PATHS)
        _build(output, "unfinished")
        output.state.mark_done("tiles", "A", [1])
        output.state.record_failure("B", OutputError("no"), 3)
        (output.work / "half").write_text("of the first attempt")
        (output.run / "comparison.parquet").write_text("of the first attempt")
    again = Output(output.root)
    with again.owned():
        again.start(ORIGIN, PATHS)
    assert (again.cubes / "content").read_text() == "unfinished"
    assert again.state.done("tiles") == {"A": [1]}
    assert again.state.failures() == []
    assert not output.work.exists()
    assert list(again.work.iterdir()) == list(again.run.iterdir()) == []


def test_a_restart_begins_anew(output: Output) -> None:
    with output.owned():
        output.start(ORIGIN, PATHS)
        _build(output, "unfinished")
        output.state.mark_done("tiles", "A", [1])
        output.start(ORIGIN, PATHS, restart=True)
    assert output.state.done("tiles") == {}
    assert not output.cubes.exists()


def test_begin_keeps_the_finished_dataset(output: Output) -> None:
    _publish(output, "old")
    with output.owned():
        output.start(ORIGIN, PATHS)
    assert _marks(output.root) == dict.fromkeys(ARTEFACTS, "old")


@pytest.mark.parametrize("file", ["out", "."], ids=["file", "file above"])
def test_a_folder_that_cannot_be_made(tmp_path: Path, file: str) -> None:
    in_the_way = tmp_path / "disk" / file
    in_the_way.parent.mkdir(parents=True, exist_ok=True)
    in_the_way.write_text("mine")
    output = Output(tmp_path / "disk" / "out")
    with pytest.raises(OutputError) as caught, output.owned():
        pass
    assert str(caught.value).startswith(f"The output folder {output.root} cannot be written (")
    assert in_the_way.read_text() == "mine"


# Publish


def test_publish_puts_every_artefact_in_its_place(output: Output) -> None:
    _publish(output, "new")
    assert _marks(output.root) == dict.fromkeys(ARTEFACTS, "new")
    assert {path.name for path in output.root.iterdir()} == set(ARTEFACTS)


def test_overwriting_replaces_own_names_only(output: Output) -> None:
    _publish(output, "old")
    mine = ["thesis.txt", "metadata.csv", "lmdb-backup/data.mdb", ".building-notes", "run.log"]
    for name in mine:
        (output.root / name).parent.mkdir(exist_ok=True)
        (output.root / name).write_text("mine")
    (output.root / "cubes.zarr" / "of the old one").write_text("old")

    output.check(ORIGIN, overwrite=True)
    assert _marks(output.root) == dict.fromkeys(ARTEFACTS, "old")
    _build(output, "new")
    output.publish()
    assert _marks(output.root) == dict.fromkeys(ARTEFACTS, "new")
    assert [(output.root / name).read_text() for name in mine] == ["mine"] * len(mine)
    assert not (output.root / "cubes.zarr" / "of the old one").exists()
    assert not output.building.exists()


@pytest.mark.parametrize("text", ["", "# Mine", "---\nlicense: mit\n---\nreben_dask: no", "---\nreben_dask: no end"])
def test_a_readme_of_the_user_is_never_replaced(output: Output, text: str) -> None:
    output.root.mkdir()
    (output.root / "README.md").write_text(text)
    output.check(ORIGIN, overwrite=True)
    for mark in ("old", "new"):
        _publish(output, mark)
        assert (output.root / "README.md").read_text() == text
        assert (output.root / "dataset_card.md").read_text() == FRONT_MATTER + mark
    (output.root / "README.md").unlink()
    _publish(output, "newest")
    assert _marks(output.root) == dict.fromkeys(ARTEFACTS, "newest")
    assert {path.name for path in output.root.iterdir()} == set(ARTEFACTS)


def test_two_files_of_the_user_are_in_the_way_of_the_card(output: Output) -> None:
    output.root.mkdir()
    for name in ("README.md", "dataset_card.md"):
        (output.root / name).write_text("mine")
    with pytest.raises(OutputError, match=r"README.md and dataset_card.md that this program did not write"):
        output.check(ORIGIN, overwrite=True)


@pytest.mark.parametrize("name", ["lmdb", "metadata.parquet"])
def test_a_link_is_replaced_and_what_it_leads_to_is_not(output: Output, tmp_path: Path, name: str) -> None:
    """Large artefacts are moved to another disk, and a link is left in their place."""
    _publish(output, "old")
    elsewhere = (output.root / name).rename(tmp_path / name)
    (output.root / name).symlink_to(elsewhere)
    _publish(output, "new")
    assert _marks(output.root) == dict.fromkeys(ARTEFACTS, "new")
    assert not (output.root / name).is_symlink()
    assert (elsewhere / "content" if elsewhere.is_dir() else elsewhere).read_text() == "old"


@pytest.mark.parametrize("missing", ARTEFACTS)
def test_nothing_is_published_while_an_artefact_is_missing(output: Output, missing: str) -> None:
    _publish(output, "old")
    with output.owned():
        output.start(ORIGIN, PATHS)
        _build(output, "new")
        lost = output.building / missing
        shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
        with pytest.raises(FileNotFoundError, match=missing):
            output.publish()
    assert _marks(output.root) == dict.fromkeys(ARTEFACTS, "old")
    assert not output.needs_recovery


# What is exported besides


def _exported(root: Path, names: Sequence[str], mark: str, record: str | None = None) -> Output:
    """Publish a dataset with exported files."""
    output = Output(root).with_exports(names)
    with output.owned():
        output.start(ORIGIN, PATHS)
        _build(output, mark)
        if record is None:
            write_record(output.run, exports=names)
        else:
            (output.run / "record.json").write_text(record)
        for name in names:
            (output.building / name).write_text(mark)
        output.publish()
    return output


def test_what_an_earlier_job_exported_goes_with_its_dataset(tmp_path: Path) -> None:
    _exported(tmp_path, ["spring", "meta.csv"], "old")
    (tmp_path / "winter").write_text("mine")
    _exported(tmp_path, ["BigEarthNet-S2", "meta.csv"], "new")
    found = {path.name: path.read_text() for path in tmp_path.iterdir() if path.name not in ARTEFACTS}
    assert found == {"winter": "mine", "BigEarthNet-S2": "new", "meta.csv": "new"}


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"exports": null}', None])
def test_a_record_cannot_name_anything_but_files_of_the_folder(tmp_path: Path, record: str | None) -> None:
    (tmp_path / "mine").write_text("mine")
    _exported(tmp_path / "out", [], "old", record)
    if record is None:
        write_record(tmp_path / "out" / "run", exports=["..", "../mine", ".", ".lock", "/mine", ""])
    _exported(tmp_path / "out", [], "new", record)
    assert (tmp_path / "mine").read_text() == "mine"
    assert _marks(tmp_path / "out").items() >= dict.fromkeys({*ARTEFACTS} - {"run"}, "new").items()


def test_what_is_not_ours_is_in_the_way_of_an_export(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summer").write_text("mine")
    with pytest.raises(OutputError, match="summer already exists and is not part"):
        Output(tmp_path / "out").with_exports(["spring", "summer"])
    assert Output(tmp_path / "out").with_exports(["spring"]).exports == ("spring",)


def test_an_export_cannot_take_the_place_of_the_dataset(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="'lmdb', which would replace a part"):
        Output(tmp_path / "out").with_exports(["spring", "lmdb"])
