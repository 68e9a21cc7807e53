"""Tasks of the workers: repeatable plain functions, one per tile and band or tile and stage.

Pixels stay in the task that reads them: it writes whole shards and returns a frame with one row per patch.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import dask
import geopandas
import numpy as np
import pandas as pd
from distributed import get_worker

from reben_dask.analysis.published import write_comparison
from reben_dask.formats.bands import BANDS, MAP_RESOLUTION_M, SCENE_CLASSIFICATION
from reben_dask.formats.columns import CLOUD_FRACTION, OVERLAP_PX, PATCH_ID, SHADOW_FRACTION, SNOW_FRACTION
from reben_dask.formats.cube import CubeLayout
from reben_dask.formats.lmdb import Shard
from reben_dask.formats.trees import Tree
from reben_dask.grid import PatchGrid, extent_px_yx
from reben_dask.job.published import Published, published_columns
from reben_dask.nomenclature import UNLABELED_CODE, Nomenclature
from reben_dask.patches.attributes import largest_share
from reben_dask.patches.candidates import nodata_pixels
from reben_dask.patches.countries import country_column
from reben_dask.patches.join import search_area
from reben_dask.patches.labels import label_columns
from reben_dask.patches.reference_map import RasterizedMap, overlap_column, rasterize_map
from reben_dask.patches.scl import SCL_RESOLUTION_M, scl_fractions
from reben_dask.recipes.model import SclClasses
from reben_dask.sources.landcover import LandcoverMap, read_polygons, sort_landcover
from reben_dask.sources.published.metadata import read_metadata
from reben_dask.sources.sentinel2 import Tile, harmonize, read_band, read_scene_classification
from reben_dask.stores.cubes import create_cube, write_band, write_reference_map
from reben_dask.stores.lmdb import TileRange, is_on_network_disk, write_environment
from reben_dask.stores.trees import ARCHIVE_SUFFIX, join_parts, patch_folders, write_parts, write_tree

Layouts = tuple[CubeLayout, ...]
"""Cube layouts of a tile, one for each grid."""


def _advance(topic: str) -> Callable[[int], None]:
    worker = get_worker()
    return lambda steps: worker.log_event(topic, steps)


class LabelRule(NamedTuple):
    """Arguments of :func:`~reben_dask.patches.labels.label_columns`."""

    nomenclature: Nomenclature
    thresholds_px: Mapping[str, int]


def sort_for_job(source: LandcoverMap, destination: Path, topic: str) -> None:
    """Write a sorted copy of the land-cover map; report its rows on ``topic``."""
    sort_landcover(source, destination, _advance(topic))


def make_cube(store: Path, layouts: Layouts) -> Layouts:
    """Create a tile's groups in the Zarr store, before the tasks that write to them."""
    create_cube(store, *layouts)
    return layouts


def ingest_band(tile: Tile, band: str, store: Path, layouts: Layouts, *, harmonized: bool) -> pd.Series[int]:
    """Write one band to the cubes of all grids; count the NODATA pixels of each patch."""
    tile.require_intact(band)
    dn = read_band(tile, band, extent_px_yx([layout.grid for layout in layouts], BANDS[band].resolution_m))
    nodata = [nodata_pixels(dn, layout.grid, BANDS[band]) for layout in layouts]
    if harmonized:
        dn = harmonize(dn, tile.offsets.get(band, 0))
    for layout in layouts:
        write_band(store, layout, band, dn)
    return pd.Series(np.concatenate(nodata), dtype=np.int32, name=band)


def observe_sky(tile: Tile, grids: Sequence[PatchGrid], rule: SclClasses) -> pd.DataFrame:
    """Compute snow, cloud and shadow of each patch; null and not flagged without a scene classification."""
    if SCENE_CLASSIFICATION in tile.images:
        tile.require_intact(SCENE_CLASSIFICATION)
        scl = read_scene_classification(tile)
        return over_grids(lambda grid: scl_fractions(scl, grid, rule), grids)
    nothing = np.zeros(extent_px_yx(grids, SCL_RESOLUTION_M), np.uint8)
    columns = over_grids(lambda grid: scl_fractions(nothing, grid, rule), grids)
    return columns.assign(**dict.fromkeys((SNOW_FRACTION, CLOUD_FRACTION, SHADOW_FRACTION), np.nan))


def observe_countries(grids: Sequence[PatchGrid], countries: geopandas.GeoDataFrame | None) -> pd.DataFrame:
    """Find the country of each patch; null without polygons."""
    return over_grids(lambda grid: country_column(grid, countries), grids)


def attribute_column(name: str, grids: Sequence[PatchGrid], polygons: geopandas.GeoDataFrame | None) -> pd.DataFrame:
    """Find an attribute of each patch; null without polygons."""

    def observe(grid: PatchGrid) -> pd.DataFrame:
        values = np.full(grid.size, None, object) if polygons is None else largest_share(grid, polygons)
        return pd.DataFrame({name: pd.Series(values, dtype="str")})

    return over_grids(observe, grids)


def observe_published(published: Published, tile: str, mgrs: str, grids: Sequence[PatchGrid]) -> pd.DataFrame:
    """Look up the published names and flags of each patch."""
    return over_grids(lambda grid: published_columns(published, tile, mgrs, grid), grids)


def over_grids(observe: Callable[[PatchGrid], pd.DataFrame], grids: Iterable[PatchGrid]) -> pd.DataFrame:
    """Concatenate the columns of a tile's grids, in the order of its rows."""
    return pd.concat([observe(grid) for grid in grids], ignore_index=True)


def export_lmdb(destination: Path, ranges: Sequence[TileRange], store: Path, name: str, topic: str) -> Shard:
    """Write an LMDB environment; in Dask's ``temporary-directory`` first, and never straight to a network disk."""
    advance = _advance(topic)
    scratch = dask.config.get("temporary-directory", None)
    if scratch is None and not is_on_network_disk(destination):
        return write_environment(destination, ranges, store, name, advance)
    with tempfile.TemporaryDirectory(dir=scratch) as local:
        record = write_environment(Path(local) / "lmdb", ranges, store, name, advance)
        shutil.copytree(Path(local) / "lmdb", destination, dirs_exist_ok=True)
    return record


def compare_with_published(
    parts: Sequence[Path], metadata: Sequence[Path], destination: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write the comparison with published metadata."""

    def published(tile: str) -> pd.DataFrame:
        return read_metadata(metadata, tile=tile).drop_duplicates(PATCH_ID)

    return write_comparison(parts, published, destination)


def label_tile(store: Path, layouts: Layouts, rule: LabelRule, parts: Sequence[Path], crs: str) -> pd.DataFrame:
    """Burn a tile's polygons from ``parts`` of the sorted map into its reference map; return its labels."""
    grids = [layout.grid for layout in layouts]
    if parts:
        rasterized = rasterize_map(read_polygons(parts, search_area(grids[0], crs).bounds), *grids)
    else:
        shape = extent_px_yx(grids, MAP_RESOLUTION_M)
        rasterized = RasterizedMap(np.full(shape, UNLABELED_CODE, np.uint16), np.zeros(shape, bool))
    for layout in layouts:
        write_reference_map(store, layout, rasterized.codes)
    return over_grids(lambda grid: map_columns(rasterized, grid, rule), grids)


def map_columns(rasterized: RasterizedMap, grid: PatchGrid, rule: LabelRule) -> pd.DataFrame:
    """Return labels of a grid's patches, and counts of pixels that several polygons cover."""
    return label_columns(rasterized.codes, grid, *rule).assign(**{OVERLAP_PX: overlap_column(rasterized.overlap, grid)})


def export_tile_tree(root: Path, drafts: Path, trees: Sequence[Tree], part: Path, store: Path, topic: str) -> None:
    """Write one tile's GeoTIFFs to ``root``; ``drafts``, for incomplete patches, is on the same disk."""
    advance = _advance(topic)
    for tree in trees:
        (root / tree.name).mkdir(parents=True, exist_ok=True)
        write_tree(patch_folders(store, part, tree), root, advance, drafts=drafts)


def export_tile_archive(parts: Path, trees: Sequence[Tree], part: Path, store: Path, topic: str) -> None:
    """Write one tile's parts of the archives to ``parts``."""
    advance = _advance(topic)
    for tree in trees:
        write_parts(patch_folders(store, part, tree), parts, part.stem, advance)


def join_archives(root: Path, trees: Sequence[Tree], parts: Path) -> list[Path]:
    """Join the parts of all tiles to ``root/<tree>.tar.zst``, one after the other, and delete them."""
    archives = []
    for tree in trees:
        archives.append(root / f"{tree.name}{ARCHIVE_SUFFIX}")
        # An interrupted attempt may have deleted some parts of a finished archive.
        if not archives[-1].exists():
            join_parts(parts, tree.name, archives[-1])
        shutil.rmtree(parts / tree.name, ignore_errors=True)
    return archives
