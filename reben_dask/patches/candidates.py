"""Candidate patches of a tile (names, bounds, splits, seasons), and their NODATA pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from reben_dask.formats import columns
from reben_dask.formats.bands import Band
from reben_dask.formats.columns import EXTRA_SPLITS, TABLE_CRS, Column
from reben_dask.formats.footprints import split_at_180
from reben_dask.formats.names import NameTemplate, TileName
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.splits import split_of_tile
from reben_dask.recipes import Recipe


class Scene(NamedTuple):
    """Properties of a tile that its patches inherit."""

    tile: TileName
    sensing_time: datetime
    """Start of sensing, with time zone."""

    grids: tuple[PatchGrid, ...]
    failed_quality: str | None
    boa_add_offset: int | None = None
    """Offset in DN that remains to be added to the stored DN; 0 if already applied, ``None`` if none is stated."""

    boa_offset_source: str | None = None


def candidate_patches(scene: Scene, recipe: Recipe) -> gpd.GeoDataFrame:
    """List every complete patch of a tile, before any pixel is read.

    Returns
    -------
    GeoDataFrame
        One row per patch, grid after grid in name order: ``patch_id``, ``tile``, ``grid`` (number), ``x``, ``y``,
        ``split``, ``split_<name>`` for further splits, ``season``, ``sensing_time``, ``boa_add_offset`` and
        ``boa_offset_source``, ``epsg``, ``minx`` to ``maxy`` in the tile's system, ``failed_quality`` and the footprint
        in EPSG:4326.
    """
    frames = [_patches_of_grid(scene, recipe, number) for number in range(1, len(scene.grids) + 1)]
    footprint = pd.concat([footprints(grid) for grid in scene.grids], ignore_index=True)
    return gpd.GeoDataFrame(pd.concat(frames, ignore_index=True), geometry=footprint)


def no_candidates(recipe: Recipe) -> gpd.GeoDataFrame:
    """Frame of :func:`candidate_patches` without rows, as the ``meta`` of a Dask frame."""
    nowhere = PatchGrid(32631, 0, 0, ShapeYX(0, 0), recipe.patch_size_m)
    return candidate_patches(Scene(TileName("", ""), datetime.fromtimestamp(0, UTC), (nowhere,), None), recipe)


def footprints(grid: PatchGrid) -> gpd.GeoSeries:
    """Patch squares in EPSG:4326, in name order: the four corners, transformed, and split at the 180th meridian."""
    return split_at_180(gpd.GeoSeries(shapely.box(*grid.bounds().T), crs=grid.epsg).to_crs(TABLE_CRS))


def season_of(sensing_time: datetime, seasons: Mapping[str, Sequence[int]]) -> str | None:
    """Season that holds the month of a sensing time in UTC, or ``None``: SeasoNet leaves gaps between seasons.

    ``sensing_time`` has a time zone; ``seasons`` maps names to months (1 to 12).
    """
    month = sensing_time.astimezone(UTC).month
    return next((name for name, months in seasons.items() if month in months), None)


def nodata_pixels(pixels: npt.NDArray[Any], grid: PatchGrid, band: Band) -> npt.NDArray[np.int32]:
    """Count the NODATA pixels of each patch in one band (reBEN, section II-B: one of them rejects the patch).

    Parameters
    ----------
    pixels : ndarray, shape (y, x)
        Band of the tile from its upper-left corner; pixels outside complete patches do not count.
    band : Band
        Its resolution and nodata value.

    Returns
    -------
    ndarray of int32, shape (patch,), in name order
    """
    counts = np.zeros(grid.shape_yx, np.int32)
    # Row by row of patches: a mask of a whole band is 120 MB, and costs more to allocate than to fill.
    for row, blocks in enumerate(grid.blocks(pixels, band.resolution_m)):
        counts[row] = np.count_nonzero(band.is_nodata(blocks), axis=(1, 2))
    return grid.in_name_order(counts)


def _patches_of_grid(scene: Scene, recipe: Recipe, number: int) -> pd.DataFrame:
    grid = scene.grids[number - 1]
    ids = NameTemplate(recipe.patch_name).names(scene.tile, grid, number)
    more_splits = {columns.extra_column(EXTRA_SPLITS + name): rule for name, rule in recipe.more_splits.items()}
    splits = {columns.SPLIT: recipe.split, **more_splits}
    x, y = grid.indices_xy()
    values: dict[Column, Any] = {
        columns.PATCH_ID: ids,
        columns.TILE: scene.tile.name,
        columns.GRID: number,
        columns.X: x,
        columns.Y: y,
        **{name: split_of_tile(rule, grid, ids) for name, rule in splits.items()},
        columns.SEASON: season_of(scene.sensing_time, recipe.seasons),
        columns.SENSING_TIME: pd.Timestamp(scene.sensing_time).as_unit("us"),
        columns.BOA_ADD_OFFSET: scene.boa_add_offset,
        columns.BOA_OFFSET_SOURCE: scene.boa_offset_source,
        columns.EPSG: grid.epsg,
        **dict(zip(columns.BOUNDS, grid.bounds().T, strict=True)),
        columns.FAILED_QUALITY: scene.failed_quality,
    }
    types = {str(column): columns.pandas_type(column) for column in values}
    return pd.DataFrame(values, index=range(grid.size)).astype(types)
