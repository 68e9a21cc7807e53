"""Country of each patch: the nearest one of the recipe's list."""

from __future__ import annotations

import geopandas
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from reben_dask.formats.columns import COUNTRY, TABLE_CRS
from reben_dask.grid import PatchGrid

_NEAR_DEGREES = 20.0


def country_column(
    grid: PatchGrid, countries: geopandas.GeoDataFrame | None, max_distance_m: float | None = None
) -> pd.DataFrame:
    """Column ``country`` of a tile's patches, in name order; null without country polygons."""
    unknown = np.full(grid.size, None, object)
    names = unknown if countries is None else nearest_country(grid, countries, max_distance_m)
    return pd.DataFrame({COUNTRY: pd.Series(names, dtype="str")})


def nearest_country(
    grid: PatchGrid, countries: geopandas.GeoDataFrame, max_distance_m: float | None = None
) -> npt.NDArray[np.object_]:
    """Name of the country nearest to each patch, shape ``(patch,)``, in name order.

    The distance is that of the patch square from the country's polygon in the tile's system. Of equally near countries
    (a patch that touches two), the first in alphabetical order is taken; ``None`` beyond ``max_distance_m``.
    ``countries`` has the columns ``country`` and the geometry, in any system.
    """
    ordered = countries.sort_values("country", ignore_index=True)
    placed = ordered.to_crs(epsg=grid.epsg)
    # A country that reaches to the far side of the globe has no finite coordinates in a UTM zone.
    far = ~np.isfinite(placed.geometry.bounds).all(axis=1).to_numpy()
    if far.any():
        placed.loc[far, "geometry"] = _part_near(grid, ordered.geometry[far])
    squares = shapely.box(*grid.bounds().T)
    patch, row = placed.sindex.nearest(squares, return_all=True, max_distance=max_distance_m)
    first = pd.Series(row).groupby(patch).min()
    names = np.full(grid.size, None, object)
    names[first.index] = placed["country"].to_numpy(object)[first]
    return names


def _part_near(grid: PatchGrid, polygons: geopandas.GeoSeries) -> geopandas.GeoSeries:
    """Parts of polygons within about 1,000 km of a tile, in the tile's system."""
    corners = geopandas.GeoSeries([shapely.box(*grid.tile_bounds())], crs=grid.epsg).to_crs(TABLE_CRS)
    longitude, latitude = shapely.get_coordinates(corners.to_numpy())[0]
    near = [
        geopandas.GeoSeries(
            shapely.clip_by_rect(
                polygons.to_crs(TABLE_CRS).to_numpy(),
                longitude + turn - _NEAR_DEGREES,
                latitude - _NEAR_DEGREES / 2,
                longitude + turn + _NEAR_DEGREES,
                latitude + _NEAR_DEGREES / 2,
            ),
            crs=TABLE_CRS,
        ).to_crs(grid.epsg)
        for turn in (-360, 0, 360)
    ]
    united = [shapely.union_all(parts) for parts in zip(*near, strict=True)]
    return geopandas.GeoSeries(united, index=polygons.index, crs=grid.epsg)
