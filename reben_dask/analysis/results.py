"""Results of a comparison as tables for display, and as CSV and Parquet files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from reben_dask.analysis.correlation import CONTACTS, QUANTILES, SpatialCorrelation
from reben_dask.analysis.differences import Differences
from reben_dask.analysis.matching import KEY, NO_CANDIDATE
from reben_dask.analysis.patch_set import LabelSets, PatchSet
from reben_dask.atomic import atomic_path
from reben_dask.errors import OutputError
from reben_dask.formats import columns
from reben_dask.patches.decision import REASONS
from reben_dask.tables import COUNT, TEXT, Table
from reben_dask.workspace import require_new

_PAIRS_SHOWN = 12
_MEANINGS = {**REASONS, NO_CANDIDATE: "it is not a candidate there"}
_BY_DISTANCE = {"pairs": "pairs drawn", "jaccard": "mean Jaccard", "moran_i": "Moran's I"}
_MEASURES = {
    "test patches": ("test patches", ",d"),
    "training patches": ("training patches", ",d"),
    "touch or overlap a training patch": ("touch or overlap a training patch", ".2%"),
    "overlap a training patch": ("overlap a training patch", ".2%"),
    **{f"distance {name}": (f"nearest training patch, {name} (m)", ",.0f") for name in QUANTILES},
    "Jaccard nearest": ("mean Jaccard with the nearest training patch", ".3f"),
    "Jaccard random": ("mean Jaccard with a random training patch", ".3f"),
    "above chance": ("similarity above chance (0 to 1)", ".3f"),
}
_OF_ONE = (columns.PATCH_ID, columns.STATUS, columns.REASON, columns.SPLIT)


def describe_datasets(datasets: Mapping[str, PatchSet]) -> Iterator[str]:
    """Describe each dataset in one line."""
    for name, dataset in datasets.items():
        yield (
            f"{_prefix(datasets, name)}{dataset.path}: {len(dataset):,} candidates, {len(dataset.kept()):,} kept, "
            f"{len(dataset.labels.classes)} classes"
        )


def difference_tables(found: Differences) -> Iterator[Table | str]:
    """Yield tables and notes on patches, labels and splits of two datasets."""
    yield Table.from_frame("Patches, matched by location and time", found.overlap, index="")
    for name, other in (("A", "B"), ("B", "A")):
        if moved := found.other_time[name]:
            yield f"{moved:,} of the candidates only in {name} match a location of {other}, but not its sensing time."
    if len(found.reasons):
        pivot = found.reasons.pivot_table(index="reason", columns="kept in", values="patches", fill_value=0, sort=False)
        counts = pivot.reindex(columns=["A", "B"], fill_value=0).rename(index=_MEANINGS)
        counts.columns = ["kept in A only", "kept in B only"]
        yield Table.from_frame("Kept in one dataset only, by reason in the other", counts, index="")
    if not found.overlap.loc["kept", "both"]:
        yield "No patch is kept in both; there are no labels and splits to compare."
        return
    labels = Table.from_frame("Labels of the patches kept in both, from A to B", found.labels.patches, index="")
    yield labels.without_zero_rows()
    title = "Patches by class (only A: label lost in B; only B: label gained in B)"
    yield Table.from_frame(title, found.labels.classes, formats=(TEXT, TEXT, *[COUNT] * 5)).without_zero_rows()
    if len(found.labels.pairs):
        yield _pair_table(found.labels.pairs)
    splits = Table.from_frame("Split in A (rows) and in B (columns)", found.splits, index="", has_total=True)
    yield splits.without_zero_rows()


def correlation_tables(found: Mapping[str, SpatialCorrelation]) -> Iterator[Table | str]:
    """Yield tables and notes on distances to training patches and similarity by distance."""
    for name, correlation in found.items():
        for why in correlation.without.values():
            yield f"{_prefix(found, name)}{why}; no distances are computed."
        if correlation.splits:
            yield _split_table(_prefix(found, name), correlation)
    measured = {name: correlation for name, correlation in found.items() if len(correlation.correlogram)}
    if measured:
        yield _distance_table(measured)


def show(console: Console, parts: Iterable[Table | str]) -> None:
    """Print tables and notes."""
    for part in parts:
        if isinstance(part, Table):
            part.show(console)
            console.print()
        else:
            console.print(f"Note: {part}", style="yellow", highlight=False)


def _pair_table(pairs: pd.DataFrame) -> Table:
    title = "Most frequent label changes (lost, gained); share of the patches with either change"
    rows: list[list[Any]] = pairs.head(_PAIRS_SHOWN).astype(object).to_numpy().tolist()
    if (more := len(pairs) - _PAIRS_SHOWN) > 0:
        rows.append([f"and {more:,} more pairs of classes"])
    return Table(title, [*map(str, pairs)], rows, (TEXT, TEXT, COUNT, ".0%"))


def _split_table(prefix: str, correlation: SpatialCorrelation) -> Table:
    measures = [split.measures() for split in correlation.splits]
    rows = [[name, *(format(values[key], form) for values in measures)] for key, (name, form) in _MEASURES.items()]
    titles = [split.title for split in correlation.splits]
    return Table(f"{prefix}Test patches and their nearest training patches, by split", ["", *titles], rows)


def _distance_table(found: Mapping[str, SpatialCorrelation]) -> Table:
    measures = {name: one.correlogram.set_index(["from_m", "to_m"])[list(_BY_DISTANCE)] for name, one in found.items()}
    rows: list[list[Any]] = [
        [f"{lower / 1000:g} to {upper / 1000:g}", *values]
        for (lower, upper), *values in pd.concat(measures, axis=1).sort_index().itertuples(name=None)
    ]
    rows.append(["all", *(cell for one in found.values() for cell in (None, one.by_chance, None))])
    heads = [f"{_prefix(found, name)}{head}" for name in found for head in _BY_DISTANCE.values()]
    title = "Similarity of the labels of two kept patches, by distance"
    return Table(title, ["km", *heads], rows, (TEXT, *[COUNT, ".3f", ".3f"] * len(found)), has_total=True)


def _prefix(datasets: Mapping[str, object], name: str) -> str:
    return f"{name}: " if len(datasets) > 1 else ""


def write_results(
    folder: Path,
    datasets: Mapping[str, PatchSet],
    differences: Differences | None,
    found: Mapping[str, SpatialCorrelation],
) -> None:
    """Write all results into a new folder, atomically.

    ``datasets`` and ``found`` are by the letters A and B; ``differences`` is None for a single dataset. Raises
    OutputError if ``folder`` exists or cannot be written.
    """
    require_new(folder)
    frames = _correlation_frames(found)
    parquet = {"nearest_training": [_nearest(name, one, split) for name, one in found.items() for split in one.splits]}
    if differences is not None:
        frames |= _difference_frames(differences)
        parquet["matched_patches"] = [_matched(datasets["A"], datasets["B"], differences)]
    try:
        with atomic_path(folder) as draft:
            draft.mkdir()
            for name, frame in frames.items():
                frame.to_csv(draft / f"{name}.csv", index=False, lineterminator="\n")
            for name, tables in parquet.items():
                if tables:
                    pq.write_table(pa.concat_tables(tables), draft / f"{name}.parquet", compression="zstd")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}).") from None


def _difference_frames(found: Differences) -> dict[str, pd.DataFrame]:
    return {
        "patches": found.overlap.reset_index(),
        "reasons": found.reasons,
        "label_changes": found.labels.patches.rename_axis("labels").reset_index(),
        "classes": found.labels.classes.reset_index(),
        "class_pairs": found.labels.pairs,
        "splits": found.splits.reset_index(),
    }


def _correlation_frames(found: Mapping[str, SpatialCorrelation]) -> dict[str, pd.DataFrame]:
    measures = [
        {"dataset": name, "split": split.title, **split.measures()}
        for name, one in found.items()
        for split in one.splits
    ]
    by_distance = pd.concat({name: one.correlogram for name, one in found.items()}, names=["dataset"])
    return {
        "split_correlation": pd.DataFrame(measures),
        "correlogram": by_distance.reset_index(level="dataset"),
    }


def _nearest(name: str, found: SpatialCorrelation, split: Any) -> pa.Table:
    patch_ids = pa.array(found.kept.patches[columns.PATCH_ID])
    contact = pa.DictionaryArray.from_arrays(split.nearest.contact, list(CONTACTS))
    return pa.table(
        {
            "dataset": pa.repeat(name, len(split.test)),
            "split": pa.repeat(split.title, len(split.test)),
            columns.PATCH_ID: patch_ids.take(pa.array(split.test)),
            "nearest_patch_id": patch_ids.take(pa.array(split.train[split.nearest.train])),
            "distance_m": split.nearest.distance_m,
            "contact": contact.cast(pa.string()),
            "jaccard": split.similarity,
        }
    )


def _matched(a: PatchSet, b: PatchSet, found: Differences) -> pa.Table:
    one, other = a.take(found.matches.a), b.take(found.matches.b)
    arrays = {name: pa.array(one.patches[name]) for name in KEY}
    for suffix, side in (("a", one), ("b", other)):
        arrays |= {f"{name}_{suffix}": pa.array(side.patches[name]).cast(pa.string()) for name in _OF_ONE}
    return pa.table({**arrays, "labels_a": _lists(one.labels), "labels_b": _lists(other.labels)})


def _lists(labels: LabelSets) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(np.count_nonzero(labels.carried, axis=1))]).astype(np.int32)
    _, codes = np.nonzero(labels.carried)
    return pa.ListArray.from_arrays(offsets, pa.array(labels.classes, pa.string()).take(pa.array(codes)))
