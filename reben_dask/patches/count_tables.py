"""How many patches there are of each date and season, and with how many labels: the statistics of BigEarthNet v1."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from reben_dask.patches.class_table import class_table, count_by_split

FIRST_MONTH = 3
"""A year of seasons begins in March."""

NO_SEASON = "(none)"


def label_number_table(patches: pd.DataFrame) -> pd.DataFrame:
    """Count patches by the number of their labels.

    Parameters
    ----------
    patches : DataFrame
        Columns ``labels`` (lists of class names) and ``split``.

    Returns
    -------
    DataFrame
        Index ``labels``, a number; columns as of :func:`~reben_dask.patches.class_table.class_table`.
    """
    numbers = patches["labels"].map(len, na_action="ignore").fillna(0).astype("int64")
    return count_by_split(numbers, patches["split"], "labels")


def date_table(patches: pd.DataFrame) -> pd.DataFrame:
    """Count patches by the day of their sensing time in UTC.

    Parameters
    ----------
    patches : DataFrame
        Columns ``sensing_time`` (aware) and ``split``.

    Returns
    -------
    DataFrame
        Index ``date``, such as ``2017-06-13``; columns as of :func:`~reben_dask.patches.class_table.class_table`.
    """
    days = patches["sensing_time"].dt.tz_convert("UTC").dt.strftime("%Y-%m-%d")
    return count_by_split(days, patches["split"], "date")


def season_table(patches: pd.DataFrame) -> pd.DataFrame:
    """Count patches by season.

    Parameters
    ----------
    patches : DataFrame
        Columns ``season`` (null in no season), ``sensing_time`` (aware) and ``split``.

    Returns
    -------
    DataFrame
        Index ``season``, in the order of their first months from March on, and last, if there are any, the patches
        without one; columns as of :func:`~reben_dask.patches.class_table.class_table`.
    """
    months = (patches["sensing_time"].dt.tz_convert("UTC").dt.month - FIRST_MONTH) % 12
    first = months.groupby(patches["season"]).min()
    order = sorted(first.index, key=lambda season: (first[season], season))
    table = count_by_split(patches["season"].fillna(NO_SEASON), patches["split"], "season")
    return table.reindex([*order, *table.index.difference(order)])


TABLES: Mapping[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "class": class_table,
    "date": date_table,
    "season": season_table,
    "labels": label_number_table,
}
"""Tables of counts by what they count by."""
