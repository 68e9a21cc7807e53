"""What lies under each pixel of a tile: its material and how its slope faces the sun; the same in every season."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from reben_dask.demo.ground.landcover import code_grid
from reben_dask.demo.ground.layout import PIXEL_M, strips
from reben_dask.demo.ground.spectra import VARIANTS, class_rows, column, takes_shading

if TYPE_CHECKING:
    from reben_dask.demo.ground.landcover import LandCover
    from reben_dask.demo.ground.layout import Axis, Tile
    from reben_dask.demo.ground.noise import Field
    from reben_dask.demo.ground.parcels import Parcels, Place
    from reben_dask.demo.ground.terrain import Terrain

HALO = 2
"""Pixels around a tile that are drawn too, so that the sensor's blur is the same on both sides of a tile's edge."""

_ROAD = 122
_SUN_AZIMUTH = np.deg2rad(152)
"""Half past ten in the morning, all year."""


class Surface(NamedTuple):
    """The ground of a tile with :data:`HALO` pixels of 10 m around it.

    Parameters
    ----------
    tile : Tile
        Whose ground it is.
    eastings, northings : ndarray of float64, shapes (x,) and (y,)
        Pixel centres in metres.
    material : ndarray of uint16, shape (y, x)
        256 times the class (row of :func:`spectra.surfaces`) plus the variant of the field.
    slope : ndarray of float16, shape (y, x)
        Slope towards the sun: metres of fall per metre.
    """

    tile: Tile
    eastings: Axis
    northings: Axis
    material: npt.NDArray[np.uint16]
    slope: npt.NDArray[np.float16]


def survey(tile: Tile, cover: LandCover, terrain: Terrain, parcels: Parcels) -> Surface:
    """Work out the ground of a tile from the land-cover map and the terrain."""
    eastings, northings = tile.eastings(HALO), tile.northings(HALO)
    classes = class_rows()[code_grid(cover, tile, HALO)]
    material = np.empty(classes.shape, np.uint16)
    slope = np.empty(classes.shape, np.float16)
    shaded, road = takes_shading(), class_rows()[_ROAD]
    for rows in strips(northings.size):
        place = parcels.locate(eastings, northings[rows])
        variants, street = _fields(place, classes[rows], parcels)
        looks = np.where(street, road, classes[rows]).astype(np.uint16)
        material[rows] = looks * np.uint16(VARIANTS) + variants
        slope[rows] = _slope(terrain, eastings, northings[rows]) * shaded[classes[rows]]
    return Surface(tile, eastings, northings, material, slope)


def _fields(
    place: Place, classes: npt.NDArray[np.uint8], parcels: Parcels
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_]]:
    """Cut parcels into fields (in towns: blocks), as long and wide as usual for their class.

    Returns the variant of each pixel's field, and where a street runs between blocks.
    """
    angle = parcels.angle[place.parcel]
    sine, cosine = np.sin(angle), np.cos(angle)
    width, length, street = column("strip_m")[classes], column("length_m")[classes], column("street_m")[classes]
    across = (cosine * place.east_m + sine * place.north_m) / width
    strip = np.floor(across)
    # Ends of neighbouring strips are not in line.
    along = (cosine * place.north_m - sine * place.east_m) / length + np.float32(0.381966) * strip
    field = np.floor(along)
    on_street = ((across - strip) * width < street) | ((along - field) * length < street)
    return _mixed(place.parcel.astype(np.int64), strip.astype(np.int64), field.astype(np.int64)), on_street


def _mixed(*keys: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
    """Turn integer keys into a well-mixed number below :data:`VARIANTS`."""
    state = np.zeros(keys[0].shape, np.uint64)
    for key in keys:
        state = (state ^ key.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        state ^= state >> np.uint64(29)
    return (state >> np.uint64(13)).astype(np.uint16) % np.uint16(VARIANTS)


def _slope(terrain: Terrain, eastings: Axis, northings: Axis) -> Field:
    wide = np.concatenate([eastings[:1] - PIXEL_M, eastings, eastings[-1:] + PIXEL_M])
    high = np.concatenate([northings[:1] + PIXEL_M, northings, northings[-1:] - PIXEL_M])
    height = terrain.ground(wide, high).height_m
    to_east = (height[1:-1, 2:] - height[1:-1, :-2]) / (2 * PIXEL_M)
    to_north = (height[:-2, 1:-1] - height[2:, 1:-1]) / (2 * PIXEL_M)
    fall = -(to_east * np.float32(np.sin(_SUN_AZIMUTH)) + to_north * np.float32(np.cos(_SUN_AZIMUTH)))
    return fall.astype(np.float32)
