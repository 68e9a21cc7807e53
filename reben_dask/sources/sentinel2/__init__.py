"""Sentinel-2 products in all forms: search, metadata, pixels."""

from reben_dask.sources.sentinel2.acquisitions import acquisition_of, choose_products
from reben_dask.sources.sentinel2.discovery import (
    DamagedProduct,
    Search,
    find_products,
    read_tile,
    read_tiles,
    search_products,
    stem_of,
)
from reben_dask.sources.sentinel2.pixels import harmonize, read_band, read_scene_classification
from reben_dask.sources.sentinel2.tile import Form, Tile, tile_identity

__all__ = [
    "DamagedProduct",
    "Form",
    "Search",
    "Tile",
    "acquisition_of",
    "choose_products",
    "find_products",
    "harmonize",
    "read_band",
    "read_scene_classification",
    "read_tile",
    "read_tiles",
    "search_products",
    "stem_of",
    "tile_identity",
]
