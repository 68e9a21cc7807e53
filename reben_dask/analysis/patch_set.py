"""Patch table of a dataset in memory, with the columns that comparisons need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reben_dask.analysis.matching import PLACE
from reben_dask.errors import InputError, missing
from reben_dask.formats import columns
from reben_dask.formats.dataset import METADATA_FILE, RECORD, TABLE
from reben_dask.grid import PATCH_SIDE_M
from reben_dask.sources.published.metadata import metadata_files, read_metadata
from reben_dask.sources.published.places import named_patches
from reben_dask.stores.patch_table import dataset_parts, part_files
from reben_dask.training.table import find_classes

SPLIT = str(columns.SPLIT)
_REPEATED = (columns.STATUS, columns.REASON, columns.TILE)
_EDGES = (columns.MINX, columns.MAXX, columns.MAXY)
_COLUMNS = (columns.PATCH_ID, *_REPEATED, columns.LABELS, columns.SENSING_TIME, columns.EPSG, *_EDGES, columns.SPLIT)

_Rows = npt.NDArray[np.integer[Any]] | npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class LabelSets:
    """Labels of patches."""

    classes: tuple[str, ...]
    carried: npt.NDArray[np.bool_]
    """Presence of each class in each patch, shape ``(patch, class)``."""

    def __len__(self) -> int:
        return len(self.carried)

    def take(self, rows: _Rows) -> LabelSets:
        """Select patches by position or by a mask."""
        return LabelSets(self.classes, self.carried[rows])

    def recoded(self, classes: Sequence[str]) -> LabelSets:
        """Recode to another class list; classes missing there are left out."""
        table = pd.DataFrame(self.carried, columns=list(self.classes))
        return LabelSets(tuple(classes), table.reindex(columns=list(classes), fill_value=False).to_numpy(bool))


@dataclass(frozen=True)
class PatchSet:
    """The candidate patches of a dataset."""

    path: Path
    patches: pd.DataFrame
    """One row per candidate: ``patch_id``, ``tile``, ``status``, ``reason``, ``sensing_time``, ``epsg``, ``minx``,
    ``maxy``, ``side`` (metres), and the columns of :attr:`splits`."""
    labels: LabelSets
    """Labels in the same order; empty for tiles that were not labelled."""
    splits: tuple[str, ...]
    """Split columns: ``split`` first, then ``split_<strategy>``."""

    def __len__(self) -> int:
        return len(self.patches)

    @property
    def places(self) -> pd.DataFrame:
        """Squares of the patches: :data:`~reben_dask.analysis.matching.PLACE`."""
        return self.patches[list(PLACE)]

    def kept(self) -> PatchSet:
        """Select the kept patches."""
        return self.take(np.flatnonzero(self.patches[columns.STATUS] == columns.KEPT))

    def take(self, rows: _Rows) -> PatchSet:
        """Select patches by position."""
        chosen = self.patches.iloc[rows].reset_index(drop=True)
        return PatchSet(self.path, chosen, self.labels.take(rows), self.splits)


def names_of(datasets: Mapping[str, PatchSet]) -> dict[str, str]:
    """Name each dataset by its folder if these differ in name, else by its letter."""
    names = {letter: dataset.path.resolve().name for letter, dataset in datasets.items()}
    return names if len(set(names.values())) == len(names) else {letter: letter for letter in names}


def read_patch_set(out: Path) -> PatchSet:
    """Read the patch table of a dataset, or published metadata: a file, or the folder of both.

    Patches of metadata are kept, and their tiles, positions and times are those in their names. Raises InputError if
    there is neither, or one cannot be read.
    """
    if not has_patch_table(out):
        return _read_metadata(out)
    parts = dataset_parts(out)
    classes, splits = _described(parts[0])
    tables, carried = [], []
    for part in parts:
        if _described(part) != (classes, splits):
            raise InputError(f"{part} has other classes or splits than {parts[0].name}, and is of another dataset.")
        rows = _read(part, [*_COLUMNS, *splits[1:]])
        carried.append(_carried(rows[columns.LABELS].combine_chunks(), classes, part))
        tables.append(rows.drop_columns(columns.LABELS))
    return PatchSet(out, _frame(pa.concat_tables(tables), splits), LabelSets(classes, np.concatenate(carried)), splits)


def has_patch_table(out: Path) -> bool:
    """Test for a dataset of this program; what has neither table nor record may be published metadata."""
    return (out / RECORD).exists() or bool(part_files(out / TABLE))


def _read_metadata(out: Path) -> PatchSet:
    if not out.exists():
        raise InputError(missing("The dataset", out))
    if not (out.is_file() or (out / METADATA_FILE).is_file()):
        raise InputError(f"{out} is not a dataset of this program ({TABLE}), nor published metadata ({METADATA_FILE}).")
    files = metadata_files(out)
    rows = read_metadata(files, [columns.PATCH_ID, columns.LABELS, columns.SPLIT])
    labels = pa.array(rows.pop(columns.LABELS), pa.list_(pa.string()), from_pandas=True)
    found = set(pc.unique(pc.list_flatten(labels)).to_pylist())
    classes = tuple(sorted(find_classes(files[0], found, rows[columns.PATCH_ID])))
    constant = {columns.STATUS: columns.KEPT, columns.REASON: None, "side": PATCH_SIDE_M}
    patches = pd.concat([rows, named_patches(rows[columns.PATCH_ID])], axis=1).assign(**constant)
    patches = patches.astype(dict.fromkeys((*_REPEATED, SPLIT), "category"))
    return PatchSet(out, patches, LabelSets(classes, _carried(labels, classes, files[0])), (SPLIT,))


def _described(part: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        schema = pq.read_schema(part)
        classes = columns.decode_classes(schema.metadata)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{part} cannot be read as part of a patch table ({error}).") from None
    if classes is None:
        raise InputError(f"{part} names no classes, and is not part of a patch table of this program.")
    if missing := [name for name in _COLUMNS if name not in schema.names]:
        raise InputError(f"{part} has no column {', '.join(missing)}, and is not part of a patch table.")
    further = (field.name for field in schema if field.name.startswith(columns.EXTRA_SPLITS))
    return classes, (SPLIT, *further)


def _read(part: Path, names: Sequence[str]) -> pa.Table:
    try:
        return pq.read_table(part, columns=list(names), partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"The part {part} of the patch table cannot be read ({error}).") from None


def _carried(labels: pa.ListArray, classes: Sequence[str], part: Path) -> npt.NDArray[np.bool_]:
    flat = pc.list_flatten(labels)
    codes = pc.index_in(flat, pa.array(classes, flat.type))
    if codes.null_count:
        unknown = flat.filter(pc.is_null(codes))[0]
        raise InputError(f"{part} has the label {unknown}, which is not in its list of classes.")
    carried = np.zeros((len(labels), len(classes)), bool)
    carried[pc.list_parent_indices(labels).to_numpy(), codes.to_numpy()] = True
    return carried


def _frame(table: pa.Table, splits: Sequence[str]) -> pd.DataFrame:
    # Categories: 549,488 rows repeat few values.
    for name in (*_REPEATED, *splits):
        table = table.set_column(table.column_names.index(name), str(name), pc.dictionary_encode(table[name]))
    frame: pd.DataFrame = table.to_pandas()
    return frame.assign(side=frame.pop(columns.MAXX) - frame[columns.MINX])
