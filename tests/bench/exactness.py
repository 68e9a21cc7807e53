"""Comparing the reference map of a whole tile with rasterising each patch by itself from the clipped polygons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import naive
import numpy as np
import shapely
import zarr

from reben_dask.job.plan import Plan

EXPLAINED_M = 1e-6
"""A pixel centre this near to an edge lies on it, as far as coordinates of millions of metres can tell."""


def compare_maps(plan: Plan, cubes: Path) -> dict[str, Any]:
    """Compare every patch of the first tile.

    Returns
    -------
    dict
        ``patches``, ``pixels`` and ``different`` pixels, and the largest distance in metres of the centre of a
        different pixel from the nearest edge (``None`` without any).
    """
    tile = plan.usable[0]
    codes = zarr.open_array(cubes / tile.name / "reference_map" / "reference_map", mode="r")[:]
    polygons = naive.polygons_in_tile_system(plan)
    x, y = plan.grids(tile)[0].indices_xy()
    centres = []
    for column, row in zip(x.tolist(), y.tolist(), strict=True):
        side = naive.PATCH_PX
        ours = codes[row * side : (row + 1) * side, column * side : (column + 1) * side]
        alone = naive.rasterize_patch(polygons, naive.bounds_of(plan, column, row), clipped=True)
        rows, columns = np.nonzero(ours != alone)
        east = tile.ulx + 10 * (column * side + columns + 0.5)
        centres += shapely.points(east, tile.uly - 10 * (row * side + rows + 0.5)).tolist()
    return {
        "patches": len(x),
        "pixels": int(codes.size),
        "different": len(centres),
        "farthest_from_an_edge_m": _farthest(polygons, centres),
    }


def _farthest(polygons: Any, centres: list[shapely.Point]) -> float | None:
    if not centres:
        return None
    edges = polygons.geometry.boundary
    _, distances = edges.sindex.nearest(centres, return_all=False, return_distance=True)
    return float(distances.max())
