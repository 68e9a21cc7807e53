"""Comparing patches with published ones, patch by patch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

MISSING_HERE, MISSING_THERE = "missing here", "missing there"
LABELS = "labels"
COMPARED = (LABELS, "split", "country", "contains_seasonal_snow", "contains_cloud_or_shadow")
"""Columns whose values are compared where both sides have the patch."""

SEPARATOR = "; "
COLUMNS = ("patch_id", "tile", "what", "here", "there")


def compare_patches(tile: str, here: pd.DataFrame, there: pd.DataFrame) -> pd.DataFrame:
    """List what differs between the patches of a tile and the published ones.

    Parameters
    ----------
    tile : str
        Name of the tile.
    here : DataFrame
        All candidates of the tile: ``patch_id``, ``status``, ``reason`` and :data:`COMPARED`.
    there : DataFrame
        Published patches of the tile: ``patch_id`` and :data:`COMPARED`.

    Returns
    -------
    DataFrame
        One row per difference: ``patch_id``, ``tile``, ``what`` (:data:`MISSING_HERE`, :data:`MISSING_THERE` or one of
        :data:`COMPARED`), and the two values as text: ``here`` (for a patch that is missing here the reason of its
        rejection) and ``there``. A column that is all null here is not compared.
    """
    ours, theirs = here.set_index("patch_id"), there.set_index("patch_id")
    kept = ours[ours["reason"].isna()]
    reasons = ours["reason"].fillna("").reindex(theirs.index.difference(kept.index), fill_value="no such patch")
    rows = [(name, MISSING_HERE, reason, "") for name, reason in reasons.items()]
    rows += [(name, MISSING_THERE, "", "") for name in kept.index.difference(theirs.index)]
    both = kept.index.intersection(theirs.index)
    for name in COMPARED:
        if kept[name].notna().any():
            rows += _different(name, kept.loc[both, name], theirs.loc[both, name])
    table = pd.DataFrame(rows, columns=["patch_id", "what", "here", "there"])
    table.insert(1, "tile", tile)
    return table.astype("str").sort_values(["patch_id", "what"], ignore_index=True)


def class_differences(differences: pd.DataFrame) -> pd.DataFrame:
    """Of patches whose labels differ, how many have each class here only, and there only.

    Parameters
    ----------
    differences : DataFrame
        What :func:`compare_patches` gives.

    Returns
    -------
    DataFrame
        Index ``class``; integer columns ``here only`` and ``there only``.
    """
    rows = differences[differences["what"] == LABELS]
    sides = [[set(text.split(SEPARATOR)) - {""} for text in rows[side]] for side in ("here", "there")]
    gained = pd.Series([name for here, there in zip(*sides, strict=True) for name in here - there], dtype="str")
    lost = pd.Series([name for here, there in zip(*sides, strict=True) for name in there - here], dtype="str")
    counts = pd.DataFrame({"here only": gained.value_counts(), "there only": lost.value_counts()})
    return counts.fillna(0).astype("int64").sort_index().rename_axis("class")


def _different(what: str, here: pd.Series[Any], there: pd.Series[Any]) -> Iterator[tuple[str, str, str, str]]:
    texts = here.map(_text), there.map(_text)
    differs = np.asarray(texts[0] != texts[1])
    for name, one, other in zip(here.index[differs], texts[0][differs], texts[1][differs], strict=True):
        yield name, what, one, other


def _text(value: Any) -> str:
    if isinstance(value, (list, np.ndarray)):
        return SEPARATOR.join(sorted(map(str, value)))
    return "" if pd.isna(value) else str(value)
