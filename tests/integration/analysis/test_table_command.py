"""``reben table``: Table I of the paper in three formats, every cell counted by DuckDB."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result
from results import printed, refusal

from reben_dask.cli import main

FILES = ("metadata.parquet", "metadata_for_patches_with_snow_cloud_or_shadow.parquet")
SPLITS = ("train", "validation", "test")
Counts = dict[str, list[int]]


def _table(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["table", *map(str, arguments)])


def _printed(*arguments: object) -> str:
    return printed(_table(*arguments))


def _refused(*arguments: object) -> str:
    result = _table(*arguments)
    assert result.stdout == ""
    return refusal(result)


def _counted(*paths: Path) -> Counts:
    """Patches of each class in each split and in all, in the order of the names."""
    sums = ", ".join(f"count(*) FILTER (split = '{split}')" for split in SPLITS)
    files = [str(path) for path in paths]
    labels = f"SELECT unnest(labels) AS label, split FROM read_parquet({files})"  # noqa: S608
    rows = duckdb.sql(f"SELECT label, {sums}, count(*) FROM ({labels}) GROUP BY label").fetchall()  # noqa: S608
    return {label: list(counts) for label, *counts in sorted(rows)}


def _counted_from_table(out: Path, key: str, *, clear: bool) -> Counts:
    """Kept patches by an expression over the columns of the patch table, in each split and in all."""
    sums = ", ".join(f"count(*) FILTER (split = '{split}')" for split in SPLITS)
    apart = "coalesce(contains_seasonal_snow, false) OR coalesce(contains_cloud_or_shadow, false)"
    rows = duckdb.sql(
        f"SELECT {key} AS key, {sums}, count(*) FROM read_parquet('{out}/patches.parquet/*.parquet') "  # noqa: S608
        f"WHERE status = 'kept' AND NOT ({clear} AND ({apart})) GROUP BY key"
    ).fetchall()
    return {str(name): list(counts) for name, *counts in sorted(rows)}


def _markdown(text: str, name: str = "class") -> Counts:
    header, rule, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines()]
    assert header == [name, *SPLITS, "all"]
    assert rule == ["---", *["---:"] * 4]
    return {key: [int(cell.replace(",", "")) for cell in cells] for key, *cells in rows}


def _csv(text: str, name: str = "class") -> Counts:
    header, *rows = list(csv.reader(io.StringIO(text)))
    assert header == [name, *SPLITS, "all"]
    return {key: list(map(int, cells)) for key, *cells in rows}


def _latex(text: str, name: str = "class") -> Counts:
    assert text.startswith("\\begin{tabular}{lrrrr}\n")
    assert text.endswith("\\end{tabular}\n")
    header, *rows = [line[2:-3].split(" & ") for line in text.splitlines() if line.endswith(" \\\\")]
    assert header == [name.capitalize(), "Train", "Validation", "Test", "All"]
    assert [line.strip() for line in text.splitlines() if "rule" in line] == ["\\toprule", "\\midrule", "\\bottomrule"]
    return {key: list(map(int, cells)) for key, *cells in rows}


READERS: dict[str, Callable[..., Counts]] = {"markdown": _markdown, "csv": _csv, "latex": _latex}


@pytest.mark.slow
@pytest.mark.parametrize("style", list(READERS))
@pytest.mark.parametrize("clear", [False, True])
def test_every_cell_of_the_published_table(data_dir: Path, style: str, *, clear: bool) -> None:
    folder = data_dir / "bigearthnet"
    found = READERS[style](_printed(folder, "--format", style, *["--clear"] * clear))
    assert found == _counted(*(folder / name for name in FILES[: 1 if clear else 2]))
    assert list(found) == sorted(found)
    assert len(found) == 19


@pytest.mark.slow
def test_markdown_is_what_one_gets_and_has_thousands(data_dir: Path) -> None:
    folder = data_dir / "bigearthnet"
    printed = _printed(folder)
    assert printed == _printed(folder, "--format", "markdown")
    assert re.search(r"\| Arable land \| \d{2,3},\d{3} \|", printed)
    assert printed.endswith(" |\n")


@pytest.mark.slow
def test_files_one_by_one_are_the_folder(data_dir: Path) -> None:
    folder = data_dir / "bigearthnet"
    assert _printed(*(folder / name for name in FILES)) == _printed(folder)
    assert _printed(folder / FILES[0]) == _printed(folder, "--clear")
    assert _csv(_printed(folder / FILES[1], "--format", "csv")) == _counted(folder / FILES[1])


def test_several_datasets_are_added_up(data_dir: Path) -> None:
    whole, part = data_dir / "bigearthnet", data_dir / "bigearthnet" / "configilm_24_patches"
    paths = [folder / name for folder in (whole, part) for name in FILES]
    assert _csv(_printed(whole, part, "--format", "csv")) == _counted(*paths)


@pytest.mark.parametrize("clear", [False, True])
def test_a_dataset_of_this_program(small_run: Path, *, clear: bool) -> None:
    paths = [small_run / name for name in FILES[: 1 if clear else 2]]
    expected = _counted(*paths)
    assert len(expected) > 5
    for style, reader in READERS.items():
        assert reader(_printed(small_run, "--format", style, *["--clear"] * clear)) == expected


KEYS = {
    "date": "strftime(timezone('UTC', sensing_time), '%Y-%m-%d')",
    "season": "season",
    "labels": "len(labels)",
}


@pytest.mark.parametrize("by", list(KEYS))
@pytest.mark.parametrize("clear", [False, True])
def test_dates_seasons_and_numbers_of_labels(small_run: Path, by: str, *, clear: bool) -> None:
    expected = _counted_from_table(small_run, KEYS[by], clear=clear)
    assert len(expected) > 1
    for style, reader in READERS.items():
        printed = _printed(small_run, "--by", by, "--format", style, *["--clear"] * clear)
        assert reader(printed, by) == expected
    numbers = [int(key) for key in reader(printed, by)] if by == "labels" else []
    assert numbers == sorted(numbers)


def test_numbers_of_labels_of_published_metadata(data_dir: Path) -> None:
    files = [data_dir / "bigearthnet" / name for name in FILES]
    sums = ", ".join(f"count(*) FILTER (split = '{split}')" for split in SPLITS)
    rows = duckdb.sql(
        f"SELECT len(labels) AS key, {sums}, count(*) FROM read_parquet({[*map(str, files)]}) GROUP BY key"  # noqa: S608
    ).fetchall()
    found = _csv(_printed(data_dir / "bigearthnet", "--by", "labels", "--format", "csv"), "labels")
    assert list(found.items()) == [(str(key), list(counts)) for key, *counts in sorted(rows)]
    assert sum(counts[-1] for counts in found.values()) == 549_488


def test_several_datasets_are_added_up_by_date_too(small_run: Path) -> None:
    once, twice = (_csv(_printed(*[small_run] * times, "--by", "date", "--format", "csv"), "date") for times in (1, 2))
    assert twice == {date: [2 * count for count in counts] for date, counts in once.items()}


SENSED = "strptime(regexp_extract(patch_id, '_(\\d{8})T', 1), '%Y%m%d')"
"""Day in a name."""

NAMED = {
    "date": f"strftime({SENSED}, '%Y-%m-%d')",
    "season": f"['spring', 'summer', 'fall', 'winter'][((month({SENSED}) + 9) % 12) // 3 + 1]",
}


@pytest.mark.slow
@pytest.mark.parametrize("by", list(NAMED))
def test_days_and_seasons_of_published_metadata_are_those_of_the_names(data_dir: Path, by: str) -> None:
    sums = ", ".join(f"count(*) FILTER (split = '{split}')" for split in SPLITS)
    files = [str(data_dir / "bigearthnet" / name) for name in FILES]
    query = f"SELECT {NAMED[by]} AS key, {sums}, count(*) FROM read_parquet({files}) GROUP BY key"  # noqa: S608
    expected = {key: list(counts) for key, *counts in duckdb.sql(query).fetchall()}
    found = _csv(_printed(data_dir / "bigearthnet", "--by", by, "--format", "csv"), by)
    assert found == expected
    # 79 dates from June 2017 to May 2018.
    order = sorted(expected) if by == "date" else ["spring", "summer", "fall", "winter"]
    assert list(found) == order
    assert by == "season" or (len(found), order[0], order[-1]) == (79, "2017-06-13", "2018-05-29")


def test_names_without_a_day_are_refused(tmp_path: Path) -> None:
    query = "SELECT 'mine_1_2' AS patch_id, ['a'] AS labels, 'train' AS split"
    duckdb.sql(f"COPY ({query}) TO '{tmp_path / FILES[0]}' (FORMAT parquet)")
    assert "'mine_1_2' is not the name of a patch with its day" in _refused(tmp_path, "--by", "date")


def test_a_part_that_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "patches.parquet").mkdir()
    (tmp_path / "patches.parquet" / "T33UVP.parquet").write_bytes(b"PAR1 and no more")
    assert "T33UVP.parquet" in _refused(tmp_path, "--by", "season")


def test_a_dataset_without_patches_is_a_header(tmp_path: Path) -> None:
    nothing = "SELECT ['a'] AS labels, 'train' AS split WHERE false"
    duckdb.sql(f"COPY ({nothing}) TO '{tmp_path / FILES[0]}' (FORMAT parquet)")
    for style, reader in READERS.items():
        assert reader(_printed(tmp_path, "--format", style)) == {}


@pytest.mark.parametrize("style", list(READERS))
def test_names_that_a_format_would_take_for_its_own(tmp_path: Path, style: str) -> None:
    """A nomenclature of one's own may have any names: signs of the format stand behind a backslash, or in quotes."""
    names = "SELECT ['Heath & moor', 'Rock | scree', '50 % wood', 'a_b', 'say \"x\", y'] AS labels, 'test' AS split"
    duckdb.sql(f"COPY ({names}) TO '{tmp_path / FILES[0]}' (FORMAT parquet)")
    printed = _printed(tmp_path, "--format", style)
    if style == "csv":
        assert _csv(printed) == _counted(tmp_path / FILES[0])
    if style == "markdown":
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in printed.splitlines()} == {6}
    if style == "latex":
        rows = [line for line in printed.splitlines() if line.endswith(" \\\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {4}
        assert not re.search(r"(?<!\\)[%_]", printed)


def test_what_is_no_dataset_is_refused(tmp_path: Path, data_dir: Path) -> None:
    assert str(tmp_path / "none") in _refused(tmp_path / "none")
    assert str(tmp_path) in _refused(tmp_path)
    origins = data_dir / "bigearthnet" / "tile_origins.csv"
    assert str(origins) in _refused(origins)
    path = tmp_path / "other.parquet"
    duckdb.sql(f"COPY (SELECT ['a'] AS labels) TO '{path}' (FORMAT parquet)")
    assert "has no column split" in _refused(data_dir / "bigearthnet", path)


def test_slips_on_the_command_line(data_dir: Path) -> None:
    for arguments, words in (((), "Missing argument"), ((data_dir / "bigearthnet", "--format", "html"), "markdown")):
        result = _table(*arguments)
        assert result.exit_code == 2
        assert words in result.stderr
