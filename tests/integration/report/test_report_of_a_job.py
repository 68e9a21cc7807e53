"""The report at the end of a job: it may fail, and the dataset is there; an older one does not outlive its dataset."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from pages import read_page, table

from reben_dask.cli.report import report_on
from reben_dask.errors import OutputError
from reben_dask.formats.dataset import ARTEFACTS, CARD, RunRecord
from reben_dask.run import run
from reben_dask.workspace import Origin, Output


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_is_drawn")
def test_a_report_that_was_interrupted_is_made_by_the_same_command(
    small_run: Path, small_inputs: list[object], tmp_path: Path
) -> None:
    out = Path(shutil.copytree(small_run, tmp_path / "out", ignore=shutil.ignore_patterns("report")))
    again, once_more = (CliRunner().invoke(run, [*map(str, small_inputs), "--out", str(out)]).output for _ in range(2))
    assert "nothing to do" in again
    assert f"Report: {out / 'report' / 'index.html'}" in again
    assert (out / "report" / "index.html").is_file()
    assert "nothing to do" in once_more
    assert "Report: " not in once_more


def test_times_of_the_summary_and_of_the_report_agree(small_run: Path) -> None:
    seconds = RunRecord.read(small_run).seconds
    assert list(seconds) == ["start", "landcover", "tiles", "overlaps", "metadata", "statistics", "report"]
    assert f"\nDone in {sum(seconds.values()):,.0f} s. " in (small_run.parent / "said.txt").read_text()
    page = read_page(small_run / "report" / "index.html")
    *rows, (total, value) = table(page, "Wall time of each stage of the job")[1:]
    assert (rows[0][0], rows[-1][0], total) == ("start: plan and cluster", "Dask's performance report", "total")
    assert value == f"{sum(seconds.values()):,.1f}"


def test_dask_reports_on_the_job_unless_no_report_is_asked_for(small_run: Path, tile_run: Path) -> None:
    said = (small_run.parent / "said.txt").read_text()
    assert "run/performance.html" in said
    assert "Dask Performance Report" in (small_run / "run" / "performance.html").read_text()
    assert not (tile_run / "run" / "performance.html").exists()
    assert "report" not in RunRecord.read(tile_run).seconds


def test_a_report_that_fails_is_a_note(small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "patches.parquet").symlink_to(small_run / "patches.parquet")
    (out / "report").write_text("in the way")
    report_on(out)
    said = capsys.readouterr().out
    assert said.startswith("Note: The dataset is complete, but its report could not be made (")
    assert f"run `reben report {out}` to try again" in said
    assert sorted(path.name for path in out.iterdir()) == ["patches.parquet", "report"]


def test_a_program_that_fails_is_a_note_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: E501  # fmt: skip
    def fail(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr("reben_dask.cli.report.make_report", fail)
    report_on(tmp_path)
    assert "(MemoryError: no room)" in capsys.readouterr().out


ORIGIN: Origin = {"tiles": {}}


def _finished(root: Path, name: str) -> Output:
    output = Output(root, name)
    output.start(ORIGIN, {})
    for artefact in {*ARTEFACTS} - {CARD}:
        (output.building / artefact).mkdir(exist_ok=True)
    (output.building / CARD).write_text("---\nreben_dask:\n  recipe: reben\n---\n")
    (output.run / "record.json").write_text("{}")
    return output


def test_the_report_of_an_earlier_dataset_does_not_stay(tmp_path: Path) -> None:
    root = tmp_path / "out"
    _finished(root, "first").publish()
    (root / "report").mkdir()
    (root / "report" / "index.html").write_text("old")
    second = _finished(root, "second")
    second.check(ORIGIN, overwrite=True)
    second.publish()
    assert {path.name for path in root.iterdir()} == set(ARTEFACTS)


def test_a_folder_of_that_name_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out" / "report").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"report already exists and is not part of a dataset of this program"):
        Output(tmp_path / "out").check(ORIGIN, overwrite=True)
