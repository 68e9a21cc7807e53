"""Reading the pixels of a tile's images, on the blocks of the files themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window

from reben_dask.errors import InputError
from reben_dask.formats.bands import IMAGE_RESOLUTION_M, SCENE_CLASSIFICATION
from reben_dask.sources.gdal import GDAL_OPTIONS
from reben_dask.sources.sentinel2.product import Tile


def read_band(tile: Tile, band: str, shape_yx: tuple[int, int] | None = None) -> npt.NDArray[np.uint16]:
    """Decode one band of a tile, each block of the file once.

    Parameters
    ----------
    tile : Tile
        The product.
    band : str
        A band such as ``B02``.
    shape_yx : tuple of int, optional
        Rows and columns to read, from the upper-left corner; by default all of them.

    Returns
    -------
    ndarray of uint16, shape (y, x)
        Digital numbers at native resolution.

    Raises
    ------
    InputError
        If the file is damaged, or does not lie where the product's metadata says.
    """
    window = None if shape_yx is None else Window(0, 0, shape_yx[1], shape_yx[0])
    dn: npt.NDArray[np.uint16] = read_window(tile, band, window)
    return dn


def read_scene_classification(tile: Tile) -> npt.NDArray[np.uint8]:
    """Decode the scene classification of a tile: uint8, shape ``(y, x)`` at 20 m. Raises as :func:`read_band`."""
    scl: npt.NDArray[np.uint8] = read_window(tile, SCENE_CLASSIFICATION, None)
    return scl


def read_window(tile: Tile, image: str, window: Window | None) -> npt.NDArray[Any]:
    """Decode a window of an image, shape ``(y, x)``; ``None`` stands for the whole.

    Each call opens the file anew, as GDAL's datasets must not be shared between threads.
    """
    pixels: npt.NDArray[Any] = _with_image(tile, image, lambda dataset: dataset.read(1, window=window))
    return pixels


def block_rows(tile: Tile, image: str) -> int:
    """Height in pixels of the blocks in which an image is stored; reads the file's header."""
    height: int = _with_image(tile, image, lambda dataset: dataset.block_shapes[0][0])
    return height


def harmonize(dn: npt.NDArray[np.uint16], offset: int) -> npt.NDArray[np.uint16]:
    """Shift digital numbers to the scale before processing baseline 04.00.

    Parameters
    ----------
    dn : ndarray of uint16
        Digital numbers of any shape; 0 is NODATA and stays 0.
    offset : int
        ``BOA_ADD_OFFSET`` of the band, usually -1000.

    Returns
    -------
    ndarray of uint16
        ``max(dn + offset, 1)`` where ``dn`` is not 0.
    """
    # A table of all values: a band of a full tile is 240 MB, and wider copies of it would decide a worker's memory.
    highest = np.iinfo(np.uint16).max
    table = np.clip(np.arange(highest + 1) + offset, 1, highest).astype(np.uint16)
    table[0] = 0
    return table[dn]


def _with_image(tile: Tile, image: str, use: Callable[[rasterio.DatasetReader], Any]) -> Any:
    path = tile.images[image]
    try:
        with rasterio.Env(**GDAL_OPTIONS), rasterio.open(path) as dataset:
            _check_place(tile, image, dataset)
            return use(dataset)
    except (RasterioError, OSError) as error:
        cause = _cause(error)
    # Raised outside the handler: GDAL's own exceptions, even as a context, cannot be sent from a worker to the client.
    raise InputError(
        f"The image {image} of {tile.name} cannot be decoded ({cause}); "
        f"the file is damaged or cut short, download it again: {path}"
    )


def _check_place(tile: Tile, image: str, dataset: rasterio.DatasetReader) -> None:
    resolution = IMAGE_RESOLUTION_M[image]
    expected = (tile.epsg, tile.ulx, tile.uly, resolution, *tile.shape_yx[resolution])
    transform = dataset.transform
    actual = (dataset.crs and dataset.crs.to_epsg(), transform.c, transform.f, transform.a, *dataset.shape)
    if actual != expected:
        raise InputError(
            f"The image {image} of {tile.name} does not lie where the product says: EPSG, upper-left corner, pixel "
            f"size and shape are {actual}, but MTD_TL.xml has {expected}."
        )


def _cause(error: BaseException) -> str:
    message = str(error.__cause__ or error).strip() or type(error).__name__
    return message.rpartition(": ")[2].rpartition("' ")[2].rstrip(".")
