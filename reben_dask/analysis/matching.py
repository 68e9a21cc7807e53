"""Patches common to two datasets, matched by location and sensing time instead of name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from reben_dask.formats.columns import EPSG, KEPT, MAXY, MINX, REASON, SENSING_TIME, SPLITS, STATUS

PLACE = (EPSG, MINX, MAXY, "side")
"""Columns that identify the location of a patch."""

KEY = (*PLACE, SENSING_TIME)
"""Identity of a patch: coordinate system and corner of its square, its side, and the second when sensing began."""

NO_CANDIDATE = "no_candidate"
"""Reason of patches that are not candidates."""

UNASSIGNED = "none"
TOTAL = "all"


class Matches(NamedTuple):
    """Positions of the patches common to two tables, shape ``(match,)``, ascending in the first."""

    a: npt.NDArray[np.int64]
    b: npt.NDArray[np.int64]


def match_patches(a: pd.DataFrame, b: pd.DataFrame) -> Matches:
    """Find the patches that two tables with columns :data:`KEY` have in common.

    Names are ignored: those of version 1 and 2 differ. Patches of shifted grids have other corners and match only each
    other. Where a table repeats a location and time (overlapping tiles), rows match in their order, each at most once.
    """
    left, right = (_numbered(table) for table in (a, b))
    both = left.merge(right, on=list(left.columns.drop("row")), suffixes=("_a", "_b"), validate="one_to_one")
    both = both.sort_values("row_a")
    return Matches(both["row_a"].to_numpy(), both["row_b"].to_numpy())


def at_places_of(a: pd.DataFrame, b: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Mask of the patches of ``a`` at a location (:data:`PLACE`) where ``b`` has a patch of any time."""
    places = b[list(PLACE)].drop_duplicates()
    return a[list(PLACE)].merge(places, how="left", on=list(PLACE), indicator="found")["found"].eq("both").to_numpy()


def overlap_table(a: pd.DataFrame, b: pd.DataFrame, matches: Matches) -> pd.DataFrame:
    """Count the patches in both tables and in only one; needs column ``status``.

    Returns index ``candidates`` and ``kept``, integer columns ``A``, ``B``, ``both``, ``only A``, ``only B``.
    """
    kept_a, kept_b = (table[STATUS].eq(KEPT).to_numpy() for table in (a, b))
    rows = {
        "candidates": (len(a), len(b), len(matches.a)),
        "kept": (kept_a.sum(), kept_b.sum(), (kept_a[matches.a] & kept_b[matches.b]).sum()),
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["A", "B", "both"]).rename_axis("patches")
    return table.assign(**{"only A": table["A"] - table["both"], "only B": table["B"] - table["both"]})


def reasons_elsewhere(kept_in: pd.DataFrame, other: pd.DataFrame, rows: npt.NDArray[np.integer]) -> pd.Series[int]:
    """Count patches that one dataset keeps and another does not, by the reason of the other, most frequent first.

    Both tables have ``status`` and ``reason``; ``rows`` is the position of each patch in ``other``, -1 for none, which
    counts as :data:`NO_CANDIDATE`.
    """
    asked = rows[kept_in[STATUS].eq(KEPT).to_numpy()]
    reasons = pd.Series(other[REASON].astype(object).to_numpy()[asked[asked >= 0]], dtype=object).dropna()
    absent = pd.Series({NO_CANDIDATE: np.count_nonzero(asked < 0)})
    counts: pd.Series[int] = pd.concat([absent, reasons.value_counts()]).astype("int64").rename_axis("reason")
    return counts[counts > 0].sort_values(ascending=False, kind="stable")


def split_table(a: pd.Series[str], b: pd.Series[str]) -> pd.DataFrame:
    """Count patches by their split in A (index) and B (columns), with sums (:data:`TOTAL`).

    Both series are of the same patches in the same order; null counts as :data:`UNASSIGNED`.
    """
    rows, columns = (side.astype(object).fillna(UNASSIGNED).to_numpy() for side in (a, b))
    counts = pd.crosstab(rows, columns).reindex(index=_ordered(rows), columns=_ordered(columns), fill_value=0)
    counts = counts.rename_axis(index="split in A", columns=None).astype("int64")
    counts[TOTAL] = counts.sum(axis=1)
    counts.loc[TOTAL] = counts.sum()
    return counts


def _numbered(table: pd.DataFrame) -> pd.DataFrame:
    keys = table[list(KEY)].reset_index(drop=True)
    # Names, which alone have the time of published patches, have whole seconds.
    keys[SENSING_TIME] = keys[SENSING_TIME].dt.floor("s")
    return keys.assign(occurrence=keys.groupby(list(KEY)).cumcount(), row=np.arange(len(keys)))


def _ordered(found: Sequence[str] | npt.NDArray[np.object_]) -> list[str]:
    return [*SPLITS, *sorted(set(found) - set(SPLITS))]
