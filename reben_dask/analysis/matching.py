"""Patches that two datasets have in common, whatever their names: matched by place and sensing time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from reben_dask.formats.columns import EPSG, KEPT, MAXY, MINX, REASON, SENSING_TIME, SPLITS, STATUS

PLACE = (EPSG, MINX, MAXY, "side")
KEY = (*PLACE, SENSING_TIME)
"""Identity of a patch: the system and corner of its square, its side, and the start of sensing."""

NO_CANDIDATE = "no_candidate"
"""Reason of patches that are not even candidates."""

UNASSIGNED = "none"
TOTAL = "all"


class Matches(NamedTuple):
    """Positions of patches that two datasets have in common.

    Parameters
    ----------
    a, b : ndarray of int64, shape (match,)
        Position of each common patch in the one and the other table, ascending in the first.
    """

    a: npt.NDArray[np.int64]
    b: npt.NDArray[np.int64]


def match_patches(a: pd.DataFrame, b: pd.DataFrame) -> Matches:
    """Find the patches that two tables have in common.

    Names are not looked at: those of version 1 and 2 differ. Patches of a shifted grid have other corners, and so match
    only their own like. Where one table has a place and time more than once (tiles that overlap), its rows are matched
    in their order, each at most once.

    Parameters
    ----------
    a, b : DataFrame
        Columns :data:`KEY`.
    """
    left, right = (_numbered(table) for table in (a, b))
    both = left.merge(right, on=list(left.columns.drop("row")), suffixes=("_a", "_b"), validate="one_to_one")
    both = both.sort_values("row_a")
    return Matches(both["row_a"].to_numpy(), both["row_b"].to_numpy())


def at_places_of(a: pd.DataFrame, b: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Mask of the patches of ``a`` at a place (:data:`PLACE`) where ``b`` has a patch too, at any time."""
    places = b[list(PLACE)].drop_duplicates()
    return a[list(PLACE)].merge(places, how="left", on=list(PLACE), indicator="found")["found"].eq("both").to_numpy()


def overlap_table(a: pd.DataFrame, b: pd.DataFrame, matches: Matches) -> pd.DataFrame:
    """Count the patches in both tables, and in only one.

    Parameters
    ----------
    a, b : DataFrame
        Column ``status``.
    matches : Matches
        Of :func:`match_patches`.

    Returns
    -------
    DataFrame
        Index ``candidates`` and ``kept``; integer columns ``A``, ``B``, ``both``, ``only A``, ``only B``.
    """
    kept_a, kept_b = (table[STATUS].eq(KEPT).to_numpy() for table in (a, b))
    rows = {
        "candidates": (len(a), len(b), len(matches.a)),
        "kept": (kept_a.sum(), kept_b.sum(), (kept_a[matches.a] & kept_b[matches.b]).sum()),
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["A", "B", "both"]).rename_axis("patches")
    return table.assign(**{"only A": table["A"] - table["both"], "only B": table["B"] - table["both"]})


def reasons_elsewhere(kept_in: pd.DataFrame, other: pd.DataFrame, rows: npt.NDArray[np.integer]) -> pd.Series[int]:
    """Count patches that one dataset keeps and another does not, by the reason of the other.

    Parameters
    ----------
    kept_in, other : DataFrame
        Columns ``status`` and ``reason``.
    rows : ndarray of int, shape (patch of kept_in,)
        Position of each patch in ``other``, -1 where it is no candidate there.

    Returns
    -------
    Series
        Number of patches by reason, the most frequent first; :data:`NO_CANDIDATE` is one of them.
    """
    asked = rows[kept_in[STATUS].eq(KEPT).to_numpy()]
    reasons = pd.Series(other[REASON].astype(object).to_numpy()[asked[asked >= 0]], dtype=object).dropna()
    absent = pd.Series({NO_CANDIDATE: np.count_nonzero(asked < 0)})
    counts: pd.Series[int] = pd.concat([absent, reasons.value_counts()]).astype("int64").rename_axis("reason")
    return counts[counts > 0].sort_values(ascending=False, kind="stable")


def split_table(a: pd.Series[str], b: pd.Series[str]) -> pd.DataFrame:
    """Count patches by their split in one dataset and in the other.

    Parameters
    ----------
    a, b : Series of str
        Splits of the same patches in the same order; patches without one count as :data:`UNASSIGNED`.

    Returns
    -------
    DataFrame
        Index: split in A, columns: split in B, each with the sum over all (:data:`TOTAL`); integers.
    """
    rows, columns = (side.astype(object).fillna(UNASSIGNED).to_numpy() for side in (a, b))
    counts = pd.crosstab(rows, columns).reindex(index=_ordered(rows), columns=_ordered(columns), fill_value=0)
    counts = counts.rename_axis(index="split in A", columns=None).astype("int64")
    counts[TOTAL] = counts.sum(axis=1)
    counts.loc[TOTAL] = counts.sum()
    return counts


def _numbered(table: pd.DataFrame) -> pd.DataFrame:
    keys = table[list(KEY)].reset_index(drop=True)
    return keys.assign(occurrence=keys.groupby(list(KEY)).cumcount(), row=np.arange(len(keys)))


def _ordered(found: Sequence[str] | npt.NDArray[np.object_]) -> list[str]:
    return [*SPLITS, *sorted(set(found) - set(SPLITS))]
