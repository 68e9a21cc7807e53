"""Land cover: published vector maps, and spatially sorted copies, of which a tile reads only a part."""

from reben_dask.sources.landcover.sorted_map import (
    SortedMap,
    is_sorted_landcover,
    open_any_landcover,
    read_polygons,
    require_known_codes,
)
from reben_dask.sources.landcover.sorting import count_codes, sort_landcover
from reben_dask.sources.landcover.vector_map import LandcoverMap, cache_name, content_digest, open_landcover

__all__ = [
    "LandcoverMap",
    "SortedMap",
    "cache_name",
    "content_digest",
    "count_codes",
    "is_sorted_landcover",
    "open_any_landcover",
    "open_landcover",
    "read_polygons",
    "require_known_codes",
    "sort_landcover",
]
