"""Reader of the published GeoTIFF files (pixels, position, NODATA), mostly without GDAL.

A dataset has seven million of them, and GDAL needs 10 to 20 times the CPU seconds for one. Only files as published are
decoded here: little-endian, one image in strips, uncompressed or (reference maps) deflated, in a UTM zone; GDAL reads
any other. Damaged deflated pixels are an error here; GDAL 3.10 returns numbers for some, which differ between calls.
"""

from __future__ import annotations

import math
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from reben_dask.errors import InputError
from reben_dask.sources.gdal import use_image

T = TypeVar("T")

PLAIN_FILE_BYTES = 2**20
"""Larger files are left to GDAL; published ones have at most 58 kB."""

IMAGE_BYTES = 2**26
"""Larger images or blocks are refused: a few damaged bytes may declare terabytes."""

_HEAD_BYTES = 4_096  # the tags of published files are in the first 400 bytes
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES = 256, 257, 258, 259, 262, 277
_STRIP_OFFSETS, _ROWS_PER_STRIP, _STRIP_SIZES, _PLANES, _PREDICTOR = 273, 278, 279, 284, 317
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _PIXEL_SCALE, _TIEPOINT, _GEO_KEYS, _NODATA = 338, 339, 33550, 33922, 34735, 42113
_KNOWN_TAGS = frozenset(
    {
        *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _STRIP_OFFSETS, _ROWS_PER_STRIP, _STRIP_SIZES),
        *(_PLANES, _PREDICTOR, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _PIXEL_SCALE, _TIEPOINT, _GEO_KEYS, _NODATA),
        *(34736, 34737, 42112),  # parameters and names of the coordinate system, metadata
    }
)
_ASCII, _INTEGERS, _DOUBLE = "s", "HI", "d"
_TYPE_OF_FIELD = {2: (_ASCII, 1), 3: ("H", 2), 4: ("I", 4), 12: (_DOUBLE, 8)}  # letter in struct, bytes
_TYPE_OF_PIXELS: dict[tuple[int, int], np.dtype[Any]] = {  # by sample format and bits
    (1, 8): np.dtype("u1"),
    (1, 16): np.dtype("<u2"),
    (3, 32): np.dtype("<f4"),
}
_NO_TYPE = np.dtype("V")  # of no bytes
_BLACK_IS_ZERO, _UNCOMPRESSED, _DEFLATE, _NO_PREDICTOR, _HORIZONTAL = 1, 1, 8, 1, 2
_METHODS = {(_UNCOMPRESSED, _NO_PREDICTOR), (_DEFLATE, _NO_PREDICTOR), (_DEFLATE, _HORIZONTAL)}

_MODEL_TYPE, _RASTER_TYPE, _PROJECTED_CRS = 1024, 1025, 3072
_HARMLESS_KEYS = {1026, 2049, 2054, 3073, 3076}  # names, and the units of UTM: degrees and metres
_UTM = frozenset({*range(32601, 32661), *range(32701, 32761)})  # EPSG codes on WGS 84, north and south

Transform = tuple[float, ...]
"""``(pixel width, rotation, left, rotation, pixel height, top)``."""


class Corner(NamedTuple):
    """Upper-left corner and pixel size of an image, in metres of the system ``epsg``."""

    epsg: int
    left: float
    top: float
    pixel_m: float


@dataclass(frozen=True)
class Image:
    """A georeferenced image."""

    bands: npt.NDArray[Any]
    """Pixels, shape ``(band, y, x)``."""

    nodata: float | None
    epsg: int | None
    """``None`` if the coordinate reference system has no EPSG code."""

    transform: Transform

    @property
    def pixels(self) -> npt.NDArray[Any]:
        """First band, shape ``(y, x)``."""
        first: npt.NDArray[Any] = self.bands[0]
        return first

    @property
    def count(self) -> int:
        """Number of bands."""
        return len(self.bands)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """``(left, bottom, right, top)`` of an image without rotation."""
        width, _, left, _, height, top = self.transform
        rows, columns = self.pixels.shape
        return (left, top + height * rows, left + width * columns, top)


class _Unusual(Exception):  # noqa: N818 - not an error: GDAL may read the file
    """Feature that the published files do not have."""


class _DamagedError(Exception):
    """Corrupt deflated pixels."""


def read_tiff(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """Read the first band of a small TIFF file: any that GDAL reads, of at most 64 MiB of pixels.

    Returns
    -------
    ndarray, shape (y, x)
        Pixels as stored, in the machine's byte order.

    Raises
    ------
    InputError
        If the file is unreadable, damaged, too large, or not a TIFF file.
    """
    return _read_small(path, _pixels_of, _first_band)


def read_with_nodata(path: str | os.PathLike[str]) -> tuple[npt.NDArray[Any], float | None]:
    """Read the first band of a small TIFF file, and its NODATA tag, if any; see :func:`read_tiff`."""
    return _read_small(
        path, lambda tags: (_pixels_of(tags), _nodata(tags)), lambda dataset: (_first_band(dataset), dataset.nodata)
    )


def read_corner(path: str | os.PathLike[str]) -> Corner:
    """Read the upper-left corner and pixel size of a small TIFF file.

    :class:`InputError` if it is unreadable, or not georeferenced north up, with square pixels, in a system with an EPSG
    code.
    """
    return _corner(_read(path, _HEAD_BYTES), path, os.fspath(path))


def decode_corner(content: bytes, where: str) -> Corner:
    """Decode the corner of the bytes of a TIFF file, as :func:`read_corner`; ``where`` names it in a message."""
    return _corner(content, content, where)


def decode_image(content: bytes) -> Image:
    """Decode the bytes of a TIFF file of at most 64 MiB of pixels.

    :class:`InputError`, with a phrase as message, if it is not a TIFF file, or is cut short, damaged or too large.
    """
    if not content:
        raise InputError("is empty")
    try:
        tags = _tags(content)
        epsg, transform = _place(tags)
        return Image(_decode(tags), _nodata(tags), epsg, transform)
    except _Unusual:
        return _by_gdal(content, _gdal_image, lambda cause: f"cannot be decoded ({cause})")
    except _DamagedError as error:
        raise InputError(f"cannot be decoded ({error})") from None


def _read_small(path: str | os.PathLike[str], of_tags: Callable[[_Tags], T], of_dataset: Callable[[Any], T]) -> T:
    """Read a small file by its tags, or with GDAL if it is unusual."""
    try:
        return of_tags(_tags(_read(path, PLAIN_FILE_BYTES)))
    except _Unusual:
        return _by_gdal(path, of_dataset, lambda cause: _undecodable(path, cause))
    except _DamagedError as error:
        raise InputError(_undecodable(path, str(error))) from None


def _pixels_of(tags: _Tags) -> npt.NDArray[Any]:
    first: npt.NDArray[Any] = _decode(tags)[0]
    return first


def _corner(head: bytes, source: str | os.PathLike[str] | bytes, where: str) -> Corner:
    try:
        epsg, transform = _place(_tags(head))
    except _Unusual:
        epsg, transform = _by_gdal(source, _gdal_place, lambda cause: f"{where} cannot be placed: {cause}.")
    width, column_rotation, left, row_rotation, height, top = transform
    if not epsg or column_rotation or row_rotation or not width == -height > 0:
        raise InputError(
            f"{where} cannot be placed: it needs square pixels, north up, and a coordinate system with an EPSG code."
        )
    return Corner(epsg, left, top, width)


def _read(path: str | os.PathLike[str], most: int) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - making a Path costs as much as reading the file
            return file.read(min(most, os.fstat(file.fileno()).st_size)) or b""
    except OSError as error:
        raise InputError(f"{os.fspath(path)} cannot be read ({error.strerror}).") from None


_Entries = dict[int, tuple[str, tuple[Any, ...], int, int]]
"""By tag: type, values (none if they are elsewhere in the file), number of values, their position."""


class _Tags(NamedTuple):
    """Tags of the only image of a file, and the whole file."""

    content: bytes
    entries: _Entries

    def values(self, tag: int, types: str, default: tuple[Any, ...] | None = None) -> tuple[Any, ...]:
        """Values of a tag, if its type is one of ``types``; ``default`` if it is missing."""
        if tag not in self.entries:
            if default is None:
                raise _Unusual
            return default
        letter, values, count, where = self.entries[tag]
        if letter not in types:
            raise _Unusual
        return values or struct.unpack_from(f"<{count}{letter}", self.content, where)

    def integer(self, tag: int, default: int | None = None) -> int:
        if tag not in self.entries and default is not None:
            return default
        (value, *others) = self.values(tag, _INTEGERS)
        if others:
            raise _Unusual
        return int(value)


def _tags(content: bytes) -> _Tags:
    """Tags of a classic little-endian TIFF file with one image and no unknown tag."""
    if content[:4] != b"II*\0" or len(content) < 8:
        raise _Unusual
    (start,) = struct.unpack_from("<I", content, 4)
    if not 8 <= start <= len(content) - 2:
        raise _Unusual
    (count,) = struct.unpack_from("<H", content, start)
    end = start + 2 + 12 * count
    if content[end : end + 4] != bytes(4):
        raise _Unusual
    return _Tags(content, _entries(content[start + 2 : end], start + 2, len(content)))


@lru_cache(256)  # files of one band and version have the same
def _entries(directory: bytes, start: int, file_bytes: int) -> _Entries:
    entries: _Entries = {}
    last, inline = 0, 8
    for tag, kind, number, pointer in struct.iter_unpack("<HHII", directory):
        letter, size = _TYPE_OF_FIELD.get(kind, ("", 0))
        size *= number
        where = start + inline if size <= 4 else pointer
        if not size or tag <= last or tag not in _KNOWN_TAGS or not 8 <= where <= file_bytes - size:
            raise _Unusual
        values = struct.unpack_from(f"<{number}{letter}", directory, inline) if size <= 4 else ()
        entries[tag] = letter, values, number, where
        last, inline = tag, inline + 12
    return entries


def _decode(tags: _Tags) -> npt.NDArray[Any]:
    """Pixels, shape ``(band, y, x)``."""
    height, width, samples = tags.integer(_HEIGHT), tags.integer(_WIDTH), tags.integer(_SAMPLES, 1)
    bits = tags.values(_BITS, _INTEGERS)
    formats = tags.values(_SAMPLE_FORMAT, _INTEGERS, (1,) * len(bits))
    dtype = _TYPE_OF_PIXELS.get((formats[0], bits[0]), _NO_TYPE)
    compression, predictor = tags.integer(_COMPRESSION, _UNCOMPRESSED), tags.integer(_PREDICTOR, _NO_PREDICTOR)
    if (
        not len(bits) == len(formats) == samples
        or len({*bits}) > 1
        or len({*formats}) > 1
        or (compression, predictor) not in _METHODS
        or tags.integer(_PHOTOMETRIC) != _BLACK_IS_ZERO
        or tags.integer(_PLANES, 1) != 1
        or tags.values(_EXTRA_SAMPLES, _INTEGERS, ()) != (0,) * (samples - 1)
        or not 0 < height * width * samples * dtype.itemsize <= IMAGE_BYTES
    ):
        raise _Unusual
    row_bytes = width * samples * dtype.itemsize
    strips = _strips(tags, height, row_bytes, is_deflated=compression == _DEFLATE)
    pixels = np.frombuffer(bytearray().join(strips), dtype).reshape(height, width, samples)
    if predictor == _HORIZONTAL:
        # Differences of the bits as unsigned numbers, whatever their type.
        words = pixels.view(f"<u{dtype.itemsize}")
        pixels = np.add.accumulate(words, axis=1, dtype=words.dtype).view(dtype)
    return pixels.transpose(2, 0, 1).astype(dtype.newbyteorder("="), order="C", copy=False)


def _strips(tags: _Tags, height: int, row_bytes: int, *, is_deflated: bool) -> list[bytes]:
    rows = min(tags.integer(_ROWS_PER_STRIP, height), height)
    offsets, sizes = tags.values(_STRIP_OFFSETS, _INTEGERS), tags.values(_STRIP_SIZES, _INTEGERS)
    if not rows or not len(offsets) == len(sizes) == -(-height // rows):
        raise _Unusual
    strips, whole = [], rows * row_bytes
    for top, offset, size in zip(range(0, height, rows), offsets, sizes, strict=True):
        strip, expected = tags.content[offset : offset + size], min(rows, height - top) * row_bytes
        # A strip of no bytes, or at 0, was never written: GDAL knows its value.
        if not offset or not size == len(strip) > 0 or not (is_deflated or size == expected):
            raise _Unusual
        strips.append(_inflate(strip, expected, whole) if is_deflated else strip)
    return strips


def _inflate(deflated: bytes, expected: int, whole: int) -> bytes:
    """Decompress a stream to its end, with its checksum; the last strip may have all the rows of a ``whole`` one."""
    stream = zlib.decompressobj()
    try:
        # One byte more than there may be, so that the end of the stream is seen.
        raw = stream.decompress(deflated, whole + 1)
    except zlib.error as error:
        raise _DamagedError(str(error).rpartition(": ")[2]) from None
    if not stream.eof or len(raw) not in {expected, whole}:
        raise _DamagedError(f"{expected:,} bytes of pixels expected, {len(raw):,} found")
    return raw[:expected]


def _place(tags: _Tags) -> tuple[int | None, Transform]:
    scale, tiepoint = tags.values(_PIXEL_SCALE, _DOUBLE), tags.values(_TIEPOINT, _DOUBLE)
    if len(scale) != 3 or len(tiepoint) != 6 or any(tiepoint[:3]):
        raise _Unusual
    (across, down, _), (left, top) = scale, tiepoint[3:5]
    if not (across == down > 0 and math.isfinite(left + top + across)):
        raise _Unusual
    return _epsg(tags.values(_GEO_KEYS, _INTEGERS)), (across, 0, left, 0, -down, top)


def _epsg(numbers: tuple[int, ...]) -> int:
    """UTM zone in the directory of geographic keys: 4 numbers, then 4 for each key."""
    if len(numbers) < 4 or numbers[:2] != (1, 1) or len(numbers) != 4 + 4 * numbers[3]:
        raise _Unusual
    keys = [numbers[start : start + 4] for start in range(4, len(numbers), 4)]
    values = {key: value for key, location, count, value in keys if (location, count) == (0, 1)}
    model, raster, epsg = (values.get(key, 0) for key in (_MODEL_TYPE, _RASTER_TYPE, _PROJECTED_CRS))
    others = {key for key, *_ in keys} - {_MODEL_TYPE, _RASTER_TYPE, _PROJECTED_CRS}
    if (model, raster) != (1, 1) or epsg not in _UTM or others - _HARMLESS_KEYS:  # projected, pixel is area
        raise _Unusual
    return epsg


def _nodata(tags: _Tags) -> float | None:
    (text,) = tags.values(_NODATA, _ASCII, (None,))
    try:
        return None if text is None else float(text.rstrip(b"\0 "))
    except ValueError:
        raise _Unusual from None


def _undecodable(path: str | os.PathLike[str], cause: str) -> str:
    return f"{os.fspath(path)} cannot be decoded ({cause}); the file is damaged or cut short, download it again."


def _by_gdal(source: str | os.PathLike[str] | bytes, use: Callable[[Any], T], explain: Callable[[str], str]) -> T:
    from rasterio.errors import NotGeoreferencedWarning  # noqa: PLC0415 - see use_image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        # By this driver alone: others would follow paths in a file to files elsewhere.
        return use_image(source, use, explain, driver="GTiff")


def _require_small(dataset: Any) -> None:
    (rows, columns), (height, width) = dataset.block_shapes[0], dataset.shape
    item = np.dtype(dataset.dtypes[0]).itemsize
    if max(max(rows, height) * max(columns, width), dataset.count * height * width) * item > IMAGE_BYTES:
        raise ValueError(
            f"{dataset.count:,} x {height:,} x {width:,} pixels in blocks of {rows:,} x {columns:,}; images of more "
            f"than {IMAGE_BYTES / 2**20:.0f} MiB are not read"
        )


def _first_band(dataset: Any) -> npt.NDArray[Any]:
    _require_small(dataset)
    pixels: npt.NDArray[Any] = dataset.read(1)
    return pixels


def _gdal_place(dataset: Any) -> tuple[int | None, Transform]:
    return None if dataset.crs is None else dataset.crs.to_epsg(), tuple(dataset.transform)[:6]


def _gdal_image(dataset: Any) -> Image:
    _require_small(dataset)
    return Image(np.asarray(dataset.read()), dataset.nodata, *_gdal_place(dataset))
