"""Tasks of the workers: repeatable plain functions, one per tile and band or tile and stage.

Pixels stay in the task that reads them: it writes whole shards and returns a frame with one row per patch.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import dask
import geopandas
import numpy as np
import numpy.typing as npt
import pandas as pd
from distributed import get_worker

from reben_dask.analysis.published import write_comparison
from reben_dask.formats.bands import BANDS, SCENE_CLASSIFICATION
from reben_dask.formats.columns import (
    CLOUD_FRACTION,
    IS_DUPLICATE,
    NODATA,
    OBSERVED_IN_SCL,
    OVERLAP_PX,
    PATCH_ID,
    S1_GAPS,
    S1_NAME,
    SHADOW_FRACTION,
    SNOW_FRACTION,
    Column,
    label_columns_of,
)
from reben_dask.formats.cube import CubeLayout
from reben_dask.formats.lmdb import Shard
from reben_dask.formats.sample_shards import SampleContents, ShardForm
from reben_dask.formats.trees import Tree
from reben_dask.grid import PatchGrid, extent_px_yx
from reben_dask.job.published import Published, published_columns
from reben_dask.job.record import count_patches
from reben_dask.nomenclature import Nomenclature
from reben_dask.patches.attributes import largest_share
from reben_dask.patches.candidates import Scene, nodata_pixels
from reben_dask.patches.countries import country_column
from reben_dask.patches.frame import assemble_patches, combine_nodata, null_columns
from reben_dask.patches.join import search_boxes
from reben_dask.patches.labels import label_columns
from reben_dask.patches.reference_map import RasterizedMap, overlap_column, rasterize_codes
from reben_dask.patches.scl import SCL_RESOLUTION_M, scl_fractions
from reben_dask.patches.statistics import Sums, describe_sums
from reben_dask.recipes import Recipe
from reben_dask.recipes.model import SclClasses
from reben_dask.sources.landcover import LandcoverMap, read_polygons, sort_landcover
from reben_dask.sources.published.metadata import read_metadata
from reben_dask.sources.sentinel2 import Tile, harmonize, read_band, read_scene_classification
from reben_dask.stores.cubes import create_cube, write_band, write_reference_map
from reben_dask.stores.lmdb import TileRange, append_tile, is_on_network_disk, write_environment
from reben_dask.stores.patch_table import write_part
from reben_dask.stores.sample_shards import SampleShard, write_sample_shard
from reben_dask.stores.statistics import merge_sums, write_histograms, write_sums
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


@dataclass(frozen=True)
class PatchRules:
    """Rules by which the tasks of all tiles make rows of the patch table."""

    recipe: Recipe
    classes: tuple[str, ...]
    published: Published
    has_partners: bool
    pairs_only: bool

    @property
    def columns_read(self) -> dict[str, list[Column]]:
        """Columns from pixels by step; null for tiles that are not read."""
        return {
            "nodata": [NODATA],
            "scl": [*OBSERVED_IN_SCL],
            **({"sentinel1": [S1_NAME, S1_GAPS]} if self.has_partners else {}),
            "labels": label_columns_of(self.recipe.extra_labels),
        }


def sort_for_job(source: LandcoverMap, destination: Path, topic: str) -> None:
    """Write a sorted copy of the land-cover map; report its rows on ``topic``."""
    sort_landcover(source, destination, _advance(topic))


def ingest_band(tile: Tile, band: str, store: Path, layouts: Layouts, *, harmonized: bool) -> pd.Series[int]:
    """Write one band to the cubes of all grids; count the NODATA pixels of each patch."""
    dn, nodata = _read_band(tile, band, [layout.grid for layout in layouts])
    if harmonized:
        dn = harmonize(dn, tile.offsets.get(band, 0))
    create_cube(store, *layouts)
    for layout in layouts:
        write_band(store, layout, band, dn)
    return nodata


def count_nodata(tile: Tile, band: str, grids: Sequence[PatchGrid]) -> pd.Series[int]:
    """Count the NODATA pixels of each patch in one band."""
    return _read_band(tile, band, grids)[1]


def find_in_earlier_strips(earlier: Sequence[Tile], bands: Sequence[str], grids: Sequence[PatchGrid]) -> pd.DataFrame:
    """Mark the patches that have all pixels in one of the earlier data strips of their acquisition."""
    incomplete = [combine_nodata([count_nodata(tile, band, grids) for band in bands])[NODATA] for tile in earlier]
    return (~reduce(pd.Series.__and__, incomplete)).to_frame(IS_DUPLICATE)


def _read_band(tile: Tile, band: str, grids: Sequence[PatchGrid]) -> tuple[npt.NDArray[np.uint16], pd.Series[int]]:
    tile.require_intact(band)
    dn = read_band(tile, band, extent_px_yx(grids, BANDS[band].resolution_m))
    counts = np.concatenate([nodata_pixels(dn, grid, BANDS[band]) for grid in grids])
    return dn, pd.Series(counts, dtype=np.int32, name=band)


def classify_scene(tile: Tile, grids: Sequence[PatchGrid], rule: SclClasses) -> pd.DataFrame:
    """Compute snow, cloud and shadow of each patch; null and not flagged without a scene classification."""
    if SCENE_CLASSIFICATION in tile.images:
        tile.require_intact(SCENE_CLASSIFICATION)
        scl = read_scene_classification(tile)
        return concat_grids(lambda grid: scl_fractions(scl, grid, rule), grids)
    nothing = np.zeros(extent_px_yx(grids, SCL_RESOLUTION_M), np.uint8)
    columns = concat_grids(lambda grid: scl_fractions(nothing, grid, rule), grids)
    return columns.assign(**dict.fromkeys((SNOW_FRACTION, CLOUD_FRACTION, SHADOW_FRACTION), np.nan))


def attribute_column(name: str, grids: Sequence[PatchGrid], polygons: geopandas.GeoDataFrame | None) -> pd.DataFrame:
    """Find an attribute of each patch; null without polygons."""

    def observe(grid: PatchGrid) -> pd.DataFrame:
        values = np.full(grid.size, None, object) if polygons is None else largest_share(grid, polygons)
        return pd.DataFrame({name: pd.Series(values, dtype="str")})

    return concat_grids(observe, grids)


def write_patches(
    scene: Scene,
    rules: PatchRules,
    read: Mapping[str, Any] | None,
    countries: geopandas.GeoDataFrame | None,
    layers: Mapping[str, geopandas.GeoDataFrame | None],
    table: Path,
) -> pd.DataFrame:
    """Write the rows of a tile to the patch table; count them.

    ``read`` has the results of the tasks that read pixels, by name; ``None`` for a tile that failed its quality check.
    """
    observed = _observed(scene, rules, read, countries, layers)
    patches = assemble_patches(scene, rules.recipe, observed, pairs_only=rules.pairs_only)
    write_part(patches, table, rules.classes, rules.recipe.extra_columns)
    return count_patches(patches)


def _observed(
    scene: Scene,
    rules: PatchRules,
    read: Mapping[str, Any] | None,
    countries: geopandas.GeoDataFrame | None,
    layers: Mapping[str, geopandas.GeoDataFrame | None],
) -> Iterator[pd.DataFrame]:
    """Columns of all steps; a later one replaces those of the same name."""
    grids, (tile, mgrs) = scene.grids, (scene.tile.name, scene.tile.mgrs)
    if read is None:
        size = sum(grid.size for grid in grids)
        pixels = {step: null_columns(size, names) for step, names in rules.columns_read.items()}
    else:
        pixels = {**read, "nodata": combine_nodata([read[band] for band in rules.recipe.bands])}
    yield pixels["nodata"]
    if "strips" in pixels:
        yield pixels["strips"]
    yield pixels["scl"]
    if rules.published:
        yield concat_grids(lambda grid: published_columns(rules.published, tile, mgrs, grid), grids)
    if rules.has_partners:
        yield pixels["sentinel1"]
    yield pixels["labels"]
    yield concat_grids(lambda grid: country_column(grid, countries, rules.recipe.country_max_distance_m), grids)
    for name, polygons in layers.items():
        yield attribute_column(name, grids, polygons)


def concat_grids(observe: Callable[[PatchGrid], pd.DataFrame], grids: Iterable[PatchGrid]) -> pd.DataFrame:
    """Concatenate the columns of a tile's grids, in the order of its rows."""
    return pd.concat([observe(grid) for grid in grids], ignore_index=True)


def export_lmdb(
    destination: Path, ranges: Sequence[TileRange], store: Path, name: str, sums_file: Path, topic: str
) -> Shard:
    """Write an LMDB environment, and the sums of its clear patches.

    In Dask's ``temporary-directory`` first, and never straight to a network disk.
    """
    advance, sums = _advance(topic), Sums()
    scratch = dask.config.get("temporary-directory", None)
    if scratch is None and not is_on_network_disk(destination):
        record = write_environment(destination, ranges, store, name, advance, sums)
    else:
        with tempfile.TemporaryDirectory(dir=scratch) as local:
            record = write_environment(Path(local) / "lmdb", ranges, store, name, advance, sums)
            shutil.copytree(Path(local) / "lmdb", destination, dirs_exist_ok=True)
    write_sums(sums_file, sums)
    return record


def append_to_lmdb(environment: Path, kept: TileRange, store: Path, sums_file: Path, topic: str) -> None:
    """Append a finished tile to the LMDB, and write the sums of its clear patches."""
    sums = Sums()
    append_tile(environment, kept, store, _advance(topic), sums)
    write_sums(sums_file, sums)


def join_sums(parts: Sequence[Path], joined: Path) -> None:
    """Add up the sums of several files in one."""
    write_sums(joined, merge_sums(parts))


def write_statistics(parts: Sequence[Path], nomenclature: Nomenclature, statistics: Path, histograms: Path) -> None:
    """Write statistics and histograms of all patches, from sums of parts of them."""
    sums = merge_sums(parts)
    describe_sums(sums, nomenclature.classes, nomenclature).write(statistics)
    write_histograms(histograms, sums)


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
    boxes = search_boxes(grids[0], crs)
    rasterized = rasterize_codes(read_polygons(parts, *boxes) if parts else None, rule.nomenclature, *grids)
    create_cube(store, *layouts)
    for layout in layouts:
        write_reference_map(store, layout, rasterized.codes)
    return concat_grids(lambda grid: map_columns(rasterized, grid, rule), grids)


def map_columns(rasterized: RasterizedMap, grid: PatchGrid, rule: LabelRule) -> pd.DataFrame:
    """Return labels of a grid's patches, and counts of pixels that several polygons cover."""
    overlap = overlap_column(rasterized.overlap_bits, grid)
    return label_columns(rasterized.codes, grid, *rule).assign(**{OVERLAP_PX: overlap})


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


def export_samples(
    folder: Path, form: ShardForm, contents: SampleContents, store: Path, topic: str, shard: SampleShard
) -> None:
    """Write one file of samples to ``folder``."""
    write_sample_shard(folder, form, contents, store, shard, _advance(topic))
