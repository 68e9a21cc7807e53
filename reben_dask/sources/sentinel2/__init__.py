"""Sentinel-2 L2A products: search, metadata, pixels."""

from reben_dask.sources.sentinel2.discovery import find_products
from reben_dask.sources.sentinel2.pixels import harmonize, open_cube, read_band, read_scene_classification
from reben_dask.sources.sentinel2.product import Tile, open_tile, tile_identity

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
