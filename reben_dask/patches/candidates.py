"""The candidate patches of a tile, and everything that follows from where and when they are."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from reben_dask.formats.columns import TABLE_CRS
from reben_dask.formats.names import NameTemplate, TileName
from reben_dask.grid import PatchGrid
from reben_dask.patches.seasons import season_of
from reben_dask.patches.splits import split_of_tile
from reben_dask.recipes.model import Recipe


class Scene(NamedTuple):
    """What a patch inherits from its tile.

    Parameters
    ----------
    tile : TileName
        The tile.
    sensing_time : datetime
        Start of sensing, aware.
    grids : tuple of PatchGrid
        Patches of the tile, in one grid or several.
    failed_quality : str or None
        Quality indicators that the tile failed, if any.
    """

    tile: TileName
    sensing_time: datetime
    grids: tuple[PatchGrid, ...]
    failed_quality: str | None


def candidate_patches(scene: Scene, recipe: Recipe) -> gpd.GeoDataFrame:
    """Every complete patch of a tile, before any pixel is looked at.

    Parameters
    ----------
    scene : Scene
        The tile.
    recipe : Recipe
        Gives names, splits and seasons.

    Returns
    -------
    GeoDataFrame
        One row per patch, grid after grid, each in its own order: ``patch_id``, ``tile``, ``grid`` (its number),
        ``x``, ``y``, ``split`` and a column ``split_<name>`` for each further split of the recipe, ``season``,
        ``sensing_time``, ``epsg``, bounds ``minx`` to ``maxy`` in the tile's system, ``failed_quality`` and the
        footprint in EPSG:4326.
    """
    frames = [_patches_of_grid(scene, recipe, number) for number in range(1, len(scene.grids) + 1)]
    footprint = pd.concat([footprints(grid) for grid in scene.grids], ignore_index=True)
    return gpd.GeoDataFrame(pd.concat(frames, ignore_index=True), geometry=footprint)


def footprints(grid: PatchGrid) -> gpd.GeoSeries:
    """Patch squares in EPSG:4326, in name order: the four corners, transformed."""
    return gpd.GeoSeries(shapely.box(*grid.bounds().T), crs=grid.epsg).to_crs(TABLE_CRS)


def _patches_of_grid(scene: Scene, recipe: Recipe, number: int) -> pd.DataFrame:
    grid = scene.grids[number - 1]
    ids = NameTemplate(recipe.patch_name).names(scene.tile, grid, number)
    splits = {"split": recipe.split, **{f"split_{name}": rule for name, rule in recipe.more_splits.items()}}
    x, y = grid.indices_xy()
    bounds = grid.bounds()
    columns = {
        "patch_id": ids,
        "tile": scene.tile.name,
        "grid": np.int32(number),
        "x": x,
        "y": y,
        **{name: split_of_tile(rule, grid, ids) for name, rule in splits.items()},
        "season": season_of(scene.sensing_time, recipe.seasons),
        "sensing_time": pd.Timestamp(scene.sensing_time).as_unit("us"),
        "epsg": np.int32(grid.epsg),
        **{name: bounds[:, column] for column, name in enumerate(("minx", "miny", "maxx", "maxy"))},
        "failed_quality": scene.failed_quality,
    }
    texts = ("patch_id", "tile", *splits, "season", "failed_quality")
    return pd.DataFrame(columns, index=range(grid.size)).astype(dict.fromkeys(texts, "str"))
