"""Attributes of patches from another polygon layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from reben_dask.grid import PatchGrid

if TYPE_CHECKING:
    import geopandas


def largest_share(grid: PatchGrid, polygons: geopandas.GeoDataFrame) -> npt.NDArray[np.object_]:
    """Value that covers the largest part of each patch.

    Polygons of one value count together. Of values with equal area, the first in alphabetical order is taken.

    Parameters
    ----------
    polygons : GeoDataFrame
        Columns ``value`` (str) and the geometry, in any system. Overlapping polygons all count.

    Returns
    -------
    ndarray of object, shape (patch,)
        In name order; ``None`` where no polygon covers any of the patch.
    """
    placed = polygons.to_crs(epsg=grid.epsg)
    placed = placed[np.isfinite(placed.geometry.bounds).all(axis=1)]
    squares = shapely.box(*grid.bounds().T)
    patch, polygon = shapely.STRtree(placed.geometry.array).query(squares, predicate="intersects")[:2]
    areas = shapely.area(shapely.intersection(squares[patch], shapely.make_valid(placed.geometry.array[polygon])))
    shares = pd.DataFrame({"patch": patch, "value": placed["value"].to_numpy()[polygon], "area": areas})
    together = shares[shares["area"] > 0].groupby(["patch", "value"], as_index=False).agg(area=("area", "sum"))
    best = together.sort_values(["patch", "area", "value"], ascending=[True, False, True]).drop_duplicates("patch")
    values = np.full(grid.size, None, object)
    values[best["patch"]] = best["value"].astype(object)
    return values
