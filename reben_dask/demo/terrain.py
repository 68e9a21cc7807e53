"""Ground of the demo: two tiles, random fields, and the terrain.

From a sea in the west over plains and hills to a range in the north and high mountains in the north-east. The layout is
in *sides* (fractions of a tile's side, ``u`` eastwards and ``v`` southwards from the region's upper-left corner), so
that the small and the full-size region are the same landscape.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage
from scipy.interpolate import RectBivariateSpline

from reben_dask.grid import PatchGrid, ShapeYX

Field = npt.NDArray[np.float32]
"""Values at pixel centres, shape ``(y, x)``."""

Mask = npt.NDArray[np.bool_]

EPSG = 32633
"""Coordinate system of both tiles: WGS 84 / UTM zone 33N."""

PIXEL_M = 10

_SEED = 6
_SMALL_SIDE_M, _FULL_SIDE_M = 10_200, 109_800
_COAST_U = 0.24
_LAKE_UV, _LAKE_RADII = (1.18, 0.82), (0.13, 0.055)
_LAGOON_UV, _LAGOON_RADII = (0.315, 0.25), (0.028, 0.075)


class Box(NamedTuple):
    """Rectangle in metres of :data:`EPSG`."""

    west: float
    south: float
    east: float
    north: float

    def grown(self, margin: float) -> Box:
        """Add ``margin`` metres on every side."""
        return Box(self.west - margin, self.south - margin, self.east + margin, self.north + margin)


class Centres(NamedTuple):
    """Eastings of the columns and northings of the rows (from north to south) of a raster, in metres."""

    eastings: npt.NDArray[np.float64]
    northings: npt.NDArray[np.float64]

    @classmethod
    def of(cls, box: Box, pixel_m: float = PIXEL_M) -> Centres:
        """Compute the pixel centres of a raster from the box's upper-left corner."""
        half = pixel_m / 2
        return cls(np.arange(box.west + half, box.east, pixel_m), np.arange(box.north - half, box.south, -pixel_m))

    @property
    def shape(self) -> ShapeYX:
        """Rows and columns."""
        return ShapeYX(self.northings.size, self.eastings.size)

    def strips(self, height: int = 300) -> Iterator[tuple[slice, Centres]]:
        """Cut into strips of rows to bound the memory; 300 rows of 10 m are whole pixels of 60 m."""
        for start in range(0, self.shape.y, height):
            rows = slice(start, min(start + height, self.shape.y))
            yield rows, Centres(self.eastings, self.northings[rows])


class Tile(NamedTuple):
    """Sentinel-2 tile: MGRS name without its ``T``, and its patch grid."""

    mgrs: str
    grid: PatchGrid

    @property
    def box(self) -> Box:
        """Bounds of the whole tile."""
        return Box(*self.grid.tile_bounds())


class Layout(NamedTuple):
    """Position of the tiles, and detail of the land-cover map around them."""

    side_m: int
    ulx: dict[str, int]
    """Left edge of each tile by its MGRS name, from west to east."""
    block_px: dict[int, int]
    """Side of the JPEG 2000 blocks by resolution in metres."""
    map_margin_m: float
    """Margin of the land-cover map around the tiles."""
    parcel_m: float

    @property
    def tiles(self) -> list[Tile]:
        """Both tiles, from west to east."""
        shape = ShapeYX(self.side_m, self.side_m)
        return [Tile(mgrs, PatchGrid(EPSG, ulx, 5_400_000, shape)) for mgrs, ulx in self.ulx.items()]

    @property
    def region(self) -> Box:
        """Rectangle around both tiles."""
        west, east = self.tiles
        return Box(*west.box[:2], *east.box[2:])

    @property
    def map_box(self) -> Box:
        """Rectangle of the land-cover map."""
        return self.region.grown(self.map_margin_m)

    def sides(self, at: Centres) -> tuple[Field, Field]:
        """Return ``u`` and ``v`` as arrays that broadcast to ``(y, x)``."""
        u, v = at.eastings - self.region.west, self.region.north - at.northings
        return (u / self.side_m).astype(np.float32)[None, :], (v / self.side_m).astype(np.float32)[:, None]


SMALL = Layout(_SMALL_SIDE_M, {"33UVP": 490_680, "33UWP": 499_980}, {10: 512, 20: 512, 60: 512}, 900, 350)
"""Tiles of 8.5 patches, so that a left-over strip exists; 900 m of overlap."""

FULL = Layout(_FULL_SIDE_M, {"33UVP": 399_960, "33UWP": 499_980}, {10: 1024, 20: 640, 60: 192}, 1500, 256)
"""Tiles at the corners of the real tiling grid; 9,780 m of overlap."""


def random_stream(name: str) -> np.random.Generator:
    """Return a generator with a seed derived from ``name``."""
    return np.random.default_rng([_SEED, *name.encode()])


class Noise:
    """Fractal noise with zero mean and unit variance that depends only on the place, so that tiles agree.

    ``roughness`` is the amplitude of a scale relative to that of twice its size (0.5: soft hills, 0.8: rugged).
    """

    def __init__(self, name: str, box: Box, coarsest_m: float, finest_m: float, roughness: float = 0.5) -> None:
        at = Centres.of(box.grown(2 * finest_m), finest_m)
        white = random_stream(name).standard_normal(at.shape, np.float32)
        frequency = np.hypot(fft.fftfreq(at.shape.y)[:, None], fft.rfftfreq(at.shape.x)) / finest_m
        # The amplitude of a scale is its spectral density times its frequency.
        density = np.maximum(frequency, 1 / (2.5 * coarsest_m)) ** (np.log2(roughness) - 1)
        values = fft.irfft2(fft.rfft2(white) * density, at.shape)
        self._surface = RectBivariateSpline(-at.northings, at.eastings, (values - values.mean()) / values.std())

    def sample(self, at: Centres) -> Field:
        """Sample at pixel centres."""
        values: Field = self._surface(-at.northings, at.eastings).astype(np.float32)
        return values


class Grain:
    """Pixel-scale noise, correlated over ``blur_px``: one square of values, repeated over the world."""

    def __init__(self, name: str, blur_px: float = 0.0, side_px: int = 1024) -> None:
        values = random_stream(name).standard_normal((side_px, side_px), np.float32)
        values = ndimage.gaussian_filter(values, blur_px, mode="wrap")
        self._values = values / values.std()

    def sample(self, at: Centres, shift_yx: tuple[int, int] = (0, 0)) -> Field:
        """Sample at the centres of 10 m pixels; ``shift_yx`` selects other noise."""
        rows, columns = (
            (axis // PIXEL_M + shift).astype(int) % len(self._values)
            for axis, shift in zip((at.northings, at.eastings), shift_yx, strict=True)
        )
        values: Field = self._values[np.ix_(rows, columns)]
        return values


def ramp(values: Field, start: float, end: float) -> Field:
    """Rise smoothly from 0 at ``start`` to 1 at ``end``."""
    t = np.clip((values - start) / (end - start), 0, 1)
    risen: Field = t * t * (3 - 2 * t)
    return risen


class Ground(NamedTuple):
    """Land at pixel centres."""

    inland: Field
    """Distance from the coast in sides; negative at sea."""
    river_m: Field
    lake: Field
    """Positive inside the lake."""
    lagoon: Field
    """Positive inside the lagoon."""
    height_m: Field


class Terrain:
    """Coast, river, lakes and heights of a region."""

    def __init__(self, layout: Layout) -> None:
        box, side = layout.map_box.grown(0.1 * layout.side_m), layout.side_m
        self.layout = layout
        # The river is wider in the larger region, but not in proportion.
        self.river_width_m = 150 * (side / _SMALL_SIDE_M) ** 0.3
        self._bend = [Noise(f"bend {axis}", box, 0.3 * side, 0.03 * side, 0.45) for axis in "uv"]
        self._shore = Noise("shore", box, 0.1 * side, 60, 0.6)
        self._relief = Noise("relief", box, min(0.25 * side, 3000), 100)
        self._corner_edge = Noise("corner", box, 0.06 * side, 80, 0.6)

    def ground(self, at: Centres) -> Ground:
        """Describe the land at pixel centres."""
        u, v = (side + 0.045 * bend.sample(at) for side, bend in zip(self.layout.sides(at), self._bend, strict=True))
        shore = self._shore.sample(at)
        inland = u - _COAST_U - 0.05 * np.sin(7 * v + 0.6) + 0.006 * shore
        river_course = 0.60 + 0.07 * np.sin(5.2 * u + 0.4) + 0.018 * np.sin(19 * u)
        river_m = np.abs(v - river_course) * (0.85 * self.layout.side_m)
        lake = _ellipse(u, v, _LAKE_UV, _LAKE_RADII) + 0.07 * shore
        lagoon = _ellipse(u, v, _LAGOON_UV, _LAGOON_RADII) + 0.1 * shore
        return Ground(inland, river_m, lake, lagoon, self._height(u, v, inland, river_m, self._relief.sample(at)))

    def _height(self, u: Field, v: Field, inland: Field, river_m: Field, relief: Field) -> Field:
        north = np.exp(-((v / 0.33) ** 2)) * ramp(u, 0.38, 0.78)
        massif = np.exp(-(((u - 1.62) / 0.36) ** 2) - ((v - 0.16) / 0.34) ** 2)
        hills = np.exp(-(((u - 1.55) / 0.35) ** 2) - ((v - 0.98) / 0.24) ** 2)
        mountain = north + massif + 0.22 * hills
        valley = 1 - 0.9 * np.exp(-((river_m / (0.07 * self.layout.side_m)) ** 2))
        # Folded noise has sharp crests and round valleys.
        crests = (0.8 - np.abs(relief)) / 0.6
        height = 8 + 60 * inland + (1100 * mountain + 330 * (0.035 + mountain) * crests) * valley
        positive: Field = np.maximum(height * ramp(inland, 0, 0.12), 0)
        return positive

    def uncovered(self, at: Centres) -> Mask:
        """Mask the south-western corner, with a ragged edge, that the land-cover map leaves out."""
        u, v = self.layout.sides(at)
        edge = 0.012 * self._corner_edge.sample(at)
        missing: Mask = np.maximum(u, 1 - v) + edge < 0.215
        return missing


def _ellipse(u: Field, v: Field, centre_uv: tuple[float, float], radii_uv: tuple[float, float]) -> Field:
    inside: Field = 1 - np.hypot((u - centre_uv[0]) / radii_uv[0], (v - centre_uv[1]) / radii_uv[1])
    return inside
