"""Images that GDAL reads: JPEG 2000 and GeoTIFF, local, in zip files, or remote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy.typing as npt
import rasterio

from reben_dask.errors import InputError
from reben_dask.formats.dataset import without_credentials
from reben_dask.sources.gdal import GDAL_OPTIONS, use_image
from reben_dask.sources.remote import gdal_path, gdal_s3_options, is_address
from reben_dask.sources.sentinel2.tile import Header, Window

T = TypeVar("T")

REMOTE_OPTIONS = {
    "GDAL_HTTP_MAX_RETRY": "5",
    "GDAL_HTTP_RETRY_DELAY": "1",
    "GDAL_HTTP_CONNECTTIMEOUT": "30",
    "GDAL_HTTP_LOW_SPEED_TIME": "60",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
    "CPL_VSIL_CURL_USE_HEAD": "NO",
    "CPL_VSIL_CURL_CHUNK_SIZE": str(2**20),
}
"""A transfer below 1,000 bytes a second for a minute is retried, as are 429 and 5xx; requests are of 1 MiB."""


@dataclass(frozen=True)
class GdalRaster:
    """Opened image; see :class:`~reben_dask.sources.sentinel2.tile.Raster`."""

    dataset: rasterio.DatasetReader

    @property
    def header(self) -> Header:
        """Type and position."""
        dataset, transform = self.dataset, self.dataset.transform
        # GeoTIFFs of a public mirror have a transform, but no coordinate system.
        unstated = None if dataset.driver == "GTiff" else 0
        epsg = unstated if dataset.crs is None else dataset.crs.to_epsg() or 0
        place = (transform.c, transform.f, transform.a, dataset.shape)
        return Header(dataset.dtypes[0], epsg, *place, dataset.block_shapes[0][0])

    def read(self, window: Window | None) -> npt.NDArray[Any]:
        """Decode a window."""
        pair = window and tuple((part.start, part.stop) for part in window)
        pixels: npt.NDArray[Any] = self.dataset.read(1, window=pair)
        return pixels

    def sample(self, side_px: int) -> npt.NDArray[Any]:
        """Decode pixels of the whole image at regular distances, at most ``side_px`` in a row, from an overview."""
        pixels: npt.NDArray[Any] = self.dataset.read(1, out_shape=tuple(min(side_px, px) for px in self.dataset.shape))
        return pixels


@dataclass(frozen=True)
class GdalImage:
    """Image at a GDAL path or URL; see :class:`~reben_dask.sources.sentinel2.tile.Image`."""

    source: str

    @property
    def location(self) -> str:
        """Path or URL without credentials."""
        return without_credentials(self.source)

    @property
    def has_checksum(self) -> bool:
        """False, as neither format has one that GDAL compares."""
        return False

    def use(self, read: Callable[[GdalRaster], T], explain: Callable[[str], str], error: type[InputError]) -> T:
        """Open the image, pass it to ``read``, and close it."""
        is_remote = is_address(self.source)
        return use_image(
            gdal_path(self.source) if is_remote else self.source,
            lambda dataset: read(GdalRaster(dataset)),
            lambda cause: explain(without_credentials(cause)),
            error=error,
            # Other drivers, such as VRT, open other files that an untrusted image refers to.
            driver="JP2OpenJPEG" if urlsplit(self.source).path.lower().endswith(".jp2") else "GTiff",
            options={**GDAL_OPTIONS, **REMOTE_OPTIONS, **gdal_s3_options()} if is_remote else GDAL_OPTIONS,
        )

    def require_intact(self) -> None:
        """Accept the image, which has no checksum."""

    def stored_bytes(self) -> tuple[str, int] | None:
        """Name and size of the file; ``None`` if remote."""
        if is_address(self.source):
            return None
        path = Path(self.source)
        return path.name, path.stat().st_size
