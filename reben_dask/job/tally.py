"""Counting what became of the patches, tile by tile; the sums of all tiles are the result of the job."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from reben_dask.analysis.counts import TOTAL, class_table
from reben_dask.formats.columns import KEPT
from reben_dask.patches.reference_map import OVERLAP_PX

COLUMNS = ("tile", "measure", "key", "split", "patches")
EMPTY_TALLY = pd.DataFrame({name: pd.Series(dtype="int64" if name == "patches" else "str") for name in COLUMNS})


def tally(patches: pd.DataFrame) -> pd.DataFrame:
    """Count the patches of one tile.

    Parameters
    ----------
    patches : DataFrame
        Finished patches of a tile.

    Returns
    -------
    DataFrame
        Columns ``tile``, ``measure``, ``key``, ``split`` (empty where it does not matter) and ``patches``. Measures:
        ``status``, ``reason`` (of rejection), ``split`` and ``class`` of kept patches (``key`` is the class name), and
        ``apart`` (kept, but listed apart for ``snow`` or ``cloud_or_shadow``); and ``contested_px``, which counts not
        patches but pixels, those that several polygons of the map cover.
    """
    kept = patches[patches["status"] == KEPT]
    snow, cloud = (kept[name].eq(True) for name in ("contains_seasonal_snow", "contains_cloud_or_shadow"))
    table = class_table(kept)
    classes = table.drop(columns=TOTAL)
    # Patches in none of the sets are counted, too.
    classes[""] = table[TOTAL] - classes.sum(axis=1)
    rows = [
        *_counts("status", patches["status"].value_counts()),
        *_counts("reason", patches["reason"].value_counts()),
        *_counts("split", kept["split"].value_counts()),
        ("apart", "snow", "", int(snow.sum())),
        ("apart", "cloud_or_shadow", "", int(cloud.sum())),
        ("apart", "any", "", int((snow | cloud).sum())),
        *_contested(patches),
        *(("class", name, split, count) for split in classes for name, count in classes[split].items() if count),
    ]
    counts = pd.DataFrame(rows, columns=list(COLUMNS[1:]))
    counts.insert(0, "tile", patches["tile"].iloc[0])
    return counts.astype(EMPTY_TALLY.dtypes.to_dict())


def to_rows(tally: pd.DataFrame) -> list[list[Any]]:
    """A tally as JSON knows it; see :func:`from_rows`."""
    rows: list[list[Any]] = tally.to_numpy(object).tolist()
    return rows


def from_rows(rows: Iterable[Iterable[Any]]) -> pd.DataFrame:
    """The tally that :func:`to_rows` has given."""
    return pd.DataFrame([list(row) for row in rows], columns=list(COLUMNS)).astype(EMPTY_TALLY.dtypes.to_dict())


def add_up(tallies: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """All tallies as one table, one row per tile, measure, key and split."""
    return pd.concat([EMPTY_TALLY, *tallies], ignore_index=True)


def total(tallies: pd.DataFrame, measure: str) -> dict[str, int]:
    """Patches by key of one measure, over all tiles."""
    chosen = tallies[tallies["measure"] == measure]
    return {str(key): int(count) for key, count in chosen.groupby("key")["patches"].sum().items()}


def _contested(patches: pd.DataFrame) -> list[tuple[str, str, str, int]]:
    """The part files do not keep the column."""
    pixels = int(pd.to_numeric(patches[OVERLAP_PX]).sum()) if OVERLAP_PX in patches else 0
    return [(OVERLAP_PX, "", "", pixels)] if pixels else []


def _counts(measure: str, counts: pd.Series[Any]) -> list[tuple[str, str, str, int]]:
    return [(measure, str(key), "", int(count)) for key, count in counts.items()]
