"""The day of an acquisition: snow, clouds and their shadows, and the edge of the swath."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from reben_dask.demo.ground.layout import strips
from reben_dask.demo.ground.noise import Field, Fractal, Stream, ramp
from reben_dask.demo.ground.spectra import VARIANTS, column, scene_class_table
from reben_dask.demo.ground.surface import HALO

if TYPE_CHECKING:
    from reben_dask.demo.ground.layout import Axis, Layout, Tile
    from reben_dask.demo.ground.surface import Surface
    from reben_dask.demo.ground.terrain import Terrain

SHADOW_SCL, MEDIUM_CLOUD_SCL, HIGH_CLOUD_SCL, CIRRUS_SCL, SNOW_SCL = 3, 8, 9, 10, 11

SNOW_LINE_M, SNOW_ZONE_M = 340.0, 220.0
"""Height where snow begins to lie, and how much higher it covers everything."""

CLOUD_BANK_UV, CLOUD_BANK_RADIUS = (1.40, 0.63), 0.27
"""Where the large cloud is, in sides (see :mod:`terrain`): inside the eastern tile, away from the overlap."""

SHADOW_EAST_M, SHADOW_NORTH_M = -460, 760
"""From a cloud to its shadow: the sun stands in the south-east, so the shadow falls to the north-west."""

WEDGE_SIDES = (0.27, 0.62)
"""Width at the lower edge and height at the right edge, in sides, of what the swath does not reach."""

_SNOWY_FROM, _SHADOWY_FROM = 0.07, 0.3
_SNOW_LINE_SPREAD_M = 70.0
_CLOUD_SCL = ((0.10, CIRRUS_SCL), (0.40, MEDIUM_CLOUD_SCL), (0.75, HIGH_CLOUD_SCL))

HalfField = npt.NDArray[np.float16]


class Sky(NamedTuple):
    """What lies on the ground and above it: arrays of shape ``(y, x)`` with halo, None where there is nothing.

    Parameters
    ----------
    snow : ndarray of float16 or None
        Share of a pixel that snow covers.
    cloud : ndarray of float16 or None
        Opacity of the clouds.
    shadow : ndarray of float16 or None
        Opacity of the cloud that stands between a pixel and the sun.
    """

    snow: HalfField | None = None
    cloud: HalfField | None = None
    shadow: HalfField | None = None


class Weather:
    """Snow and clouds over the region.

    Parameters
    ----------
    layout : Layout
        The region.
    terrain : Terrain
        Its heights decide where snow lies.
    """

    def __init__(self, layout: Layout, terrain: Terrain) -> None:
        box, side = layout.map_box.grown(0.1 * layout.side_m), layout.side_m
        self.terrain = terrain
        self.patchy = Fractal(Stream.SNOW, box, 0.05 * side, 120, 0.55)
        self.billows = Fractal(Stream.CLOUDS, box, 0.16 * side, 35, 0.66)
        self.cumulus = Fractal(Stream.CUMULUS, box, min(0.06 * side, 1500), 40, 0.62)

    def over(self, surface: Surface, *, snowy: bool, cloudy: bool) -> Sky:
        """Return what one day brings to the ground of a tile."""
        eastings, northings = surface.eastings, surface.northings
        shape = surface.material.shape
        sky = Sky(*(np.empty(shape, np.float16) if there else None for there in (snowy, cloudy, cloudy)))
        for rows in strips(northings.size):
            if sky.snow is not None:
                cover = column("snow_cover")[surface.material[rows] // VARIANTS]
                sky.snow[rows] = self.snow_depth(eastings, northings[rows]) * cover
            if sky.cloud is not None and sky.shadow is not None:
                sky.cloud[rows] = self.cloud_opacity(eastings, northings[rows])
                sky.shadow[rows] = self.cloud_opacity(eastings - SHADOW_EAST_M, northings[rows] - SHADOW_NORTH_M)
        return sky

    def snow_depth(self, eastings: Axis, northings: Axis) -> Field:
        """Snow on open ground from 0 (none) to 1 (everything is white), shape ``(y, x)``."""
        height = self.terrain.ground(eastings, northings).height_m
        height = height + np.float32(_SNOW_LINE_SPREAD_M) * self.patchy.sample(eastings, northings)
        return ramp(height, SNOW_LINE_M, SNOW_LINE_M + SNOW_ZONE_M)

    def cloud_opacity(self, eastings: Axis, northings: Axis) -> Field:
        """Opacity from 0 to 1 of one large cloud and the small ones around it, shape ``(y, x)``."""
        u, v = self.terrain.sides(eastings, northings)
        away = np.hypot((u - CLOUD_BANK_UV[0]) / CLOUD_BANK_RADIUS, (v - CLOUD_BANK_UV[1]) / (0.8 * CLOUD_BANK_RADIUS))
        billows = self.billows.sample(eastings, northings)
        bank = ramp(1.9 * (1 - away**2) + np.float32(0.75) * billows, 0.0, 1.1)
        # The small ones thin out towards the western tile, which this cloud field does not reach.
        field = ramp(u + np.zeros_like(v), 1.07, 1.16) * ramp(np.float32(2.2) - away, 0.0, 0.6)
        small = ramp(self.cumulus.sample(eastings, northings) + 0.25 * billows, 1.25, 1.9) * field
        return np.maximum(bank, small)


def beyond_swath(tile: Tile, resolution: int, rows: slice = slice(None)) -> npt.NDArray[np.bool_]:
    """Say which pixels of a tile lie beyond a slanting edge of the swath, in the lower right corner.

    Parameters
    ----------
    tile : Tile
        The tile.
    resolution : int
        Pixel size in metres.
    rows : slice
        Rows to work out.

    Returns
    -------
    ndarray of bool, shape (y, x)
    """
    count = tile.side_m // resolution
    from_right = 1 - (np.arange(count) + 0.5) / count
    from_below = from_right[rows]
    return from_right[None, :] / WEDGE_SIDES[0] + from_below[:, None] / WEDGE_SIDES[1] < 1


def classify_scene(surface: Surface, sky: Sky, season: str, *, wedge: bool) -> npt.NDArray[np.uint8]:
    """Classify a scene as the SCL band does.

    Parameters
    ----------
    surface, sky : Surface, Sky
        The ground and the day.
    season : str
        Season of the spectra.
    wedge : bool
        Is a part of the tile beyond the swath?

    Returns
    -------
    ndarray of uint8, shape (y, x)
        SCL values on the tile's 20 m grid.
    """
    material = surface.material[HALO:-HALO:2, HALO:-HALO:2]
    scl = scene_class_table(season)[material // VARIANTS, material % VARIANTS]
    if sky.snow is not None:
        scl[_at_20_m(sky.snow) >= _SNOWY_FROM] = SNOW_SCL
    if sky.cloud is not None and sky.shadow is not None:
        scl[_at_20_m(sky.shadow) >= _SHADOWY_FROM] = SHADOW_SCL
        opacity = _at_20_m(sky.cloud)
        for least, value in _CLOUD_SCL:
            scl[opacity >= least] = value
    if wedge:
        scl[beyond_swath(surface.tile, 20)] = 0
    return scl


def _at_20_m(values: HalfField) -> HalfField:
    inner = values[HALO:-HALO, HALO:-HALO]
    mean: HalfField = (inner[::2, ::2] + inner[1::2, ::2] + inner[::2, 1::2] + inner[1::2, 1::2]) / np.float16(4)
    return mean
