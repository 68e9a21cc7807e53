"""One image file of a GeoTIFF tree, as far as a verification has to know it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import NotGeoreferencedWarning


@dataclass(frozen=True)
class Image:
    """What a file says of itself.

    Parameters
    ----------
    dtype : str
        Type of its pixels, such as ``uint16``.
    count : int
        Number of bands.
    shape_yx : tuple of int
        Height and width in pixels.
    nodata : float or None
        Its NODATA tag.
    epsg : int or None
        Its coordinate reference system, where it has one with a code.
    transform : tuple of float
        ``(pixel width, rotation, left, rotation, pixel height, top)``.
    pixels : ndarray or None
        Shape ``(y, x)``, where they were asked for.
    """

    dtype: str
    count: int
    shape_yx: tuple[int, int]
    nodata: float | None
    epsg: int | None
    transform: tuple[float, ...]
    pixels: npt.NDArray[Any] | None = None

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right and top of an image without rotation."""
        width, _, left, _, height, top = self.transform
        return (left, top + height * self.shape_yx[0], left + width * self.shape_yx[1], top)


def read_image(path: Path, *, pixels: bool) -> Image:
    """Read an image file.

    Parameters
    ----------
    path : Path
        The file.
    pixels : bool
        Also read its first band.

    Raises
    ------
    rasterio.errors.RasterioError
        If it is no image, or its pixels cannot be read.
    ValueError
        If the file is too short for its pixels; without reading them, this is seen where they are not compressed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            if dataset.compression is None and path.stat().st_size < _raw_bytes(dataset):
                raise ValueError("is cut short")
            return Image(
                dtype=dataset.dtypes[0],
                count=dataset.count,
                shape_yx=(dataset.height, dataset.width),
                nodata=dataset.nodata,
                epsg=None if dataset.crs is None else dataset.crs.to_epsg(),
                transform=tuple(dataset.transform)[:6],
                pixels=dataset.read(1) if pixels else None,
            )


def _raw_bytes(dataset: Any) -> int:
    return int(sum(np.dtype(dtype).itemsize for dtype in dataset.dtypes) * dataset.height * dataset.width)
