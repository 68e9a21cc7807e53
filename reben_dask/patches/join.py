"""Distributed spatial join of patches with the land-cover map.

Both sides are spatially partitioned frames: the patches by tile, the map by the compact areas of its parts. A tile is
joined with the partitions of the map that it overlaps, and reads only the polygons near it. Unlike
:func:`dask_geopandas.sjoin`, the result keeps its polygons together by tile, the unit of rasterization: a polygon that
touches a thousand patches is read once, and none travels between workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import dask_geopandas
import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely

from reben_dask.errors import InputError
from reben_dask.grid import PatchGrid

MARGIN_M = 2_000
"""An edge that is straight in the map's projection is slightly bent in the tile's: 100 km of it by some 100 m."""


def partitions_of_tiles(landcover: dask_geopandas.GeoDataFrame, grids: Sequence[PatchGrid]) -> list[list[int]]:
    """Find the partitions of the map that each tile overlaps.

    Parameters
    ----------
    landcover : dask_geopandas.GeoDataFrame
        The map, with ``spatial_partitions`` known.
    grids : sequence of PatchGrid
        Tiles.

    Returns
    -------
    list of list of int
        Positions of partitions of ``landcover``, ascending; nothing is computed.

    Raises
    ------
    InputError
        If the partitions of the map are not spatial: then every tile would be joined with all of it.
    """
    partitions = landcover.spatial_partitions
    if partitions is None:
        raise InputError("The land-cover frame has no spatial partitions; sort it first (sort_landcover).")
    areas = search_areas(grids, partitions.crs)
    tiles, found = partitions.sindex.query(areas)
    return [np.sort(found[tiles == number]).tolist() for number in range(len(grids))]


def search_areas(grids: Sequence[PatchGrid], crs: object) -> npt.NDArray[np.object_]:
    """Box of each tile in the map's system outside which no polygon can reach its patches; shape ``(tile,)``."""
    epsg = np.array([grid.epsg for grid in grids], int)
    bounds = np.empty((len(grids), 4))
    for zone in np.unique(epsg):
        members = np.flatnonzero(epsg == zone)
        edges = gpd.GeoSeries(_edges(grids[number] for number in members.tolist()), crs=int(zone))
        bounds[members] = edges.to_crs(crs).bounds
    areas: npt.NDArray[np.object_] = shapely.box(*bounds.T)
    return areas


def search_area(grid: PatchGrid, crs: object) -> shapely.Polygon:
    """Search area of one tile; see :func:`search_areas`."""
    return search_areas([grid], crs)[0]


def _edges(grids: Iterable[PatchGrid]) -> npt.NDArray[np.object_]:
    """Outlines of tiles, with a margin, and with vertices along their edges."""
    minx, miny, maxx, maxy = np.array([grid.tile_bounds() for grid in grids], float).T
    boxes = shapely.box(minx - MARGIN_M, miny - MARGIN_M, maxx + MARGIN_M, maxy + MARGIN_M)
    edges: npt.NDArray[np.object_] = shapely.segmentize(boxes, 10 * MARGIN_M)
    return edges
