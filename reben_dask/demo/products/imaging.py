"""From ground and sky to digital numbers (DN), band by band."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from reben_dask.demo.ground.layout import PIXEL_M, strips
from reben_dask.demo.ground.noise import Field, Grain, Stream
from reben_dask.demo.ground.spectra import BANDS, SEASONS, VARIANTS, column, pure, reflectance_table
from reben_dask.demo.ground.surface import HALO
from reben_dask.demo.products.scene import beyond_swath

if TYPE_CHECKING:
    from reben_dask.demo.ground.surface import Surface
    from reben_dask.demo.products.scene import Sky

NODATA, LARGEST_DN = 0, 65534

_SUN_CONTRAST = {"spring": 0.7, "summer": 0.6, "winter": 0.75}
"""Tangent of the sun's zenith angle, softened in winter by what the atmospheric correction takes out."""

_SENSOR_NOISE_DN = 1.0
_BLUR = 0.24
"""Share of its light that a pixel gets from each neighbour along an axis."""

_SNOW_GRAIN = 0.004
_CLOUD_DN = {"B01": 6900, "B02": 7000, "B03": 6900, "B04": 6950, "B05": 7050, "B06": 7150, "B07": 7200, "B08": 7250,
             "B8A": 7300, "B09": 4600, "B11": 5200, "B12": 4100}  # fmt: skip
_SHADE_OF_CLOUD = 0.62
_SKYLIGHT, _SKYLIGHT_BEYOND = {"B01": 0.45, "B02": 0.40, "B03": 0.30, "B04": 0.22}, 0.1
"""Share of the light that the sky sends into a cloud's shadow; little beyond the visible bands."""


@dataclass(frozen=True)
class Camera:
    """Turns ground and sky into the bands of one product.

    Parameters
    ----------
    surface, sky : Surface, Sky
        The ground and the day.
    season : str
        Season of the spectra.
    offset : int
        DN added to the scaled reflectance: 1000 from baseline 04.00 on, else 0.
    wedge : bool
        Is a part of the tile beyond the swath?
    texture, sensor : Grain
        Unevenness of the ground, and noise of the sensor; see :func:`new_grains`.
    """

    surface: Surface
    sky: Sky
    season: str
    offset: int
    wedge: bool
    texture: Grain
    sensor: Grain

    def band(self, band: str) -> npt.NDArray[np.uint16]:
        """Take one band at its native resolution.

        Parameters
        ----------
        band : str
            One of :data:`spectra.BANDS`.

        Returns
        -------
        ndarray of uint16, shape (y, x)
            DN; 0 is NODATA, valid pixels are 1 or more.
        """
        resolution = BANDS[band]
        factor, side = resolution // PIXEL_M, self.surface.tile.side_px
        image = np.empty((side // factor, side // factor), np.uint16)
        table = reflectance_table(band, self.season).ravel()
        for rows in strips(side):
            reflectance = _block_mean(self._strip(band, table, rows), factor)
            target = slice(rows.start // factor, rows.stop // factor)
            image[target] = np.clip(np.rint(reflectance) + self.offset, 1, LARGEST_DN).astype(np.uint16)
            if self.wedge:
                image[target][beyond_swath(self.surface.tile, resolution, target)] = NODATA
        return image

    def _strip(self, band: str, table: npt.NDArray[np.float32], rows: slice) -> Field:
        """Reflectance times 10,000 of some rows at 10 m, as the sensor sees it."""
        with_halo = slice(rows.start, rows.stop + 2 * HALO)
        eastings, northings = self.surface.eastings, self.surface.northings[with_halo]
        material = self.surface.material[with_halo]
        light = 1 + np.float32(_SUN_CONTRAST[self.season]) * self.surface.slope[with_halo].astype(np.float32)
        light = np.clip(light, 0.4, 1.5)
        grain = self.texture.sample(eastings, northings)
        values = table[material] * light * (1 + column("texture")[material // VARIANTS] * grain)
        self._add_sky(values, band, with_halo, light, grain)
        number = list(BANDS).index(band) + len(BANDS) * SEASONS.index(self.season)
        noise = self.sensor.sample(eastings[HALO:-HALO], northings[HALO:-HALO], (37 * number, 101 * number))
        return _blurred(values) + np.float32(_SENSOR_NOISE_DN) * noise

    def _add_sky(self, values: Field, band: str, rows: slice, light: Field, grain: Field) -> None:
        """Lay snow, shadows and clouds over the ground, in place."""
        sky, uneven = self.sky, 1 + np.float32(_SNOW_GRAIN) * grain
        if sky.snow is not None:
            snow = np.float32(pure("snow", band)) * (0.25 + 0.75 * light) * uneven
            values += sky.snow[rows] * (snow - values)
        if sky.cloud is not None and sky.shadow is not None:
            dark = np.float32(_SHADE_OF_CLOUD * (1 - _SKYLIGHT.get(band, _SKYLIGHT_BEYOND)))
            values *= 1 - dark * sky.shadow[rows].astype(np.float32)
            opacity = sky.cloud[rows].astype(np.float32)
            values += opacity * (np.float32(_CLOUD_DN[band]) * (0.62 + 0.38 * opacity) * uneven - values)


def _blurred(values: Field) -> Field:
    """Smear each pixel over its neighbours, as a lens does, and cut the halo off."""
    inner = slice(HALO - 1, -(HALO - 1))
    values = values[inner, inner]
    side, middle = np.float32(_BLUR), np.float32(1 - 2 * _BLUR)
    rows = values[:-2] * side + values[1:-1] * middle + values[2:] * side
    blurred: Field = rows[:, :-2] * side + rows[:, 1:-1] * middle + rows[:, 2:] * side
    return blurred


def _block_mean(values: Field, factor: int) -> Field:
    if factor == 1:
        return values
    height, width = values.shape
    blocks = values.reshape(height // factor, factor, width // factor, factor)
    mean: Field = blocks.mean(axis=(1, 3), dtype=np.float32)
    return mean


def new_grains() -> tuple[Grain, Grain]:
    """Return the texture of the ground and the noise of the sensor."""
    return Grain(Stream.GRAIN, blur_px=2.2), Grain(Stream.SENSOR)
