"""The model of a table in all forms that it is shown in."""

from __future__ import annotations

import csv
import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from reben_dask.tables import COUNT, PERCENT, TEXT, Table, share

COUNTS = pd.DataFrame(
    {"train": [12_000, 0], "test": [np.int64(5), 0], "none": [0, 0]}, index=pd.Index(["Arable | land", "Mines_&"])
).rename_axis("class")
MIXED = Table(
    "Tiles", ["tile", "day", "kept", "share"], [["T33UUP", "2018", 3, 0.5], ["T32", "-", None, float("nan")], ["T1"]],
    [TEXT, TEXT, COUNT, PERCENT],
)  # fmt: skip


def _printed(table: Table, **options: object) -> list[str]:
    console = Console(file=io.StringIO(), soft_wrap=True, **options)
    table.show(console)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_cells_as_texts() -> None:
    table = Table.from_frame("Counts", COUNTS)
    assert table.columns == ["class", "train", "test", "none"]
    assert table.texts == [["Arable | land", "12,000", "5", "0"], ["Mines_&", "0", "0", "0"]]
    assert table.is_number == [False, True, True, True]
    assert MIXED.texts == [["T33UUP", "2018", "3", "50.0%"], ["T32", "-", "", ""], ["T1", "", "", ""]]
    floats = Table.from_frame("Floats", COUNTS.astype(float), index="")
    assert (floats.columns[0], floats.texts) == ("", table.texts)


def test_totals_and_zeros() -> None:
    table = Table.from_frame("Counts", COUNTS).with_total("both")
    assert (table.rows[-1], table.has_total) == (["both", 12_000, 5, 0], True)
    assert [row[0] for row in table.without_zero_rows().rows] == ["Arable | land", "both"]
    assert table.without_zero_columns().columns == ["class", "train", "test"]
    assert table.without_zero_columns().texts[0] == ["Arable | land", "12,000", "5"]
    assert MIXED.with_total().texts[-1] == ["all", "", "3", "50.0%"]
    empty = Table("None", ["a", "b"], [])
    assert empty.without_zero_columns().columns == ["a"]
    assert empty.with_total().rows == [["all", 0]]
    assert Table("", ["", "n"], [["a", "-"], ["b", 2]]).with_total().rows[-1] == ["all", 2]


def test_markdown() -> None:
    assert Table.from_frame("Counts", COUNTS[["train"]]).to_markdown() == (
        "| class | train |\n| --- | ---: |\n| Arable \\| land | 12,000 |\n| Mines_& | 0 |\n"
    )


def test_csv_has_the_values() -> None:
    rows = list(csv.reader(io.StringIO(MIXED.to_csv())))
    assert rows == [["tile", "day", "kept", "share"], ["T33UUP", "2018", "3", "0.5"], ["T32", "-", "", ""],
                    ["T1", "", "", ""]]  # fmt: skip
    assert Table.from_frame("Counts", COUNTS).to_csv() == COUNTS.to_csv(lineterminator="\n")


def test_latex() -> None:
    lines = Table.from_frame("Counts", COUNTS[["train"]]).with_total().to_latex().splitlines()
    assert lines == [
        r"\begin{tabular}{lr}", r"  \toprule", r"  Class & Train \\", r"  \midrule", r"  Arable | land & 12000 \\",
        r"  Mines\_\& & 0 \\", r"  \midrule", r"  all & 12000 \\", r"  \bottomrule", r"\end{tabular}",
    ]  # fmt: skip


def test_a_terminal_breaks_names_only_where_that_fits() -> None:
    table = Table("Title", ["", "patches"], [["a name of many words [bold]", 12_000], ["other", 3]], has_total=True)
    whole = _printed(table)
    assert whole == ["Title", "                             patches", "a name of many words [bold]   12,000",
                     "other                              3"]  # fmt: skip
    assert _printed(table, width=20) == whole
    narrow = _printed(table, width=20, force_terminal=True, color_system=None)
    assert len(narrow) > len(whole)
    assert max(map(len, narrow)) <= 20
    tight = _printed(table, width=8, force_terminal=True, color_system=None)
    assert max(map(len, tight)) == len("[bold]   patches")


@pytest.mark.parametrize(("part", "whole", "expected"), [(1, 4, 0.25), (0, 3, 0), (0, 0, None)])
def test_shares(part: int, whole: int, expected: float | None) -> None:
    assert share(part, whole) == expected
