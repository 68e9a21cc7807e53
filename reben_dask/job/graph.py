"""Graph of a batch of tiles: the patch frame, one partition per tile, and the tasks that feed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import dask
import dask_geopandas
import pandas as pd
from dask import delayed
from dask.delayed import Delayed

from reben_dask.formats import columns
from reben_dask.formats.bands import BAND_RESOLUTION_M
from reben_dask.job.plan import Plan
from reben_dask.job.record import NO_COUNTS, count_patches
from reben_dask.job.sentinel1 import pair_tile
from reben_dask.job.submit import PicklableErrors
from reben_dask.job.tasks import (
    LabelRule,
    attribute_column,
    ingest_band,
    label_tile,
    make_cube,
    observe_countries,
    observe_published,
    observe_sky,
)
from reben_dask.patches.frame import candidate_frame, combine_nodata, with_columns, with_decision
from reben_dask.patches.join import partitions_of_tiles
from reben_dask.recipes import Recipe
from reben_dask.sources.landcover import SortedMap
from reben_dask.sources.sentinel2 import Tile
from reben_dask.sources.vector_layers import read_attribute, read_countries
from reben_dask.stores.patch_table import write_part

STAGES = ("bands", "labels", "patches")

PRIORITY_OF_RESOLUTION = {10: 2, 20: 1, 60: 0}
"""The longest tasks start first, so that the last tile does not end with one worker at a band of 10 m."""


@dataclass(frozen=True)
class BatchGraph:
    """Lazy tasks of a batch of tiles, and the patch frame with one partition per tile."""

    patches: dask_geopandas.GeoDataFrame
    stages: dict[str, list[Delayed]]
    """Tasks of each stage. Those of ``patches`` write the part files and return the counts of their tile."""


def batch_graph(
    plan: Plan, tiles: Sequence[Tile], landcover: SortedMap, *, cubes: Path, table: Path, job: str
) -> BatchGraph:
    """Compose the lazy tasks of some tiles; ``job`` ends all keys: a scheduler takes tasks of one key for one task."""
    tasks = _TileTasks(plan, landcover.crs, cubes, job)
    overlaps = partitions_of_tiles(landcover.frame, [plan.grids(tile)[0] for tile in tiles])
    observed = [
        tasks.observe(tile, [landcover.parts[number] for number in partitions])
        for tile, partitions in zip(tiles, overlaps, strict=True)
    ]
    patches = candidate_frame([plan.scene(tile) for tile in tiles], plan.recipe)
    for step, meta in tasks.metas.items():
        patches = with_columns(patches, [of_tile[step] for of_tile in observed], meta)
    patches = with_decision(patches, plan.recipe, pairs_only=plan.pairs_only)
    shape = TableShape(table, plan.nomenclature.classes, plan.recipe.extra_columns)
    written = patches.map_partitions(PicklableErrors(_write_and_count), shape, meta=NO_COUNTS)
    return BatchGraph(patches, dict(zip(STAGES, (tasks.bands, tasks.labels, list(written.to_delayed())), strict=True)))


class _TileTasks:
    """Tasks that observe the patches of tiles, by step; a tile that failed its quality is not read."""

    def __init__(self, plan: Plan, crs: str, cubes: Path, job: str) -> None:
        recipe = plan.recipe
        self._plan, self._crs, self._cubes, self._job = plan, crs, cubes, job
        self._label_rule = LabelRule(plan.nomenclature, recipe.region_thresholds_px)
        self.bands: list[Delayed] = []
        self.labels: list[Delayed] = []
        self._polygons = None
        if plan.countries:
            self._polygons = self._task(read_countries, "countries", plan.countries, recipe.countries)
        self._layers = {
            name: self._task(read_attribute, f"layer-{name}", path, recipe.attributes[name].column)
            for name, path in plan.layers.items()
        }
        attributes = [columns.extra_column(name) for name in recipe.attributes]
        steps: dict[str, Sequence[columns.Column]] = {
            "validity": [columns.NODATA],
            "sky": [columns.SNOW_FRACTION, columns.CLOUD_FRACTION, columns.SHADOW_FRACTION, *columns.FLAGS],
            "published": plan.published.columns if plan.published else [],
            "sentinel1": [columns.S1_NAME] if plan.partners else [],
            "labels": _label_columns(recipe),
            "country": [columns.COUNTRY],
            **{name: [name] for name in attributes},
        }
        self.metas = {step: columns.empty_frame(names) for step, names in steps.items() if names}

    def observe(self, tile: Tile, parts: list[Path]) -> dict[str, Delayed]:
        """Return the tasks of a tile by step; ``parts`` are those of the map that it overlaps."""
        plan, name, grids = self._plan, tile.name, self._plan.grids(tile)
        found = self._read(tile, parts) if plan.is_usable(tile) else self._leave_out(tile)
        found["country"] = self._task(observe_countries, f"country-{name}", grids, self._polygons)
        for attribute in plan.recipe.attributes:
            layer = self._layers.get(attribute)
            found[attribute] = self._task(attribute_column, f"{attribute}-{name}", attribute, grids, layer)
        if plan.published:
            place = (plan.published, name, tile.mgrs, grids)
            found["published"] = self._task(observe_published, f"published-{name}", *place)
        return found

    def _read(self, tile: Tile, parts: list[Path]) -> dict[str, Delayed]:
        plan, name = self._plan, tile.name
        cube = self._task(make_cube, f"cube-{name}", self._cubes, plan.layouts(tile))
        counts = []
        for band in plan.recipe.bands:
            with dask.annotate(priority=PRIORITY_OF_RESOLUTION[BAND_RESOLUTION_M[band]]):
                key, arguments = f"band-{band}-{name}", (tile, band, self._cubes, cube)
                counts.append(self._task(ingest_band, key, *arguments, harmonized=plan.recipe.harmonize))
        labels = self._task(label_tile, f"labels-{name}", self._cubes, cube, self._label_rule, parts, self._crs)
        self.bands += counts
        self.labels.append(labels)
        found = {
            "validity": self._task(combine_nodata, f"validity-{name}", counts),
            "sky": self._task(observe_sky, f"sky-{name}", tile, plan.grids(tile), plan.recipe.sky),
            "labels": labels,
        }
        if plan.partners:
            near = plan.partners_near[name]
            found["sentinel1"] = self._task(pair_tile, f"sentinel1-{name}", tile, self._cubes, cube, near)
        return found

    def _leave_out(self, tile: Tile) -> dict[str, Delayed]:
        size = self._plan.size(tile)
        return {
            step: self._task(unobserved, f"{step}-{tile.name}", size, list(self.metas[step]))
            for step in ("validity", "sky", "labels", "sentinel1")
            if step in self.metas
        }

    def _task(self, function: Any, key: str, *args: Any, **kwargs: Any) -> Delayed:
        return delayed(PicklableErrors(function), pure=True)(*args, **kwargs, dask_key_name=f"{key}-{self._job}")


def _label_columns(recipe: Recipe) -> list[columns.Column]:
    extra = [columns.extra_column(name) for name in recipe.extra_labels]
    return [columns.LABELS, columns.LABELED_FRACTION, *extra, columns.OVERLAP_PX]


def unobserved(patches: int, columns: list[str]) -> pd.DataFrame:
    """Return null columns for patches whose pixels were not read."""
    return pd.DataFrame({name: [None] * patches for name in columns}, dtype=object)


class TableShape(NamedTuple):
    """Patch table under construction: folder, class names, and columns that the recipe adds."""

    folder: Path
    classes: tuple[str, ...]
    extra: tuple[str, ...]


def _write_and_count(patches: Any, table: TableShape) -> pd.DataFrame:
    write_part(patches, *table)
    return count_patches(patches)
