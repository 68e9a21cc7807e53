"""Which images of a place are taken: within the limits of their season, and of those the clearest."""

from __future__ import annotations

import numpy as np
import pandas as pd

from reben_dask.formats.columns import KEPT, REJECTED
from reben_dask.patches.decision import NOT_CHOSEN
from reben_dask.recipes.parts import Images

PLACE = ["grid", "x", "y"]


def with_season_limits(patches: pd.DataFrame, rule: Images) -> pd.DataFrame:
    """Move snowy patches to their own season, and say which patches keep within the limits of theirs.

    Parameters
    ----------
    patches : DataFrame
        Columns ``season`` (str, null in no season), ``snow_fraction`` and ``cloud_fraction`` (null where unknown, which
        is within no limit).
    rule : Images
        Limits of the recipe.

    Returns
    -------
    DataFrame
        The same patches, ``season`` changed, with ``within_limits`` (bool).
    """
    snow, cloud = (patches[name].astype(float) for name in ("snow_fraction", "cloud_fraction"))
    season = patches["season"].astype(object)
    snow_below, cloud_below = (
        season.map({name: getattr(limits, of) for name, limits in rule.limits.items()}).astype(float)
        for of in ("snow", "cloud")
    )
    within = (snow < snow_below) & (cloud < cloud_below)
    if rule.snowy:
        snowy = snow >= rule.snowy.snow_from
        season = season.mask(snowy, rule.snowy.season)
        within = within.mask(snowy, cloud < rule.snowy.cloud)
    return patches.assign(season=season.astype("str"), within_limits=within)


def choose_images(patches: pd.DataFrame, rule: Images) -> pd.Series[bool]:
    """For each place and season the image with the least cloud, shadow and snow; of equals the earliest.

    Snow does not count against an image of the snowy season.

    Parameters
    ----------
    patches : DataFrame
        Patches of all images of one MGRS tile, with the columns ``patch_id``, ``grid``, ``x``, ``y``, ``status``,
        ``reason``, ``season``, ``sensing_time`` and the three fractions; unique index.
    rule : Images
        Tells the snowy season.

    Returns
    -------
    Series of bool
        Whether each patch is the one that is taken. Those that an earlier call has rejected for this very reason are
        looked at again, so that the choice may be repeated.
    """
    eligible = patches[_eligible(patches)]
    snowy = eligible["season"] == (rule.snowy.season if rule.snowy else None)
    unclear = eligible["cloud_fraction"] + eligible["shadow_fraction"] + eligible["snow_fraction"].mask(snowy, 0.0)
    # Rounded: sums of as many pixels may differ in their last digit, and are equal.
    ranked = eligible.assign(unclear=unclear.round(9)).sort_values(["unclear", "sensing_time", "patch_id"])
    best = ranked.drop_duplicates([*PLACE, "season"]).index
    return pd.Series(patches.index.isin(best), patches.index)


def with_choice(patches: pd.DataFrame, rule: Images) -> pd.DataFrame:
    """The same patches, with ``status`` and ``reason`` as :func:`choose_images` decides."""
    chosen = choose_images(patches, rule)
    eligible = _eligible(patches)
    status = np.where(eligible, np.where(chosen, KEPT, REJECTED), patches["status"])
    reason = patches["reason"].astype(object).mask(eligible & ~chosen, NOT_CHOSEN).mask(chosen, None)
    return patches.assign(status=pd.Series(status, patches.index, dtype="str"), reason=reason.astype("str"))


def _eligible(patches: pd.DataFrame) -> pd.Series[bool]:
    return (patches["status"] == KEPT) | (patches["reason"] == NOT_CHOSEN)
