"""Snow, cloud and cloud shadow of each patch, from the L2A scene classification (SCL)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from reben_dask.formats import columns
from reben_dask.formats.bands import IMAGE_RESOLUTION_M, SCENE_CLASSIFICATION
from reben_dask.grid import PatchGrid
from reben_dask.recipes.model import SclClasses

SCL_RESOLUTION_M = IMAGE_RESOLUTION_M[SCENE_CLASSIFICATION]


def scl_fractions(scl: npt.NDArray[np.uint8], grid: PatchGrid, classes: SclClasses) -> pd.DataFrame:
    """Fractions of snow, cloud and cloud shadow, and the two flags of the published metadata.

    Cloud and cloud shadow count together for their flag.

    Parameters
    ----------
    scl : ndarray of uint8, shape (y, x)
        Scene classification of the tile at 20 m from its upper-left corner.
    classes : SclClasses
        Values and threshold of the recipe. Product specification: 3 cloud shadow; 8, 9 cloud of medium and high
        probability; 10 thin cirrus; 11 snow or ice.

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

    snow, cloud, shadow = count(classes.snow), count(classes.cloud), count(classes.shadow)
    pixels = grid.patch_px(SCL_RESOLUTION_M) ** 2
    flag_from = np.inf if classes.flag_from is None else classes.flag_from
    return pd.DataFrame(
        {
            columns.SNOW_FRACTION: snow / pixels,
            columns.CLOUD_FRACTION: cloud / pixels,
            columns.SHADOW_FRACTION: shadow / pixels,
            columns.SNOW: snow / pixels >= flag_from,
            columns.CLOUD: (cloud + shadow) / pixels >= flag_from,
        }
    )
