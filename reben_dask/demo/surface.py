"""Materials of the demo's ground: mixtures of two endmembers for each land-cover class, by season.

``endmembers.csv`` holds the reflectance of pure surfaces (times 10,000, one column per band), ``surfaces.csv`` the
mixture of each CORINE class. Both are invented after the usual shape of such spectra, not measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from reben_dask.demo.landcover import LandCover, Parcels, Place
from reben_dask.demo.terrain import PIXEL_M, Centres, Field, Mask, Terrain, Tile, random_stream

SEASONS = ("spring", "summer", "winter")

VARIANTS = 256
"""Number of mixtures per class; each field has one of them."""

HALO = 2
"""Pixels drawn around a tile, so that the sensor's blur matches across tile edges."""

_ROAD, _OPEN_SEA, _PERPETUAL_SNOW = 122, 523, 335
_FLAT_FROM, _WATER_FROM = 411, 500
_BRIGHTNESS_SPREAD = {200: 0.14, 300: 0.05, 400: 0.03, 1000: 0.01}
"""Relative spread of brightness among fields of one class, by the exclusive upper limit of its code."""

_SUN_AZIMUTH = np.deg2rad(152)
"""Sun azimuth at 10:30, all year."""

_SCL_VEGETATION, _SCL_BARE, _SCL_WATER, _SCL_SNOW = 4, 5, 6, 11

Shares = npt.NDArray[np.float32]
"""Values of shape ``(class,)`` or ``(class, variant)``; classes in ascending order of their codes."""

_SURFACES = pd.read_csv(Path(__file__).with_name("surfaces.csv"), index_col="code").sort_index()
_ENDMEMBERS = pd.read_csv(Path(__file__).with_name("endmembers.csv"), index_col="name")
CODES = _SURFACES.index.to_numpy()
"""All level-3 codes, ascending."""


def column(name: str) -> Shares:
    """Return a column of ``surfaces.csv``, shape ``(class,)``."""
    values: Shares = _SURFACES[name].to_numpy(np.float32)
    return values


def pure(endmember: str, band: str) -> float:
    """Return the reflectance of an endmember times 10,000."""
    return float(_ENDMEMBERS[band][endmember])


def reflectance_table(band: str, season: str) -> Shares:
    """Compute the reflectance times 10,000 of each variant of each class, shape ``(class, variant)``."""
    rng = random_stream(f"fields in {season}")
    place = rng.permuted(np.tile(np.linspace(-1, 1, VARIANTS), (CODES.size, 1)), axis=1)
    share = np.clip(column("share_b")[:, None] + column("spread")[:, None] * place, 0, 1)
    spread = [next(spread for limit, spread in _BRIGHTNESS_SPREAD.items() if code < limit) for code in CODES]
    brightness = 1 + np.array(spread)[:, None] * rng.uniform(-1, 1, share.shape)
    first, second = (
        _ENDMEMBERS[band][_SURFACES[f"{season}_{part}"]].to_numpy(np.float32)[:, None] for part in ("a", "b")
    )
    table: Shares = ((first + share * (second - first)) * brightness).astype(np.float32)
    return table


def scene_class_table(season: str) -> npt.NDArray[np.uint8]:
    """Classify each variant of each class under a clear sky as SCL does, shape ``(class, variant)``."""
    red, infrared = reflectance_table("B04", season), reflectance_table("B08", season)
    table = np.where((infrared - red) / (infrared + red) > 0.4, _SCL_VEGETATION, _SCL_BARE).astype(np.uint8)
    table[CODES >= _WATER_FROM] = _SCL_WATER
    table[CODES == _PERPETUAL_SNOW] = _SCL_SNOW
    return table


class Surface(NamedTuple):
    """Ground of a tile with :data:`HALO` pixels of 10 m around it; the same in every season."""

    tile: Tile
    at: Centres
    material: npt.NDArray[np.uint16]
    """:data:`VARIANTS` times the class (row of ``surfaces.csv``) plus the variant of the field, shape ``(y, x)``."""
    slope: npt.NDArray[np.float16]
    """Slope towards the sun as fall per distance, shape ``(y, x)``."""


def survey_tile(tile: Tile, cover: LandCover, terrain: Terrain, parcels: Parcels) -> Surface:
    """Derive the ground of a tile from the land-cover map and the terrain."""
    # CORINE maps leave out the sea beyond the coast.
    rows_by_code = np.full(1000, np.searchsorted(CODES, _OPEN_SEA), np.uint8)
    rows_by_code[CODES] = np.arange(CODES.size)
    box = tile.box.grown(HALO * PIXEL_M)
    at, classes = Centres.of(box), rows_by_code[cover.rasterize(box, PIXEL_M)]
    material, slope = np.empty(at.shape, np.uint16), np.empty(at.shape, np.float16)
    for rows, strip in at.strips():
        variants, is_street = _cut_fields(parcels.locate(strip), classes[rows], parcels)
        looks = np.where(is_street, rows_by_code[_ROAD], classes[rows]).astype(np.uint16)
        material[rows] = looks * np.uint16(VARIANTS) + variants
        slope[rows] = _slope(terrain, strip) * (CODES < _FLAT_FROM)[classes[rows]]
    return Surface(tile, at, material, slope)


def _cut_fields(place: Place, classes: npt.NDArray[np.uint8], parcels: Parcels) -> tuple[npt.NDArray[np.uint16], Mask]:
    """Cut parcels into fields (in towns: blocks); returns each pixel's variant, and a mask of the streets."""
    angle = parcels.angle[place.parcel]
    sine, cosine = np.sin(angle), np.cos(angle)
    width, length, street = (column(name)[classes] for name in ("strip_m", "length_m", "street_m"))
    across = (cosine * place.east_m + sine * place.north_m) / width
    strip = np.floor(across)
    # Ends of neighbouring strips are not in line.
    along = (cosine * place.north_m - sine * place.east_m) / length + 0.381966 * strip
    field = np.floor(along)
    on_street = ((across - strip) * width < street) | ((along - field) * length < street)
    variants = (193 * place.parcel + 101 * strip.astype(int) + 47 * field.astype(int)) % VARIANTS
    return variants.astype(np.uint16), on_street


def _slope(terrain: Terrain, at: Centres) -> Field:
    east, north = at
    wide = Centres(np.pad(east, 1, "reflect", reflect_type="odd"), np.pad(north, 1, "reflect", reflect_type="odd"))
    height = terrain.ground(wide).height_m
    to_south, to_east = np.gradient(height, PIXEL_M, axis=0), np.gradient(height, PIXEL_M, axis=1)
    slope: Field = to_south * float(np.cos(_SUN_AZIMUTH)) - to_east * float(np.sin(_SUN_AZIMUTH))
    return slope[1:-1, 1:-1]
