"""The reference map of a tile: land-cover polygons on the pixel grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from rasterio.enums import MergeAlg
from rasterio.features import rasterize
from rasterio.transform import from_origin

from reben_dask.patches.grid import PatchGrid, extent_px_yx
from reben_dask.patches.nomenclature import UNLABELED_CODE

if TYPE_CHECKING:
    import geopandas

MAP_RESOLUTION_M = 10

CONTESTED = "contested_px"
"""Column with the pixels of each patch that several polygons cover; the patch table does not keep it."""

POLYGONS_AT_ONCE = 4_000
"""Rasterio takes each vertex as Python objects: 22,000 polygons at once need 700 MB beside the map itself."""


class BurntMap(NamedTuple):
    """A reference map, and where it depends on the order of the polygons.

    Parameters
    ----------
    codes : ndarray of uint16, shape (y, x)
        Codes; see :func:`reference_map`.
    covers : ndarray of uint8, shape (y, x)
        How many polygons cover each pixel; more than 255 start again from 0.
    """

    codes: npt.NDArray[np.uint16]
    covers: npt.NDArray[np.uint8]


def reference_map(polygons: geopandas.GeoDataFrame, *grids: PatchGrid) -> npt.NDArray[np.uint16]:
    """Burn land-cover polygons into the 10 m pixels of a tile.

    A pixel takes the code of the polygon that covers its centre. Polygons are transformed vertex by vertex to the
    tile's system, without new vertices on their edges. Where polygons overlap, the one that comes later in the map
    (the larger ``order``) wins, whatever order the rows have here.

    Parameters
    ----------
    polygons : GeoDataFrame
        Columns ``code`` (int), ``order`` (int, position in the source map) and the geometry, in any system.
        Polygons outside the tile are harmless.
    *grids : PatchGrid
        Patches of the tile, in one grid or several.

    Returns
    -------
    ndarray of uint16, shape (y, x)
        Codes from the tile's upper-left corner to the end of the last complete patch; 999 where no polygon covers the
        pixel.
    """
    return burn_map(polygons, *grids).codes


def burn_map(polygons: geopandas.GeoDataFrame, *grids: PatchGrid) -> BurntMap:
    """Burn land-cover polygons as :func:`reference_map` does, and count how many of them cover each pixel."""
    grid = grids[0]
    codes = np.full(extent_px_yx(grids, MAP_RESOLUTION_M), UNLABELED_CODE, np.uint16)
    covers = np.zeros(codes.shape, np.uint8)
    transform = from_origin(grid.ulx, grid.uly, MAP_RESOLUTION_M, MAP_RESOLUTION_M)
    in_order = polygons.sort_values("order")
    for start in range(0, len(in_order), POLYGONS_AT_ONCE):
        placed = in_order.iloc[start : start + POLYGONS_AT_ONCE].to_crs(epsg=grid.epsg)
        shapes = zip(placed.geometry, placed["code"].astype(int), strict=True)
        rasterize(shapes, out=codes, transform=transform, all_touched=False)
        ones = ((shape, 1) for shape in placed.geometry)
        rasterize(ones, out=covers, transform=transform, all_touched=False, merge_alg=MergeAlg.add)
    return BurntMap(codes, covers)


def contested_column(covers: npt.NDArray[np.uint8], grid: PatchGrid) -> pd.Series[int]:
    """Count the pixels of each patch that several polygons cover, so that their order decides.

    Parameters
    ----------
    covers : ndarray of uint8, shape (y, x)
        Polygons that cover each pixel; see :class:`BurntMap`.
    grid : PatchGrid
        Patches of the tile.

    Returns
    -------
    Series of int32
        In name order.
    """
    counts = np.zeros(grid.shape_yx, np.int32)
    for row, blocks in enumerate(grid.blocks(covers, MAP_RESOLUTION_M)):
        counts[row] = np.count_nonzero(blocks > 1, axis=(1, 2))
    return pd.Series(grid.in_name_order(counts), dtype=np.int32, name=CONTESTED)
