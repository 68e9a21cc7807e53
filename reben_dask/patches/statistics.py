"""Mergeable sums of the pixels of patches, and the statistics that follow from them.

Sums of the same patches are bit-identical for any order and division: histograms are integers, and float64 sums of
single patches are added as fractions, without rounding.

A full tile of twelve bands has 6e8 pixels. Counting them costs 2.8 ns each in blocks of :data:`BLOCK_PX`, 4 ns patch by
patch; patches are therefore collected in a buffer first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from math import inf, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from reben_dask.formats.bands import BANDS, REFERENCE_MAP, S1_BANDS, Band, lacks_backscatter
from reben_dask.formats.columns import SPLITS
from reben_dask.formats.statistics import (
    ALL,
    BINS,
    PERCENTILES,
    BandStatistics,
    ClassStatistics,
    Statistics,
    bin_values,
    bins_of,
    has_exact_bins,
)
from reben_dask.nomenclature import Nomenclature

BLOCK_PX = 2**18
"""Pixels that are counted together."""

NO_SPLIT = ""
"""Split of patches in none."""

IMAGES = BANDS | S1_BANDS | {REFERENCE_MAP.name: REFERENCE_MAP}
"""Images that are counted; statistics of classes follow from the reference map."""

Images = Mapping[str, npt.NDArray[Any]]


class BandSums:
    """Sums of the values of one image, without nodata; ``scratch``, int64, may be shared with others."""

    def __init__(self, band: Band, scratch: npt.NDArray[np.int64] | None = None) -> None:
        self.band, self.is_exact = band, has_exact_bins(band)
        self.total, self.squares = Fraction(0), Fraction(0)
        """Sum of the values and of their squares; 0 for a band whose bins are exact."""
        self.low, self.high = inf, -inf
        """Smallest and largest value; unknown for a band whose bins are exact."""
        self._pixels = np.zeros(BINS, np.int64)
        self._buffer, self._waiting = np.empty(BLOCK_PX, np.uint16), 0
        # New memory for each block would cost a sixth of the time.
        self._scratch = np.empty(BLOCK_PX, np.int64) if scratch is None else scratch

    def add(self, values: npt.NDArray[Any]) -> None:
        """Add the values of a patch, of any shape; nodata among them only where bins are exact."""
        if self.is_exact:
            self._collect(values.reshape(-1))
        elif values.size:
            flat = values.reshape(-1)
            exact = flat.astype(np.float64)
            self.total += Fraction(float(exact.sum()))
            self.squares += Fraction(float(np.square(exact, out=exact).sum()))
            self.low, self.high = min(self.low, float(flat.min())), max(self.high, float(flat.max()))
            self._collect(bins_of(flat))

    def merge(self, other: BandSums) -> None:
        """Add the sums of further patches."""
        self._pixels += other.pixels()
        self.total += other.total
        self.squares += other.squares
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    def add_pixels(self, bins: npt.NDArray[np.uint16], pixels: npt.NDArray[np.int64]) -> None:
        """Add numbers of pixels to different bins."""
        self._pixels[bins] += pixels

    def pixels(self) -> npt.NDArray[np.int64]:
        """Pixels of each bin, shape ``(65536,)``; 0 for nodata."""
        if self._waiting:
            block = self._scratch[: self._waiting]
            block[:] = self._buffer[: self._waiting]
            self._pixels += np.bincount(block, minlength=BINS)
            self._waiting = 0
        if self.is_exact and self.band.nodata is not None:
            self._pixels[int(self.band.nodata)] = 0
        return self._pixels

    def statistics(self) -> BandStatistics:
        """Derive the statistics."""
        values, pixels = bin_values(self.band), self.pixels()
        bins = np.flatnonzero(pixels)
        if not bins.size:
            return BandStatistics(count=0)
        found, until = values[bins].tolist(), np.cumsum(pixels[bins])
        count, low, high = int(until[-1]), self.low, self.high
        total, squares = self.total, self.squares
        if self.is_exact:
            low, high, times = found[0], found[-1], pixels[bins].tolist()
            total = Fraction(sum(value * many for value, many in zip(found, times, strict=True)))
            squares = Fraction(sum(value * value * many for value, many in zip(found, times, strict=True)))
        variance = Fraction(count * squares - total * total, count * count)
        # The value with as many pixels up to it as the rank, which is counted from 1.
        ranks = {key: -(-count * percent // 100) for key, percent in PERCENTILES.items()}
        percentiles = {key: found[int(np.searchsorted(until, rank))] for key, rank in ranks.items()}
        return BandStatistics(
            count=count,
            mean=float(Fraction(total, count)),
            std=sqrt(max(variance, Fraction(0))),
            min=low,
            max=high,
            **{key: min(max(value, low), high) for key, value in percentiles.items()},
        )

    def _collect(self, bins: npt.NDArray[np.uint16]) -> None:
        for start in range(0, bins.size, BLOCK_PX):
            block = bins[start : start + BLOCK_PX]
            if self._waiting + block.size > BLOCK_PX:
                self.pixels()
            self._buffer[self._waiting : self._waiting + block.size] = block
            self._waiting += block.size


class Sums:
    """Sums of clear patches by image and split, and the patches of each label."""

    def __init__(self) -> None:
        self.bands: dict[tuple[str, str], BandSums] = {}
        """Sums by name of the image and split, which may be :data:`NO_SPLIT`."""
        self.patches: Counter[str] = Counter()
        """Patches by label."""
        self._scratch = np.empty(BLOCK_PX, np.int64)

    def add(self, split: str | None, images: Images, labels: Iterable[str] = ()) -> None:
        """Add a clear patch.

        Parameters
        ----------
        split : str, optional
            Its split.
        images : mapping of str to ndarray
            Its images, shape ``(y, x)``, by band or polarisation; the reference map is under ``reference_map``.
        labels : iterable of str
            Its labels.
        """
        self.patches.update(labels)
        radar = [name for name in images if name in S1_BANDS]
        gaps = lacks_backscatter(np.stack([images[name] for name in radar])) if radar else np.zeros(0, bool)
        has_gaps = gaps.any()
        for name, values in images.items():
            sums = self.of(name, split or NO_SPLIT)
            if name in S1_BANDS:
                values = values[~gaps] if has_gaps else values  # noqa: PLW2901 - without nodata
            elif not sums.is_exact:
                values = values[~sums.band.is_nodata(values)]  # noqa: PLW2901
            sums.add(values)

    def of(self, name: str, split: str) -> BandSums:
        """Return the sums of an image in a split, at first empty."""
        if (name, split) not in self.bands:
            self.bands[name, split] = BandSums(IMAGES[name], self._scratch)
        return self.bands[name, split]

    def merge(self, other: Sums) -> None:
        """Add the sums of further patches."""
        for key, sums in other.bands.items():
            self.of(*key).merge(sums)
        self.patches += other.patches

    def over_splits(self, name: str) -> BandSums:
        """Add up an image over all splits, and patches in none."""
        together = BandSums(IMAGES[name])
        for (other, _), sums in self.bands.items():
            if other == name:
                together.merge(sums)
        return together

    @property
    def names(self) -> list[str]:
        """Names of the bands and polarisations that were added, in the order of all."""
        added = {name for name, _ in self.bands}
        return [name for name in (*BANDS, *S1_BANDS) if name in added]


def describe_sums(sums: Sums, classes: Sequence[str], nomenclature: Nomenclature | None) -> Statistics:
    """Derive the statistics of bands and classes.

    Parameters
    ----------
    sums : Sums
    classes : sequence of str
        Names of all classes.
    nomenclature : Nomenclature, optional
        Classes of the values of reference maps; without it, pixels of classes are not known.
    """
    bands = {
        name: {split: _in_split(sums, name, split) for split in SPLITS} | {ALL: sums.over_splits(name).statistics()}
        for name in sums.names
    }
    pixels: dict[str, int] | None = None
    if nomenclature is not None and any(name == REFERENCE_MAP.name for name, _ in sums.bands):
        of_value, pixels = sums.over_splits(REFERENCE_MAP.name).pixels(), dict.fromkeys(classes, 0)
        for value, label in nomenclature.class_of.items():
            if label is not None:
                pixels[label] += int(of_value[value])
    weights = _balanced(pixels or {})
    described = {
        name: ClassStatistics(
            pixels=None if pixels is None else pixels[name], patches=sums.patches[name], weight=weights.get(name)
        )
        for name in sorted(classes)
    }
    return Statistics(bands=bands, classes=described)


def _in_split(sums: Sums, name: str, split: str) -> BandStatistics:
    return sums.bands[name, split].statistics() if (name, split) in sums.bands else BandStatistics(count=0)


def _balanced(pixels: Mapping[str, int]) -> dict[str, float]:
    """Weights of the classes that occur, inverse to their pixels; 1 for a class with the mean number of pixels."""
    found = {name: count for name, count in pixels.items() if count}
    return {name: sum(found.values()) / (len(found) * count) for name, count in found.items()}
