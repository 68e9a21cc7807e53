"""Selection of images: the clearest one of each location and season, within the limits of snow and cloud."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from reben_dask.formats import columns
from reben_dask.formats.columns import KEPT, REJECTED, WITHIN_LIMITS
from reben_dask.patches.decision import NOT_CHOSEN
from reben_dask.recipes.model import Images


def with_season_limits(patches: pd.DataFrame, rule: Images) -> pd.DataFrame:
    """Move snowy patches to their own season, and add ``within_limits`` (bool) for the limits of the season.

    ``patches`` needs ``season`` (str, null in no season), ``snow_fraction`` and ``cloud_fraction`` (null where unknown,
    which is within no limit).
    """
    snow, cloud = (patches[name].astype(float) for name in (columns.SNOW_FRACTION, columns.CLOUD_FRACTION))
    season = patches[columns.SEASON].astype(object)
    snow_below, cloud_below = (
        season.map({name: getattr(limits, of) for name, limits in rule.limits.items()}).astype(float)
        for of in ("snow", "cloud")
    )
    within = (snow < snow_below) & (cloud < cloud_below)
    if rule.snowy:
        snowy = snow >= rule.snowy.snow_from
        season = season.mask(snowy, rule.snowy.season)
        within = within.mask(snowy, cloud < rule.snowy.cloud)
    added: dict[str, Any] = {columns.SEASON: season.astype("str"), WITHIN_LIMITS: within}
    return patches.assign(**added)


def choose_images(patches: pd.DataFrame, rule: Images) -> pd.Series[bool]:
    """Choose for each location and season the image with the least cloud, shadow and snow; of equals the earliest.

    Snow does not count against an image of the snowy season. Patches that an earlier call rejected as not chosen take
    part again, so that the selection may be repeated.

    Parameters
    ----------
    patches : DataFrame
        Patches of all images of one MGRS tile: ``patch_id``, ``grid``, ``x``, ``y``, ``status``, ``reason``,
        ``season``, ``sensing_time`` and the three fractions; unique index.
    rule : Images
        Rule of the recipe, with the snowy season.
    """
    eligible = patches[_eligible(patches)]
    snowy = eligible[columns.SEASON] == (rule.snowy.season if rule.snowy else None)
    snow = eligible[columns.SNOW_FRACTION].mask(snowy, 0.0)
    unclear = eligible[columns.CLOUD_FRACTION] + eligible[columns.SHADOW_FRACTION] + snow
    # Rounded, as equal sums of pixels may differ in their last digit.
    order = ["unclear", columns.SENSING_TIME, columns.PATCH_ID]
    ranked = eligible.assign(unclear=unclear.round(9)).sort_values(order)
    best = ranked.drop_duplicates([*columns.IN_GRID, columns.SEASON]).index
    return pd.Series(patches.index.isin(best), patches.index)


def with_choice(patches: pd.DataFrame, rule: Images) -> pd.DataFrame:
    """Set ``status`` and ``reason`` of patches by :func:`choose_images`."""
    chosen = choose_images(patches, rule)
    eligible = _eligible(patches)
    status = np.where(eligible, np.where(chosen, KEPT, REJECTED), patches[columns.STATUS])
    reason = patches[columns.REASON].astype(object).mask(eligible & ~chosen, NOT_CHOSEN).mask(chosen, None)
    decided = {columns.STATUS: pd.Series(status, patches.index, dtype="str"), columns.REASON: reason.astype("str")}
    return patches.assign(**decided)


def _eligible(patches: pd.DataFrame) -> pd.Series[bool]:
    return (patches[columns.STATUS] == KEPT) | (patches[columns.REASON] == NOT_CHOSEN)
