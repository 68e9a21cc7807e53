"""Counts as tables of a page."""

from __future__ import annotations

import pandas as pd

from reben_dask.report.blocks import Table


def split_table(caption: str, head: str, counts: pd.DataFrame, *, folded: bool = False) -> Table:
    """A table of patches by something and by set."""
    rows = [
        [str(name), *(f"{count:,}" for count in row)] for name, row in zip(counts.index, counts.to_numpy(), strict=True)
    ]
    return Table(caption, [head, *map(str, counts.columns)], rows, folded=folded)


def share(part: int, whole: int) -> str:
    """A part of a whole in percent; nothing where there is no whole."""
    return f"{part / whole:.1%}" if whole else ""
