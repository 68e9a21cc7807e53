"""The land-cover map: polygons with the schema of CORINE Land Cover 2018, drawn over the whole region."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from rasterio import features
from rasterio.transform import from_origin

from reben_dask.demo.ground.layout import EPSG, PIXEL_M, strips
from reben_dask.demo.ground.noise import ramp
from reben_dask.demo.ground.parcels import choose_classes, suitability
from reben_dask.stores.terms import INVENTED

if TYPE_CHECKING:
    from pathlib import Path

    from reben_dask.demo.ground.layout import Axis, Layout, Tile
    from reben_dask.demo.ground.parcels import Parcels
    from reben_dask.demo.ground.terrain import Ground, Terrain

MAP_EPSG = 3035
LAYER = "U2018_CLC2018_V2020_20u1"

MAP_PIXEL_M = 20
"""Pixel size of the raster that the polygons are drawn from."""

RIVER, LAKE, LAGOON, ESTUARY, SEA = 511, 512, 521, 522, 523
BEACH, SALT_MARSH, TIDAL_FLAT = 331, 421, 423

_MAP_SHIFT_M = (3.3, 7.1)
"""Keeps borders off the centres of the tiles' pixels, where the last digit of a coordinate would decide."""

_SMALLEST_HA = 4.0
_SIMPLIFY = 0.9
"""Width, in map pixels, of the stairs and wiggles that simplification takes away."""

_TILE_INSET_M = 250

Codes = npt.NDArray[np.int16]


class LandCover(NamedTuple):
    """Polygons in :data:`EPSG` and the level-3 code (int16) of each; both of shape ``(polygon,)``."""

    polygons: npt.NDArray[np.object_]
    codes: Codes


def draw_land_cover(layout: Layout, terrain: Terrain, parcels: Parcels) -> LandCover:
    """Draw the map's polygons.

    Neighbours of one class are one polygon, and neighbouring polygons share their borders vertex by vertex.

    Returns
    -------
    LandCover
        A valid coverage in the tiles' own system.
    """
    raster, west, north = _class_raster(layout, terrain, parcels)
    placed = from_origin(west, north, MAP_PIXEL_M, MAP_PIXEL_M)
    polygons, codes = [], []
    for geometry, code in features.shapes(raster, mask=raster > 0, connectivity=4, transform=placed):
        polygons.append(shapely.Polygon(geometry["coordinates"][0], geometry["coordinates"][1:]))
        codes.append(int(code))
    # The raster's outlines lack a vertex where only the neighbours on the other side part; a coverage needs it.
    stairs = shapely.segmentize(np.array(polygons, object), MAP_PIXEL_M)
    coverage = shapely.coverage_simplify(stairs, _SIMPLIFY * MAP_PIXEL_M)
    return LandCover(coverage, np.array(codes, np.int16))


def _class_raster(layout: Layout, terrain: Terrain, parcels: Parcels) -> tuple[Codes, float, float]:
    pixel = MAP_PIXEL_M
    west, north = layout.map_box.west - _MAP_SHIFT_M[0], layout.map_box.north + _MAP_SHIFT_M[1]
    eastings = np.arange(west + pixel / 2, layout.map_box.east, pixel)
    northings = np.arange(north - pixel / 2, layout.map_box.south, -pixel)
    raster = np.empty((northings.size, eastings.size), np.int16)
    place = np.empty(raster.shape, np.int32)
    inner, total = np.zeros(parcels.count), np.zeros(parcels.count)
    for rows in strips(northings.size):
        where = northings[rows]
        place[rows] = parcels.locate(eastings, where).parcel
        raster[rows] = _fixed_classes(terrain, terrain.ground(eastings, where), eastings, where)
        usable = (raster[rows] == 0) & _inside_tiles(layout, eastings, where) & ~terrain.uncovered(eastings, where)
        total += np.bincount(place[rows].ravel(), minlength=parcels.count)
        inner += np.bincount(place[rows][usable], minlength=parcels.count)
    land_share = (inner / np.maximum(total, 1)).astype(np.float32)
    chosen = choose_classes(suitability(layout, parcels, terrain), land_share)
    for rows in strips(northings.size):
        raster[rows] = np.where(raster[rows] > 0, raster[rows], chosen[place[rows]])
    raster = features.sieve(raster, int(_SMALLEST_HA * 1e4 / pixel**2), connectivity=4)
    for rows in strips(northings.size):
        raster[rows][terrain.uncovered(eastings, northings[rows])] = 0
    return raster, west, north


def _fixed_classes(terrain: Terrain, ground: Ground, eastings: Axis, northings: Axis) -> Codes:
    """Classes that the terrain itself decides (waters and the shore); 0 where parcels decide."""
    u, v = terrain.sides(eastings, northings)
    inland, shape = ground.inland, ground.inland.shape
    half_width = terrain.river_width_m() / 2
    mouth = 1 + 2.6 * (1 - ramp(inland, -0.02, 0.13))
    river = (ground.river_m < half_width * mouth) & (inland > -0.02)
    near_mouth = ground.river_m < 0.13 * terrain.side_m
    choices: list[tuple[npt.NDArray[np.bool_], int]] = [
        (river & (inland < 0.075), ESTUARY),
        (river, RIVER),
        ((inland < 0) & (inland > -0.028) & near_mouth, TIDAL_FLAT),
        (inland < 0, SEA),
        (ground.lagoon > 0, LAGOON),
        (ground.lake > 0, LAKE),
        ((inland < 0.022) & near_mouth, SALT_MARSH),
        ((inland < 0.014) & (np.sin(23 * v + 3 * u) > -0.35), BEACH),
    ]
    codes = np.zeros(shape, np.int16)
    for mask, code in reversed(choices):
        codes[mask] = code
    return codes


def _inside_tiles(layout: Layout, eastings: Axis, northings: Axis) -> npt.NDArray[np.bool_]:
    box = layout.region.grown(-_TILE_INSET_M)
    column = (eastings > box.west) & (eastings < box.east)
    row = (northings > box.south) & (northings < box.north)
    return row[:, None] & column[None, :]


def reproject(polygons: npt.NDArray[np.object_], source: int, target: int) -> npt.NDArray[np.object_]:
    """Move polygons vertex by vertex from one EPSG system to another."""
    transformer = pyproj.Transformer.from_crs(source, target, always_xy=True)
    moved: npt.NDArray[np.object_] = shapely.transform(polygons, transformer.transform, interleaved=False)
    return moved


def map_table(cover: LandCover) -> gpd.GeoDataFrame:
    """Return the map as the official file has it: ``ID``, ``Code_18``, ``Area_Ha``, MultiPolygon in EPSG:3035."""
    polygons = reproject(cover.polygons, EPSG, MAP_EPSG)
    return gpd.GeoDataFrame(
        {
            "ID": [f"DEMO-{number}" for number in range(1, polygons.size + 1)],
            "Code_18": [str(code) for code in cover.codes],
            "Area_Ha": shapely.area(polygons) / 1e4,
        },
        geometry=[shapely.MultiPolygon([polygon]) for polygon in polygons],
        crs=MAP_EPSG,
    )


def write_map(table: gpd.GeoDataFrame, path: Path) -> None:
    """Write the map as a GeoPackage with the official layer name; it says of itself what it is."""
    table.to_file(path, layer=LAYER, driver="GPKG", engine="pyogrio", DESCRIPTION=INVENTED)


def code_grid(cover: LandCover, tile: Tile, halo: int) -> Codes:
    """Rasterise the map on a tile's 10 m grid.

    Parameters
    ----------
    cover : LandCover
        The map.
    tile : Tile
        The tile.
    halo : int
        Pixels to add on every side.

    Returns
    -------
    ndarray of int16, shape (y, x)
        Level-3 codes by pixel centre; 0 where no polygon is.
    """
    side = tile.side_px + 2 * halo
    corner = tile.box.grown(PIXEL_M * halo)
    near = shapely.STRtree(cover.polygons).query(shapely.box(*corner))
    near.sort()
    raster: Codes = features.rasterize(
        zip(cover.polygons[near], cover.codes[near].tolist(), strict=True),
        out_shape=(side, side),
        transform=from_origin(corner.west, corner.north, PIXEL_M, PIXEL_M),
        fill=0,
        dtype=np.int16,
    )
    return raster
