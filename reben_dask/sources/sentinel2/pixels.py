"""Pixels of a product: whole bands and windows, on the blocks of their files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from reben_dask.errors import InputError, ReadError
from reben_dask.formats.bands import BANDS, IMAGE_RESOLUTION_M, SCENE_CLASSIFICATION
from reben_dask.sources.sentinel2.tile import Header, Raster, Tile, Window

T = TypeVar("T")


def read_band(tile: Tile, band: str, shape_yx: tuple[int, int] | None = None) -> npt.NDArray[np.uint16]:
    """Decode one band of a tile at native resolution, each block of the file once.

    Parameters
    ----------
    band : str
        A band such as ``B02``.
    shape_yx : tuple of int, optional
        Rows and columns to read from the upper-left corner; by default all.

    Returns
    -------
    ndarray of uint16, shape (y, x)

    Raises
    ------
    InputError
        If the file is damaged, or is not at the position in the product's metadata; :class:`ReadError` if it cannot be
        decoded and has no checksum.
    """
    window = shape_yx and (slice(0, shape_yx[0]), slice(0, shape_yx[1]))
    dn: npt.NDArray[np.uint16] = read_window(tile, band, window)
    return dn


def read_scene_classification(tile: Tile) -> npt.NDArray[np.uint8]:
    """Decode the scene classification of a tile: uint8, shape ``(y, x)`` at 20 m. Raises as :func:`read_band`."""
    scl: npt.NDArray[np.uint8] = read_window(tile, SCENE_CLASSIFICATION, None)
    return scl


def read_window(tile: Tile, image: str, window: Window | None) -> npt.NDArray[Any]:
    """Decode a window (``None`` for all) of an image, shape ``(y, x)``. Raises as :func:`read_band`."""
    return with_raster(tile, image, lambda raster: raster.read(window))


def harmonize(dn: npt.NDArray[np.uint16], offset: int) -> npt.NDArray[np.uint16]:
    """Shift digital numbers to the scale before baseline 04.00: ``max(dn + offset, 1)``, but 0 (NODATA) stays 0.

    ``dn`` has any shape; ``offset`` is ``BOA_ADD_OFFSET`` of the band, usually -1000, or 0 to change nothing.
    """
    if not offset:
        return dn
    # A table of all values: a band of a full tile is 240 MB, and wider copies of it would decide a worker's memory.
    highest = np.iinfo(np.uint16).max
    table = np.clip(np.arange(highest + 1) + offset, 1, highest).astype(np.uint16)
    table[0] = 0
    return table[dn]


def with_raster(tile: Tile, image: str, use: Callable[[Raster], T]) -> T:
    """Open an image, compare its header with the metadata, and use it. Raises as :func:`read_band`."""
    opened = tile.images[image]

    def check_and_use(raster: Raster) -> T:
        _check_header(tile, image, raster.header)
        return use(raster)

    return opened.use(
        check_and_use,
        lambda cause: (
            f"The image {image} of {tile.name} cannot be decoded ({cause}); "
            f"the file is damaged or cut short, download it again: {opened.location}"
        ),
        InputError if opened.has_checksum else ReadError,
    )


def _check_header(tile: Tile, image: str, header: Header) -> None:
    if image in BANDS and header.dtype != BANDS[image].dtype:
        raise InputError(f"The image {image} of {tile.name} has the type {header.dtype}, not {BANDS[image].dtype}.")
    resolution = IMAGE_RESOLUTION_M[image]
    expected = (tile.epsg, tile.ulx, tile.uly, resolution, *tile.shape_yx[resolution])
    epsg = tile.epsg if header.epsg is None else header.epsg
    actual = (epsg, header.ulx, header.uly, header.resolution_m, *header.shape_yx)
    if actual != expected:
        raise InputError(
            f"The image {image} of {tile.name} is not at the position in the metadata: EPSG, upper-left corner, pixel "
            f"size and shape are {actual}, but the metadata have {expected}."
        )
