"""Options with which GDAL reads, as GDAL understands them."""

from __future__ import annotations

import rasterio
from rasterio._env import get_gdal_config

from reben_dask.sources.gdal import GDAL_OPTIONS


def test_the_cache_is_in_bytes() -> None:
    """A number without a unit is bytes to rasterio, and megabytes to GDAL itself."""
    with rasterio.Env(**GDAL_OPTIONS):
        assert get_gdal_config("GDAL_CACHEMAX") == 64 * 2**20
