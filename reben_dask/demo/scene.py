"""Scenes of the demo: snow, clouds and shadows over the ground, and the rendered Sentinel-2 images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from reben_dask.demo.surface import (
    HALO,
    SEASONS,
    VARIANTS,
    Surface,
    column,
    pure,
    reflectance_table,
    scene_class_table,
)
from reben_dask.demo.terrain import PIXEL_M, Centres, Field, Grain, Mask, Noise, Terrain, Tile, ramp
from reben_dask.formats.bands import PUBLISHED_BANDS

if TYPE_CHECKING:
    from reben_dask.demo.products import Acquisition

WEDGE_SIDES = (0.27, 0.62)
"""Width at the lower edge and height at the right edge, in sides, of the part of a tile beyond the swath."""

_NODATA, _LARGEST_DN = 0, 65534
_SHADOW_SCL, _MEDIUM_CLOUD_SCL, _HIGH_CLOUD_SCL, _CIRRUS_SCL, _SNOW_SCL = 3, 8, 9, 10, 11
_CLOUD_SCL = {_CIRRUS_SCL: 0.10, _MEDIUM_CLOUD_SCL: 0.40, _HIGH_CLOUD_SCL: 0.75}
"""Minimum opacity of each cloud class of the SCL."""

_SNOWY_FROM, _SHADOWY_FROM = 0.07, 0.3
_SNOW_LINE_M, _SNOW_ZONE_M, _SNOW_LINE_SPREAD_M = 340.0, 220.0, 70.0
"""Start of the snow line, height above it of full cover, and local spread of both."""

_CLOUD_BANK_UV, _CLOUD_BANK_RADIUS = (1.40, 0.63), 0.27
"""Position and radius of the large cloud, in sides: inside the eastern tile, away from the overlap."""

_SHADOW_EAST_M, _SHADOW_NORTH_M = -460, 760
"""Offset from a cloud to its shadow in the north-west: the sun is in the south-east."""

_DEAD_PIXEL_BAND = "B11"
_DEAD_PIXELS_YX = ((137, 161), (292, 309), (390, 390))
"""Rows and columns at 20 m of single nodata pixels, in the patches (column, row) 2, 2 and 5, 4 and 6, 6."""

_SUN_CONTRAST = {"spring": 0.7, "summer": 0.6, "winter": 0.75}
"""Tangent of the sun's zenith angle, reduced in winter as by atmospheric correction."""

_BLUR = (0.24, 0.52, 0.24)
"""Point spread of the sensor along an axis."""

_SENSOR_NOISE_DN, _SNOW_GRAIN = 1.0, 0.004
_SHADE_OF_CLOUD = 0.62
_SKYLIGHT, _SKYLIGHT_BEYOND = {"B01": 0.45, "B02": 0.40, "B03": 0.30, "B04": 0.22}, 0.1
"""Share of skylight in a cloud's shadow, by band, and beyond the visible bands."""

HalfField = npt.NDArray[np.float16]


class Weather:
    """Snow and clouds over a region."""

    def __init__(self, terrain: Terrain) -> None:
        layout, side = terrain.layout, terrain.layout.side_m
        box = layout.map_box.grown(0.1 * side)
        self._terrain = terrain
        self._snow_line = Noise("snow", box, 0.05 * side, 120, 0.55)
        self._billows = Noise("clouds", box, 0.16 * side, 60, 0.66)
        self._cumulus = Noise("cumulus", box, min(0.06 * side, 1500), 60, 0.62)
        self._grains = (Grain("texture", blur_px=2.2), Grain("sensor"))

    def observe(self, surface: Surface, acquisition: Acquisition) -> Scene:
        """Lay snow and clouds of an acquisition over the ground of its tile."""
        shape = surface.at.shape
        snow = np.empty(shape, np.float16) if acquisition.snowy else None
        cloud, shadow = (np.empty(shape, np.float16) if acquisition.cloudy else None for _ in range(2))
        for rows, strip in surface.at.strips():
            if snow is not None:
                snow[rows] = self._snow_cover(strip) * column("snow_cover")[surface.material[rows] // VARIANTS]
            if cloud is not None and shadow is not None:
                cloud[rows] = self._cloud_opacity(strip)
                towards_sun = Centres(strip.eastings - _SHADOW_EAST_M, strip.northings - _SHADOW_NORTH_M)
                shadow[rows] = self._cloud_opacity(towards_sun)
        return Scene(surface, acquisition, snow, cloud, shadow, *self._grains)

    def _snow_cover(self, at: Centres) -> Field:
        """Snow fraction of open ground, shape ``(y, x)``."""
        height = self._terrain.ground(at).height_m + _SNOW_LINE_SPREAD_M * self._snow_line.sample(at)
        return ramp(height, _SNOW_LINE_M, _SNOW_LINE_M + _SNOW_ZONE_M)

    def _cloud_opacity(self, at: Centres) -> Field:
        """Opacity from 0 to 1 of one large cloud and small ones around it, shape ``(y, x)``."""
        u, v = self._terrain.layout.sides(at)
        reach = (_CLOUD_BANK_RADIUS, 0.8 * _CLOUD_BANK_RADIUS)
        away = np.hypot((u - _CLOUD_BANK_UV[0]) / reach[0], (v - _CLOUD_BANK_UV[1]) / reach[1])
        billows = self._billows.sample(at)
        bank = ramp(1.9 * (1 - away**2) + 0.75 * billows, 0.0, 1.1)
        # The small ones thin out before the western tile, which has a clear sky.
        small = (
            ramp(self._cumulus.sample(at) + 0.25 * billows, 1.25, 1.9) * ramp(u, 1.07, 1.16) * ramp(2.2 - away, 0, 0.6)
        )
        opacity: Field = np.maximum(bank, small)
        return opacity


@dataclass(frozen=True)
class Scene:
    """Ground of a tile under the weather of an acquisition; arrays of shape ``(y, x)`` with halo."""

    surface: Surface
    acquisition: Acquisition
    snow: HalfField | None
    """Snow fraction of a pixel."""
    cloud: HalfField | None
    shadow: HalfField | None
    """Opacity of the cloud between a pixel and the sun."""
    texture: Grain
    """Unevenness of the ground."""
    sensor: Grain

    def render_band(self, band: str) -> npt.NDArray[np.uint16]:
        """Render one band at its native resolution as DN, shape ``(y, x)``; 0 is nodata."""
        acquisition, tile = self.acquisition, self.surface.tile
        resolution = PUBLISHED_BANDS[band].resolution_m
        factor = resolution // PIXEL_M
        image = np.empty(Centres.of(tile.box, resolution).shape, np.uint16)
        table = reflectance_table(band, acquisition.season).ravel()
        number = list(PUBLISHED_BANDS).index(band) + len(PUBLISHED_BANDS) * SEASONS.index(acquisition.season)
        for rows, strip in Centres.of(tile.box).strips():
            values = self._reflectance(band, table, slice(rows.start, rows.stop + 2 * HALO))
            for axis in (0, 1):
                values = ndimage.convolve1d(values, _BLUR, axis)
            noise = self.sensor.sample(strip, (37 * number, 101 * number))
            values = values[HALO:-HALO, HALO:-HALO] + _SENSOR_NOISE_DN * noise
            means = values.reshape(len(values) // factor, factor, -1, factor).mean(axis=(1, 3))
            dn = np.clip(np.rint(means) + acquisition.offset, 1, _LARGEST_DN)
            image[rows.start // factor : rows.stop // factor] = dn
        if acquisition.wedge:
            image[_beyond_swath(tile, resolution)] = _NODATA
        if acquisition.dead_pixels and band == _DEAD_PIXEL_BAND:
            within = [yx for yx in _DEAD_PIXELS_YX if max(yx) < min(image.shape)]
            image[tuple(zip(*within, strict=True))] = _NODATA
        return image

    def _reflectance(self, band: str, table: npt.NDArray[np.float32], rows: slice) -> Field:
        """Reflectance times 10,000 of ``rows`` at 10 m."""
        material = self.surface.material[rows]
        light = 1 + _SUN_CONTRAST[self.acquisition.season] * self.surface.slope[rows].astype(np.float32)
        light = np.clip(light, 0.4, 1.5)
        grain = self.texture.sample(Centres(self.surface.at.eastings, self.surface.at.northings[rows]))
        values: Field = table[material] * light * (1 + column("texture")[material // VARIANTS] * grain)
        uneven = 1 + _SNOW_GRAIN * grain
        if self.snow is not None:
            values += self.snow[rows] * (pure("snow", band) * (0.25 + 0.75 * light) * uneven - values)
        if self.cloud is not None and self.shadow is not None:
            dark = _SHADE_OF_CLOUD * (1 - _SKYLIGHT.get(band, _SKYLIGHT_BEYOND))
            values *= 1 - dark * self.shadow[rows].astype(np.float32)
            opacity = self.cloud[rows].astype(np.float32)
            values += opacity * (pure("cloud", band) * (0.62 + 0.38 * opacity) * uneven - values)
        return values

    def classify(self) -> npt.NDArray[np.uint8]:
        """Classify the scene as in the SCL band, shape ``(y, x)`` at 20 m."""
        material = self.surface.material[HALO:-HALO:2, HALO:-HALO:2]
        scl = scene_class_table(self.acquisition.season)[material // VARIANTS, material % VARIANTS]
        if self.snow is not None:
            scl[_at_20_m(self.snow) >= _SNOWY_FROM] = _SNOW_SCL
        if self.cloud is not None and self.shadow is not None:
            scl[_at_20_m(self.shadow) >= _SHADOWY_FROM] = _SHADOW_SCL
            opacity = _at_20_m(self.cloud)
            for value, least in _CLOUD_SCL.items():
                scl[opacity >= least] = value
        if self.acquisition.wedge:
            scl[_beyond_swath(self.surface.tile, 20)] = _NODATA
        return scl


def _beyond_swath(tile: Tile, resolution: int) -> Mask:
    """Mask of the pixels beyond a slanting swath edge, in the lower right corner of a tile."""
    at = Centres.of(tile.box, resolution)
    from_right, from_below = tile.box.east - at.eastings, at.northings - tile.box.south
    beyond: Mask = from_right / WEDGE_SIDES[0] + from_below[:, None] / WEDGE_SIDES[1] < tile.grid.tile_m.x
    return beyond


def _at_20_m(values: HalfField) -> HalfField:
    inner = values[HALO:-HALO, HALO:-HALO]
    mean: HalfField = (inner[::2, ::2] + inner[1::2, ::2] + inner[::2, 1::2] + inner[1::2, 1::2]) / np.float16(4)
    return mean
