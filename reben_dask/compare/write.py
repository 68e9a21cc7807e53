"""The tables of a comparison as files: CSV, and Parquet where there is a row for each patch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from reben_dask.compare.correlation import SpatialCorrelation
from reben_dask.compare.differences import Differences
from reben_dask.errors import OutputError
from reben_dask.patches.label_sets import LabelSets
from reben_dask.patches.matching import KEY
from reben_dask.stores.building import require_new
from reben_dask.stores.patch_set import SPLIT, PatchSet

CONTACTS = ("apart", "touching", "overlapping")
"""Names of the contacts of :mod:`~reben_dask.patches.split_distance`, by their numbers."""

_OF_ONE = ("patch_id", "status", "reason", SPLIT)


def write_comparison(
    folder: Path,
    datasets: Mapping[str, PatchSet],
    differences: Differences | None,
    found: Mapping[str, SpatialCorrelation],
) -> None:
    """Write all tables into a new folder, which appears when it is complete.

    Parameters
    ----------
    folder : Path
        The folder.
    datasets : mapping of str to PatchSet
        What was compared, by the letters A and B.
    differences : Differences or None
        How two datasets differ; ``None`` of a single one.
    found : mapping of str to SpatialCorrelation
        Spatial correlation in each.

    Raises
    ------
    OutputError
        If there is something at ``folder``, or it cannot be written.
    """
    require_new(folder)
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        unfinished.mkdir(parents=True)
        if differences is not None:
            _write_differences(unfinished, differences)
            pq.write_table(_matched(datasets["A"], datasets["B"], differences), unfinished / "matched_patches.parquet")
        _write_correlation(unfinished, found)
        unfinished.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}).") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_differences(folder: Path, found: Differences) -> None:
    tables = {
        "patches": found.overlap.reset_index(),
        "reasons": found.reasons,
        "label_changes": found.labels.patches.rename_axis("labels").reset_index(),
        "classes": found.labels.classes.reset_index(),
        "class_pairs": found.labels.pairs,
        "splits": found.splits.reset_index(),
    }
    for name, table in tables.items():
        _csv(table, folder / f"{name}.csv")


def _write_correlation(folder: Path, found: Mapping[str, SpatialCorrelation]) -> None:
    measures = [
        {"dataset": name, "split": split.title, **split.measures()}
        for name, one in found.items()
        for split in one.splits
    ]
    _csv(pd.DataFrame(measures), folder / "split_correlation.csv")
    by_distance = [one.correlogram.assign(dataset=name) for name, one in found.items()]
    correlograms = pd.concat(by_distance)
    _csv(correlograms[["dataset", *correlograms.columns.drop("dataset")]], folder / "correlogram.csv")
    nearest = [_nearest(name, one) for name, one in found.items() if one.splits]
    if nearest:
        pq.write_table(pa.concat_tables(nearest), folder / "nearest_training.parquet", compression="zstd")


def _nearest(name: str, found: SpatialCorrelation) -> pa.Table:
    """A row for each test patch of each split: its nearest training patch."""
    names = pa.array(found.kept.patches["patch_id"])
    tables = []
    for split in found.splits:
        contact = pa.DictionaryArray.from_arrays(split.nearest.contact, list(CONTACTS))
        columns = {
            "patch_id": names.take(pa.array(split.test)),
            "nearest_patch_id": names.take(pa.array(split.train[split.nearest.train])),
            "distance_m": split.nearest.distance_m,
            "contact": contact.cast(pa.string()),
            "jaccard": split.similarity,
        }
        of_all = {"dataset": name, "split": split.title}
        repeated = {key: pa.array([value] * len(split.test), pa.string()) for key, value in of_all.items()}
        tables.append(pa.table({**repeated, **columns}))
    return pa.concat_tables(tables)


def _matched(a: PatchSet, b: PatchSet, found: Differences) -> pa.Table:
    """A row for each candidate that both datasets have."""
    one, other = a.take(found.matches.a), b.take(found.matches.b)
    columns = {name: pa.array(one.patches[name]) for name in KEY}
    for suffix, side in (("a", one), ("b", other)):
        columns |= {f"{name}_{suffix}": pa.array(side.patches[name]).cast(pa.string()) for name in _OF_ONE}
    return pa.table({**columns, "labels_a": _lists(one.labels), "labels_b": _lists(other.labels)})


def _lists(labels: LabelSets) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(labels.sizes())]).astype(np.int32)
    _, codes = np.nonzero(labels.presence())
    return pa.ListArray.from_arrays(offsets, pa.array(labels.classes, pa.string()).take(pa.array(codes)))


def _csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, lineterminator="\n")
