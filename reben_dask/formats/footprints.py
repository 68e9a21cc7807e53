"""Footprints of patches in EPSG:4326, split at the 180th meridian as RFC 7946 and GeoParquet have them."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely

_HALF, _FULL = 180.0, 360.0


def split_at_180(squares: gpd.GeoSeries) -> gpd.GeoSeries:
    """Split polygons in EPSG:4326 that cross the 180th meridian into one part on each side of it."""
    polygons = squares.to_numpy().copy()
    west, _, east, _ = shapely.bounds(polygons).T
    for number in np.flatnonzero(east - west > _HALF):
        polygons[number] = _split(polygons[number])
    return gpd.GeoSeries(polygons, index=squares.index, crs=squares.crs)


def footprint_bounds(footprints: npt.NDArray[np.object_]) -> npt.NDArray[np.float64]:
    """Bounds ``(xmin, ymin, xmax, ymax)`` in degrees, shape ``(patch, 4)``; xmin > xmax across the 180th meridian."""
    bounds: npt.NDArray[np.float64] = shapely.bounds(footprints)
    for number in np.flatnonzero(bounds[:, 2] - bounds[:, 0] > _HALF):
        parts = shapely.bounds(shapely.get_parts(footprints[number]))
        is_west = parts[:, 0] > 0
        bounds[number, [0, 2]] = parts[is_west, 0].min(), parts[~is_west, 2].max()
    return bounds


def united_bounds(bounds: npt.NDArray[np.float64]) -> list[float]:
    """Bounds of all patches of a tile, from those of :func:`footprint_bounds`."""
    west, east = bounds[:, 0], bounds[:, 2]
    if len(bounds) and ((west > east).any() or east.max() - west.min() > _HALF):
        west, east = west % _FULL, east % _FULL
    farthest = float(east.max())
    farthest -= _FULL * (farthest > _HALF)
    return [float(west.min()), float(bounds[:, 1].min()), farthest, float(bounds[:, 3].max())]


def square_corners(footprint: shapely.MultiPolygon) -> npt.NDArray[np.float64]:
    """Longitude, here also beyond 180°, and latitude of the corners of a split square in order, shape ``(4, 2)``."""
    ring: npt.NDArray[np.float64] = shapely.get_coordinates(shapely.convex_hull(_unwrapped(footprint)))[:-1]
    while len(ring) > 4:  # the meridian adds a vertex to each side that it cuts
        before, after = np.roll(ring, 1, axis=0) - ring, np.roll(ring, -1, axis=0) - ring
        ring = np.delete(ring, np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]).argmin(), axis=0)
    return ring


def _unwrapped(polygon: shapely.Geometry) -> shapely.Geometry:
    """Polygon with western longitudes, which are negative, beyond 180°."""
    return shapely.transform(polygon, lambda lonlat: np.column_stack([lonlat[:, 0] % _FULL, lonlat[:, 1]]))


def _split(polygon: shapely.Polygon) -> shapely.Polygon | shapely.MultiPolygon:
    whole = _unwrapped(polygon)
    sides = [shapely.clip_by_rect(whole, start, -90, start + _HALF, 90) for start in (0, _HALF)]
    sides[1] = shapely.transform(sides[1], lambda lonlat: lonlat - [_FULL, 0])
    parts = [side for side in sides if side.area > 0]
    # A square that only touches the meridian keeps its shape.
    found = shapely.MultiPolygon(parts) if len(parts) > 1 else parts[0]
    return shapely.orient_polygons(found)
