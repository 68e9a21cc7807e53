"""Counts of patches by class, date, season and number of labels, for each split.

Table I of the reBEN paper and the statistics of BigEarthNet v1, for any dataset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from reben_dask.errors import InputError
from reben_dask.formats import columns
from reben_dask.formats.dataset import RECORD, TABLE
from reben_dask.options import DEFAULT_RECIPE
from reben_dask.recipes import load_recipe
from reben_dask.sources.published.metadata import metadata_files, read_metadata
from reben_dask.sources.published.places import sensing_days
from reben_dask.stores.patch_table import dataset_parts, part_files, read_rows

TOTAL = "all"

FIRST_MONTH = 3
"""First month of a year of seasons."""

NO_SEASON = "(none)"

_ACQUISITION = (columns.SEASON, columns.SENSING_TIME, columns.SPLIT)


def count_by_split(keys: pd.Series[Any], splits: pd.Series[Any], name: str) -> pd.DataFrame:
    """Count rows by key and split.

    Parameters
    ----------
    keys : Series
        Values to count by, without nulls.
    splits : Series of str
        Split of each row; null for none.
    name : str
        Name of the index.

    Returns
    -------
    DataFrame
        Sorted by key; integer columns ``train``, ``validation``, ``test``, and ``all`` (with rows in no split).
    """
    together = keys.value_counts()
    counts = pd.crosstab(keys, splits).reindex(index=together.index, columns=list(columns.SPLITS))
    table = counts.fillna(0).assign(**{TOTAL: together}).astype("int64").rename_axis(index=name, columns=None)
    return table.sort_index()


def with_unassigned(table: pd.DataFrame) -> pd.DataFrame:
    """Insert a column for patches in no split before the total of :func:`count_by_split`, if there are any."""
    unassigned = table[TOTAL] - table[list(columns.SPLITS)].sum(axis=1)
    if not unassigned.any():
        return table
    return table.assign(**{columns.UNASSIGNED: unassigned})[[*columns.SPLITS, columns.UNASSIGNED, TOTAL]]


def class_table(patches: pd.DataFrame) -> pd.DataFrame:
    """Count patches by class and split: Table I of the reBEN paper.

    ``patches`` has ``labels`` (lists of class names) and ``split``, as metadata files do. Returns the columns of
    :func:`count_by_split`; a patch counts once for each of its labels, so columns add up to more than the patches.
    """
    pairs = patches[[columns.LABELS, columns.SPLIT]].explode(columns.LABELS).dropna(subset=columns.LABELS)
    return count_by_split(pairs[columns.LABELS], pairs[columns.SPLIT], "class")


def label_number_table(patches: pd.DataFrame) -> pd.DataFrame:
    """Count patches by their number of labels and split; needs columns ``labels`` and ``split``."""
    numbers = patches[columns.LABELS].map(len, na_action="ignore").fillna(0).astype("int64")
    return count_by_split(numbers, patches[columns.SPLIT], "labels")


def date_table(patches: pd.DataFrame) -> pd.DataFrame:
    """Count patches by the UTC day of ``sensing_time`` (aware), such as ``2017-06-13``."""
    days = patches[columns.SENSING_TIME].dt.tz_convert("UTC").dt.strftime("%Y-%m-%d")
    return count_by_split(days, patches[columns.SPLIT], "date")


def season_table(patches: pd.DataFrame) -> pd.DataFrame:
    """Count patches by ``season``, from March on; null last."""
    months = (patches[columns.SENSING_TIME].dt.tz_convert("UTC").dt.month - FIRST_MONTH) % 12
    first = months.groupby(patches[columns.SEASON]).min()
    order = sorted(first.index, key=lambda season: (first[season], season))
    table = count_by_split(patches[columns.SEASON].fillna(NO_SEASON), patches[columns.SPLIT], "season")
    return table.reindex([*order, *table.index.difference(order)])


TABLES: Mapping[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "class": class_table,
    "date": date_table,
    "season": season_table,
    "labels": label_number_table,
}
"""Functions of tables by the name of their index."""


def read_acquisitions(out: Path, *, clear_only: bool = False) -> pd.DataFrame:
    """Read season, sensing time and split of the kept patches of a dataset, or of metadata files.

    ``clear_only`` leaves out flagged patches (snow, cloud or shadow). Without a patch table, days are those in the
    names of the patches, and seasons those of reBEN. Raises InputError if a file cannot be read, or a name has no day.
    """
    if not part_files(out / TABLE) and not (out / RECORD).exists():
        return _named_acquisitions(metadata_files(out, clear_only=clear_only))
    patches = pd.concat([_kept(part) for part in dataset_parts(out)], ignore_index=True)
    return patches.loc[~columns.flagged(patches) if clear_only else slice(None), list(_ACQUISITION)]


def _named_acquisitions(files: Sequence[Path]) -> pd.DataFrame:
    rows = read_metadata(files, [columns.PATCH_ID, columns.SPLIT])
    days = sensing_days(rows[columns.PATCH_ID])
    seasons = {month: name for name, months in load_recipe(DEFAULT_RECIPE).seasons.items() for month in months}
    found = rows.assign(**{columns.SENSING_TIME: days, columns.SEASON: days.dt.month.map(seasons)})
    return found[list(_ACQUISITION)]


def _kept(part: Path) -> pd.DataFrame:
    try:
        rows: pd.DataFrame = read_rows(part, [*_ACQUISITION, *columns.FLAGS], status=columns.KEPT).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"The part {part} of the patch table cannot be read ({error}).") from None
    return rows
