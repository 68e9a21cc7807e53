"""Statistics of any dataset: those of its job, or computed from the pixels of its LMDB or cubes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from reben_dask.errors import InputError, missing
from reben_dask.formats.columns import FLAGS, KEPT, LABELS, PATCH_ID, S1_NAME, SPLIT
from reben_dask.formats.cube import DOCUMENT
from reben_dask.formats.dataset import CUBES, METADATA_FILE, RECORD, STATISTICS, TABLE, RunRecord
from reben_dask.formats.lmdb import find_lmdb
from reben_dask.formats.statistics import Statistics
from reben_dask.nomenclature import Nomenclature, shipped_with_classes
from reben_dask.patches.statistics import Sums, describe_sums
from reben_dask.sources.published.metadata import read_metadata
from reben_dask.stores.patch_table import part_files, read_rows
from reben_dask.stores.statistics import iter_rows, sum_cubes, sum_lmdb
from reben_dask.training.readers import close_environments
from reben_dask.training.table import find_classes

Begin = Callable[[int], Callable[[int], object]]
"""Starts the progress of a number of patches, and returns the callback for finished ones."""


def find_statistics(path: str | PathLike[str], begin: Begin = lambda _: lambda _: None) -> Statistics:
    """Return the statistics of a dataset, an LMDB or a Zarr store.

    Parameters
    ----------
    path : path
        Dataset of a job, whose ``statistics.json`` is read. For an LMDB in rico-hdl's layout, a folder of shards, or a
        folder that holds one of them, with ``metadata.parquet`` in its folder or the one above, and for ``cubes.zarr``
        with ``patches.parquet`` beside it, all pixels are read.
    begin : callable, optional
        Progress.

    Raises
    ------
    InputError
        If there is no such data, no metadata, or a patch of the metadata is missing.
    """
    folder = Path(path)
    if not folder.exists():
        raise InputError(missing("The path", folder))
    if (folder / STATISTICS).is_file():
        return Statistics.read(folder)
    if (folder / DOCUMENT).is_file():
        return _of_cubes(folder, begin)
    if (lmdb := find_lmdb(folder)) is not None and lmdb.exists():
        return _of_lmdb(lmdb, begin)
    if (folder / CUBES).is_dir():
        return _of_cubes(folder / CUBES, begin)
    raise InputError(f"{folder} holds neither {STATISTICS}, nor an LMDB, nor {CUBES}.")


def _of_cubes(store: Path, begin: Begin) -> Statistics:
    out = store.absolute().parent
    parts = part_files(out / TABLE)
    if not parts:
        raise InputError(
            f"{store} has no {TABLE} beside it, which lists its patches and splits; give the dataset folder instead."
        )
    kept = sum(read_rows(part, [PATCH_ID], status=KEPT).num_rows for part in parts)
    return _described(sum_cubes(store, parts, begin(kept)), [out])


def _of_lmdb(lmdb: Path, begin: Begin) -> Statistics:
    folders = [lmdb.absolute(), lmdb.absolute().parent]
    file = next((folder / METADATA_FILE for folder in folders if (folder / METADATA_FILE).is_file()), None)
    if file is None:
        raise InputError(f"{lmdb} has no {METADATA_FILE} in its folder or the one above; put it there.")
    optional = [name for name in pq.read_schema(file).names if name in (S1_NAME, *FLAGS)]
    frame = read_metadata([file], [PATCH_ID, SPLIT, LABELS, *optional])
    rows = pa.Table.from_pandas(frame.sort_values(PATCH_ID), preserve_index=False)
    # Environments that samples of this process have open must not be opened again.
    close_environments()
    return _described(sum_lmdb(lmdb, iter_rows(rows), begin(rows.num_rows)), folders)


def _described(sums: Sums, folders: Sequence[Path]) -> Statistics:
    """Statistics with the classes of the run record, or of the metadata, in one of the folders."""
    if out := next((folder for folder in folders if (folder / RECORD).is_file()), None):
        record = RunRecord.read(out)
        return describe_sums(sums, record.classes, Nomenclature("", record.class_of_code, record.value_of_code))
    file = next(folder / METADATA_FILE for folder in folders if (folder / METADATA_FILE).is_file())
    classes = find_classes(file, list(sums.patches), read_metadata([file], [PATCH_ID])[PATCH_ID])
    return describe_sums(sums, classes, shipped_with_classes(classes))
