"""Connected regions of a class in each patch, read off the reference map."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from reben_dask.formats.bands import MAP_RESOLUTION_M
from reben_dask.grid import PatchGrid
from reben_dask.nomenclature import Nomenclature


def largest_regions(
    codes: npt.NDArray[np.uint16], grid: PatchGrid, nomenclature: Nomenclature, smallest: int
) -> npt.NDArray[np.int64]:
    """Count the pixels of the largest connected region of each class in each patch.

    A region is made of pixels of one class that share sides, and ends at the border of its patch. Codes of the same
    class make one region.

    Parameters
    ----------
    codes : ndarray of uint16, shape (y, x)
        Reference map of the tile.
    grid : PatchGrid
        Patches of the tile.
    nomenclature : Nomenclature
        Class of each code; pixels without a label belong to no region.
    smallest : int
        Pixels that a region must have to be of interest. Where a class has fewer in a patch, its regions are not
        looked for, and all its pixels are counted instead: the number is then below ``smallest`` either way.

    Returns
    -------
    ndarray of int64, shape (patch, class)
        In name order, and in the order of the nomenclature's classes; 0 where the class does not occur.

    Notes
    -----
    A class counts towards the labels of SeasoNet where its largest region has at least ``max(min_region_px, 1)``
    pixels.
    """
    lookup = nomenclature.class_index()
    blocks = grid.blocks(codes, MAP_RESOLUTION_M)
    width = 1 + len(nomenclature.classes)
    largest = np.zeros((*grid.shape_yx, width), np.int64)
    # Row by row of patches: what is remembered of each pixel would fill gigabytes for a whole tile.
    for row, patches in enumerate(blocks):
        largest[row] = _largest_of_patches(lookup[patches], width, smallest)
    return grid.in_name_order(largest)[:, 1:]


def _largest_of_patches(index: npt.NDArray[np.uint16], width: int, smallest: int) -> npt.NDArray[np.int64]:
    """Of class indices, shape ``(patch, y, x)``, to counts, shape ``(patch, width)``.

    Pixels are taken together as runs along the rows first: a map has many times fewer of them.
    """
    starts = np.ones(index.shape, bool)
    starts[..., 1:] = index[..., 1:] != index[..., :-1]
    first = np.flatnonzero(starts)
    length = np.diff(first, append=index.size)
    # A class of a patch is one number, so that it can be counted.
    place = first // (index.shape[1] * index.shape[2]) * width + index.ravel()[first]
    counts = np.bincount(place, length, len(index) * width).astype(np.int64)
    wanted = counts >= smallest
    wanted[::width] = False
    upper, lower = _touching_runs(index, starts)
    joined = wanted[place[upper]]
    links = coo_array((joined[joined], (upper[joined], lower[joined])), shape=(len(first), len(first)))
    regions, region = connected_components(links, directed=False)
    place_of_region = np.empty(regions, np.int64)
    place_of_region[region] = place
    largest = np.where(wanted, 0, counts)
    np.maximum.at(largest, place_of_region, np.bincount(region, length, regions).astype(np.int64))
    return largest.reshape(len(index), width)


def _touching_runs(
    index: npt.NDArray[np.uint16], starts: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Pairs of runs of one class in adjacent rows of a patch, each pair once: where the later of the two starts."""
    run = (np.cumsum(starts, dtype=np.int32) - 1).reshape(index.shape)
    met = (index[:, 1:] == index[:, :-1]) & (starts[:, 1:] | starts[:, :-1])
    return run[:, :-1][met], run[:, 1:][met]
