"""A tile as a lazy xarray cube, for notebooks and for whoever wants more than patches."""

from __future__ import annotations

from dataclasses import dataclass

import dask.array as da
import numpy as np
import numpy.typing as npt
import rioxarray  # noqa: F401 - gives datasets their .rio accessor
import xarray as xr
from dask.tokenize import tokenize
from rasterio.windows import Window

from reben_dask.formats.bands import BAND_RESOLUTION_M, IMAGE_RESOLUTION_M
from reben_dask.sources.sentinel2.pixels import block_rows, harmonize, read_window
from reben_dask.sources.sentinel2.product import Tile


def open_cube(tile: Tile, *, bands: tuple[str, ...] | None = None, harmonized: bool = False) -> xr.DataTree:
    """Open a tile as a lazy cube. Headers are read, no pixels.

    Parameters
    ----------
    tile : Tile
        The product.
    bands : tuple of str, optional
        Bands to open; all twelve by default.
    harmonized : bool
        Shift digital numbers to the scale before baseline 04.00.

    Returns
    -------
    DataTree
        Nodes ``r10m``, ``r20m``, ``r60m`` (the names of ESA's EOPF Zarr), each with the variable ``dn``, uint16,
        dims ``(band, y, x)``, chunks of one band and whole rows of the file's blocks, pixel centres as coordinates and
        a CF ``spatial_ref``. The attributes of the root hold the metadata of the product.

    Raises
    ------
    InputError
        If the product lacks one of the bands.
    """
    chosen = tuple(BAND_RESOLUTION_M) if bands is None else bands
    tile.require(chosen)
    by_resolution: dict[int, list[str]] = {}
    for band in chosen:
        by_resolution.setdefault(BAND_RESOLUTION_M[band], []).append(band)
    nodes = {
        f"r{resolution}m": _node(tile, names, resolution, harmonized=harmonized)
        for resolution, names in sorted(by_resolution.items())
    }
    return xr.DataTree.from_dict(
        {"/": xr.Dataset(attrs=_attributes(tile, harmonized=harmonized)), **nodes}, name=tile.name
    )


@dataclass(frozen=True)
class _LazyImage:
    """An image that decodes what is asked of it, when it is asked."""

    tile: Tile
    band: str
    harmonized: bool
    dtype: np.dtype[np.uint16] = np.dtype(np.uint16)  # noqa: RUF009 - a dtype is immutable
    ndim: int = 2

    @property
    def shape(self) -> tuple[int, int]:
        return self.tile.shape_yx[IMAGE_RESOLUTION_M[self.band]]

    def __getitem__(self, key: tuple[slice, slice]) -> npt.NDArray[np.uint16]:
        rows, columns = (piece.indices(size) for piece, size in zip(key, self.shape, strict=True))
        window = Window(columns[0], rows[0], columns[1] - columns[0], rows[1] - rows[0])
        dn: npt.NDArray[np.uint16] = read_window(self.tile, self.band, window)[:: rows[2], :: columns[2]]
        return harmonize(dn, self.tile.offsets.get(self.band, 0)) if self.harmonized else dn


def _node(tile: Tile, bands: list[str], resolution: int, *, harmonized: bool) -> xr.Dataset:
    rows, columns = tile.shape_yx[resolution]
    height = block_rows(tile, bands[0])
    images = [_LazyImage(tile, band, harmonized) for band in bands]
    layers = [
        da.from_array(image, chunks=(height, columns), name=f"{image.band}-{tile.name}-{tokenize(image)}")
        for image in images
    ]
    dataset = xr.Dataset(
        {"dn": (("band", "y", "x"), da.stack(layers), {"long_name": "digital number", "nodata": 0})},
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
