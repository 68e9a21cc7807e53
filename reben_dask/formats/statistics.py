"""Statistics of a dataset by band and split, and by class: the contents of ``statistics.json``.

They are those of the kept patches without flags (snow, cloud, shadow); ``all`` includes patches in no split. Nodata
is excluded: 0 in Sentinel-2, pixels without backscatter in Sentinel-1.

Pixels are counted in :data:`BINS` bins, from which percentiles are read. Bands of unsigned integers have a bin for each
value, so that all of their statistics are exact. Others, such as backscatter in dB, have bins of :data:`BIN_WIDTH`
around its multiples; mean and standard deviation are those of float64 sums of each patch, added without rounding.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from reben_dask.atomic import write_text
from reben_dask.errors import InputError
from reben_dask.formats.bands import Band
from reben_dask.formats.columns import SPLITS
from reben_dask.formats.dataset import STATISTICS

ALL = "all"
"""Key of the statistics over all splits, and patches in none."""

SPLIT_KEYS = (*SPLITS, ALL)
"""Keys of the statistics of a band, in order."""

PERCENTILES = {"p01": 1, "p50": 50, "p99": 99}
"""Percentiles by key: the smallest value with at least that percentage of the pixels at or below it."""

BINS = 65_536
BIN_WIDTH = 0.01
"""Width of the bins of values other than unsigned integers of at most 16 bits."""

_BINS_PER_UNIT = 100


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BandStatistics(_Entry):
    """Statistics of a band in a split: DN of Sentinel-2, dB of Sentinel-1; null without pixels."""

    count: int
    """Pixels with data."""
    mean: float | None = None
    std: float | None = None
    """Standard deviation, ddof = 0."""
    min: int | float | None = None
    max: int | float | None = None
    p01: int | float | None = None
    """Percentile 1; p50 is the median."""
    p50: int | float | None = None
    p99: int | float | None = None


class ClassStatistics(_Entry):
    """Frequency of a class over all splits."""

    pixels: int | None
    """Pixels of the reference maps; null without maps."""
    patches: int
    """Patches with this label."""
    weight: float | None
    """Labelled pixels / (classes that occur x pixels of the class), "balanced" of scikit-learn; null without pixels."""


class Statistics(_Entry):
    """Contents of ``statistics.json``."""

    bands: dict[str, dict[str, BandStatistics]]
    """Statistics by band, then ``train``, ``validation``, ``test`` and ``all``."""
    classes: dict[str, ClassStatistics]
    """Statistics of each class, in alphabetical order."""

    def to_json(self) -> str:
        """Format as JSON."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"

    def write(self, path: Path) -> None:
        """Write to a file."""
        write_text(path, self.to_json())

    @classmethod
    def read(cls, out: Path) -> Self:
        """Read ``statistics.json`` of a dataset; :class:`InputError` if it is missing or damaged."""
        path = out / STATISTICS
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InputError(f"The statistics {path} cannot be read ({error.strerror}).") from None
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"])) or "content"
            raise InputError(f"The statistics {path} are damaged ({key}: {first['msg']}).") from None


def has_exact_bins(band: Band) -> bool:
    """Test if each value of a band has a bin of its own."""
    dtype = np.dtype(band.dtype)
    return dtype.kind == "u" and dtype.itemsize <= 2


def bins_of(values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint16]:
    """Bins of values of a band without exact bins; those beyond +-327.68 are in the last bins."""
    numbers = np.rint(values * np.float32(_BINS_PER_UNIT))
    numbers += BINS // 2
    bins: npt.NDArray[np.uint16] = np.clip(numbers, 0, BINS - 1, out=numbers).astype(np.uint16)
    return bins


def bin_values(band: Band) -> npt.NDArray[np.int64] | npt.NDArray[np.float64]:
    """Value at the centre of each bin, shape ``(65536,)``."""
    numbers = np.arange(BINS)
    return numbers if has_exact_bins(band) else (numbers - BINS // 2) / _BINS_PER_UNIT
