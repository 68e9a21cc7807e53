"""Tables of counts and measures: one model for pages, cards, the terminal and files."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeGuard

import pandas as pd
from rich import table as rich_table
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.text import Text

TEXT, COUNT, PERCENT = "", ",d", ".1%"
"""Column formats: left-aligned text; numbers, right-aligned, take any format specification."""

Cell = str | int | float | None
_WIDE = 100_000


@dataclass(frozen=True)
class Table:
    """Titled rows of values; the first cell of a row is its heading."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    """Values. None, NaN and cells missing in a short row are empty; a str is shown unchanged."""
    formats: Sequence[str] | str = COUNT
    """Format specification of each column, or one of all columns but the first, which is text."""
    has_total: bool = False
    """True if the last row is the sum of the others."""
    folded: bool = False
    """True if a page shows only the title, and the rows on demand."""

    @classmethod
    def from_frame(
        cls,
        title: str,
        frame: pd.DataFrame,
        *,
        index: str | None = None,
        formats: Sequence[str] | str = COUNT,
        has_total: bool = False,
        folded: bool = False,
    ) -> Self:
        """Convert a frame; its index becomes the first column, under its own name or ``index``."""
        name = index if index is not None else str(frame.index.name or "")
        rows = [[str(key), *values] for key, *values in frame.itertuples(name=None)]
        return cls(title, [name, *map(str, frame.columns)], rows, formats, has_total, folded)

    @property
    def is_number(self) -> list[bool]:
        """Alignment of each column: True for right-aligned."""
        return [form != TEXT for form in self._formats]

    @property
    def texts(self) -> list[list[str]]:
        """Formatted cells; all rows have the same length."""
        return [
            [_text(value, form) for value, form in zip(row, self._formats, strict=True)] for row in self._full_rows()
        ]

    def with_total(self, name: str = "all") -> Self:
        """Append the sums of all numeric columns."""
        numbers = [[value for value in column if _is_number(value)] for column in self._columns_of_cells()]
        sums = [sum(column) if number else None for column, number in zip(numbers, self.is_number, strict=True)]
        return replace(self, rows=[*self.rows, [name, *sums[1:]]], has_total=True)

    def without_zero_rows(self) -> Self:
        """Drop rows whose numbers are all zero or empty, except the total."""
        body, total = (self.rows[:-1], self.rows[-1:]) if self.has_total else (self.rows, [])
        kept = [row for row in body if any(map(_is_something, self._numbers(row)))]
        return replace(self, rows=[*kept, *total])

    def without_zero_columns(self) -> Self:
        """Drop numeric columns that are all zero or empty."""
        columns = self._columns_of_cells()
        kept = [
            place
            for place, number in enumerate(self.is_number)
            if not number or any(map(_is_something, columns[place]))
        ]
        rows = list(zip(*(columns[place] for place in kept), strict=True))
        names, formats = ([values[place] for place in kept] for values in (self.columns, self._formats))
        return replace(self, columns=names, rows=rows, formats=formats)

    def to_markdown(self) -> str:
        """Format as GitHub Markdown, without the title."""
        rule = ["---:" if number else "---" for number in self.is_number]
        lines: list[Sequence[str]] = [
            self.columns,
            rule,
            *([cell.replace("|", r"\|") for cell in row] for row in self.texts),
        ]
        return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)

    def to_csv(self) -> str:
        """Format as CSV with raw values."""
        file = io.StringIO()
        rows = [["" if pd.isna(value) else value for value in row] for row in self._full_rows()]
        csv.writer(file, lineterminator="\n").writerows([self.columns, *rows])
        return file.getvalue()

    def to_latex(self) -> str:
        """Format as a booktabs ``tabular`` with raw numbers."""
        rows: list[list[Cell]] = [[name[:1].upper() + name[1:] for name in self.columns], *self._full_rows()]
        lines = [f"  {' & '.join(_latex(cell) for cell in row)} \\\\" for row in rows]
        head, body = lines[0], lines[1:]
        if self.has_total:
            body.insert(-1, "  \\midrule")
        places = "".join("r" if number else "l" for number in self.is_number)
        begin, end = f"\\begin{{tabular}}{{{places}}}", "\\end{tabular}\n"
        return "\n".join([begin, "  \\toprule", head, "  \\midrule", *body, "  \\bottomrule", end])

    def to_rich(self) -> rich_table.Table:
        """Convert to a rich table; columns are at least as wide as their longest word."""
        table = rich_table.Table(title=self.title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        texts = self.texts
        for place, (name, number) in enumerate(zip(self.columns, self.is_number, strict=True)):
            words = " ".join((name, *(row[place] for row in texts))).split()
            width = max(map(cell_len, words), default=0)
            table.add_column(Text(name), justify="right" if number else "left", min_width=width)
        for place, row in enumerate(texts, start=1):
            is_total = self.has_total and place == len(texts)
            table.add_row(*map(Text, row), style="bold" if is_total else None)
        return table

    def show(self, console: Console) -> None:
        """Print on a terminal, with wrapped cells if needed to fit; wider than the terminal if unavoidable."""
        table = self.to_rich()
        room = Measurement.get(console, console.options.update(max_width=_WIDE), table)
        if not console.is_terminal:
            table.width = room.maximum
        elif console.width < room.minimum:
            table.width = room.minimum
        console.print(table)

    @property
    def _formats(self) -> list[str]:
        if isinstance(self.formats, str):
            return [TEXT, *[self.formats] * (len(self.columns) - 1)]
        return list(self.formats)

    def _full_rows(self) -> list[list[Cell]]:
        return [[*row, *[None] * (len(self.columns) - len(row))] for row in self.rows]

    def _columns_of_cells(self) -> list[list[Cell]]:
        return [[row[place] for row in self._full_rows()] for place in range(len(self.columns))]

    def _numbers(self, row: Sequence[Cell]) -> list[Cell]:
        return [value for value, number in zip(row, self.is_number, strict=False) if number]


def share(part: float, whole: float) -> float | None:
    """Fraction of a whole; None if the whole is 0."""
    return part / whole if whole else None


def _text(value: Cell, form: str) -> str:
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return ""
    return format(int(value) if form.endswith("d") else value, form)


def _is_something(value: Cell) -> bool:
    return not pd.isna(value) and bool(value)


def _is_number(value: Cell) -> TypeGuard[float]:
    return not isinstance(value, str) and not pd.isna(value)


def _latex(value: Cell) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", "" if pd.isna(value) else str(value))
