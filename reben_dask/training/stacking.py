"""Images of 120 x 120 px from bands of any resolution: converted, repeated and normalised into one buffer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from reben_dask.formats.bands import MAP_RESOLUTION_M
from reben_dask.formats.lmdb import Stack
from reben_dask.formats.training_run import BandScale
from reben_dask.grid import PATCH_SIDE_M

PATCH_PX = PATCH_SIDE_M // MAP_RESOLUTION_M
"""Side of an image in pixels."""

Float = npt.NDArray[np.float32]
Pixels = npt.NDArray[Any]

_Run = tuple[int, slice, slice]
"""Number of a stack, its images, and the channels to which they are written."""


@dataclass(frozen=True)
class Stacker:
    """Writer of images with fixed channels; the channels to copy are found once for each arrangement of stacks."""

    bands: tuple[str, ...]
    """Bands of the image, in this order."""
    scales: Mapping[str, BandScale] | None = None
    """Mean and standard deviation of each band, to normalise with."""
    _runs: dict[tuple[tuple[str, ...], ...], list[_Run]] = field(default_factory=dict, compare=False, repr=False)

    def write(self, stacks: Sequence[Stack], image: Float) -> None:
        """Write an image, float32, axes ``(band, y, x)``.

        ``LookupError`` with the name of a band that no stack has; ``ValueError`` if a band has no whole fraction of the
        pixels.
        """
        names = tuple(stack.names for stack in stacks)
        runs = self._runs.get(names)
        if runs is None:
            runs = self._runs[names] = self._find_runs(names)
        for number, images, channels in runs:
            _write(stacks[number].pixels[images], image[channels])
        if self._moments is not None:
            # The float32 arithmetic of torchvision's Normalize; once over all channels, as calls cost more than work.
            mean, std = self._moments
            image -= mean
            image /= std

    @cached_property
    def _moments(self) -> tuple[Float, Float] | None:
        """Means and standard deviations, axes ``(band, 1, 1)``."""
        if self.scales is None:
            return None
        scales = [self.scales[name] for name in self.bands]
        mean, std = ([getattr(scale, name) for scale in scales] for name in ("mean", "std"))
        return np.array(mean, np.float32)[:, None, None], np.array(std, np.float32)[:, None, None]

    def _find_runs(self, names: Iterable[tuple[str, ...]]) -> list[_Run]:
        place = {name: (number, at) for number, held in enumerate(names) for at, name in enumerate(held)}
        runs: list[_Run] = []
        for channel, name in enumerate(self.bands):
            if name not in place:
                raise LookupError(name)
            number, at = place[name]
            if runs and runs[-1][0] == number and runs[-1][1].stop == at:
                _, images, channels = runs.pop()
                runs.append((number, slice(images.start, at + 1), slice(channels.start, channel + 1)))
            else:
                runs.append((number, slice(at, at + 1), slice(channel, channel + 1)))
        return runs


def _write(pixels: Pixels, image: Float) -> None:
    """Convert and repeat images of one size."""
    bands, height, width = pixels.shape
    factor, rest = divmod(PATCH_PX, width)
    if rest or height != width:
        raise ValueError(f"a band has {height} x {width} px, which do not divide {PATCH_PX}")
    if factor == 1:
        image[...] = pixels
    else:
        image.reshape(bands, height, factor, PATCH_PX)[...] = _repeat_columns(pixels, factor)[:, :, None]


def _repeat_columns(pixels: Pixels, factor: int) -> Pixels:
    if factor == 2 and pixels.dtype == np.uint16:
        # A pair of equal pixels is one number of twice the size: a third of the time of strided copies.
        pairs = pixels.astype(np.uint32)
        pairs *= np.uint32(0x10001)
        return pairs.view(np.uint16)
    wide = np.empty((*pixels.shape[:2], PATCH_PX), pixels.dtype)
    for column in range(factor):
        wide[:, :, column::factor] = pixels
    return wide
