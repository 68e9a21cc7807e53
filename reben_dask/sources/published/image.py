"""One image of the published trees with all that its file says of it; as with pixels alone, most without GDAL."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from reben_dask.errors import InputError
from reben_dask.sources.gdal import GDAL_OPTIONS
from reben_dask.sources.published.corners import corner_of
from reben_dask.sources.published.tiff import (
    IMAGE_BYTES,
    KNOWN_TAGS,
    DamagedError,
    decode_pixels,
    gdal_cause,
    require_small,
)
from reben_dask.sources.published.tiff_directory import Unusual, read_directory

_NODATA = 42113
"""GDAL's own tag."""


@dataclass(frozen=True)
class Image:
    """A georeferenced image.

    Parameters
    ----------
    bands : ndarray, shape (band, y, x)
        Its pixels.
    nodata : float or None
        Its NODATA tag.
    epsg : int or None
        Its coordinate reference system, where it has one with a code.
    transform : tuple of float
        ``(pixel width, rotation, left, rotation, pixel height, top)``.
    """

    bands: npt.NDArray[Any]
    nodata: float | None
    epsg: int | None
    transform: tuple[float, ...]

    @property
    def pixels(self) -> npt.NDArray[Any]:
        """The first band, shape ``(y, x)``."""
        first: npt.NDArray[Any] = self.bands[0]
        return first

    @property
    def count(self) -> int:
        """Number of bands."""
        return len(self.bands)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right and top of an image without rotation."""
        width, _, left, _, height, top = self.transform
        rows, columns = self.pixels.shape
        return (left, top + height * rows, left + width * columns, top)


def decode_image(content: bytes) -> Image:
    """Decode the bytes of a TIFF file.

    Parameters
    ----------
    content : bytes
        The whole file, of at most 64 MiB of pixels.

    Raises
    ------
    InputError
        If it is no TIFF file, cut short, damaged or too large; the message is a phrase.
    """
    try:
        directory = read_directory(content, KNOWN_TAGS)
        corner, nodata = corner_of(directory), directory.text(_NODATA)
        transform = (corner.pixel_m, 0, corner.left, 0, -corner.pixel_m, corner.top)
        return Image(decode_pixels(directory)[np.newaxis], _number(nodata), corner.epsg, transform)
    except DamagedError as error:
        raise InputError(f"cannot be decoded ({error})") from None
    except Unusual:
        return _decode_with_gdal(content)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        raise Unusual from None


def _require_few_bands(dataset: Any) -> None:
    if dataset.count * dataset.height * dataset.width * np.dtype(dataset.dtypes[0]).itemsize > IMAGE_BYTES:
        raise InputError(f"says that it has {dataset.count:,} bands, which no image of a patch has")


def _decode_with_gdal(content: bytes) -> Image:
    if not content:
        raise InputError("is empty")
    try:
        with warnings.catch_warnings(), rasterio.Env(**GDAL_OPTIONS), MemoryFile(content) as file:
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            # By this driver alone: others would follow what a file says to files elsewhere.
            with file.open(driver="GTiff") as dataset:
                require_small(dataset, "It")
                _require_few_bands(dataset)
                return Image(
                    bands=np.asarray(dataset.read()),
                    nodata=dataset.nodata,
                    epsg=None if dataset.crs is None else dataset.crs.to_epsg(),
                    transform=tuple(dataset.transform)[:6],
                )
    except RasterioError as error:
        raise InputError(f"cannot be decoded ({gdal_cause(error)})") from None
