"""What the user reads of a comparison: tables that no terminal is too narrow for."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from reben_dask.compare.correlation import QUANTILES, SpatialCorrelation
from reben_dask.compare.differences import Differences
from reben_dask.patches.decision import REASONS
from reben_dask.patches.matching import NO_CANDIDATE
from reben_dask.stores.patch_set import PatchSet

_PAIRS_SHOWN = 12
_WIDE = 100_000
_MEANINGS = {**REASONS, NO_CANDIDATE: "it is no candidate there"}


def show_datasets(console: Console, datasets: Mapping[str, PatchSet]) -> None:
    """Say which dataset is which, and what each holds."""
    for name, dataset in datasets.items():
        console.print(
            f"{_prefix(datasets, name)}{dataset.path}: {len(dataset):,} candidates, {len(dataset.kept()):,} kept, "
            f"{len(dataset.labels.classes)} classes",
            highlight=False,
        )


def show_differences(console: Console, found: Differences) -> None:
    """Print what two datasets have in common, and how labels and splits of what both keep differ."""
    table = _table("Patches, matched by place and time", "", *found.overlap.columns)
    for name, counts in found.overlap.iterrows():
        table.add_row(str(name), *_counts(counts))
    _print(console, table)
    for name, other in (("A", "B"), ("B", "A")):
        if moved := found.other_time[name]:
            show_note(
                console, f"{moved:,} of the candidates that only {name} has lie at places of {other}, at other times."
            )
    if len(found.reasons):
        table = _table("Kept in one only, and why not in the other", "", "kept in A only", "kept in B only")
        pivot = found.reasons.pivot_table(index="reason", columns="kept in", values="patches", fill_value=0, sort=False)
        for reason, counts in pivot.reindex(columns=["A", "B"], fill_value=0).iterrows():
            table.add_row(_MEANINGS.get(str(reason), str(reason)), *_counts(counts))
        _print(console, table)
    if not found.overlap.loc["kept", "both"]:
        show_note(console, "No patch is kept in both; there are no labels and splits to compare.")
        return
    _show_labels(console, found)
    table = _table("Split in A (rows) and in B (columns)", "", *map(str, found.splits.columns))
    for name, counts in found.splits.iterrows():
        table.add_row(str(name), *_counts(counts))
    _print(console, table)


def show_correlation(console: Console, found: Mapping[str, SpatialCorrelation]) -> None:
    """Print how far test patches are from training patches, and how alike labels are at a distance."""
    for name, correlation in found.items():
        for why in correlation.without.values():
            show_note(console, f"{_prefix(found, name)}{why}; its distances are left out.")
        if correlation.splits:
            _show_splits(console, _prefix(found, name), correlation)
    found = {name: correlation for name, correlation in found.items() if len(correlation.correlogram)}
    if not found:
        return
    table = _table("Similarity of the labels of two kept patches, by distance", "km")
    for name in found:
        for column in ("pairs drawn", "mean Jaccard", "Moran's I"):
            table.add_column(f"{_prefix(found, name)}{column}", justify="right")
    cells = {name: _by_distance(correlation.correlogram) for name, correlation in found.items()}
    for limits in sorted({limits for rows in cells.values() for limits in rows}):
        lower, upper = (f"{limit / 1000:g}" for limit in limits)
        table.add_row(
            f"{lower} to {upper}", *(cell for rows in cells.values() for cell in rows.get(limits, ("-",) * 3))
        )
    table.add_row(
        "all", *(cell for found_ in found.values() for cell in ("", f"{found_.by_chance:.3f}", "")), style="bold"
    )
    _print(console, table)


def show_note(console: Console, text: str) -> None:
    """Print one sentence that the user should know, but need not act on."""
    console.print(f"Note: {text}", style="yellow", highlight=False)


def _show_labels(console: Console, found: Differences) -> None:
    patches = found.labels.patches
    table = _table("Labels of the patches kept in both, from A to B", "", *map(str, patches.columns))
    for name, counts in patches.iterrows():
        table.add_row(str(name), *_counts(counts))
    _print(console, table)
    classes = found.labels.classes
    table = _table("Patches with each class: only A has lost it in B, only B has gained it", *_heads(classes))
    for name, row in classes.iterrows():
        table.add_row(str(name), str(row.iloc[0]), *_counts(row.iloc[1:]))
    _print(console, table)
    pairs = found.labels.pairs
    if len(pairs):
        title = "Lost and gained in the same patch, most frequent; share of those that lose the one or gain the other"
        table = _table(title, "lost", "gained", "patches", "share")
        table.columns[1].justify = "left"
        for lost, gained, count, share in pairs.head(_PAIRS_SHOWN).itertuples(index=False, name=None):
            table.add_row(str(lost), str(gained), f"{count:,}", f"{share:.0%}")
        if (more := len(pairs) - _PAIRS_SHOWN) > 0:
            table.add_row(f"and {more:,} more pairs of classes")
        _print(console, table)


def _show_splits(console: Console, prefix: str, correlation: SpatialCorrelation) -> None:
    titles = [split.title for split in correlation.splits]
    table = _table(f"{prefix}Test patches and their nearest training patches, by split", "", *titles)
    measures = [split.measures() for split in correlation.splits]

    def add(label: str, key: str, form: str) -> None:
        table.add_row(label, *(format(values[key], form) for values in measures))

    add("test patches", "test patches", ",d")
    add("training patches", "training patches", ",d")
    add("touch or overlap a training patch", "touch or overlap a training patch", ".2%")
    add("overlap a training patch", "overlap a training patch", ".2%")
    for label in QUANTILES:
        add(f"nearest training patch, {label} (m)", f"distance {label}", ",.0f")
    add("mean Jaccard with the nearest training patch", "Jaccard nearest", ".3f")
    add("mean Jaccard with a random training patch", "Jaccard random", ".3f")
    add("similarity above chance (0 to 1)", "above chance", ".3f")
    _print(console, table)


def _by_distance(table: pd.DataFrame) -> dict[tuple[float, float], tuple[str, str, str]]:
    limits = zip(table["from_m"].tolist(), table["to_m"].tolist(), strict=True)
    measures = zip(*(table[name].tolist() for name in ("pairs", "jaccard", "moran_i")), strict=True)
    cells = ((f"{pairs:,}", f"{jaccard:.3f}", f"{moran:.3f}") for pairs, jaccard, moran in measures)
    return dict(zip(limits, cells, strict=True))


def _prefix(datasets: Mapping[str, object], name: str) -> str:
    """What stands before whatever is said of a dataset: its letter, if there is another one."""
    return f"{name}: " if len(datasets) > 1 else ""


def _heads(table: pd.DataFrame) -> list[str]:
    return [str(table.index.name), *map(str, table.columns)]


def _counts(row: pd.Series[int]) -> list[str]:
    return [f"{int(count):,}" for count in row]


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
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
