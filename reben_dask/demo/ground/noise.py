"""Smooth and grainy random fields that depend on the place alone, so that overlapping tiles agree."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from reben_dask.demo.ground.layout import PIXEL_M, SEED

if TYPE_CHECKING:
    from reben_dask.demo.ground.layout import Axis, Box

Field = npt.NDArray[np.float32]

_LATTICE_STD = 0.479
"""Standard deviation of a cubic B-spline surface over unit white noise, averaged over a cell."""


class Stream(IntEnum):
    """Second word of a random stream: one number for each thing that is random."""

    LAYOUT_X = 1
    LAYOUT_Y = 2
    SHORE = 3
    RELIEF = 4
    BORDERS_X = 5
    BORDERS_Y = 6
    MOISTURE = 7
    PARCELS = 8
    TOWNS = 9
    CLASSES = 10
    FIELDS = 11
    GRAIN = 12
    SENSOR = 13
    SNOW = 14
    CLOUDS = 15
    CUMULUS = 16
    SPECKLE = 17
    COUNTRIES = 18
    CORNER = 19


def random_stream(stream: Stream, *more: int) -> np.random.Generator:
    """Return the generator of one stream."""
    return np.random.default_rng([SEED, int(stream), *more])


class SmoothNoise:
    """Gaussian noise with zero mean, unit variance and one scale: a cubic B-spline over a random lattice.

    Parameters
    ----------
    rng : Generator
        Where the lattice comes from.
    box : Box
        The rectangle in which it can be sampled; beyond it the outermost cell goes on.
    cell_m : float
        Spacing of the lattice in metres.
    """

    def __init__(self, rng: np.random.Generator, box: Box, cell_m: float) -> None:
        self.west, self.north, self.cell_m = box.west, box.north, cell_m
        columns = int((box.east - box.west) / cell_m) + 5
        rows = int((box.north - box.south) / cell_m) + 5
        self.lattice = rng.standard_normal((rows, columns), dtype=np.float32) / np.float32(_LATTICE_STD)

    def sample(self, eastings: Axis, northings: Axis) -> Field:
        """Sample on the grid of these columns and rows.

        Parameters
        ----------
        eastings, northings : ndarray of float64, shapes (x,) and (y,)
            In metres.

        Returns
        -------
        ndarray of float32, shape (y, x)
        """
        rows, row_weights = self._taps((self.north - northings) / self.cell_m, self.lattice.shape[0])
        columns, column_weights = self._taps((eastings - self.west) / self.cell_m, self.lattice.shape[1])
        first, last = int(rows.min()), int(rows.max()) + 4
        lattice = self.lattice[first:last]
        along_x = np.zeros((last - first, eastings.size), np.float32)
        for tap in range(4):
            along_x += lattice[:, columns + tap] * column_weights[tap]
        result = np.zeros((northings.size, eastings.size), np.float32)
        for tap in range(4):
            result += along_x[rows - first + tap] * row_weights[tap][:, None]
        return result

    @staticmethod
    def _taps(position: Axis, size: int) -> tuple[npt.NDArray[np.intp], Field]:
        position = np.clip(position, 0, size - 4 - 1e-6)
        first = position.astype(np.intp)
        t = position - first
        weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
        return first, weights.astype(np.float32)


class Fractal:
    """A sum of :class:`SmoothNoise` whose amplitude falls with its scale; zero mean, unit variance.

    Parameters
    ----------
    stream : Stream
        Which random numbers.
    box : Box
        The rectangle in which it can be sampled.
    coarsest_m, finest_m : float
        Largest scale, and the limit below which no smaller one is added; each is half of the one before.
    roughness : float
        Amplitude of a scale relative to the one before (0.5: soft hills, 0.8: rugged).
    ridged : bool
        Fold each scale at its zero, which gives sharp crests and round valleys.
    """

    def __init__(
        self,
        stream: Stream,
        box: Box,
        coarsest_m: float,
        finest_m: float,
        roughness: float = 0.5,
        *,
        ridged: bool = False,
    ) -> None:
        count = max(int(np.log2(coarsest_m / finest_m)) + 1, 1)
        self.ridged = ridged
        self.octaves = [
            SmoothNoise(random_stream(stream, octave), box, coarsest_m / 2**octave) for octave in range(count)
        ]
        amplitudes = roughness ** np.arange(count)
        self.amplitudes = (amplitudes / np.sqrt((amplitudes**2).sum())).astype(np.float32)

    def sample(self, eastings: Axis, northings: Axis) -> Field:
        """Sample on the grid of these columns and rows; see :meth:`SmoothNoise.sample`."""
        total = np.zeros((northings.size, eastings.size), np.float32)
        for amplitude, octave in zip(self.amplitudes, self.octaves, strict=True):
            values = octave.sample(eastings, northings)
            if self.ridged:
                values = (np.float32(0.8) - np.abs(values)) / np.float32(0.6)
            total += amplitude * values
        return total


class Grain:
    """Noise at the scale of pixels: one square of random values, repeated over the world.

    Parameters
    ----------
    stream : Stream
        Which random numbers.
    blur_px : float
        Standard deviation of the Gaussian that correlates neighbours; 0 gives white noise.
    side_px : int
        Side of the square. Its repetition cannot be seen at the amplitudes used here.
    """

    def __init__(self, stream: Stream, blur_px: float = 0.0, side_px: int = 1024) -> None:
        values = random_stream(stream).standard_normal((side_px, side_px), dtype=np.float32)
        if blur_px:
            values = ndimage.gaussian_filter(values, blur_px, mode="wrap")
        self.values: Field = (values / values.std()).astype(np.float32)

    def sample(self, eastings: Axis, northings: Axis, shift: tuple[int, int] = (0, 0)) -> Field:
        """Return the noise of these 10 m pixels, displaced by ``shift`` (rows, columns) to tell bands apart."""
        side = self.values.shape[0]
        rows = (np.floor(northings / PIXEL_M).astype(np.int64) + shift[0]) % side
        columns = (np.floor(eastings / PIXEL_M).astype(np.int64) + shift[1]) % side
        return self.values[np.ix_(rows, columns)]


def ramp(values: Field, start: float, end: float) -> Field:
    """Rise smoothly from 0 at ``start`` to 1 at ``end``."""
    t = np.clip((values - np.float32(start)) / np.float32(end - start), 0, 1)
    risen: Field = (t * t * (3 - 2 * t)).astype(np.float32)
    return risen
