"""Sentinel-2 L2A products: search, metadata, pixels."""

from reben_dask.sources.sentinel2.acquisitions import acquisition_of, choose_products
from reben_dask.sources.sentinel2.discovery import find_products, search_products
from reben_dask.sources.sentinel2.pixels import harmonize, open_tile, read_band, read_scene_classification
from reben_dask.sources.sentinel2.product import DamagedProduct, Tile, read_tile, read_tiles, tile_identity

__all__ = [
    "DamagedProduct",
    "Tile",
    "acquisition_of",
    "choose_products",
    "find_products",
    "harmonize",
    "open_tile",
    "read_band",
    "read_scene_classification",
    "read_tile",
    "read_tiles",
    "search_products",
    "tile_identity",
]
