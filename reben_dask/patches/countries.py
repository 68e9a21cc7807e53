"""Country of each patch: the nearest one of the recipe's list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from reben_dask.formats.columns import COUNTRY
from reben_dask.grid import PatchGrid

if TYPE_CHECKING:
    import geopandas


def country_column(grid: PatchGrid, countries: geopandas.GeoDataFrame | None) -> pd.DataFrame:
    """Column ``country`` of a tile's patches, in name order; null without country polygons."""
    names = np.full(grid.size, None, object) if countries is None else nearest_country(grid, countries)
    return pd.DataFrame({COUNTRY: pd.Series(names, dtype="str")})


def nearest_country(grid: PatchGrid, countries: geopandas.GeoDataFrame) -> npt.NDArray[np.object_]:
    """Name of the country nearest to each patch, shape ``(patch,)``, in name order.

    The distance is that of the patch square from the country's polygon in the tile's system. Of equally near countries
    (a patch that touches two), the first in alphabetical order is taken. ``countries`` has the columns ``country`` and
    the geometry, in any system.
    """
    placed = countries.sort_values("country").to_crs(epsg=grid.epsg)
    # A country on the far side of the globe has no finite place in a UTM zone.
    placed = placed[np.isfinite(placed.geometry.bounds).all(axis=1)]
    squares = shapely.box(*grid.bounds().T)
    patch, row = placed.sindex.nearest(squares, return_all=True)
    first = pd.Series(row).groupby(patch).min()
    names = np.full(grid.size, None, object)
    names[first.index] = placed["country"].to_numpy(object)[first]
    return names
