"""The candidate patches of a tile, and everything that follows from where and when they are."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from reben_dask.patches.grid import PatchGrid
from reben_dask.patches.names import patch_ids
from reben_dask.patches.seasons import season_of
from reben_dask.patches.splits import geographic_split
from reben_dask.recipes.model import Recipe

TABLE_CRS = "EPSG:4326"
"""One system for the footprints of all tiles; exact bounds stand beside it in each tile's own."""


class Scene(NamedTuple):
    """What a patch inherits from its tile.

    Parameters
    ----------
    tile : str
        Name of the tile: the product name without its last timestamp.
    sensing_time : datetime
        Start of sensing, aware.
    grid : PatchGrid
        Patches of the tile.
    failed_quality : str or None
        Quality indicators that the tile failed, if any.
    """

    tile: str
    sensing_time: datetime
    grid: PatchGrid
    failed_quality: str | None


def candidate_patches(scene: Scene, recipe: Recipe) -> gpd.GeoDataFrame:
    """Every complete patch of a tile, before any pixel is looked at.

    Parameters
    ----------
    scene : Scene
        The tile.
    recipe : Recipe
        Gives split and seasons.

    Returns
    -------
    GeoDataFrame
        One row per patch in name order: ``patch_id``, ``tile``, ``x``, ``y``, ``split``, ``season``, ``sensing_time``,
        ``epsg``, bounds ``minx`` to ``maxy`` in the tile's system, ``failed_quality`` and the footprint in EPSG:4326.
    """
    grid = scene.grid
    x, y = grid.indices_xy()
    bounds = grid.bounds()
    frame = pd.DataFrame(
        {
            "patch_id": patch_ids(scene.tile, x.tolist(), y.tolist(), grid.digits),
            "tile": scene.tile,
            "x": x,
            "y": y,
            "split": geographic_split(grid, validation=recipe.split.validation, test=recipe.split.test),
            "season": season_of(scene.sensing_time, recipe.seasons),
            "sensing_time": pd.Timestamp(scene.sensing_time).as_unit("us"),
            "epsg": np.int32(grid.epsg),
            **{name: bounds[:, column] for column, name in enumerate(("minx", "miny", "maxx", "maxy"))},
            "failed_quality": scene.failed_quality,
        }
    ).astype(dict.fromkeys(("patch_id", "tile", "split", "season", "failed_quality"), "str"))
    return gpd.GeoDataFrame(frame, geometry=footprints(grid))


def footprints(grid: PatchGrid) -> gpd.GeoSeries:
    """Patch squares in EPSG:4326, in name order: the four corners, transformed."""
    return gpd.GeoSeries(shapely.box(*grid.bounds().T), crs=grid.epsg).to_crs(TABLE_CRS)
