"""Multi-labels, labelled fraction and connected regions of each patch, from the reference map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt
import pandas as pd

from reben_dask.formats.bands import MAP_RESOLUTION_M
from reben_dask.formats.columns import EXTRA_LABELS, LABELED_FRACTION, LABELS
from reben_dask.grid import PatchGrid
from reben_dask.nomenclature import Nomenclature
from reben_dask.recipes.model import EVERY_PIXEL


def class_counts(codes: npt.NDArray[np.uint16], grid: PatchGrid, nomenclature: Nomenclature) -> npt.NDArray[np.int64]:
    """Count the pixels of each class in each patch.

    Parameters
    ----------
    codes : ndarray of uint16, shape (y, x)
        Reference map of the tile from its upper-left corner.

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


def largest_regions(
    codes: npt.NDArray[np.uint16], grid: PatchGrid, nomenclature: Nomenclature
) -> npt.NDArray[np.int64]:
    """Count the pixels of the largest connected region of each class in each patch.

    A region consists of pixels of one class that share sides (4-neighbourhood) within a patch. Codes of the same class
    make one region; unlabelled pixels belong to none. Parameters as for :func:`class_counts`.

    Returns
    -------
    ndarray of int64, shape (patch, class)
        In name order and the order of the nomenclature's classes; 0 where the class does not occur.
    """
    lookup = nomenclature.class_index()
    rows, columns = grid.shape_yx
    side, width = grid.patch_px(MAP_RESOLUTION_M), 1 + len(nomenclature.classes)
    largest = np.zeros((rows, columns * width), np.int64)
    dtype = np.uint16 if columns * width <= np.iinfo(np.uint16).max else np.uint32
    # A class in a patch is one number, so that regions of neighbouring patches are not connected.
    start_of_column: npt.NDArray[Any] = np.repeat(np.arange(columns) * width, side).astype(dtype)
    # Row by row of patches: labels of a whole tile would fill 0.5 GB.
    for row, strip in enumerate(grid.cut(codes, MAP_RESOLUTION_M).reshape(rows, side, columns * side)):
        index = lookup[strip]
        classes = np.where(index, index + start_of_column, 0).astype(dtype)
        regions, number = cc3d.connected_components(classes, connectivity=4, return_N=True)
        pixels = np.bincount(regions.ravel(), minlength=number + 1)
        class_of_region = np.zeros(number + 1, np.int64)
        class_of_region[regions] = classes
        np.maximum.at(largest[row], class_of_region[1:], pixels[1:])
    return grid.in_name_order(largest.reshape(rows, columns, width))[:, 1:]


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
        Reference map of the tile from its upper-left corner.
    thresholds_px : mapping of str to int
        Minimum pixels of a connected region that counts towards the labels; 0 and 1 count every pixel. The first makes
        ``labels``, others ``labels_<name>``.

    Returns
    -------
    DataFrame
        One row per patch in name order: ``labels`` (sorted class names), ``labeled_fraction`` (float64, share of pixels
        with a label) and the labels of further thresholds.
    """
    counts = class_counts(codes, grid, nomenclature)[:, 1:]
    sizes = largest_regions(codes, grid, nomenclature) if max(thresholds_px.values()) > 1 else counts
    first, *others = thresholds_px
    return pd.DataFrame(
        {
            LABELS: _names_of(sizes >= max(1, thresholds_px[first]), nomenclature),
            LABELED_FRACTION: counts.sum(axis=1) / grid.patch_px(MAP_RESOLUTION_M) ** 2,
            **{EXTRA_LABELS + name: _names_of(sizes >= max(1, thresholds_px[name]), nomenclature) for name in others},
        }
    )


def _names_of(present: npt.NDArray[np.bool_], nomenclature: Nomenclature) -> pd.Series[Any]:
    names = np.asarray(nomenclature.classes, dtype=object)
    return pd.Series([names[row].tolist() for row in present], dtype=object)
