"""One image as the bytes of a GeoTIFF, laid out as the published files are.

GDAL needs 0.4 to 1 ms to make a small file in memory, most of it for the coordinate system, and a dataset has millions.
Files of one kind differ only in the coordinates of their corner and in their pixels. Where pixels are not compressed,
the header is therefore made by GDAL once for each kind, and kept.
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
"""How the coordinates of the upper-left corner stand in the tag ModelTiepoint."""

_KINDS = 1_024
"""Headers that are kept. A kind is an image size in one coordinate system: there are at most nine in each UTM zone."""


class Place(NamedTuple):
    """Where the pixels of an image are.

    Parameters
    ----------
    epsg : int
        Coordinate reference system, in metres.
    ulx, uly : int
        Upper-left corner of the image in that system.
    resolution : int
        Side of a pixel in metres.
    """

    epsg: int
    ulx: int
    uly: int
    resolution: int


_ANYWHERE = (123_457, 7_654_321)
"""A corner that can be found in a header: its coordinates are no other number of it."""


def encode_geotiff(
    pixels: npt.NDArray[Any], place: Place, *, nodata: int | None = None, compress: Compression | None = None
) -> bytes:
    """Encode an image as a little-endian GeoTIFF in strips, without dates; of several bands pixel by pixel.

    Parameters
    ----------
    pixels : ndarray of uint8, uint16 or float32, shape (y, x) or (band, y, x)
        The image.
    place : Place
        Its georeference.
    nodata : int, optional
        Value of the tag for NODATA; without it, there is no such tag.
    compress : {"deflate"}, optional
        Compression of the strips, with horizontal differences as predictor; without it, pixels are stored as they are.

    Returns
    -------
    bytes
        The file. The same image gives the same bytes; where it is compressed, as long as GDAL and its compressor
        are the same.

    Raises
    ------
    ValueError
        If ``pixels`` is not an image of at least one pixel.
    rasterio.errors.CRSError
        If there is no coordinate system of the number ``epsg``.
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
    """What stands in a file before and after the coordinates of its corner, up to the pixels.

    ``None`` if GDAL lays the file out in another way than all pixels at its end, row by row: then only GDAL can
    make it.
    """
    # Of a strip that is all NODATA, GDAL would put off the writing to the end.
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
