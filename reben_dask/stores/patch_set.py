"""A whole patch table in memory, in the few columns that a comparison asks for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reben_dask.errors import InputError
from reben_dask.formats.columns import CLASSES_KEY, KEPT
from reben_dask.patches.label_sets import LabelSets
from reben_dask.patches.places import Places
from reben_dask.stores.patch_table import dataset_parts, read_rows

SPLIT = "split"
"""The column of the split, and what the names of further ones begin with (``split_<strategy>``)."""

_NAMES = ("status", "reason", "tile")
_COLUMNS = ("patch_id", *_NAMES, "labels", "sensing_time", "epsg", "minx", "maxx", "maxy", SPLIT)


@dataclass(frozen=True)
class PatchSet:
    """The candidate patches of a dataset.

    Parameters
    ----------
    path : Path
        The dataset.
    patches : DataFrame
        One row per candidate: ``patch_id``, ``tile``, ``status``, ``reason``, ``sensing_time``, ``epsg``, ``minx``,
        ``maxy``, ``side`` (metres), and the columns of :attr:`splits`.
    labels : LabelSets
        Labels in the same order; none for patches of tiles that were not labelled.
    splits : tuple of str
        Names of all columns that say which split a patch belongs to.
    """

    path: Path
    patches: pd.DataFrame
    labels: LabelSets
    splits: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.patches)

    @property
    def places(self) -> Places:
        """Where the patches lie."""
        return Places(*(self.patches[name].to_numpy() for name in ("epsg", "minx", "maxy", "side")))

    def kept(self) -> PatchSet:
        """The kept patches alone."""
        return self.take(np.flatnonzero(self.patches["status"] == KEPT))

    def take(self, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> PatchSet:
        """Some of the patches, by their positions."""
        chosen = self.patches.iloc[rows].reset_index(drop=True)
        return PatchSet(self.path, chosen, self.labels.take(rows), self.splits)


def read_patch_set(out: Path) -> PatchSet:
    """Read the patch table of a dataset, tile after tile.

    Parameters
    ----------
    out : Path
        Folder of the dataset.

    Raises
    ------
    InputError
        If it is not a dataset of this program, or its patch table cannot be read.
    """
    parts = dataset_parts(out)
    classes, splits = _described(parts[0])
    tables, labels = [], []
    for part in parts:
        if _described(part) != (classes, splits):
            raise InputError(f"{part} has other classes or splits than {parts[0].name}, and is of another dataset.")
        rows = read_rows(part, [*_COLUMNS, *(name for name in splits if name != SPLIT)])
        labels.append(_labels(rows["labels"].combine_chunks(), classes, part).words)
        tables.append(rows.drop_columns("labels"))
    words = np.concatenate(labels)
    return PatchSet(out, _frame(pa.concat_tables(tables), splits), LabelSets(classes, words), splits)


def _described(part: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Classes and split columns of a part file."""
    try:
        schema = pq.read_schema(part)
        classes = json.loads((schema.metadata or {})[CLASSES_KEY])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{part} cannot be read as part of a patch table ({error}).") from None
    except KeyError:
        raise InputError(f"{part} names no classes, and is not part of a patch table of this program.") from None
    if missing := [name for name in _COLUMNS if name not in schema.names]:
        raise InputError(f"{part} has no column {', '.join(missing)}, and is not part of a patch table.")
    further = (field.name for field in schema if field.name.startswith(f"{SPLIT}_") and field.type == pa.string())
    return tuple(map(str, classes)), (SPLIT, *further)


def _labels(labels: pa.ListArray, classes: Sequence[str], part: Path) -> LabelSets:
    flat = pc.list_flatten(labels)
    codes = pc.index_in(flat, pa.array(classes, flat.type))
    if codes.null_count:
        unknown = flat.filter(pc.is_null(codes))[0]
        raise InputError(f"{part} has the label {unknown}, which is not in its list of classes.")
    rows = pc.list_parent_indices(labels).to_numpy()
    return LabelSets.from_codes(classes, len(labels), rows, codes.to_numpy())


def _frame(table: pa.Table, splits: Sequence[str]) -> pd.DataFrame:
    # A few names in many rows take little memory as categories.
    for name in (*_NAMES, *splits):
        table = table.set_column(table.column_names.index(name), name, pc.dictionary_encode(table[name]))
    frame: pd.DataFrame = table.to_pandas()
    side = frame.pop("maxx") - frame["minx"]
    return frame.assign(side=side)
