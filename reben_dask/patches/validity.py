"""NODATA: a patch with a zero DN in any band is not used (reBEN, section II-B)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reben_dask.grid import PatchGrid

NODATA_DN = 0
"""Digital number that means "no data" in every Sentinel-2 L2A band (product specification, special values)."""


def nodata_pixels(dn: npt.NDArray[np.uint16], grid: PatchGrid, resolution: int) -> npt.NDArray[np.int32]:
    """Count the NODATA pixels of each patch in one band.

    Parameters
    ----------
    dn : ndarray of uint16, shape (y, x)
        One band of the tile, from its upper-left corner. Pixels outside complete patches do not count.
    grid : PatchGrid
        Patches of the tile.
    resolution : int
        Pixel size of the band in metres.

    Returns
    -------
    ndarray of int32, shape (patch,)
        In name order.
    """
    counts = np.zeros(grid.shape_yx, np.int32)
    # Row by row of patches: a mask of a whole band is 120 MB, and costs more to allocate than to fill.
    for row, blocks in enumerate(grid.blocks(dn, resolution)):
        counts[row] = np.count_nonzero(blocks == NODATA_DN, axis=(1, 2))
    return grid.in_name_order(counts)
