"""Which patches there are to train on, and their labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from reben_dask.errors import InputError
from reben_dask.formats.columns import LABELS, PATCH_ID, S1_NAME, SPLIT, decode_classes
from reben_dask.patches.label_sets import LabelSets
from reben_dask.sources.published.metadata import metadata_files, read_metadata


@dataclass(frozen=True)
class TrainingTable:
    """Patches in the order of a metadata file.

    Parameters
    ----------
    classes : tuple of str
        Class names.
    patch_ids : ndarray of object, shape (patch,)
        Names of the patches.
    s1_names : ndarray of object, shape (patch,)
        Names of their Sentinel-1 partners, or ``None``.
    labels : ndarray of bool, shape (patch, class)
        Whether a patch carries a class.
    """

    classes: tuple[str, ...]
    patch_ids: npt.NDArray[np.object_]
    s1_names: npt.NDArray[np.object_]
    labels: npt.NDArray[np.bool_]


def read_table(out: Path, split: str | None) -> TrainingTable:
    """Read the clear patches of a dataset, or of one split of it.

    Parameters
    ----------
    out : Path
        Folder of the dataset, with ``metadata.parquet``.
    split : str or None
        ``train``, ``validation`` or ``test``; all patches without it.

    Raises
    ------
    InputError
        If there is no metadata, or no patch of this split.
    """
    (file,) = metadata_files(out, clear_only=True)
    rows = read_metadata([file], [PATCH_ID, LABELS, SPLIT, S1_NAME])
    if split is not None:
        splits = sorted(rows[SPLIT].dropna().unique())
        rows = rows[rows[SPLIT] == split].reset_index(drop=True)
        if rows.empty:
            raise InputError(f"No patch of {file} is in the split {split!r}; there is {', '.join(splits) or 'none'}.")
    classes = _classes(file, rows[LABELS])
    place = {name: number for number, name in enumerate(classes)}
    lengths = rows[LABELS].map(len).to_numpy(np.int64)
    codes = np.array([place[label] for labels in rows[LABELS] for label in labels], np.int64)
    labels = LabelSets.from_codes(classes, len(rows), np.repeat(np.arange(len(rows)), lengths), codes)
    s1_names = rows[S1_NAME].astype(object).where(rows[S1_NAME].notna(), None)
    return TrainingTable(classes, rows[PATCH_ID].to_numpy(object), s1_names.to_numpy(object), labels.presence())


def _classes(file: Path, labels: pd.Series[Any]) -> tuple[str, ...]:
    """The class list that the file carries; of a file without one, the classes that occur, in alphabetical order."""
    listed = decode_classes(pq.read_schema(file).metadata)
    return listed or tuple(sorted({label for each in labels for label in each}))
