"""Invented borders: four countries of BigEarthNet's list that divide the demo region among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import shapely

from reben_dask.demo.ground.landcover import reproject
from reben_dask.demo.ground.layout import EPSG
from reben_dask.demo.ground.noise import Fractal, Stream

if TYPE_CHECKING:
    from pathlib import Path

    from reben_dask.demo.ground.layout import Axis, Box, Layout

PLACES_UV = {"Portugal": (0.2, 0.5), "Austria": (0.95, 0.2), "Luxembourg": (0.95, 0.9), "Switzerland": (1.8, 0.4)}
"""A point inside each country, in sides from the region's upper-left corner. The borders are not the real ones."""

_WEST_BORDER_U, _EAST_BORDER_U, _MIDDLE_BORDER_V = 0.55, 1.42, 0.66
_WINDING = 0.045
_POINTS = 240
_LOOSE_END_M = 50


def country_table(layout: Layout) -> gpd.GeoDataFrame:
    """Divide the region and the land around it.

    Returns
    -------
    GeoDataFrame
        Column ``name`` and polygons in EPSG:4326 that share their borders.
    """
    parts = _divide(layout)
    polygons, names = [], []
    for name, (u, v) in PLACES_UV.items():
        point = shapely.Point(layout.region.west + u * layout.side_m, layout.region.north - v * layout.side_m)
        polygons.append(next(part for part in parts if part.contains(point)))
        names.append(name)
    return gpd.GeoDataFrame({"name": names}, geometry=reproject(np.array(polygons, object), EPSG, 4326), crs=4326)


def write_countries(table: gpd.GeoDataFrame, path: Path) -> None:
    """Write the countries as a GeoPackage."""
    table.to_file(path, layer="countries", driver="GPKG", engine="pyogrio")


def _divide(layout: Layout) -> list[shapely.Polygon]:
    box = layout.region.grown(0.6 * layout.side_m)
    west = _border(layout, box, _WEST_BORDER_U, seed=0)
    east = _border(layout, box, _EAST_BORDER_U, seed=1)
    middle = _border(layout, box, _MIDDLE_BORDER_V, seed=2, along_x=True)
    outside = shapely.box(*box)
    # Only the land between the two long borders is divided once more. The loose ends beyond them fall away.
    between = shapely.Polygon([*west, *east[::-1]]).buffer(_LOOSE_END_M)
    lines = [outside.exterior, shapely.LineString(west), shapely.LineString(east)]
    lines.append(shapely.intersection(shapely.LineString(middle), between))
    parts = shapely.get_parts(shapely.polygonize([shapely.union_all(lines)]))
    return list(parts)


def _border(layout: Layout, box: Box, place: float, *, seed: int, along_x: bool = False) -> Axis:
    """Wind a line through the box at ``place`` sides from its region's corner; shape (point, 2), in metres."""
    side, region = layout.side_m, layout.region
    eastings, northings = np.linspace(box.west, box.east, _POINTS), np.linspace(box.north, box.south, _POINTS)
    winding = Fractal(Stream.COUNTRIES, box, 0.3 * side, 0.02 * side, 0.55)
    if along_x:
        drift = winding.sample(eastings, np.array([region.north - 0.1 * seed * side]))[0]
        return np.column_stack([eastings, region.north - (place + _WINDING * drift) * side])
    drift = winding.sample(np.array([region.west + (0.3 + 0.7 * seed) * side]), northings)[:, 0]
    return np.column_stack([region.west + (place + _WINDING * drift) * side, northings])
