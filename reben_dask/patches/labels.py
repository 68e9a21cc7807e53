"""Multi-labels and labelled fraction of each patch, read off the reference map."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from reben_dask.patches.grid import PatchGrid
from reben_dask.patches.nomenclature import Nomenclature
from reben_dask.patches.reference_map import MAP_RESOLUTION_M


def class_counts(codes: npt.NDArray[np.uint16], grid: PatchGrid, nomenclature: Nomenclature) -> npt.NDArray[np.int64]:
    """Count the pixels of each class in each patch.

    Parameters
    ----------
    codes : ndarray of uint16, shape (y, x)
        Reference map of the tile.
    grid : PatchGrid
        Patches of the tile.
    nomenclature : Nomenclature
        Class of each code.

    Returns
    -------
    ndarray of int64, shape (patch, 1 + class)
        In name order; column 0 counts unlabelled pixels, column ``k`` those of class ``k - 1``.
    """
    lookup = nomenclature.class_index()
    blocks = grid.blocks(codes, MAP_RESOLUTION_M)
    rows, columns = grid.shape_yx
    width = 1 + len(nomenclature.classes)
    counts = np.zeros((rows, columns, width), np.int64)
    start_of_column = (np.arange(columns) * width)[:, None, None]
    for row in range(rows):
        bins = lookup[blocks[row]] + start_of_column
        counts[row] = np.bincount(bins.ravel(), minlength=columns * width).reshape(columns, width)
    return grid.in_name_order(counts)


def label_columns(codes: npt.NDArray[np.uint16], grid: PatchGrid, nomenclature: Nomenclature) -> pd.DataFrame:
    """Labels and labelled fraction of each patch.

    Parameters
    ----------
    codes : ndarray of uint16, shape (y, x)
        Reference map of the tile.
    grid : PatchGrid
        Patches of the tile.
    nomenclature : Nomenclature
        Class of each code.

    Returns
    -------
    DataFrame
        One row per patch in name order: ``labels`` (sorted class names that occur in at least one pixel) and
        ``labeled_fraction`` (float64, share of pixels whose code carries a label).
    """
    counts = class_counts(codes, grid, nomenclature)
    names = np.asarray(nomenclature.classes, dtype=object)
    present = counts[:, 1:] > 0
    return pd.DataFrame(
        {
            "labels": pd.Series([names[row].tolist() for row in present], dtype=object),
            "labeled_fraction": counts[:, 1:].sum(axis=1) / grid.patch_px(MAP_RESOLUTION_M) ** 2,
        }
    )
