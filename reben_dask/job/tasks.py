"""What a worker does: each function is one task, keyed by tile and band or by tile and stage.

Pixels never leave the task that reads them: it writes whole shards and returns a small frame, one row per patch.
Each task may be repeated without harm.
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
from reben_dask.formats.bands import BAND_RESOLUTION_M, MAP_RESOLUTION_M, SCENE_CLASSIFICATION
from reben_dask.formats.lmdb import Shard
from reben_dask.grid import PatchGrid, extent_px_yx
from reben_dask.job.published import Published, published_columns
from reben_dask.nomenclature import UNLABELED_CODE, Nomenclature
from reben_dask.patches.attributes import largest_share
from reben_dask.patches.candidates import nodata_pixels
from reben_dask.patches.countries import country_column
from reben_dask.patches.join import search_area
from reben_dask.patches.labels import label_columns
from reben_dask.patches.reference_map import OVERLAP_PX, RasterizedMap, overlap_column, rasterize_map
from reben_dask.patches.scl import SCL_RESOLUTION_M, scl_fractions
from reben_dask.recipes.model import SclClasses
from reben_dask.sources.landcover import LandcoverMap, read_polygons, sort_landcover
from reben_dask.sources.published.metadata import read_metadata
from reben_dask.sources.sentinel2 import Tile, harmonize, read_band, read_scene_classification
from reben_dask.stores.cubes import CubeLayout, create_cube, write_band, write_reference_map
from reben_dask.stores.lmdb_environment import is_on_network_disk
from reben_dask.stores.lmdb_export import TileRange, write_environment

Layouts = tuple[CubeLayout, ...]
"""Those of a tile, one for each grid."""


class LabelRule(NamedTuple):
    """How labels are read off a map; see :func:`~reben_dask.patches.labels.label_columns`."""

    nomenclature: Nomenclature
    thresholds_px: Mapping[str, int]


def sort_for_job(source: LandcoverMap, destination: Path, topic: str) -> None:
    """Write a sorted copy of the land-cover map, telling the client through ``topic`` how many rows have passed."""
    worker = get_worker()
    sort_landcover(source, destination, lambda rows: worker.log_event(topic, rows))


def make_cube(store: Path, layouts: Layouts) -> Layouts:
    """Begin the tile's group in the Zarr store; whoever writes to it waits for this."""
    create_cube(store, *layouts)
    return layouts


def ingest_band(tile: Tile, band: str, store: Path, layouts: Layouts, *, harmonized: bool) -> pd.Series[int]:
    """Decode one band, write it to the cubes of all grids, and count the NODATA pixels of each patch."""
    resolution = BAND_RESOLUTION_M[band]
    tile.require_intact(band)
    dn = read_band(tile, band, extent_px_yx([layout.grid for layout in layouts], resolution))
    nodata = [nodata_pixels(dn, layout.grid, resolution) for layout in layouts]
    if harmonized:
        dn = harmonize(dn, tile.offsets.get(band, 0))
    for layout in layouts:
        write_band(store, layout, band, dn)
    return pd.Series(np.concatenate(nodata), dtype=np.int32, name=band)


def observe_sky(tile: Tile, grids: Sequence[PatchGrid], rule: SclClasses) -> pd.DataFrame:
    """Snow, cloud and shadow of each patch; without a scene classification fractions are null, nothing is flagged."""
    if SCENE_CLASSIFICATION in tile.images:
        tile.require_intact(SCENE_CLASSIFICATION)
        scl = read_scene_classification(tile)
        return over_grids(lambda grid: scl_fractions(scl, grid, rule), grids)
    nothing = np.zeros(extent_px_yx(grids, SCL_RESOLUTION_M), np.uint8)
    columns = over_grids(lambda grid: scl_fractions(nothing, grid, rule), grids)
    return columns.assign(snow_fraction=np.nan, cloud_fraction=np.nan, shadow_fraction=np.nan)


def observe_countries(grids: Sequence[PatchGrid], countries: geopandas.GeoDataFrame | None) -> pd.DataFrame:
    """Country of each patch; null without country polygons."""
    return over_grids(lambda grid: country_column(grid, countries), grids)


def attribute_column(name: str, grids: Sequence[PatchGrid], polygons: geopandas.GeoDataFrame | None) -> pd.DataFrame:
    """An attribute of each patch; null without polygons of its layer."""

    def observe(grid: PatchGrid) -> pd.DataFrame:
        values = np.full(grid.size, None, object) if polygons is None else largest_share(grid, polygons)
        return pd.DataFrame({name: pd.Series(values, dtype="str")})

    return over_grids(observe, grids)


def observe_published(published: Published, tile: str, mgrs: str, grids: Sequence[PatchGrid]) -> pd.DataFrame:
    """What was published about each patch."""
    return over_grids(lambda grid: published_columns(published, tile, mgrs, grid), grids)


def over_grids(observe: Callable[[PatchGrid], pd.DataFrame], grids: Iterable[PatchGrid]) -> pd.DataFrame:
    """What is observed of the patches of a tile, grid after grid, as the rows of its partition are."""
    return pd.concat([observe(grid) for grid in grids], ignore_index=True)


def export_lmdb(destination: Path, ranges: Sequence[TileRange], store: Path, name: str, topic: str) -> Shard:
    """Write one LMDB environment, telling the client through ``topic`` how many patches are done.

    LMDB must not be written on a network disk. Where Dask's ``temporary-directory`` is set, or the destination lies on
    such a disk, the environment is written to a temporary folder and moved when it is complete.
    """
    worker = get_worker()

    def advance(patches: int) -> None:
        worker.log_event(topic, patches)

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
    """Write the comparison with published metadata; see :func:`~reben_dask.analysis.published.write_comparison`."""

    def published(tile: str) -> pd.DataFrame:
        return read_metadata(metadata, tile=tile).drop_duplicates("patch_id")

    return write_comparison(parts, published, destination)


def label_tile(store: Path, layouts: Layouts, rule: LabelRule, parts: Sequence[Path], crs: str) -> pd.DataFrame:
    """Burn the polygons of a tile into its reference map, write the map, and read the labels off it.

    ``parts`` are those parts of the sorted map that the tile overlaps, ``crs`` is the system of the map.
    """
    grids = [layout.grid for layout in layouts]
    if parts:
        burnt = rasterize_map(read_polygons(parts, search_area(grids[0], crs).bounds), *grids)
    else:
        shape = extent_px_yx(grids, MAP_RESOLUTION_M)
        burnt = RasterizedMap(np.full(shape, UNLABELED_CODE, np.uint16), np.zeros(shape, bool))
    for layout in layouts:
        write_reference_map(store, layout, burnt.codes)
    return over_grids(lambda grid: map_columns(burnt, grid, rule), grids)


def map_columns(burnt: RasterizedMap, grid: PatchGrid, rule: LabelRule) -> pd.DataFrame:
    """What a map says of the patches of a grid: their labels, and how many pixels several polygons cover."""
    return label_columns(burnt.codes, grid, *rule).assign(**{OVERLAP_PX: overlap_column(burnt.overlap, grid)})
