"""A product as a lazy cube: one Dask array per band, on the blocks of its file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import rioxarray  # noqa: F401 - registers the .rio accessor
import xarray as xr
from dask.tokenize import tokenize

from reben_dask.formats.bands import BANDS, IMAGE_RESOLUTION_M, PUBLISHED_BANDS, by_resolution, shared_array
from reben_dask.formats.cube import dn_attributes
from reben_dask.sources.sentinel2.discovery import read_tile
from reben_dask.sources.sentinel2.pixels import harmonize, read_window, with_raster
from reben_dask.sources.sentinel2.tile import Tile


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
    height = with_raster(tile, bands[0], lambda raster: raster.header.block_rows)
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
