"""Distributed spatial join of patches with the land-cover map.

Both sides are spatially partitioned frames: patches by tile, the map by its compact parts. A tile is joined with the
partitions it overlaps, and reads only the polygons near it. Unlike :func:`dask_geopandas.sjoin`, the result keeps its
polygons together by tile, the unit of rasterization: a polygon that touches a thousand patches is read once, and none
travels between workers.
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
"""A straight edge of 100 km in the map's projection bends by about 100 m in the tile's."""

_STEP_DEGREES = 0.1
"""Spacing of vertices on the edges of partitions, which bend in the map's projection."""


def partitions_of_tiles(landcover: dask_geopandas.GeoDataFrame, grids: Sequence[PatchGrid]) -> list[list[int]]:
    """Find the partitions of the map that each tile overlaps, by position, ascending; nothing is computed.

    Raises :class:`InputError` if the map has no spatial partitions: every tile would be joined with all of it.
    """
    partitions = _partitions_of(landcover, "land-cover")
    return _overlaps(search_areas(grids, partitions.crs), partitions)


def join_partitions(patches: dask_geopandas.GeoDataFrame, landcover: dask_geopandas.GeoDataFrame) -> list[list[int]]:
    """Find the partitions of the map that each partition of patches overlaps; nothing is computed.

    Returns
    -------
    list of list of int
        Positions in ``landcover``, ascending, for each partition of ``patches``.

    Raises
    ------
    InputError
        If a frame has no spatial partitions: every tile would be joined with all of the map.
    """
    partitions, tiles = _partitions_of(landcover, "land-cover"), _partitions_of(patches, "patch")
    areas = tiles.segmentize(_STEP_DEGREES).to_crs(partitions.crs).envelope.buffer(MARGIN_M)
    return _overlaps(areas.to_numpy(), partitions)


def _partitions_of(frame: dask_geopandas.GeoDataFrame, name: str) -> gpd.GeoSeries:
    if frame.spatial_partitions is None:
        raise InputError(
            f"The {name} frame has no spatial_partitions, which Dask drops when rows or columns change; set them to "
            "those of the frame that it was made from."
        )
    return frame.spatial_partitions


def _overlaps(areas: npt.NDArray[np.object_], partitions: gpd.GeoSeries) -> list[list[int]]:
    tiles, found = partitions.sindex.query(areas)
    return [np.sort(found[tiles == number]).tolist() for number in range(len(areas))]


def search_areas(grids: Sequence[PatchGrid], crs: object) -> npt.NDArray[np.object_]:
    """Box of each tile in the map's system outside which no polygon reaches its patches; shape ``(tile,)``."""
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
    minx, miny, maxx, maxy = np.array([grid.tile_bounds() for grid in grids], float).T
    boxes = shapely.box(minx - MARGIN_M, miny - MARGIN_M, maxx + MARGIN_M, maxy + MARGIN_M)
    edges: npt.NDArray[np.object_] = shapely.segmentize(boxes, 10 * MARGIN_M)
    return edges
