"""Reading the small images of the published trees, most of them without GDAL.

To open and read one band of one patch costs GDAL many times what the bytes themselves cost, and a dataset has seven
million of them, all of a very plain kind. Such files are decoded here, strictly by their tags; any other is left to
rasterio, which gives the same pixels or the reason why there are none.

Compressed pixels that are damaged are an error here. GDAL (3.10) gives numbers for some of them, and other numbers when
it is asked again.
"""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reben_dask.errors import InputError
from reben_dask.sources.gdal import GDAL_OPTIONS
from reben_dask.sources.published.tiff_directory import Directory, Unusual, read_directory

PLAIN_FILE_BYTES = 2**20
"""Larger files are left to GDAL: the published ones have at most 58 kB."""

IMAGE_BYTES = 2**26
"""Larger images, and images with larger blocks, are refused: a few damaged bytes may well declare terabytes."""

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _PREDICTOR, _SAMPLE_FORMAT = 256, 257, 258, 259, 262, 317, 339
_STRIP_OFFSETS, _ROWS_PER_STRIP, _STRIP_SIZES = 273, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_SIZES = 322, 323, 324, 325

_USUAL = {254: 0, 266: 1, 274: 1, 277: 1, 284: 1}
"""Tags with one usual value, which they also have by default: a full image, bits from the highest, rows from the upper
left corner, one sample a pixel, and no planes."""

_DESCRIPTIVE = (270, 282, 283, 296, 305, 306, 33550, 33922, 34735, 34736, 34737, 42112, 42113)
"""Tags that change no pixel: description, resolution, software, date, place, GDAL's metadata and NODATA."""

_STRIPPED = frozenset({_STRIP_OFFSETS, _ROWS_PER_STRIP, _STRIP_SIZES})
_TILED = frozenset({_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_SIZES})
_PIXELS = frozenset({_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _PREDICTOR, _SAMPLE_FORMAT})
KNOWN_TAGS = frozenset({*_PIXELS, *_STRIPPED, *_TILED, *_USUAL, *_DESCRIPTIVE})

_TYPES = {(1, 8): "u1", (1, 16): "u2", (1, 32): "u4", (2, 16): "i2", (2, 32): "i4", (3, 32): "f4", (3, 64): "f8"}
"""Type of numbers by sample format and bits."""

_BLACK_IS_ZERO = 1
_NO_COMPRESSION, _DEFLATE = 1, (8, 32946)
_NO_PREDICTOR, _HORIZONTAL = 1, 2
_TILE_STEP = 16


class DamagedError(Exception):
    """Compressed pixels that are not what was compressed."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the pixels are: in blocks of one size, row by row. The last strip may be shorter, a tile never is."""

    height: int
    width: int
    dtype: np.dtype[Any]
    block_height: int
    block_width: int
    offsets: Sequence[int]
    sizes: Sequence[int]
    is_tiled: bool

    def block_rows(self, top: int) -> int:
        return self.block_height if self.is_tiled else min(self.block_height, self.height - top)


def read_tiff(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """Read the first band of a small TIFF file.

    Parameters
    ----------
    path : path
        Any kind of TIFF file that GDAL reads, of at most 64 MiB of pixels.

    Returns
    -------
    ndarray, shape (y, x)
        The pixels as they are stored, in the machine's byte order.

    Raises
    ------
    InputError
        If the file cannot be read, is damaged, too large, or no TIFF file; the message names it.
    """
    content = read_plain_file(path)
    try:
        return decode_pixels(read_directory(content, KNOWN_TAGS))
    except Unusual:
        return _read_with_gdal(path)
    except DamagedError as error:
        raise _cannot_be_decoded(path, str(error)) from None


def read_plain_file(path: str | os.PathLike[str]) -> bytes:
    """Read the bytes of a small file; of a large one nothing, as it is not for us to decode.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - making a Path costs as much as reading the file
            size = os.fstat(file.fileno()).st_size
            return (file.read(size) or b"") if size <= PLAIN_FILE_BYTES else b""
    except OSError as error:
        raise InputError(f"{os.fspath(path)} cannot be read ({error.strerror}).") from None


def decode_pixels(directory: Directory) -> npt.NDArray[Any]:
    """Pixels of a file whose tags were read, or :class:`Unusual`, or :class:`DamagedError`."""
    for tag, usual in _USUAL.items():
        if directory.integer(tag, usual) != usual:
            raise Unusual
    if directory.integer(_PHOTOMETRIC) != _BLACK_IS_ZERO:
        raise Unusual
    layout = _layout(directory)
    _check(layout, len(directory.content))
    compression = directory.integer(_COMPRESSION, _NO_COMPRESSION)
    predictor = directory.integer(_PREDICTOR, _NO_PREDICTOR)
    if compression == _NO_COMPRESSION and predictor == _NO_PREDICTOR:
        return _assemble(directory.content, layout, is_deflated=False, is_predicted=False)
    if compression in _DEFLATE and predictor in {_NO_PREDICTOR, _HORIZONTAL}:
        return _assemble(directory.content, layout, is_deflated=True, is_predicted=predictor == _HORIZONTAL)
    raise Unusual


def _layout(directory: Directory) -> _Layout:
    height, width = directory.integer(_HEIGHT), directory.integer(_WIDTH)
    kind = _TYPES.get((directory.integer(_SAMPLE_FORMAT, 1), directory.integer(_BITS)))
    if kind is None:
        raise Unusual
    dtype = np.dtype(f"{directory.order}{kind}")
    strips, tiles = directory.entries.keys() & _STRIPPED, directory.entries.keys() & _TILED
    if strips and tiles:
        raise Unusual
    if tiles:
        sides = directory.integer(_TILE_HEIGHT), directory.integer(_TILE_WIDTH)
        offsets, sizes = directory.integers(_TILE_OFFSETS), directory.integers(_TILE_SIZES)
        return _Layout(height, width, dtype, *sides, offsets, sizes, is_tiled=True)
    rows = min(directory.integer(_ROWS_PER_STRIP, height), height)
    offsets, sizes = directory.integers(_STRIP_OFFSETS), directory.integers(_STRIP_SIZES)
    return _Layout(height, width, dtype, rows, width, offsets, sizes, is_tiled=False)


def _check(layout: _Layout, end: int) -> None:
    """Blocks are of a sensible size, cover the image, and lie in the file."""
    rows, columns = layout.block_height, layout.block_width
    if not (layout.height and layout.width and rows and columns):
        raise Unusual
    if layout.is_tiled and (rows % _TILE_STEP or columns % _TILE_STEP):
        raise Unusual
    if max(layout.height, rows) * max(layout.width, columns) * layout.dtype.itemsize > IMAGE_BYTES:
        raise Unusual
    if not len(layout.offsets) == len(layout.sizes) == -(-layout.height // rows) * -(-layout.width // columns):
        raise Unusual
    for offset, size in zip(layout.offsets, layout.sizes, strict=True):
        # A block of no bytes, or at 0, was never written; GDAL knows what stands for it.
        if not (offset and size) or offset + size > end:
            raise Unusual


def _assemble(content: bytes, layout: _Layout, *, is_deflated: bool, is_predicted: bool) -> npt.NDArray[Any]:
    native = layout.dtype.newbyteorder("=")
    pixels = np.empty((layout.height, layout.width), native)
    across = -(-layout.width // layout.block_width)
    row_bytes = layout.block_width * native.itemsize
    for number, (offset, size) in enumerate(zip(layout.offsets, layout.sizes, strict=True)):
        top, left = number // across * layout.block_height, number % across * layout.block_width
        rows = layout.block_rows(top)
        raw = content[offset : offset + size]
        if is_deflated:
            raw = _inflate(raw, rows * row_bytes, layout.block_height * row_bytes)
        elif size != rows * row_bytes:
            raise Unusual
        block = np.frombuffer(raw, layout.dtype).reshape(rows, layout.block_width)
        target = pixels[top : top + rows, left : left + layout.block_width]
        if is_predicted:
            block = _accumulate(block.astype(native))
        target[...] = block[: target.shape[0], : target.shape[1]]
    return pixels


def _inflate(deflated: bytes, expected: int, whole: int) -> bytes:
    """Decompress a stream to its end, with its checksum; the last strip may have all the rows of a ``whole`` one."""
    stream = zlib.decompressobj()
    try:
        # One byte more than there may be, so that the end of the stream is seen.
        raw = stream.decompress(deflated, whole + 1)
    except zlib.error as error:
        raise DamagedError(str(error).rpartition(": ")[2]) from None
    if not stream.eof or len(raw) not in {expected, whole}:
        raise DamagedError(f"{expected:,} bytes of pixels expected, {len(raw):,} found")
    return raw[:expected]


def _accumulate(differences: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Undo horizontal differencing: sums along each row, of the bits as unsigned numbers whatever they stand for."""
    words = differences.view(f"u{differences.itemsize}")
    summed: npt.NDArray[Any] = np.add.accumulate(words, axis=1, dtype=words.dtype).view(differences.dtype)
    return summed


def _read_with_gdal(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    # Workers that meet only plain files do without it: importing it takes as long as reading 10,000 of them.
    import rasterio  # noqa: PLC0415
    from rasterio.errors import NotGeoreferencedWarning, RasterioError  # noqa: PLC0415

    try:
        with warnings.catch_warnings(), rasterio.Env(**GDAL_OPTIONS):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            # By this driver alone: others would follow what a file says to files elsewhere.
            with rasterio.open(path, driver="GTiff") as dataset:
                require_small(dataset, path)
                pixels: npt.NDArray[Any] = dataset.read(1)
                return pixels
    except (RasterioError, OSError, ValueError, LookupError) as error:
        cause = gdal_cause(error)
    # Raised outside the handler: GDAL's own exceptions, even as a context, cannot be sent from one process to another.
    raise _cannot_be_decoded(path, cause)


def _cannot_be_decoded(path: str | os.PathLike[str], cause: str) -> InputError:
    return InputError(
        f"{os.fspath(path)} cannot be decoded ({cause}); the file is damaged or cut short, download it again."
    )


def require_small(dataset: Any, path: str | os.PathLike[str]) -> None:
    """Raise :class:`InputError` if a file that rasterio has opened says that its image or its blocks are large."""
    (rows, columns), (height, width) = dataset.block_shapes[0], dataset.shape
    if max(rows, height) * max(columns, width) * np.dtype(dataset.dtypes[0]).itemsize > IMAGE_BYTES:
        raise InputError(
            f"{os.fspath(path)} says that it has {height:,} x {width:,} pixels in blocks of {rows:,} x {columns:,}; "
            f"images of more than {IMAGE_BYTES / 2**20:.0f} MiB are not read."
        )


def gdal_cause(error: BaseException) -> str:
    """The reason that GDAL gives, without the names of its functions and files."""
    message = str(error.__cause__ or error).strip() or type(error).__name__
    return message.rpartition(": ")[2].rpartition("' ")[2].rstrip(".")
