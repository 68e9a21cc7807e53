"""The graph of a batch of tiles: the patch frame, one partition per tile, and the tasks that feed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import dask
import dask_geopandas
import numpy as np
import pandas as pd
from dask import delayed
from dask.delayed import Delayed

from reben_dask.formats.bands import BAND_RESOLUTION_M
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.job.carrying import Carrying
from reben_dask.job.plan import Plan
from reben_dask.job.sentinel1 import pair_tile
from reben_dask.job.tally import EMPTY_TALLY, tally
from reben_dask.job.tasks import (
    LabelRule,
    attribute_column,
    ingest_band,
    label_tile,
    make_cube,
    map_columns,
    observe_countries,
    observe_published,
    observe_sky,
)
from reben_dask.patches.countries import country_column
from reben_dask.patches.frame import candidate_frame, combine_nodata, with_columns, with_decision
from reben_dask.patches.join import partitions_of_tiles
from reben_dask.patches.reference_map import OVERLAP_PX, RasterizedMap
from reben_dask.patches.scl import scl_fractions
from reben_dask.sources.landcover import SortedMap
from reben_dask.sources.sentinel2 import Tile
from reben_dask.sources.vector_layers import read_attribute, read_countries
from reben_dask.stores.patch_table import write_part

STAGES = ("bands", "labels", "patches")
"""Stages of a tile in the order in which they finish."""

PRIORITY_OF_RESOLUTION = {10: 2, 20: 1, 60: 0}
"""The longest tasks begin first, so that the last tile does not end with one worker at a band of 10 m."""

_NO_PATCHES = PatchGrid(32633, 0, 0, ShapeYX(0, 0))


@dataclass(frozen=True)
class BatchGraph:
    """Lazy tasks of a batch of tiles.

    Parameters
    ----------
    patches : dask_geopandas.GeoDataFrame
        The finished patch frame, one partition per tile.
    stages : dict of str to list of Delayed
        Tasks whose completion is the progress of each stage. Those of ``patches`` write the part files and return the
        tally of their tile.
    """

    patches: dask_geopandas.GeoDataFrame
    stages: dict[str, list[Delayed]]


def batch_graph(
    plan: Plan, tiles: Sequence[Tile], landcover: SortedMap, *, cubes: Path, table: Path, job: str
) -> BatchGraph:
    """Compose the tasks of some tiles; nothing is computed.

    Parameters
    ----------
    plan : Plan
        The job.
    tiles : sequence of Tile
        Tiles of this batch.
    landcover : SortedMap
        The map.
    cubes : Path
        The Zarr store.
    table : Path
        Folder of the patch table.
    job : str
        Unique to this job. A scheduler takes tasks of one name for one task, so jobs that share a cluster must not
        share names.
    """
    observed = _Observations(plan, landcover, cubes, job)
    overlaps = partitions_of_tiles(landcover.frame, [plan.grids(tile)[0] for tile in tiles])
    for tile, partitions in zip(tiles, overlaps, strict=True):
        observed.add(tile, [landcover.parts[number] for number in partitions])
    patches = candidate_frame([plan.scene(tile) for tile in tiles], plan.recipe)
    patches = with_columns(patches, observed.nodata, combine_nodata([pd.Series(dtype=np.int32)]))
    patches = with_columns(patches, observed.sky, scl_fractions(np.zeros((0, 0), np.uint8), _NO_PATCHES, observed.rule))
    if observed.published:
        none_published = observe_published(plan.published, "", "", [_NO_PATCHES])
        patches = with_columns(patches, observed.published, none_published)
    if observed.partners:
        patches = with_columns(patches, observed.partners, pd.DataFrame({"s1_name": pd.Series(dtype="str")}))
    no_map = RasterizedMap(np.zeros((0, 0), np.uint16), np.zeros((0, 0), bool))
    no_labels = map_columns(no_map, _NO_PATCHES, observed.label_rule)
    patches = with_columns(patches, observed.labels, no_labels)
    patches = with_columns(patches, observed.countries, country_column(_NO_PATCHES, None))
    for name, columns in observed.attributes.items():
        patches = with_columns(patches, columns, attribute_column(name, [_NO_PATCHES], None))
    patches = with_decision(patches, plan.recipe, pairs_only=plan.pairs_only)
    shape = TableShape(table, plan.nomenclature.classes, plan.recipe.extra_columns)
    written = patches.map_partitions(Carrying(_write_and_tally), shape, meta=EMPTY_TALLY)
    stages = {"bands": observed.bands, "labels": observed.maps, "patches": list(written.to_delayed())}
    return BatchGraph(patches, stages)


class _Observations:
    """For each tile of a batch the tasks that observe its patches; a tile that failed its quality is not looked at."""

    def __init__(self, plan: Plan, landcover: SortedMap, cubes: Path, job: str) -> None:
        self.rule = plan.recipe.sky
        self.label_rule = LabelRule(plan.nomenclature, plan.recipe.region_thresholds_px)
        self.bands: list[Delayed] = []
        self.maps: list[Delayed] = []
        self.nodata: list[Delayed] = []
        self.sky: list[Delayed] = []
        self.labels: list[Delayed] = []
        self.countries: list[Delayed] = []
        self.published: list[Delayed] = []
        self.partners: list[Delayed] = []
        self._plan, self._crs, self._cubes, self._job = plan, landcover.crs, cubes, job
        self.attributes: dict[str, list[Delayed]] = {name: [] for name in plan.recipe.attributes}
        self._layers = {
            name: self._task(read_attribute, f"layer-{name}", path, plan.recipe.attributes[name].column)
            for name, path in plan.layers.items()
        }
        self._polygons = None
        if plan.countries:
            self._polygons = self._task(read_countries, "countries", plan.countries, plan.recipe.countries)

    def add(self, tile: Tile, parts: list[Path]) -> None:
        """Add the tasks of a tile; ``parts`` are those of the map that it overlaps."""
        if self._plan.is_usable(tile):
            self._observe(tile, parts)
        else:
            self._leave_out(tile)
        grids, published = self._plan.grids(tile), self._plan.published
        self.countries.append(self._task(observe_countries, f"country-{tile.name}", grids, self._polygons))
        for name, columns in self.attributes.items():
            of_layer = (name, grids, self._layers.get(name))
            columns.append(self._task(attribute_column, f"{name}-{tile.name}", *of_layer))
        if published:
            place = (published, tile.name, tile.mgrs, grids)
            self.published.append(self._task(observe_published, f"published-{tile.name}", *place))

    def _observe(self, tile: Tile, parts: list[Path]) -> None:
        plan, name = self._plan, tile.name
        cube = self._task(make_cube, f"cube-{name}", self._cubes, plan.layouts(tile))
        harmonized = plan.recipe.harmonize
        counts = []
        for band in plan.recipe.bands:
            arguments = (tile, band, self._cubes, cube)
            with dask.annotate(priority=PRIORITY_OF_RESOLUTION[BAND_RESOLUTION_M[band]]):
                counts.append(self._task(ingest_band, f"band-{band}-{name}", *arguments, harmonized=harmonized))
        labels = self._task(label_tile, f"labels-{name}", self._cubes, cube, self.label_rule, parts, self._crs)
        self.bands += counts
        self.maps.append(labels)
        self.labels.append(labels)
        self.nodata.append(self._task(combine_nodata, f"validity-{name}", counts))
        self.sky.append(self._task(observe_sky, f"sky-{name}", tile, plan.grids(tile), self.rule))
        if plan.partners:
            near = plan.partners_near[name]
            self.partners.append(self._task(pair_tile, f"sentinel1-{name}", tile, self._cubes, cube, near))

    def _leave_out(self, tile: Tile) -> None:
        sky = list(scl_fractions(np.zeros((0, 0), np.uint8), _NO_PATCHES, self.rule))
        for stage, where, columns in (
            ("validity", self.nodata, ["nodata"]),
            ("sky", self.sky, sky),
            ("labels", self.labels, ["labels", "labeled_fraction", *self._plan.recipe.extra_labels, OVERLAP_PX]),
        ):
            where.append(self._task(unobserved, f"{stage}-{tile.name}", self._plan.size(tile), columns))
        if self._plan.partners:
            nobody = self._task(unobserved, f"sentinel1-{tile.name}", self._plan.size(tile), ["s1_name"])
            self.partners.append(nobody)

    def _task(self, function: Any, key: str, *args: Any, **kwargs: Any) -> Delayed:
        """A task with a name that can be read on the dashboard."""
        return delayed(Carrying(function), pure=True)(*args, **kwargs, dask_key_name=f"{key}-{self._job}")


def unobserved(patches: int, columns: list[str]) -> pd.DataFrame:
    """Null columns for patches whose pixels were not looked at."""
    return pd.DataFrame({name: [None] * patches for name in columns}, dtype=object)


class TableShape(NamedTuple):
    """The patch table under construction: its folder, the class names, and the columns that the recipe adds."""

    folder: Path
    classes: tuple[str, ...]
    extra: tuple[str, ...]


def _write_and_tally(patches: Any, table: TableShape) -> pd.DataFrame:
    write_part(patches, *table)
    return tally(patches)
