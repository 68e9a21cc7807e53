"""What a worker does: each function is one task, keyed by tile and band or by tile and stage.

Pixels never leave the task that reads them: it writes whole shards and returns a small frame, one row per patch.
Each task may be repeated without harm.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import dask
import numpy as np
import pandas as pd
from distributed import get_worker

from reben_dask.patches.grid import PatchGrid
from reben_dask.patches.join import search_area
from reben_dask.patches.labels import label_columns
from reben_dask.patches.nomenclature import UNLABELED_CODE, Nomenclature
from reben_dask.patches.reference_map import MAP_RESOLUTION_M, reference_map
from reben_dask.patches.sky import SCL_RESOLUTION_M, SkyRule, sky_columns
from reben_dask.patches.validity import nodata_pixels
from reben_dask.sources.landcover import LandcoverMap, read_polygons, sort_landcover
from reben_dask.sources.published.metadata import read_metadata
from reben_dask.sources.sentinel2 import (
    BAND_RESOLUTION_M,
    SCENE_CLASSIFICATION,
    Tile,
    harmonize,
    read_band,
    read_scene_classification,
)
from reben_dask.stores.comparison import write_comparison
from reben_dask.stores.cubes import CubeLayout, create_cube, write_band, write_reference_map
from reben_dask.stores.lmdb_environment import is_on_network_disk
from reben_dask.stores.lmdb_export import ShardRecord, TileRange, write_environment


def sort_for_job(source: LandcoverMap, destination: Path, topic: str) -> None:
    """Write a sorted copy of the land-cover map, telling the client through ``topic`` how many rows have passed."""
    worker = get_worker()
    sort_landcover(source, destination, lambda rows: worker.log_event(topic, rows))


def make_cube(store: Path, layout: CubeLayout) -> CubeLayout:
    """Begin the tile's group in the Zarr store; whoever writes to it waits for this."""
    create_cube(store, layout)
    return layout


def ingest_band(tile: Tile, band: str, store: Path, layout: CubeLayout, *, harmonized: bool) -> pd.Series[int]:
    """Decode one band, write it to the cube, and count the NODATA pixels of each patch."""
    resolution = BAND_RESOLUTION_M[band]
    dn = read_band(tile, band, layout.grid.shape_px_yx(resolution))
    nodata = nodata_pixels(dn, layout.grid, resolution)
    write_band(store, layout, band, harmonize(dn, tile.offsets.get(band, 0)) if harmonized else dn)
    return pd.Series(nodata, name=band)


def observe_sky(tile: Tile, grid: PatchGrid, rule: SkyRule) -> pd.DataFrame:
    """Snow, cloud and shadow of each patch; without a scene classification fractions are null, nothing is flagged."""
    if SCENE_CLASSIFICATION in tile.images:
        return sky_columns(read_scene_classification(tile), grid, rule)
    columns = sky_columns(np.zeros(grid.shape_px_yx(SCL_RESOLUTION_M), np.uint8), grid, rule)
    return columns.assign(snow_fraction=np.nan, cloud_fraction=np.nan, shadow_fraction=np.nan)


def export_lmdb(destination: Path, ranges: Sequence[TileRange], store: Path, name: str, topic: str) -> ShardRecord:
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
    """Write the comparison with published metadata; see :func:`~reben_dask.stores.comparison.write_comparison`."""

    def published(tile: str) -> pd.DataFrame:
        return read_metadata(metadata, tile=tile).drop_duplicates("patch_id")

    return write_comparison(parts, published, destination)


def label_tile(
    store: Path, layout: CubeLayout, nomenclature: Nomenclature, parts: Sequence[Path], crs: str
) -> pd.DataFrame:
    """Burn the polygons of a tile into its reference map, write the map, and read the labels off it.

    ``parts`` are those parts of the sorted map that the tile overlaps, ``crs`` is the system of the map.
    """
    if parts:
        codes = reference_map(read_polygons(parts, search_area(layout.grid, crs).bounds), layout.grid)
    else:
        codes = np.full(layout.grid.shape_px_yx(MAP_RESOLUTION_M), UNLABELED_CODE, np.uint16)
    write_reference_map(store, layout.tile, codes)
    return label_columns(codes, layout.grid, nomenclature)
