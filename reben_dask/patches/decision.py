"""Kept or rejected, and why: the rules in their order, the first that fails gives the reason."""

from __future__ import annotations

import operator

import numpy as np
import pandas as pd

from reben_dask.recipes.model import Comparison

KEPT, REJECTED = "kept", "rejected"

TILE_QUALITY = "tile_quality"
NODATA = "nodata"
TOO_LITTLE_LABELED = "too_little_labeled"
REASONS = {
    TILE_QUALITY: "the tile failed one of its quality indicators",
    NODATA: "a pixel of the patch is NODATA in at least one band",
    TOO_LITTLE_LABELED: "too few of its pixels carry a label",
}
"""Every reason for a rejection, in the order in which the rules are asked, with its meaning."""

_COMPARE = {"at_least": operator.ge, "more_than": operator.gt}


def decide(patches: pd.DataFrame, *, labeled_fraction: float, comparison: Comparison) -> pd.DataFrame:
    """Add ``status`` and ``reason`` to the patches of tiles.

    Parameters
    ----------
    patches : DataFrame
        Columns ``failed_quality`` (str, null where the tile passed), ``nodata`` (bool) and ``labeled_fraction``.
    labeled_fraction : float
        Share of a patch's pixels that must carry a label.
    comparison : {"at_least", "more_than"}
        Whether a patch with exactly that share is kept.

    Returns
    -------
    DataFrame
        The same patches with ``status`` (``kept`` or ``rejected``) and ``reason`` (null where kept).
    """
    enough = _COMPARE[comparison](patches["labeled_fraction"], labeled_fraction)
    failed = [patches["failed_quality"].notna(), patches["nodata"], ~enough]
    reason = np.select([rule.to_numpy(bool) for rule in failed], list(REASONS), "")
    kept = reason == ""
    return patches.assign(
        status=pd.Series(np.where(kept, KEPT, REJECTED), patches.index, dtype="str"),
        reason=pd.Series(reason, patches.index, dtype="str").where(~kept),
    )
