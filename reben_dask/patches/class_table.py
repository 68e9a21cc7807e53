"""How many patches carry each class: Table I of the reBEN paper, for any dataset."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reben_dask.formats.columns import SPLITS

TOTAL = "all"


def class_table(patches: pd.DataFrame) -> pd.DataFrame:
    """Count patches by class and split.

    A patch counts once for each of its labels, so the columns add up to more than the number of patches.

    Parameters
    ----------
    patches : DataFrame
        Columns ``labels`` (lists of class names) and ``split``; the metadata files have them, and the patch table for
        its kept patches.

    Returns
    -------
    DataFrame
        Index ``class``, sorted by name, without classes that do not occur; integer columns ``train``, ``validation``,
        ``test`` and ``all``, which also counts patches that are in none of the three.

    Notes
    -----
    reBEN, Table I. Give it both metadata files for the whole dataset, or the main one for the clear patches alone.
    """
    pairs = patches[["labels", "split"]].explode("labels").dropna(subset="labels")
    return count_by_split(pairs["labels"], pairs["split"], "class")


def count_by_split(keys: pd.Series[Any], splits: pd.Series[Any], name: str) -> pd.DataFrame:
    """Count rows by key and split.

    Parameters
    ----------
    keys : Series
        What to count by, without missing values.
    splits : Series of str
        Split of the same rows, null in none.
    name : str
        Name of the index.

    Returns
    -------
    DataFrame
        One row for each key that occurs, sorted; columns as of :func:`class_table`.
    """
    together = keys.value_counts()
    counts = pd.crosstab(keys, splits).reindex(index=together.index, columns=list(SPLITS))
    table = counts.fillna(0).assign(**{TOTAL: together}).astype("int64").rename_axis(index=name, columns=None)
    return table.sort_index()
