"""What the user reads of a comparison: tables that no terminal is too narrow for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from reben_dask.compare.correlation import SpatialCorrelation
from reben_dask.compare.differences import Differences
from reben_dask.compare.tables import Remark, Sheet, correlation_tables, describe_datasets, difference_tables
from reben_dask.stores.patch_set import PatchSet

_WIDE = 100_000


def show_datasets(console: Console, datasets: Mapping[str, PatchSet]) -> None:
    """Say which dataset is which, and what each holds."""
    for line in describe_datasets(datasets):
        console.print(line, highlight=False)


def show_differences(console: Console, found: Differences) -> None:
    """Print what two datasets have in common, and how labels and splits of what both keep differ."""
    _show(console, difference_tables(found))


def show_correlation(console: Console, found: Mapping[str, SpatialCorrelation]) -> None:
    """Print how far test patches are from training patches, and how alike labels are at a distance."""
    _show(console, correlation_tables(found))


def show_note(console: Console, text: str) -> None:
    """Print one sentence that the user should know, but need not act on."""
    console.print(f"Note: {text}", style="yellow", highlight=False)


def _show(console: Console, parts: Iterable[Sheet | Remark]) -> None:
    for part in parts:
        if isinstance(part, Remark):
            show_note(console, part.text)
        else:
            _print(console, _table(part))


def _table(sheet: Sheet) -> Table:
    table = Table(title=sheet.title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(sheet.columns):
        table.add_column(column, justify="right" if number >= sheet.words else "left")
    for number, row in enumerate(sheet.rows, start=1):
        table.add_row(*row, style="bold" if sheet.sums and number == len(sheet.rows) else None)
    return table


def _print(console: Console, table: Table) -> None:
    """Print a table with names on several lines where that fits it into the terminal, and wider than it if need be."""
    for column in table.columns:
        words = " ".join(map(str, (column.header, *column.cells))).split()
        column.min_width = max(map(cell_len, words), default=0)
    room = Measurement.get(console, console.options.update(max_width=_WIDE), table)
    if not console.is_terminal:
        table.width = room.maximum
    elif console.width < room.minimum:
        table.width = room.minimum
    console.print(table)
    console.print()
