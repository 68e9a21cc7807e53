"""Snow, cloud and cloud shadow of each patch, from the L2A scene classification (SCL)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from reben_dask.grid import PatchGrid

SCL_RESOLUTION_M = 20


@dataclass(frozen=True, slots=True)
class SkyRule:
    """Which SCL values count as what, and from which share on a patch is flagged (``None``: never).

    The values are those of the Sentinel-2 product specification: 3 cloud shadow; 8, 9 cloud of medium and high
    probability; 10 thin cirrus; 11 snow or ice.
    """

    snow: Sequence[int]
    cloud: Sequence[int]
    shadow: Sequence[int]
    flag_from: float | None


def sky_columns(scl: npt.NDArray[np.uint8], grid: PatchGrid, rule: SkyRule) -> pd.DataFrame:
    """Fractions of snow, cloud and cloud shadow, and the two flags of the published metadata.

    Cloud and cloud shadow count together for their flag, as one patch may be covered by both.

    Parameters
    ----------
    scl : ndarray of uint8, shape (y, x)
        Scene classification of the tile at 20 m, from its upper-left corner.
    grid : PatchGrid
        Patches of the tile.
    rule : SkyRule
        Values and threshold of the recipe.

    Returns
    -------
    DataFrame
        One row per patch in name order: ``snow_fraction``, ``cloud_fraction``, ``shadow_fraction`` (float64, 0 to 1),
        ``contains_seasonal_snow``, ``contains_cloud_or_shadow`` (bool).
    """
    blocks = grid.blocks(scl, SCL_RESOLUTION_M)

    def count(values: Sequence[int]) -> npt.NDArray[np.int64]:
        chosen = np.zeros(256, bool)
        chosen[list(values)] = True
        counted: npt.NDArray[np.int64] = grid.in_name_order(np.count_nonzero(chosen[blocks], axis=(2, 3)))
        return counted

    snow, cloud, shadow = count(rule.snow), count(rule.cloud), count(rule.shadow)
    pixels = grid.patch_px(SCL_RESOLUTION_M) ** 2
    flag_from = np.inf if rule.flag_from is None else rule.flag_from
    return pd.DataFrame(
        {
            "snow_fraction": snow / pixels,
            "cloud_fraction": cloud / pixels,
            "shadow_fraction": shadow / pixels,
            "contains_seasonal_snow": snow / pixels >= flag_from,
            "contains_cloud_or_shadow": (cloud + shadow) / pixels >= flag_from,
        }
    )
