"""Candidate patches of a tile (names, bounds, splits, seasons), and their NODATA pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from reben_dask.formats import columns
from reben_dask.formats.columns import EXTRA_SPLITS, TABLE_CRS, Column
from reben_dask.formats.names import NameTemplate, TileName
from reben_dask.grid import PatchGrid
from reben_dask.patches.splits import split_of_tile
from reben_dask.recipes import Recipe

NODATA_DN = 0
"""DN of "no data" in every Sentinel-2 L2A band (product specification, special values)."""


class Scene(NamedTuple):
    """Properties of a tile that its patches inherit."""

    tile: TileName
    sensing_time: datetime
    """Start of sensing, with time zone."""

    grids: tuple[PatchGrid, ...]
    failed_quality: str | None


def candidate_patches(scene: Scene, recipe: Recipe) -> gpd.GeoDataFrame:
    """List every complete patch of a tile, before any pixel is read.

    Returns
    -------
    GeoDataFrame
        One row per patch, grid after grid in name order: ``patch_id``, ``tile``, ``grid`` (number), ``x``, ``y``,
        ``split``, ``split_<name>`` for further splits, ``season``, ``sensing_time``, ``epsg``, ``minx`` to ``maxy`` in
        the tile's system, ``failed_quality`` and the footprint in EPSG:4326.
    """
    frames = [_patches_of_grid(scene, recipe, number) for number in range(1, len(scene.grids) + 1)]
    footprint = pd.concat([footprints(grid) for grid in scene.grids], ignore_index=True)
    return gpd.GeoDataFrame(pd.concat(frames, ignore_index=True), geometry=footprint)


def candidate_columns(recipe: Recipe) -> list[Column]:
    """Columns of :func:`candidate_patches` besides the footprint."""
    splits = [columns.SPLIT, *(columns.extra_column(EXTRA_SPLITS + name) for name in recipe.more_splits)]
    place = (columns.PATCH_ID, columns.TILE, columns.GRID, columns.X, columns.Y)
    time = (columns.SEASON, columns.SENSING_TIME)
    return [*place, *splits, *time, columns.EPSG, *columns.BOUNDS, columns.FAILED_QUALITY]


def footprints(grid: PatchGrid) -> gpd.GeoSeries:
    """Patch squares in EPSG:4326, in name order: the four corners, transformed."""
    return gpd.GeoSeries(shapely.box(*grid.bounds().T), crs=grid.epsg).to_crs(TABLE_CRS)


def season_of(sensing_time: datetime, seasons: Mapping[str, Sequence[int]]) -> str | None:
    """Season that holds the month of a sensing time in UTC, or ``None``: SeasoNet leaves gaps between seasons.

    ``sensing_time`` has a time zone; ``seasons`` maps names to months (1 to 12).
    """
    month = sensing_time.astimezone(UTC).month
    return next((name for name, months in seasons.items() if month in months), None)


def nodata_pixels(dn: npt.NDArray[np.uint16], grid: PatchGrid, resolution: int) -> npt.NDArray[np.int32]:
    """Count the NODATA pixels of each patch in one band (reBEN, section II-B: one of them rejects the patch).

    Parameters
    ----------
    dn : ndarray of uint16, shape (y, x)
        Band of the tile from its upper-left corner; pixels outside complete patches do not count.
    resolution : int
        Pixel size in metres.

    Returns
    -------
    ndarray of int32, shape (patch,), in name order
    """
    counts = np.zeros(grid.shape_yx, np.int32)
    # Row by row of patches: a mask of a whole band is 120 MB, and costs more to allocate than to fill.
    for row, blocks in enumerate(grid.blocks(dn, resolution)):
        counts[row] = np.count_nonzero(blocks == NODATA_DN, axis=(1, 2))
    return grid.in_name_order(counts)


def _patches_of_grid(scene: Scene, recipe: Recipe, number: int) -> pd.DataFrame:
    grid = scene.grids[number - 1]
    ids = NameTemplate(recipe.patch_name).names(scene.tile, grid, number)
    splits = {columns.SPLIT: recipe.split, **{EXTRA_SPLITS + name: rule for name, rule in recipe.more_splits.items()}}
    x, y = grid.indices_xy()
    values = {
        columns.PATCH_ID: ids,
        columns.TILE: scene.tile.name,
        columns.GRID: np.int32(number),
        columns.X: x,
        columns.Y: y,
        **{name: split_of_tile(rule, grid, ids) for name, rule in splits.items()},
        columns.SEASON: season_of(scene.sensing_time, recipe.seasons),
        columns.SENSING_TIME: pd.Timestamp(scene.sensing_time).as_unit("us"),
        columns.EPSG: np.int32(grid.epsg),
        **dict(zip(columns.BOUNDS, grid.bounds().T, strict=True)),
        columns.FAILED_QUALITY: scene.failed_quality,
    }
    texts = (columns.PATCH_ID, columns.TILE, *splits, columns.SEASON, columns.FAILED_QUALITY)
    return pd.DataFrame(values, index=range(grid.size)).astype(dict.fromkeys(texts, "str"))
