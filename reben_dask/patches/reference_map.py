"""The reference map of a tile: land-cover polygons on the pixel grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from rasterio.enums import MergeAlg
from rasterio.features import rasterize
from rasterio.transform import from_origin

from reben_dask.patches.grid import PatchGrid, extent_px_yx
from reben_dask.patches.nomenclature import UNLABELED_CODE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import geopandas
    from affine import Affine

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
    contested : ndarray of bool, shape (y, x)
        Pixels that several polygons cover.
    """

    codes: npt.NDArray[np.uint16]
    contested: npt.NDArray[np.bool_]


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
    """Burn land-cover polygons as :func:`reference_map` does, and find the pixels that several of them cover.

    One pass tells both: pixels add up the numbers of their polygons, which are codes raised so far that the sum of two
    is larger than any one. Only polygons that reach into contested pixels are burnt again, in their order.
    """
    grid, shape = grids[0], extent_px_yx(grids, MAP_RESOLUTION_M)
    transform = from_origin(grid.ulx, grid.uly, MAP_RESOLUTION_M, MAP_RESOLUTION_M)
    in_order = polygons.sort_values("order")
    raised = 1 + int(in_order["code"].max()) if len(in_order) else 1
    # Where a sum outgrows its type, it stays at the largest number of it.
    sums = np.zeros(shape, np.uint16 if 2 * raised <= np.iinfo(np.uint16).max else np.uint32)
    bounds = [np.empty((0, 4))]
    for portion in _portions(in_order, grid.epsg):
        _burn(portion.geometry, raised + portion["code"].astype(int), sums, transform, MergeAlg.add)
        bounds.append(portion.bounds.to_numpy())
    contested, free = sums >= 2 * raised, sums == 0
    sums -= raised
    sums[free] = UNLABELED_CODE
    codes = sums.astype(np.uint16, copy=False)
    if contested.any():
        reaching = _reach_into(contested, np.concatenate(bounds), transform)
        for portion in _portions(in_order[reaching], grid.epsg):
            _burn(portion.geometry, portion["code"].astype(int), codes, transform, MergeAlg.replace)
    return BurntMap(codes, contested)


def _portions(polygons: geopandas.GeoDataFrame, epsg: int) -> Iterator[geopandas.GeoDataFrame]:
    for start in range(0, len(polygons), POLYGONS_AT_ONCE):
        yield polygons.iloc[start : start + POLYGONS_AT_ONCE].to_crs(epsg=epsg)


def _burn(
    shapes: geopandas.GeoSeries, values: pd.Series[int], out: npt.NDArray[Any], transform: Affine, rule: MergeAlg
) -> None:
    pairs = zip(shapes, values, strict=True)
    rasterize(pairs, out=out, transform=transform, all_touched=False, merge_alg=rule)


def _reach_into(
    contested: npt.NDArray[np.bool_], bounds: npt.NDArray[np.float64], transform: Affine
) -> npt.NDArray[np.bool_]:
    """Which polygons, by their bounds, may cover a contested pixel."""
    corners = np.array([transform.c, transform.f, transform.c, transform.f])
    west, south, east, north = ((bounds - corners) / MAP_RESOLUTION_M * (1, -1, 1, -1)).T
    rows, columns = contested.shape
    windows = zip(
        *(np.clip(np.floor(edge), 0, rows).astype(int) for edge in (north, south + 1)),
        *(np.clip(np.floor(edge), 0, columns).astype(int) for edge in (west, east + 1)),
        strict=True,
    )
    return np.array([contested[top:bottom, left:right].any() for top, bottom, left, right in windows])


def contested_column(contested: npt.NDArray[np.bool_], grid: PatchGrid) -> pd.Series[int]:
    """Count the pixels of each patch that several polygons cover, so that their order decides.

    Parameters
    ----------
    contested : ndarray of bool, shape (y, x)
        Pixels that several polygons cover; see :class:`BurntMap`.
    grid : PatchGrid
        Patches of the tile.

    Returns
    -------
    Series of int32
        In name order.
    """
    counts = np.zeros(grid.shape_yx, np.int32)
    for row, blocks in enumerate(grid.blocks(contested, MAP_RESOLUTION_M)):
        counts[row] = np.count_nonzero(blocks, axis=(1, 2))
    return pd.Series(grid.in_name_order(counts), dtype=np.int32, name=CONTESTED)
