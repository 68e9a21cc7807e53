"""GeoTIFF encoding of one image, in the layout of the published files.

GDAL takes 0.4 to 1 ms for a small file in memory, mostly for the coordinate system, and a dataset has millions. Files
of one kind differ only in corner coordinates and pixels, so for uncompressed files the header from GDAL is cached.
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.crs import CRS
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

Compression = Literal["deflate"]

_CORNER = struct.Struct("<2d")
"""Encoding of the upper-left corner in the tag ModelTiepoint."""

_KINDS = 1_024
"""Number of cached headers. A kind is an image size in one coordinate system: at most nine per UTM zone."""


class Place(NamedTuple):
    """Georeference of an image: EPSG code, upper-left corner, and pixel size in metres."""

    epsg: int
    ulx: int
    uly: int
    resolution: int


_ANYWHERE = (123_457, 7_654_321)
"""Corner that can be located in a header: no other number there has its coordinates."""


def encode_geotiff(
    pixels: npt.NDArray[Any], place: Place, *, nodata: int | None = None, compress: Compression | None = None
) -> bytes:
    """Encode an image as a little-endian GeoTIFF in strips, pixel-interleaved and without dates.

    ``pixels`` are uint8, uint16 or float32 of shape ``(y, x)`` or ``(band, y, x)``; there is no nodata tag without
    ``nodata``. ``deflate`` uses horizontal differencing as predictor. The bytes are reproducible; compressed ones with
    the same GDAL and compressor. Raises ValueError for an empty image, CRSError if there is no coordinate system
    ``epsg``.
    """
    if pixels.ndim not in (2, 3) or not pixels.size:
        raise ValueError(f"an image needs shape (y, x) or (band, y, x) with at least one pixel, not {pixels.shape}")
    if compress:
        return _encode_by_gdal(pixels, place, nodata, compress)
    header = _header(pixels.shape, pixels.dtype.name, place.epsg, place.resolution, nodata)
    if header is None:
        return _encode_by_gdal(pixels, place, nodata)
    before, after = header
    return b"".join((before, _CORNER.pack(place.ulx, place.uly), after, _body(pixels)))


@lru_cache(maxsize=_KINDS)
def _header(
    shape: tuple[int, ...], dtype: str, epsg: int, resolution: int, nodata: int | None
) -> tuple[bytes, bytes] | None:
    """Header before and after the corner coordinates; None if GDAL does not put all pixels last, row by row."""
    # No nodata pixels: GDAL would write an all-nodata strip last.
    counted = np.arange(1, math.prod(shape) + 1).astype(dtype).reshape(shape)
    file, body = _encode_by_gdal(counted, Place(epsg, *_ANYWHERE, resolution), nodata), _body(counted)
    head, corner = file[: -len(body)], _CORNER.pack(*_ANYWHERE)
    if not file.endswith(body) or head.count(corner) != 1:
        return None
    before, _, after = head.partition(corner)
    return before, after


def _body(pixels: npt.NDArray[Any]) -> bytes:
    by_pixel = pixels if pixels.ndim == 2 else np.moveaxis(pixels, 0, -1)
    return by_pixel.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()


def _encode_by_gdal(
    pixels: npt.NDArray[Any], place: Place, nodata: int | None, compress: Compression | None = None
) -> bytes:
    options: dict[str, Any] = {"compress": compress, "predictor": 2} if compress else {}
    bands = pixels if pixels.ndim == 3 else pixels[np.newaxis]
    if len(bands) > 1:
        options["interleave"] = "pixel"
    profile = {
        "driver": "GTiff",
        "height": bands.shape[1],
        "width": bands.shape[2],
        "count": len(bands),
        "dtype": pixels.dtype.name,
        "crs": CRS.from_epsg(place.epsg),
        "transform": from_origin(place.ulx, place.uly, place.resolution, place.resolution),
        "nodata": nodata,
        "endianness": "little",
        **options,
    }
    with MemoryFile() as memory:
        with rasterio.open(memory.name, "w", **profile) as dataset:
            dataset.write(bands)
        return bytes(memory.getbuffer())
