"""Distributed spatial join of patches with the land-cover map.

Both sides are spatially partitioned frames: patches by tile, the map by its compact parts. A tile is joined with the
partitions it overlaps, and reads only the polygons near it. Unlike :func:`dask_geopandas.sjoin`, the result keeps its
polygons together by tile, the unit of rasterization: a polygon that touches a thousand patches is read once, and none
travels between workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from reben_dask.errors import InputError
from reben_dask.formats.columns import TABLE_CRS
from reben_dask.formats.footprints import split_at_180
from reben_dask.grid import PatchGrid

if TYPE_CHECKING:
    import dask_geopandas

MARGIN_M = 2_000
"""A straight edge of 100 km in the map's projection bends by about 100 m in the tile's."""

_STEP_DEGREES = 0.1
"""Spacing of vertices on the edges of partitions, which bend in the map's projection."""
_NO_DEGREES = 1e-7  # 1 cm
_HALF_CIRCLE = 180.0


def partitions_of_tiles(partitions: gpd.GeoSeries, grids: Sequence[PatchGrid]) -> list[list[int]]:
    """Find the spatial partitions of the map that each tile overlaps, by position, ascending."""
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
    parts = tiles.to_crs(TABLE_CRS).explode().segmentize(_STEP_DEGREES)
    areas = [_boxes(parts[parts.index == number], partitions.crs) for number in tiles.index]
    margin = _STEP_DEGREES if _is_in_degrees(partitions.crs) else MARGIN_M
    return _overlaps(shapely.buffer(np.array(areas, object), margin), partitions)


def _partitions_of(frame: dask_geopandas.GeoDataFrame, name: str) -> gpd.GeoSeries:
    if frame.spatial_partitions is None:
        raise InputError(
            f"The {name} frame has no spatial_partitions, which Dask drops when rows or columns change; set them to "
            "those of the frame that it was made from."
        )
    return frame.spatial_partitions


def _overlaps(areas: npt.NDArray[np.object_], partitions: gpd.GeoSeries) -> list[list[int]]:
    tiles, found = partitions.sindex.query(areas, predicate="intersects")
    return [np.sort(found[tiles == number]).tolist() for number in range(len(areas))]


def search_areas(grids: Sequence[PatchGrid], crs: object) -> npt.NDArray[np.object_]:
    """Box of each tile in the map's system outside which no polygon reaches its patches; shape ``(tile,)``.

    A tile across the 180th meridian has several, as a MultiPolygon, see :func:`search_boxes`.
    """
    epsg = np.array([grid.epsg for grid in grids], int)
    areas: npt.NDArray[np.object_] = np.empty(len(grids), object)
    for zone in np.unique(epsg):
        members = np.flatnonzero(epsg == zone)
        edges = gpd.GeoSeries(_edges(grids[number] for number in members.tolist()), crs=int(zone))
        areas[members] = shapely.box(*edges.to_crs(crs).bounds.to_numpy().T)
        west, _, east, _ = edges.to_crs(TABLE_CRS).bounds.to_numpy().T
        for number in np.flatnonzero(east - west > _HALF_CIRCLE):
            halves = split_at_180(edges.iloc[[number]].to_crs(TABLE_CRS)).explode()
            areas[members[number]] = _boxes(halves, crs)
    return areas


def search_area(grid: PatchGrid, crs: object) -> shapely.Polygon | shapely.MultiPolygon:
    """Search area of one tile; see :func:`search_areas`."""
    return search_areas([grid], crs)[0]


def search_boxes(grid: PatchGrid, crs: object) -> list[tuple[float, float, float, float]]:
    """Bounds of the boxes of a tile's search area: several if it crosses the 180th meridian."""
    return [part.bounds for part in shapely.get_parts(search_area(grid, crs))]


def _boxes(parts: gpd.GeoSeries, crs: object) -> shapely.Polygon | shapely.MultiPolygon:
    """Boxes in the map's system of areas in EPSG:4326 that do not cross the 180th meridian.

    At the meridian itself, a transformation may take either sign. A map in degrees may continue beyond 180°.
    """
    limit = _HALF_CIRCLE - _NO_DEGREES
    clipped = gpd.GeoSeries(shapely.clip_by_rect(parts.to_numpy(), -limit, -90, limit, 90), crs=parts.crs)
    bounds = clipped.to_crs(crs).bounds.to_numpy()
    if _is_in_degrees(crs):
        touches = np.abs(bounds[:, [0, 2]]).max(axis=1) > limit - _STEP_DEGREES
        turned = bounds[touches] - np.sign(bounds[touches, :1]) * np.array([2 * _HALF_CIRCLE, 0, 2 * _HALF_CIRCLE, 0])
        bounds = np.vstack([bounds, turned])
    boxes = shapely.box(*bounds.T)
    return boxes[0] if len(boxes) == 1 else shapely.multipolygons(boxes)


def _is_in_degrees(crs: object) -> bool:
    return bool(pyproj.CRS.from_user_input(crs).is_geographic)


def _edges(grids: Iterable[PatchGrid]) -> npt.NDArray[np.object_]:
    minx, miny, maxx, maxy = np.array([grid.tile_bounds() for grid in grids], float).T
    boxes = shapely.box(minx - MARGIN_M, miny - MARGIN_M, maxx + MARGIN_M, maxy + MARGIN_M)
    edges: npt.NDArray[np.object_] = shapely.segmentize(boxes, 10 * MARGIN_M)
    return edges
