"""The distributed spatial join of patches with the land-cover map.

Both sides are spatially partitioned frames: the patches by tile, the map by the compact areas of its parts. A tile is
joined with those partitions of the map that it overlaps, and with no others. Unlike :func:`dask_geopandas.sjoin`, the
result keeps its polygons together by tile, which is the unit in which they are burnt into pixels: a polygon that
touches a thousand patches travels once, not a thousand times.
"""

from __future__ import annotations

from collections.abc import Sequence

import dask_geopandas
import geopandas as gpd
import pandas as pd
import shapely
from dask.delayed import Delayed

from reben_dask.errors import InputError
from reben_dask.patches.grid import PatchGrid

MARGIN_M = 2_000
"""An edge that is straight in the map's projection is slightly bent in the tile's: 100 km of it by some 100 m."""


def polygons_of_tiles(landcover: dask_geopandas.GeoDataFrame, grids: Sequence[PatchGrid]) -> list[list[Delayed]]:
    """For each tile, the partitions of the map that it overlaps.

    Parameters
    ----------
    landcover : dask_geopandas.GeoDataFrame
        The map, with ``spatial_partitions`` known.
    grids : sequence of PatchGrid
        Tiles.

    Returns
    -------
    list of list of Delayed
        Partitions of ``landcover``, lazily; nothing is computed.

    Raises
    ------
    InputError
        If the partitions of the map are not spatial: then every tile would be joined with all of it.
    """
    partitions = landcover.spatial_partitions
    if partitions is None:
        raise InputError("The land-cover frame has no spatial partitions; sort it first (sort_landcover).")
    parts = landcover.to_delayed()
    return [
        [parts[number] for number in sorted(partitions.sindex.query(search_area(grid, partitions.crs)))]
        for grid in grids
    ]


def search_area(grid: PatchGrid, crs: object) -> shapely.Polygon:
    """Box in the map's system outside which no polygon can reach the patches of a tile."""
    area = shapely.box(*grid.covered_bounds()).buffer(MARGIN_M, join_style="mitre").segmentize(10 * MARGIN_M)
    return shapely.box(*gpd.GeoSeries([area], crs=grid.epsg).to_crs(crs).total_bounds)


def polygons_near(grid: PatchGrid, parts: Sequence[gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
    """The polygons of some partitions of the map that may touch a tile.

    Parameters
    ----------
    grid : PatchGrid
        The tile.
    parts : sequence of GeoDataFrame
        At least one partition, with ``code``, ``order`` and geometry.

    Returns
    -------
    GeoDataFrame
        Same columns.
    """
    near = [part.iloc[part.sindex.query(search_area(grid, part.crs))] for part in parts]
    return pd.concat(near, ignore_index=True)
