"""Rules that keep or reject a patch. If several apply, the first is recorded as the reason."""

from __future__ import annotations

import operator

import numpy as np
import pandas as pd

from reben_dask.formats import columns
from reben_dask.formats.columns import IS_DUPLICATE, IS_PUBLISHED, KEPT, REJECTED, WITHIN_LIMITS
from reben_dask.recipes.model import Comparison

TILE_QUALITY = "tile_quality"
NODATA = "nodata"
DUPLICATE_ACQUISITION = "duplicate_acquisition"
NO_SEASON = "no_season"
NO_SCENE_CLASSIFICATION = "no_scene_classification"
SNOW_OR_CLOUD = "snow_or_cloud"
NOT_PUBLISHED = "not_published"
TOO_LITTLE_LABELED = "too_little_labeled"
NO_SENTINEL1 = "no_sentinel1"
NOT_CHOSEN = "not_chosen"
DUPLICATE_GROUND = "duplicate_ground"
SPLIT_CONFLICT = "split_conflict"
REASONS = {
    TILE_QUALITY: "the tile failed one of its quality indicators",
    NODATA: "a pixel of the patch is NODATA in at least one band",
    DUPLICATE_ACQUISITION: "an earlier data strip of the same acquisition has all of its pixels",
    NO_SEASON: "its month is in no season",
    NO_SCENE_CLASSIFICATION: "its tile has no scene classification (SCL)",
    SNOW_OR_CLOUD: "it has more snow or cloud than its season allows",
    NOT_PUBLISHED: "it is not in the published metadata",
    TOO_LITTLE_LABELED: "too few of its pixels carry a label",
    NO_SENTINEL1: "it has no Sentinel-1 partner",
    NOT_CHOSEN: "another image of that season is clearer",
    DUPLICATE_GROUND: "an earlier MGRS tile (in name order) covers it in the same season, or on the same date",
    SPLIT_CONFLICT: "it overlaps a patch of another split in another MGRS tile",
}
"""Reasons for rejection in the order of the rules, with their meanings."""

_COMPARE = {"at_least": operator.ge, "more_than": operator.gt}


def decide(
    patches: pd.DataFrame, *, labeled_fraction: float, comparison: Comparison, pairs_only: bool = False
) -> pd.DataFrame:
    """Add ``status`` (``kept`` or ``rejected``) and ``reason`` (null where kept) to patches.

    Parameters
    ----------
    patches : DataFrame
        Columns ``failed_quality`` (str, null where the tile passed), ``nodata`` (bool), ``labeled_fraction``; for a
        later data strip ``is_duplicate`` (bool); with published metadata ``is_published`` (bool); with Sentinel-1
        ``s1_name`` (str, null without a partner); with limits of snow and cloud ``season`` (str, null in no season),
        ``snow_fraction``, ``cloud_fraction`` (null where unknown) and ``within_limits`` (bool).
    labeled_fraction : float
        Share of a patch's pixels that must carry a label.
    comparison : {"at_least", "more_than"}
        Decides if exactly that share is enough.
    pairs_only : bool
        Reject patches without a Sentinel-1 partner.
    """
    enough = _COMPARE[comparison](patches[columns.LABELED_FRACTION], labeled_fraction)
    never = pd.Series(data=False, index=patches.index)
    limited = WITHIN_LIMITS in patches
    unclassified = patches[[columns.SNOW_FRACTION, columns.CLOUD_FRACTION]].isna().any(axis=1) if limited else never
    failed = {  # in the order of REASONS
        TILE_QUALITY: patches[columns.FAILED_QUALITY].notna(),
        NODATA: patches[columns.NODATA],
        DUPLICATE_ACQUISITION: patches.get(IS_DUPLICATE, never),
        NO_SEASON: patches[columns.SEASON].isna() if limited else never,
        NO_SCENE_CLASSIFICATION: unclassified,
        SNOW_OR_CLOUD: ~patches[WITHIN_LIMITS] if limited else never,
        NOT_PUBLISHED: ~patches[IS_PUBLISHED] if IS_PUBLISHED in patches else never,
        TOO_LITTLE_LABELED: ~enough,
        NO_SENTINEL1: patches[columns.S1_NAME].isna() if pairs_only else never,
    }
    reason = np.select([rule.to_numpy(bool) for rule in failed.values()], list(failed), "")
    kept = reason == ""
    decided = {
        columns.STATUS: pd.Series(np.where(kept, KEPT, REJECTED), patches.index, dtype="str"),
        columns.REASON: pd.Series(reason, patches.index, dtype="str").where(~kept),
    }
    return patches.assign(**decided)
