"""Patches as lazy frames for notebooks: one partition per tile, made by the functions of the job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from os import PathLike
from pathlib import Path

import dask
import dask.dataframe as dd
import dask_geopandas
import geopandas as gpd
import pandas as pd
import shapely
from dask import delayed

from reben_dask.errors import InputError
from reben_dask.formats.columns import (
    EPSG,
    GRID,
    MAXX,
    MAXY,
    MINX,
    MINY,
    NODATA,
    OBSERVED_IN_SCL,
    TABLE_CRS,
    empty_frame,
    label_columns_of,
)
from reben_dask.formats.names import tile_names
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.job.plan import scene_of
from reben_dask.job.tasks import LabelRule, classify_scene, count_nodata, map_columns
from reben_dask.nomenclature import load_nomenclature
from reben_dask.options import DEFAULT_RECIPE
from reben_dask.patches.candidates import Scene, no_candidates
from reben_dask.patches.frame import candidates_with, combine_nodata, decide_patches, join_columns
from reben_dask.patches.join import join_partitions, search_areas, search_boxes
from reben_dask.patches.reference_map import rasterize_codes
from reben_dask.recipes import Recipe, load_recipe
from reben_dask.sources.landcover import SortedMap, open_any_landcover, sort_landcover
from reben_dask.sources.sentinel2 import choose_products, search_products
from reben_dask.sources.vector_files import files_on_disk, is_gdal_path

AnyPath = str | PathLike[str]


def open_landcover(
    path: AnyPath, *, layer: str | None = None, code_column: str | None = None, cache: AnyPath | None = None
) -> dask_geopandas.GeoDataFrame:
    """Open a land-cover map as a lazy, spatially partitioned frame.

    A map that ``reben landcover`` has sorted is opened as it is. Any other is sorted first, which takes minutes for the
    map of Europe; the sorted copy is kept for later calls.

    Parameters
    ----------
    path : path
        Vector map with class codes, or a sorted copy of one; ``FILE:LAYER`` names a layer.
    layer : str, optional
        Layer of the map, if not the one named as the file, or the newest.
    code_column : str, optional
        Column of the class codes; detected by default.
    cache : path, optional
        Folder for the sorted copy; by default that of the map.

    Returns
    -------
    dask_geopandas.GeoDataFrame
        Columns ``code`` (uint16, or text if one is not a whole number from 1 to 65535), ``order`` (int64, row in the
        source) and ``geometry``, in the system of the map, with ``spatial_partitions``.

    Raises
    ------
    InputError
        If the map cannot be read, or a code is missing.
    """
    source = open_any_landcover(str(path), layer=layer, code_column=code_column)
    if isinstance(source, SortedMap):
        return source.frame
    given = files_on_disk(source.path)[0] if is_gdal_path(source.path) else Path(source.path)
    folder = given.parent if cache is None else Path(cache)
    return sort_landcover(source, folder / source.cache_name).frame


def patches(
    tiles: AnyPath | Iterable[AnyPath], recipe: AnyPath | Recipe = DEFAULT_RECIPE
) -> dask_geopandas.GeoDataFrame:
    """List the candidate patches of tiles lazily, with the columns derived from their pixels.

    Only metadata is read. Computing ``nodata`` decodes all bands, as in a job; add columns of your own with
    ``map_partitions`` or ``assign``.

    Parameters
    ----------
    tiles : path, or iterable of paths
        Sentinel-2 products of the recipe's level in any form, or folders of products.
    recipe : str, path or Recipe
        Recipe, by name or file.

    Returns
    -------
    dask_geopandas.GeoDataFrame
        One partition per tile, in name order; one row per patch: the columns of
        :func:`~reben_dask.patches.candidates.candidate_patches`, ``nodata``, the fractions and flags of snow, cloud and
        shadow, and the footprint in EPSG:4326, with ``spatial_partitions``.

    Raises
    ------
    InputError
        If there is no product, or one lacks a band of the recipe.
    RecipeError
        If the recipe cannot be used.

    Examples
    --------
    >>> import reben_dask as rb
    >>> frame = rb.patches("tiles")  # doctest: +SKIP
    >>> frame[~frame["nodata"]].groupby("split").size().compute()  # doctest: +SKIP
    """
    chosen = _loaded(recipe)
    given = [tiles] if isinstance(tiles, (str, PathLike)) else list(tiles)
    search = search_products(given, level=chosen.level)
    products = choose_products(product.read_tile() for product in search.products).tiles
    names = tile_names([tile.name for tile in products])
    scenes = [scene_of(tile, names[tile.name], chosen) for tile in products]
    parts = []
    for tile, scene in zip(products, scenes, strict=True):
        tile.require(chosen.bands)
        # What holds no tasks is bound, or Dask would search every field of it for some.
        counts = [delayed(partial(count_nodata, tile, band, scene.grids))() for band in chosen.bands]
        scl = delayed(partial(classify_scene, tile, scene.grids, chosen.sky))()
        parts.append(delayed(partial(_observed_patches, scene, chosen))(counts, scl))
    meta = join_columns(no_candidates(chosen), empty_frame([NODATA, *OBSERVED_IN_SCL]))
    globe = shapely.box(-180, -90, 180, 90)
    areas = shapely.intersection(search_areas([scene.grids[0] for scene in scenes], TABLE_CRS), globe)
    return _frame(parts, meta, gpd.GeoSeries(areas, crs=TABLE_CRS))


def label(
    patches: dask_geopandas.GeoDataFrame,
    landcover: dask_geopandas.GeoDataFrame,
    recipe: AnyPath | Recipe = DEFAULT_RECIPE,
) -> dask_geopandas.GeoDataFrame:
    """Label patches lazily by a spatial join with a land-cover map, and decide which are kept.

    Each partition of patches is joined with the partitions of the map that it overlaps, by the
    ``spatial_partitions`` of both.

    Parameters
    ----------
    patches : dask_geopandas.GeoDataFrame
        Frame of :func:`patches`, all or part of its rows, with or without further columns. Dask drops
        ``spatial_partitions`` when rows or columns change: set them again to those of the original frame.
    landcover : dask_geopandas.GeoDataFrame
        Frame of :func:`open_landcover`.
    recipe : str, path or Recipe
        Recipe whose nomenclature and rules apply.

    Returns
    -------
    dask_geopandas.GeoDataFrame
        The patches, with ``labels``, ``labeled_fraction``, ``contested_px``, ``status`` and ``reason``.

    Raises
    ------
    InputError
        If a frame has no spatial partitions, or ``patches`` lacks a column.
    """
    chosen = _loaded(recipe)
    needed = [*no_candidates(chosen), NODATA]
    if absent := [str(name) for name in needed if name not in patches.columns]:
        raise InputError(f"The patches have no column {absent[0]}; make them with reben_dask.patches.")
    rule = LabelRule(load_nomenclature(chosen.nomenclature), chosen.region_thresholds_px)
    polygons = landcover.to_delayed()
    parts = [
        delayed(_labelled_patches)(part, [polygons[number] for number in near], chosen, rule)
        for part, near in zip(patches.to_delayed(), join_partitions(patches, landcover), strict=True)
    ]
    meta = patches._meta  # noqa: SLF001 - dask has no public name for it
    meta = decide_patches(join_columns(meta, empty_frame(label_columns_of(chosen.extra_labels))), chosen)
    return _frame(parts, meta, patches.spatial_partitions)


def _observed_patches(
    scene: Scene, recipe: Recipe, counts: Sequence[pd.Series[int]], scl: pd.DataFrame
) -> gpd.GeoDataFrame:
    return candidates_with(scene, recipe, [combine_nodata(counts), scl])


def _labelled_patches(
    patches: gpd.GeoDataFrame, polygons: Sequence[gpd.GeoDataFrame], recipe: Recipe, rule: LabelRule
) -> gpd.GeoDataFrame:
    labelled = [_labels(rows, polygons, rule) for _, rows in patches.groupby([EPSG, GRID], sort=False)]
    columns = pd.concat(labelled).loc[patches.index] if labelled else empty_frame(label_columns_of(recipe.extra_labels))
    return decide_patches(join_columns(patches, columns), recipe)


def _labels(rows: gpd.GeoDataFrame, polygons: Sequence[gpd.GeoDataFrame], rule: LabelRule) -> pd.DataFrame:
    """Label patches of one grid, which may be any of its patches."""
    grid = _grid_around(rows)
    near = _near(polygons, grid)
    rasterized = rasterize_codes(near, rule.nomenclature, grid)
    x = (rows[MINX] - grid.ulx) // grid.patch_m
    y = (grid.uly - rows[MAXY]) // grid.patch_m
    labels: pd.DataFrame = map_columns(rasterized, grid, rule).iloc[x * grid.shape_yx.y + y].set_index(rows.index)
    return labels


def _grid_around(rows: gpd.GeoDataFrame) -> PatchGrid:
    ulx, uly = int(rows[MINX].min()), int(rows[MAXY].max())
    size = ShapeYX(uly - int(rows[MINY].min()), int(rows[MAXX].max()) - ulx)
    return PatchGrid(int(rows[EPSG].iloc[0]), ulx, uly, size, int(rows[MAXX].iloc[0] - rows[MINX].iloc[0]))


def _near(polygons: Sequence[gpd.GeoDataFrame], grid: PatchGrid) -> gpd.GeoDataFrame | None:
    if not polygons:
        return None
    boxes = search_boxes(grid, polygons[0].crs)
    near = [part.cx[west:east, south:north] for part in polygons for west, south, east, north in boxes]
    found = pd.concat(near, ignore_index=True).drop_duplicates("order", ignore_index=True)
    return found if len(found) else None


def _loaded(recipe: AnyPath | Recipe) -> Recipe:
    return recipe if isinstance(recipe, Recipe) else load_recipe(str(recipe))


def _frame(parts: Sequence[object], meta: gpd.GeoDataFrame, places: gpd.GeoSeries) -> dask_geopandas.GeoDataFrame:
    with dask.config.set({"dataframe.convert-string": False}):
        frame = dask_geopandas.from_dask_dataframe(dd.from_delayed(list(parts), meta=meta, verify_meta=False))
    frame.spatial_partitions = places
    return frame
