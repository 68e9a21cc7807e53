"""The region of full-size tiles that benchmarks share."""

from __future__ import annotations

from pathlib import Path

from reben_dask.demo import make_demo_region
from reben_dask.sources.sentinel2 import find_products


def heaviest_product(region: Path) -> Path:
    """The product whose images are the largest: most land, least sky. The region is made if it is missing."""
    if not (region / "landcover.gpkg").is_file():
        print(f"Making a region of full-size tiles in {region}, once; this takes minutes.", flush=True)
        make_demo_region(region, full_size=True)
    products = [path for path in find_products([region / "sentinel2"]) if path.is_dir()]
    return max(products, key=lambda path: sum(file.stat().st_size for file in path.rglob("*.jp2")))
