"""The page of a comparison beside the tables as files, and splits by strategies that a dataset has not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from pages import Tag, counts, linked, read_page, table, tables

from reben_dask.analysis.patch_set import read_patch_set
from reben_dask.cli import main
from reben_dask.formats.dataset import RunRecord
from reben_dask.report.strategies import tile_splits, with_strategies


@pytest.fixture(scope="module")
def page(compared_runs: tuple[Path, Path, str]) -> Tag:
    return read_page(compared_runs[0] / "index.html")


def test_every_table_that_is_printed_is_there(page: Tag, compared_runs: tuple[Path, Path, str]) -> None:
    _, _, printed = compared_runs
    found = tables(page)
    assert len(found) == 9
    for caption, rows in found.items():
        assert caption in printed
        lines = printed.split(caption)[1].split("\n\n")[0]
        words = [word for row in rows for cell in row for word in cell.split()]
        assert sorted(words) == sorted(lines.split()), caption


def test_numbers_are_those_of_the_tables_as_files(page: Tag, compared_runs: tuple[Path, Path, str]) -> None:
    files = {path.stem: pd.read_csv(path, keep_default_na=False) for path in compared_runs[1].glob("*.csv")}
    assert counts(table(page, "Patches, matched")) == {
        name: list(numbers) for name, *numbers in files["patches"].itertuples(index=False)
    }
    classes = {row[0]: row[1:] for row in table(page, "Patches by class")[1:]}
    rows = {str(name): list(map(str, row)) for name, *row in files["classes"].itertuples(index=False)}
    assert classes == {name: row for name, row in rows.items() if any(count != "0" for count in row[1:])}
    assert any(int(row[-2]) > 0 for row in classes.values())
    changed = [name for name, row in classes.items() if int(row[-2]) + int(row[-1])]
    (picture,) = [image for image in page.all("img") if "lost" in image.attributes["alt"]]
    assert re.findall(r"[.;] ([\w, -]+): \d+ lost", picture.attributes["alt"]) == changed
    measures = files["split_correlation"].set_index(["dataset", "split"])
    shown = table(page, "A: Test patches")
    assert shown[0][1:] == ["geographic (split)", "grid (computed)", "random (computed)"]
    nearest = {row[0]: row[1:] for row in shown[1:]}
    medians = [f"{measures.loc[('A', title), 'distance median']:,.0f}" for title in shown[0][1:]]
    assert nearest["nearest training patch, median (m)"] == medians
    distances = [float(text.replace(",", "")) for text in medians]
    assert distances[0] >= max(distances[1:]) > 0


@pytest.mark.usefixtures("nothing_is_drawn")
def test_one_dataset_alone_and_a_section_of_its_report(small_run: Path, changed_run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["compare", str(small_run), "--report", str(tmp_path / "alone")])
    assert result.exit_code == 0, result.output
    alone = read_page(tmp_path / "alone" / "index.html")
    assert len(tables(alone)) == 2
    titles = ["geographic (split)", "grid (computed)", "random (computed)"]
    assert table(alone, "Test patches and their nearest")[0][1:] == titles
    out = linked(small_run, tmp_path / "out")
    result = CliRunner().invoke(main, ["report", str(out), "--compare", str(changed_run)])
    assert result.exit_code == 0, result.output
    whole = read_page(out / "report" / "index.html")
    assert table(whole, "Patches, matched")
    assert table(whole, "Patches with each class, by split")
    assert (out / "report" / "figures" / "compared-splits.svg").is_file()


def test_strategies_that_are_computed(small_run: Path) -> None:
    """The job's own geographic split, made again as if it were not known; the pattern of the grid; shares by lot."""
    record, dataset = RunRecord.read(small_run), read_patch_set(small_run)
    forgotten = record.model_copy(update={"recipe": {}})
    found = with_strategies(dataset, forgotten).patches
    assert (found["split_geographic (computed)"] == found["split"].astype(object)).all()
    assert dataset.splits == ("split",)
    x, y = ((found[name] - found.groupby("tile", observed=True)[name].transform(edge)) // side % 2
            for name, edge, side in (("minx", "min", 1200), ("maxy", "max", -1200)))  # fmt: skip
    pattern = {(0, 0): "train", (1, 1): "train", (1, 0): "validation", (0, 1): "test"}
    assert found["split_grid (computed)"].tolist() == [pattern[place] for place in zip(x, y, strict=True)]
    shares = found["split_random (computed)"].value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.5, abs=0.1)
    named = with_strategies(dataset, record)
    assert named.splits == ("split", "split_geographic", "split_grid (computed)", "split_random (computed)")
    assert (named.patches["split_grid (computed)"] == found["split_grid (computed)"]).all()


def test_the_map_of_one_tile(small_run: Path) -> None:
    dataset = read_patch_set(small_run)
    rows = dataset.patches[dataset.patches["tile"] == dataset.patches["tile"].iloc[-1]]
    tile = tile_splits("one", rows, RunRecord.read(small_run))
    assert list(tile.splits) == ["geographic (this dataset)", "grid (computed)", "random (computed)"]
    for row in rows.itertuples(index=False):
        y, x = (rows["maxy"].max() - row.maxy) // 1200, (row.minx - rows["minx"].min()) // 1200
        assert tile.splits["geographic (this dataset)"][y, x] == row.split
        assert tile.kept[y, x] == (row.status == "kept")
    assert tile.kept.shape == (4, 4)
    few = tile_splits("one", rows.iloc[3:], None)
    assert few.kept.shape == (4, 4)
    assert np.equal(few.splits["grid (computed)"], None).sum() == 3
