"""Multi-labels and labelled fraction of each patch, read off the reference map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from reben_dask.formats.bands import MAP_RESOLUTION_M
from reben_dask.grid import PatchGrid
from reben_dask.nomenclature import Nomenclature
from reben_dask.patches.regions import largest_regions

EVERY_PIXEL: Mapping[str, int] = {"all": 0}
"""A single threshold, which lets every pixel count."""


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


def label_columns(
    codes: npt.NDArray[np.uint16],
    grid: PatchGrid,
    nomenclature: Nomenclature,
    thresholds_px: Mapping[str, int] = EVERY_PIXEL,
) -> pd.DataFrame:
    """Labels and labelled fraction of each patch.

    Parameters
    ----------
    codes : ndarray of uint16, shape (y, x)
        Reference map of the tile, from its upper-left corner.
    grid : PatchGrid
        Patches of the tile.
    nomenclature : Nomenclature
        Class of each code.
    thresholds_px : mapping of str to int
        Pixels of a connected region from which on it counts towards the labels. The first makes ``labels``, a further
        one ``labels_<name>``; 0 and 1 count every pixel.

    Returns
    -------
    DataFrame
        One row per patch in name order: ``labels`` (sorted names of the classes with a region that counts),
        ``labeled_fraction`` (float64, share of pixels whose code carries a label) and the labels of further thresholds.
    """
    counts = class_counts(codes, grid, nomenclature)[:, 1:]
    asked = [pixels for pixels in thresholds_px.values() if pixels > 1]
    sizes = largest_regions(codes, grid, nomenclature, min(asked)) if asked else counts
    sets = {name: _names_of(sizes >= max(1, pixels), nomenclature) for name, pixels in thresholds_px.items()}
    first, *others = sets
    return pd.DataFrame(
        {
            "labels": sets[first],
            "labeled_fraction": counts.sum(axis=1) / grid.patch_px(MAP_RESOLUTION_M) ** 2,
            **{f"labels_{name}": sets[name] for name in others},
        }
    )


def _names_of(present: npt.NDArray[np.bool_], nomenclature: Nomenclature) -> pd.Series[Any]:
    names = np.asarray(nomenclature.classes, dtype=object)
    return pd.Series([names[row].tolist() for row in present], dtype=object)
