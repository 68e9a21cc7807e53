"""The reference map of a tile: land-cover polygons on the pixel grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from rasterio.features import rasterize
from rasterio.transform import from_origin

from reben_dask.patches.grid import PatchGrid, extent_px_yx
from reben_dask.patches.nomenclature import UNLABELED_CODE

if TYPE_CHECKING:
    import geopandas

MAP_RESOLUTION_M = 10

POLYGONS_AT_ONCE = 4_000
"""Rasterio takes each vertex as Python objects: 22,000 polygons at once need 700 MB beside the map itself."""


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
    grid = grids[0]
    burnt = np.full(extent_px_yx(grids, MAP_RESOLUTION_M), UNLABELED_CODE, np.uint16)
    transform = from_origin(grid.ulx, grid.uly, MAP_RESOLUTION_M, MAP_RESOLUTION_M)
    in_order = polygons.sort_values("order")
    for start in range(0, len(in_order), POLYGONS_AT_ONCE):
        placed = in_order.iloc[start : start + POLYGONS_AT_ONCE].to_crs(epsg=grid.epsg)
        shapes = zip(placed.geometry, placed["code"].astype(int), strict=True)
        rasterize(shapes, out=burnt, transform=transform, all_touched=False)
    return burnt
