"""Tasks of one tile: bands, scene classification and reference map, and the rows of the patch table made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import dask
from dask.delayed import Delayed
from distributed import Future

from reben_dask.formats.bands import BAND_RESOLUTION_M
from reben_dask.job.plan import Plan
from reben_dask.job.scheduling import Attempt, make_task, task_key
from reben_dask.job.sentinel1 import pair_tile
from reben_dask.job.tasks import (
    LabelRule,
    PatchRules,
    classify_scene,
    find_in_earlier_strips,
    ingest_band,
    label_tile,
    write_patches,
)
from reben_dask.patches.join import partitions_of_tiles
from reben_dask.sources.landcover import SortedMap
from reben_dask.sources.sentinel2 import Tile
from reben_dask.sources.vector_layers import read_attribute, read_countries

STAGES = ("bands", "labels", "patches")

PRIORITY_OF_RESOLUTION = {10: 0.5, 20: 0.25, 60: 0}
"""Within a tile, the longest tasks start first, so that a tile does not end with a single worker on a 10 m band.

Less than the difference between tiles: a tile is finished, and on its way to the LMDB, while the next one is read.
"""

FIRST = Attempt()


@dataclass(frozen=True)
class TileGraph:
    """Builder of the tasks of a job's tiles; ``job`` is the suffix of all keys, which must be unique."""

    plan: Plan
    landcover: SortedMap
    cubes: Path
    table: Path
    job: str

    def tasks(self, tile: Tile, attempt: Attempt = FIRST) -> dict[str, Delayed | Future]:
        """Return the tasks of a tile by name; the last one, ``patches``, writes its part of the table.

        A tile that failed its quality check is not read.
        """
        plan = self.plan
        layers = {name: self._layers.get(name) for name in plan.recipe.attributes}
        partitions = self._partitions.get(tile.name, [])
        with dask.annotate(priority=self._priorities[tile.name]):
            observed = self._pixel_tasks(tile, attempt, partitions) if plan.is_usable(tile) else {}
            write = partial(write_patches, plan.scene(tile), self._rules, table=self.table)
            tasks = (observed or None, self._countries, layers)
            return {**observed, "patches": self._task(f"patches-{tile.name}", attempt, write, *tasks)}

    def _pixel_tasks(self, tile: Tile, attempt: Attempt, partitions: Sequence[int]) -> dict[str, Delayed | Future]:
        plan, layouts = self.plan, self.plan.layouts(tile)

        def task(name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Delayed | Future:
            prefix = f"band-{name}" if name in plan.recipe.bands else name
            call = partial(function, *args, **kwargs)
            return attempt.finished.get(name) or self._task(f"{prefix}-{tile.name}", attempt, call)

        tasks = {}
        for band in plan.recipe.bands:
            priority = self._priorities[tile.name] + PRIORITY_OF_RESOLUTION[BAND_RESOLUTION_M[band]]
            with dask.annotate(priority=priority):
                arguments = (tile, band, self.cubes, layouts)
                tasks[band] = task(band, ingest_band, *arguments, harmonized=plan.recipe.harmonize)
        if earlier := plan.earlier_strips(tile):
            tasks["strips"] = task("strips", find_in_earlier_strips, earlier, plan.recipe.bands, plan.grids(tile))
        tasks["scl"] = task("scl", classify_scene, tile, plan.grids(tile), plan.recipe.sky)
        parts = [self.landcover.parts[number] for number in partitions]
        rule = LabelRule(plan.nomenclature, plan.recipe.region_thresholds_px)
        tasks["labels"] = task("labels", label_tile, self.cubes, layouts, rule, parts, self.landcover.crs)
        if plan.partners:
            tasks["sentinel1"] = task("sentinel1", pair_tile, tile, self.cubes, layouts, plan.partners_near[tile.name])
        return tasks

    def _task(self, name: str, attempt: Attempt, function: Callable[..., Any], *tasks: Any) -> Delayed:
        return make_task(task_key(name, self.job, attempt.number), function, *tasks)

    @cached_property
    def _priorities(self) -> dict[str, int]:
        """Priorities of tiles, in their order; those of other tasks of the job are higher."""
        return {tile.name: -number for number, tile in enumerate(self.plan.tiles, start=1)}

    @cached_property
    def _rules(self) -> PatchRules:
        plan = self.plan
        return PatchRules(
            recipe=plan.recipe,
            classes=plan.nomenclature.classes,
            published=plan.published,
            has_partners=plan.partners is not None,
            pairs_only=plan.pairs_only,
        )

    @cached_property
    def _partitions(self) -> dict[str, list[int]]:
        """Partitions of the map that each tile overlaps, by position."""
        usable = self.plan.usable
        found = partitions_of_tiles(self.landcover.spatial_partitions, [self.plan.grids(tile)[0] for tile in usable])
        return {tile.name: partitions for tile, partitions in zip(usable, found, strict=True)}

    @cached_property
    def _countries(self) -> Delayed | None:
        plan = self.plan
        if not plan.countries:
            return None
        return self._task("countries", FIRST, partial(read_countries, plan.countries))

    @cached_property
    def _layers(self) -> dict[str, Delayed]:
        attributes = self.plan.recipe.attributes
        return {
            name: self._task(f"layer-{name}", FIRST, partial(read_attribute, path, attributes[name].column))
            for name, path in self.plan.layers.items()
        }


def stage_of(task: str) -> str | None:
    """Return the stage of progress of a task of a tile; ``None`` if it is too short to be shown."""
    return {"labels": "labels", "patches": "patches"}.get(task, "bands" if task in BAND_RESOLUTION_M else None)
