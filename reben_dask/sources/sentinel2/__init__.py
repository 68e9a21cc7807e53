"""Sentinel-2 L2A products: finding them, their metadata, their pixels."""

from reben_dask.sources.sentinel2.cube import open_cube
from reben_dask.sources.sentinel2.discovery import find_products
from reben_dask.sources.sentinel2.identity import tile_identity
from reben_dask.sources.sentinel2.pixels import harmonize, read_band, read_scene_classification
from reben_dask.sources.sentinel2.product import Tile, open_tile

__all__ = [
    "Tile",
    "find_products",
    "harmonize",
    "open_cube",
    "open_tile",
    "read_band",
    "read_scene_classification",
    "tile_identity",
]
