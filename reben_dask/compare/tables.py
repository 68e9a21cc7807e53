"""The tables of a comparison as texts: what a terminal shows, and a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from reben_dask.compare.correlation import QUANTILES, SpatialCorrelation
from reben_dask.compare.differences import Differences
from reben_dask.patches.decision import REASONS
from reben_dask.patches.matching import NO_CANDIDATE
from reben_dask.stores.patch_set import PatchSet

_PAIRS_SHOWN = 12
_MEANINGS = {**REASONS, NO_CANDIDATE: "it is no candidate there"}


@dataclass(frozen=True)
class Sheet:
    """A table of texts.

    Parameters
    ----------
    title : str
        What is counted or measured.
    columns : sequence of str
        Their heads.
    rows : sequence of sequence of str
        Their cells; a row may be shorter than the heads.
    words : int
        So many columns, from the left, hold words; the others hold numbers.
    sums : bool
        Whether the last row sums up the others.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    sums: bool = False


@dataclass(frozen=True)
class Remark:
    """A sentence that the reader should know."""

    text: str


def describe_datasets(datasets: Mapping[str, PatchSet]) -> Iterator[str]:
    """Say which dataset is which, and what each holds."""
    for name, dataset in datasets.items():
        yield (
            f"{_prefix(datasets, name)}{dataset.path}: {len(dataset):,} candidates, {len(dataset.kept()):,} kept, "
            f"{len(dataset.labels.classes)} classes"
        )


def difference_tables(found: Differences) -> Iterator[Sheet | Remark]:
    """What two datasets have in common, and how labels and splits of what both keep differ."""
    yield _counted("Patches, matched by place and time", found.overlap)
    for name, other in (("A", "B"), ("B", "A")):
        if moved := found.other_time[name]:
            yield Remark(f"{moved:,} of the candidates that only {name} has lie at places of {other}, at other times.")
    if len(found.reasons):
        pivot = found.reasons.pivot_table(index="reason", columns="kept in", values="patches", fill_value=0, sort=False)
        counts = pivot.reindex(columns=["A", "B"], fill_value=0)
        counts = counts.rename(index=_MEANINGS, columns={"A": "kept in A only", "B": "kept in B only"})
        yield _counted("Kept in one only, and why not in the other", counts)
    if not found.overlap.loc["kept", "both"]:
        yield Remark("No patch is kept in both; there are no labels and splits to compare.")
        return
    yield from _label_tables(found)
    yield _counted("Split in A (rows) and in B (columns)", found.splits)


def correlation_tables(found: Mapping[str, SpatialCorrelation]) -> Iterator[Sheet | Remark]:
    """How far test patches are from training patches, and how alike labels are at a distance."""
    for name, correlation in found.items():
        for why in correlation.without.values():
            yield Remark(f"{_prefix(found, name)}{why}; its distances are left out.")
        if correlation.splits:
            yield _split_table(_prefix(found, name), correlation)
    measured = {name: correlation for name, correlation in found.items() if len(correlation.correlogram)}
    if not measured:
        return
    heads = [
        f"{_prefix(measured, name)}{column}"
        for name in measured
        for column in ("pairs drawn", "mean Jaccard", "Moran's I")
    ]
    cells = {name: _by_distance(correlation.correlogram) for name, correlation in measured.items()}
    rows = []
    for limits in sorted({limits for rows in cells.values() for limits in rows}):
        lower, upper = (f"{limit / 1000:g}" for limit in limits)
        rows.append(
            [f"{lower} to {upper}", *(cell for each in cells.values() for cell in each.get(limits, ("-",) * 3))]
        )
    rows.append(["all", *(cell for each in measured.values() for cell in ("", f"{each.by_chance:.3f}", ""))])
    yield Sheet("Similarity of the labels of two kept patches, by distance", ["km", *heads], rows, sums=True)


def _label_tables(found: Differences) -> Iterator[Sheet]:
    yield _counted("Labels of the patches kept in both, from A to B", found.labels.patches)
    classes = found.labels.classes
    rows = [[str(name), str(row.iloc[0]), *_texts(row.iloc[1:])] for name, row in classes.iterrows()]
    heads = [str(classes.index.name), *map(str, classes.columns)]
    yield Sheet("Patches with each class: only A has lost it in B, only B has gained it", heads, rows)
    pairs = found.labels.pairs
    if len(pairs):
        title = "Lost and gained in the same patch, most frequent; share of those that lose the one or gain the other"
        rows = [
            [str(lost), str(gained), f"{count:,}", f"{share:.0%}"]
            for lost, gained, count, share in pairs.head(_PAIRS_SHOWN).itertuples(index=False, name=None)
        ]
        if (more := len(pairs) - _PAIRS_SHOWN) > 0:
            rows.append([f"and {more:,} more pairs of classes"])
        yield Sheet(title, ["lost", "gained", "patches", "share"], rows, words=2)


def _split_table(prefix: str, correlation: SpatialCorrelation) -> Sheet:
    measures = [split.measures() for split in correlation.splits]
    lines = [
        ("test patches", "test patches", ",d"),
        ("training patches", "training patches", ",d"),
        ("touch or overlap a training patch", "touch or overlap a training patch", ".2%"),
        ("overlap a training patch", "overlap a training patch", ".2%"),
        *((f"nearest training patch, {label} (m)", f"distance {label}", ",.0f") for label in QUANTILES),
        ("mean Jaccard with the nearest training patch", "Jaccard nearest", ".3f"),
        ("mean Jaccard with a random training patch", "Jaccard random", ".3f"),
        ("similarity above chance (0 to 1)", "above chance", ".3f"),
    ]
    rows = [[label, *(format(values[key], form) for values in measures)] for label, key, form in lines]
    titles = [split.title for split in correlation.splits]
    return Sheet(f"{prefix}Test patches and their nearest training patches, by split", ["", *titles], rows)


def _by_distance(table: pd.DataFrame) -> dict[tuple[float, float], tuple[str, str, str]]:
    limits = zip(table["from_m"].tolist(), table["to_m"].tolist(), strict=True)
    measures = zip(*(table[name].tolist() for name in ("pairs", "jaccard", "moran_i")), strict=True)
    cells = ((f"{pairs:,}", f"{jaccard:.3f}", f"{moran:.3f}") for pairs, jaccard, moran in measures)
    return dict(zip(limits, cells, strict=True))


def _prefix(datasets: Mapping[str, object], name: str) -> str:
    """What stands before whatever is said of a dataset: its letter, if there is another one."""
    return f"{name}: " if len(datasets) > 1 else ""


def _counted(title: str, counts: pd.DataFrame) -> Sheet:
    rows = [[str(name), *_texts(row)] for name, row in counts.iterrows()]
    return Sheet(title, ["", *map(str, counts.columns)], rows)


def _texts(row: Iterable[int]) -> list[str]:
    return [f"{int(count):,}" for count in row]
