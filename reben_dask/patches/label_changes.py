"""Labels that patches gain and lose between two datasets, whose class lists may differ."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from reben_dask.patches.label_sets import LabelSets

SAME, LOST, GAINED, CHANGED = "same labels", "only lost labels", "only gained labels", "lost and gained labels"
IN_BOTH, IN_A, IN_B = "both", "A", "B"
_ROWS = 65_536


class LabelChanges(NamedTuple):
    """How the labels of patches that two datasets keep differ. A label is lost on the way from A to B, or gained.

    Parameters
    ----------
    patches : DataFrame
        Index: :data:`SAME`, :data:`LOST`, :data:`GAINED`, :data:`CHANGED`; integer columns ``all classes``, and
        ``classes of both lists``, where all others are overlooked.
    classes : DataFrame
        Index ``class``, sorted by name; ``class list`` (:data:`IN_BOTH`, or the only one that has it: :data:`IN_A`,
        :data:`IN_B`), and the number of patches that carry it in ``A``, ``B``, ``both``, ``only A`` and ``only B``.
    pairs : DataFrame
        ``lost``, ``gained``, ``patches``: how many patches lose the one class and gain the other, the most frequent
        first; ``share``: of the patches that lose the one or gain the other. Where class lists differ, a share near 1
        is a class that goes by another name.
    """

    patches: pd.DataFrame
    classes: pd.DataFrame
    pairs: pd.DataFrame


def label_changes(a: LabelSets, b: LabelSets) -> LabelChanges:
    """Compare the labels of the same patches in two datasets, by the names of their classes.

    Parameters
    ----------
    a, b : LabelSets
        Of the same patches, in the same order.
    """
    names = sorted({*a.classes, *b.classes})
    here, there = a.recoded(names), b.recoded(names)
    lost, gained = here.without(there), there.without(here)
    shared = sorted({*a.classes} & {*b.classes})
    columns = {
        "all classes": _patches(lost, gained),
        "classes of both lists": _patches(lost.recoded(shared), gained.recoded(shared)),
    }
    return LabelChanges(pd.DataFrame(columns), _classes(a, b, here, there, lost), _pairs(lost, gained))


def _patches(lost: LabelSets, gained: LabelSets) -> dict[str, int]:
    loses, gains = lost.sizes() > 0, gained.sizes() > 0
    kinds = {SAME: ~loses & ~gains, LOST: loses & ~gains, GAINED: ~loses & gains, CHANGED: loses & gains}
    return {kind: int(np.count_nonzero(rows)) for kind, rows in kinds.items()}


def _classes(a: LabelSets, b: LabelSets, here: LabelSets, there: LabelSets, lost: LabelSets) -> pd.DataFrame:
    in_a, in_b, only_a = here.counts(), there.counts(), lost.counts()
    lists = [
        IN_BOTH if name in a.classes and name in b.classes else IN_A if name in a.classes else IN_B
        for name in here.classes
    ]
    both = in_a - only_a
    counts = {"A": in_a, "B": in_b, "both": both, "only A": only_a, "only B": in_b - both}
    return pd.DataFrame({"class list": lists, **counts}, index=pd.Index(here.classes, name="class"))


def _pairs(lost: LabelSets, gained: LabelSets) -> pd.DataFrame:
    counts = np.zeros((len(lost.classes), len(gained.classes)), np.int64)
    for start in range(0, len(lost), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(lost)))
        # Exact: sums in a portion stay far below the 2**24 up to which float32 counts.
        before, after = (sets.take(rows).presence().astype(np.float32) for sets in (lost, gained))
        counts += (before.T @ after).astype(np.int64)
    left, right = np.nonzero(counts)
    names, patches = np.asarray(lost.classes, dtype=object), counts[left, right]
    either = lost.counts()[left] + gained.counts()[right] - patches
    columns = {"lost": names[left], "gained": names[right], "patches": patches, "share": patches / either}
    table = pd.DataFrame(columns)
    return table.sort_values(["patches", "lost", "gained"], ascending=[False, True, True], ignore_index=True)
