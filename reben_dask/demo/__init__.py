"""A small synthetic region to try the job on, with every convention of real inputs.

:func:`make_demo_region` writes Sentinel-2 products, a CORINE-like land-cover map, countries and Sentinel-1 patches of
a landscape that does not exist: invented terrain, invented borders, reproducible to the last pixel.
"""

from reben_dask.demo.making import make_demo_region, open_demo_region
from reben_dask.demo.region import DemoRegion

__all__ = ["DemoRegion", "make_demo_region", "open_demo_region"]
