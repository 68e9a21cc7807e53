"""Pixels of a product: whole bands on the blocks of their files, and lazy cubes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import dask.array as da
import numpy as np
import numpy.typing as npt
import rioxarray  # noqa: F401 - registers the .rio accessor
import xarray as xr
from dask.tokenize import tokenize

from reben_dask.errors import InputError, ReadError
from reben_dask.formats.bands import (
    BANDS,
    IMAGE_RESOLUTION_M,
    PUBLISHED_BANDS,
    SCENE_CLASSIFICATION,
    by_resolution,
    shared_array,
)
from reben_dask.formats.cube import dn_attributes
from reben_dask.sources.sentinel2.discovery import read_tile
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
    return _with_raster(tile, image, lambda raster: raster.read(window))


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


def open_tile(
    product: str | os.PathLike[str] | Tile, *, bands: Sequence[str] | None = None, harmonized: bool = False
) -> xr.DataTree:
    """Open a Sentinel-2 product as a lazy cube; only headers are read.

    Parameters
    ----------
    product : path, URL or Tile
        ``….SAFE`` folder, EOPF Zarr store, zip file of either, or STAC item, or its metadata from :func:`read_tile`.
    bands : sequence of str, optional
        Bands to open; by default the twelve, and further ones that the product lists. :class:`InputError` if one is
        missing.
    harmonized : bool
        Shift DN to the scale before baseline 04.00.

    Returns
    -------
    DataTree
        Nodes ``r10m``, ``r20m``, ``r60m`` (names of ESA's EOPF Zarr), each with ``dn``: uint16, dims ``(band, y, x)``,
        chunks of one band and whole rows of the file's blocks, pixel centres as coordinates, CF ``spatial_ref``. The
        attributes of the root hold the metadata of the product.
    """
    tile = product if isinstance(product, Tile) else read_tile(product)
    listed = PUBLISHED_BANDS.keys() | tile.listed
    chosen = tuple(band for band in BANDS if band in listed) if bands is None else tuple(bands)
    tile.require(chosen)
    nodes = {
        f"r{resolution}m": _node(tile, [band for band in chosen if band in names], resolution, harmonized=harmonized)
        for resolution, names in by_resolution(chosen).items()
    }
    return xr.DataTree.from_dict(
        {"/": xr.Dataset(attrs=_attributes(tile, harmonized=harmonized)), **nodes}, name=tile.name
    )


def _with_raster(tile: Tile, image: str, use: Callable[[Raster], T]) -> T:
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


@dataclass(frozen=True)
class _LazyImage:
    """Array-like image for :func:`dask.array.from_array` that decodes windows on demand."""

    tile: Tile
    band: str
    harmonized: bool
    ndim: int = 2

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(BANDS[self.band].dtype)

    @property
    def shape(self) -> tuple[int, int]:
        return self.tile.shape_yx[IMAGE_RESOLUTION_M[self.band]]

    def __getitem__(self, key: tuple[slice, slice]) -> npt.NDArray[np.uint16]:
        rows, columns = (piece.indices(size) for piece, size in zip(key, self.shape, strict=True))
        window = (slice(*rows[:2]), slice(*columns[:2]))
        dn: npt.NDArray[np.uint16] = read_window(self.tile, self.band, window)[:: rows[2], :: columns[2]]
        return harmonize(dn, self.tile.offsets.get(self.band, 0)) if self.harmonized else dn


def _node(tile: Tile, bands: list[str], resolution: int, *, harmonized: bool) -> xr.Dataset:
    rows, columns = tile.shape_yx[resolution]
    height = _with_raster(tile, bands[0], lambda raster: raster.header.block_rows)
    images = [_LazyImage(tile, band, harmonized) for band in bands]
    layers = [
        da.from_array(image, chunks=(height, columns), name=f"{image.band}-{tile.name}-{tokenize(image)}")
        for image in images
    ]
    _, nodata = shared_array(bands)
    dataset = xr.Dataset(
        {"dn": (("band", "y", "x"), da.stack(layers), dn_attributes(nodata))},
        coords={
            "band": bands,
            "y": tile.uly - resolution * (np.arange(rows) + 0.5),
            "x": tile.ulx + resolution * (np.arange(columns) + 0.5),
        },
    )
    placed: xr.Dataset = dataset.rio.write_crs(tile.epsg).rio.write_transform()
    return placed


def _attributes(tile: Tile, *, harmonized: bool) -> dict[str, object]:
    return {
        "tile": tile.name,
        "mgrs": tile.mgrs,
        "sensing_time": tile.sensing_time.isoformat(),
        "processing_baseline": tile.baseline,
        "boa_add_offset": tile.offsets,
        "quality_indicators": tile.quality,
        "harmonized": harmonized,
    }
