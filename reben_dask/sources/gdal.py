"""How GDAL reads images here."""

from __future__ import annotations

from types import MappingProxyType

GDAL_OPTIONS = MappingProxyType(
    {"GDAL_CACHEMAX": 64 * 2**20, "GDAL_NUM_THREADS": "1", "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
)
"""GDAL's own cache is 5 % of the machine's memory in every process, and it looks for side files in every folder.

rasterio sets the cache in bytes, and for all threads of the process: one that is too small makes those slow that
rasterize meanwhile.
"""
