"""Land-cover map and countries of the demo: rasters turned into polygons with shared borders.

Parcels are Voronoi cells with winding borders. ``niches.csv`` describes where each class occurs: for each property of a
place, the value that suits the class best and the deviation (``_tol``) that costs one unit of ``weight``; an empty
value has no influence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely.geometry
from rasterio import features
from rasterio.transform import from_origin
from scipy import ndimage

from reben_dask.demo.terrain import EPSG, Box, Centres, Field, Ground, Layout, Noise, Terrain, ramp, random_stream
from reben_dask.stores.terms import INVENTED

LAYER = "U2018_CLC2018_V2020_20u1"

Codes = npt.NDArray[np.int16]
"""Level-3 codes, 0 for none."""

_MAP_EPSG = 3035
_MAP_PIXEL_M = 20
_MAP_SHIFT_M = (3.3, 7.1)
"""Offset that keeps borders off pixel centres, where the last digit of a coordinate would decide."""

_SMALLEST_HA = 4.0
_JITTER = 0.42
"""Maximum distance of a parcel's seed from its lattice point along an axis, in lattice steps."""

_WIGGLE_M = 60
_TOWN_AREA_M2 = 1.8e7
"""Land area per town."""

_RIVER, _LAKE, _LAGOON, _ESTUARY, _SEA = 511, 512, 521, 522, 523
_BEACH, _SALT_MARSH, _TIDAL_FLAT = 331, 421, 423
_NICHES = pd.read_csv(Path(__file__).with_name("niches.csv"), index_col="code")


class Place(NamedTuple):
    """Parcel (int32) of each pixel, and the pixel's offset in metres from the parcel's seed."""

    parcel: npt.NDArray[np.int32]
    east_m: Field
    north_m: Field


class Parcels:
    """Voronoi cells of jittered lattice points, numbered row by row."""

    def __init__(self, layout: Layout) -> None:
        box = layout.map_box.grown(3 * layout.parcel_m)
        self.lattice = Centres.of(box, layout.parcel_m)
        self._shape = self.lattice.shape
        rng = random_stream("parcels")
        jitter = rng.uniform(-_JITTER, _JITTER, (2, *self._shape)).astype(np.float32)
        # Positions are in lattice steps from the box's upper-left corner.
        self._seed_x = (np.arange(self._shape.x, dtype=np.float32) + 0.5 + jitter[0]).ravel()
        self._seed_y = (np.arange(self._shape.y, dtype=np.float32)[:, None] + 0.5 + jitter[1]).ravel()
        self.angle = rng.uniform(0, np.pi, self._shape).astype(np.float32).ravel()
        self._box, self._step_m = box, layout.parcel_m
        self._wiggle = [Noise(f"wiggle {axis}", box, 420, 55, 0.60) for axis in "xy"]

    def locate(self, at: Centres) -> Place:
        """Find the parcel of each pixel."""
        plain_x = ((at.eastings - self._box.west) / self._step_m).astype(np.float32)[None, :]
        plain_y = ((self._box.north - at.northings) / self._step_m).astype(np.float32)[:, None]
        wiggle_x, wiggle_y = (_WIGGLE_M / self._step_m * wiggle.sample(at) for wiggle in self._wiggle)
        parcel = self._nearest(plain_x + wiggle_x, plain_y + wiggle_y)
        east, north = plain_x - self._seed_x[parcel], self._seed_y[parcel] - plain_y
        return Place(parcel, east * self._step_m, north * self._step_m)

    def _nearest(self, x: Field, y: Field) -> npt.NDArray[np.int32]:
        column = np.clip(x.astype(np.int32), 1, self._shape.x - 2)
        row = np.clip(y.astype(np.int32), 1, self._shape.y - 2)
        home = row * np.int32(self._shape.x) + column
        nearest, least = home.copy(), np.full(x.shape, np.inf, np.float32)
        # Seeds beyond the nine cells around a pixel are farther away.
        for step in [i * self._shape.x + j for i in (-1, 0, 1) for j in (-1, 0, 1)]:
            candidate = home + np.int32(step)
            distance = (x - self._seed_x[candidate]) ** 2 + (y - self._seed_y[candidate]) ** 2
            closer = distance < least
            np.copyto(least, distance, where=closer)
            np.copyto(nearest, candidate, where=closer)
        return nearest


class LandCover(NamedTuple):
    """Polygons in :data:`EPSG` and their level-3 codes, both of shape ``(polygon,)``."""

    polygons: npt.NDArray[np.object_]
    codes: Codes

    def rasterize(self, box: Box, pixel_m: float) -> Codes:
        """Rasterize codes by pixel centre, shape ``(y, x)``."""
        near = np.sort(shapely.STRtree(self.polygons).query(shapely.box(*box)))
        shapes = zip(self.polygons[near], self.codes[near].tolist(), strict=True)
        placed = {"out_shape": Centres.of(box, pixel_m).shape, "transform": _transform(box, pixel_m)}
        raster: Codes = features.rasterize(shapes, fill=0, dtype=np.int16, **placed)
        return raster


def draw_land_cover(terrain: Terrain, parcels: Parcels) -> LandCover:
    """Draw a valid coverage; neighbours of one class are one polygon."""
    west, south, east, north = terrain.layout.map_box
    box = Box(west - _MAP_SHIFT_M[0], south, east, north + _MAP_SHIFT_M[1])
    at, classes = Centres.of(box, _MAP_PIXEL_M), _choose_classes(terrain, parcels.lattice)
    raster, uncovered = np.empty(at.shape, np.int16), np.empty(at.shape, bool)
    for rows, strip in at.strips():
        fixed = _waters_and_shore(terrain, terrain.ground(strip), strip)
        raster[rows] = np.where(fixed == 0, classes[parcels.locate(strip).parcel], fixed)
        uncovered[rows] = terrain.uncovered(strip)
    raster = features.sieve(raster, int(_SMALLEST_HA * 1e4 / _MAP_PIXEL_M**2), connectivity=4)
    raster[uncovered] = 0
    return LandCover(*_polygons(raster, box, _MAP_PIXEL_M))


def _waters_and_shore(terrain: Terrain, ground: Ground, at: Centres) -> Codes:
    """Classes that follow from the terrain; 0 where parcels decide."""
    u, v = terrain.layout.sides(at)
    inland = ground.inland
    mouth = 1 + 2.6 * (1 - ramp(inland, -0.02, 0.13))
    river = (ground.river_m < terrain.river_width_m / 2 * mouth) & (inland > -0.02)
    near_mouth = ground.river_m < 0.13 * terrain.layout.side_m
    choices = {
        _ESTUARY: river & (inland < 0.075),
        _RIVER: river,
        _TIDAL_FLAT: (inland < 0) & (inland > -0.028) & near_mouth,
        _SEA: inland < 0,
        _LAGOON: ground.lagoon > 0,
        _LAKE: ground.lake > 0,
        _SALT_MARSH: (inland < 0.022) & near_mouth,
        _BEACH: (inland < 0.014) & (np.sin(23 * v + 3 * u) > -0.35),
    }
    codes: Codes = np.select(list(choices.values()), [np.int16(code) for code in choices], np.int16(0))
    return codes


def _choose_classes(terrain: Terrain, at: Centres) -> Codes:
    """Choose the best class of each parcel, with a minimum share of the dry parcels in the tiles for each class."""
    ground = terrain.ground(at)
    scores = _suitability(terrain.layout, ground, at)
    west, south, east, north = terrain.layout.region.grown(-400)
    inside = (at.eastings > west) & (at.eastings < east) & ((at.northings > south) & (at.northings < north))[:, None]
    dry = (_waters_and_shore(terrain, ground, at) == 0) & ~terrain.uncovered(at)
    usable = (inside & dry).ravel()
    best, highest = scores.argmax(axis=0), scores.max(axis=0)
    least = max(int(usable.sum()) // 4000, 1)
    counts = np.bincount(best[usable], minlength=len(_NICHES))
    for missing in np.flatnonzero(counts < least):
        # A parcel may change if its own class can spare one.
        wish = np.where(usable & (counts[best] > least + 2), scores[missing] - highest, -np.inf)
        for parcel in np.argsort(-wish, kind="stable")[: least - counts[missing]]:
            counts[[best[parcel], missing]] += (-1, 1)
            best[parcel] = missing
    codes: Codes = _NICHES.index.to_numpy(np.int16)[best]
    return codes


def _suitability(layout: Layout, ground: Ground, at: Centres) -> Field:
    """Score of each class on each parcel, shape ``(class, parcel)``, with random local differences."""
    moisture = Noise("moisture", layout.map_box.grown(3 * layout.parcel_m), min(0.16 * layout.side_m, 2500), 600, 0.6)
    places = {
        "height_m": ground.height_m,
        "inland": ground.inland,
        "river_m": ground.river_m,
        "moisture": moisture.sample(at),
        "settlement": _settlement(ground, at),
    }
    rng, shape = random_stream("classes"), (len(_NICHES), *at.shape)
    neighbourhood = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), (0, 1.2, 1.2))
    scores = 0.55 * rng.standard_normal(shape, np.float32) + 0.9 * neighbourhood / float(neighbourhood.std())
    scores += _NICHES["weight"].to_numpy(np.float32)[:, None, None]
    for name, value in places.items():
        best, tolerance = (_NICHES[column].to_numpy(np.float32) for column in (name, f"{name.removesuffix('_m')}_tol"))
        scores -= np.nan_to_num(((value - best[:, None, None]) / tolerance[:, None, None]) ** 2)
    by_parcel: Field = scores.reshape(len(_NICHES), -1)
    return by_parcel


def _settlement(ground: Ground, at: Centres) -> Field:
    """Compute the building density from 0 to 1: towns on low ground, each with a centre and suburbs."""
    rng = random_stream("towns")
    rows, columns = np.nonzero((ground.height_m < 200) & (ground.inland > 0.02))
    wanted = max(int(np.ptp(at.eastings) * np.ptp(at.northings) / _TOWN_AREA_M2), 6)
    chosen = rng.choice(rows.size, size=min(wanted, rows.size), replace=False)
    result = np.zeros(at.shape, np.float32)
    for pick, radius_m in zip(chosen, np.exp(rng.normal(np.log(480), 0.45, chosen.size)), strict=True):
        east, north = at.eastings - at.eastings[columns[pick]], at.northings - at.northings[rows[pick]]
        squared = (east**2 + north[:, None] ** 2) / radius_m**2
        np.maximum(result, np.exp(-squared).astype(np.float32), out=result)
    return result


def _polygons(raster: Codes, box: Box, pixel_m: float) -> tuple[npt.NDArray[np.object_], Codes]:
    """Turn regions of one non-zero value into polygons with smoothed, shared borders."""
    shapes = features.shapes(raster, mask=raster > 0, connectivity=4, transform=_transform(box, pixel_m))
    polygons, values = zip(*((shapely.geometry.shape(outline), value) for outline, value in shapes), strict=True)
    # The raster's outlines lack a vertex where only the neighbours on the other side part; a coverage needs it.
    return shapely.coverage_simplify(shapely.segmentize(np.array(polygons), pixel_m), 0.9 * pixel_m), np.array(
        values, np.int16
    )


def _transform(box: Box, pixel_m: float) -> Any:
    return from_origin(box.west, box.north, pixel_m, pixel_m)


def write_land_cover(cover: LandCover, path: Path) -> None:
    """Write the map with the official schema, and a description that calls it synthetic."""
    polygons = _reproject(cover.polygons, _MAP_EPSG)
    table = gpd.GeoDataFrame(
        {
            "ID": [f"DEMO-{number}" for number in range(1, polygons.size + 1)],
            "Code_18": cover.codes.astype(str),
            "Area_Ha": shapely.area(polygons) / 1e4,
        },
        geometry=[shapely.MultiPolygon([polygon]) for polygon in polygons],
        crs=_MAP_EPSG,
    )
    table.to_file(path, layer=LAYER, driver="GPKG", engine="pyogrio", DESCRIPTION=INVENTED)


def write_countries(layout: Layout, path: Path) -> None:
    """Divide the region and the land around it among four of BigEarthNet's countries; the borders are invented."""
    box, pixel_m = layout.region.grown(0.6 * layout.side_m), layout.side_m / 200
    at = Centres.of(box, pixel_m)
    u, v = (
        sides + 0.03 * Noise(f"border {axis}", box, 0.3 * layout.side_m, 0.02 * layout.side_m, 0.55).sample(at)
        for axis, sides in zip("uv", layout.sides(at), strict=True)
    )
    names = ("Portugal", "Switzerland", "Austria", "Luxembourg")
    raster = np.select([u < 0.55, u > 1.42, v < 0.66], [np.int16(1), np.int16(2), np.int16(3)], np.int16(4))
    polygons, values = _polygons(features.sieve(raster, 2000), box, pixel_m)
    table = gpd.GeoDataFrame(
        {"name": [names[value - 1] for value in values]}, geometry=_reproject(polygons, 4326), crs=4326
    )
    table.to_file(path, layer="countries", driver="GPKG", engine="pyogrio")


def _reproject(polygons: npt.NDArray[np.object_], epsg: int) -> npt.NDArray[np.object_]:
    """Reproject polygons vertex by vertex from :data:`EPSG`."""
    transformer = pyproj.Transformer.from_crs(EPSG, epsg, always_xy=True)
    moved: npt.NDArray[np.object_] = shapely.transform(polygons, transformer.transform, interleaved=False)
    return moved
