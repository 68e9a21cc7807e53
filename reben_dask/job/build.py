"""Running a plan on a cluster, stage after stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import pandas as pd
from distributed import Client, Future, as_completed

from reben_dask.cluster import thread_count
from reben_dask.job.graph import STAGES, batch_graph
from reben_dask.job.output import Output
from reben_dask.job.plan import Plan
from reben_dask.job.progress import StageProgress
from reben_dask.job.tally import add_up
from reben_dask.job.tasks import export_lmdb
from reben_dask.job.window import batch_size, run_batches
from reben_dask.patches.decision import KEPT
from reben_dask.sources.landcover import read_sorted_landcover, sort_landcover
from reben_dask.stores.cubes import consolidate, create_store
from reben_dask.stores.lmdb_export import plan_shards, shard_name, write_index
from reben_dask.stores.metadata import write_metadata
from reben_dask.stores.patch_table import part_files


def stage_totals(plan: Plan) -> dict[str, int]:
    """Tasks of each stage that progress is shown for."""
    tiles = len(plan.usable)
    counts = {"bands": tiles * len(plan.recipe.bands), "labels": tiles, "patches": len(plan.tiles)}
    return {"landcover": 1, **{stage: counts[stage] for stage in STAGES}, "metadata": 1, "lmdb": plan.candidates}


def build_dataset(
    client: Client, plan: Plan, output: Output, progress: StageProgress
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Make everything that the plan asks for, below ``output.building``.

    Parameters
    ----------
    client : Client
        The cluster; its workers see the paths of the plan and of the output.
    plan : Plan
        The job.
    output : Output
        Where it goes; begun, not yet published.
    progress : StageProgress
        Told of each task that is done.

    Returns
    -------
    tallies : DataFrame
        Counts of patches by tile; see :func:`~reben_dask.job.tally.tally`.
    seconds : dict of str to float
        Wall time of each step.

    Raises
    ------
    Exception
        The error of the first task that fails, as it was raised on the worker.
    """
    tasks = _Tasks(client, output.job)
    seconds: dict[str, float] = {}
    with _clock(seconds, "landcover"):
        codes = plan.nomenclature.codes
        tasks.run("sort-landcover", sort_landcover, plan.landcover, output.landcover, known_codes=codes, area=plan.area)
        progress.advance("landcover")
    with _clock(seconds, "tiles"):
        tallies = _build_tiles(tasks, plan, output, progress)
    with _clock(seconds, "metadata"):
        parts = part_files(output.patches)
        tasks.run("metadata", write_metadata, parts, output.building, plan.nomenclature.classes)
        tasks.run("consolidate", consolidate, output.cubes)
        progress.advance("metadata")
    with _clock(seconds, "lmdb"):
        _export_lmdb(tasks, plan, output, tallies, progress)
    return tallies, seconds


class _Tasks:
    """Single tasks of one job; its id keeps their names apart from those of other jobs on the cluster."""

    def __init__(self, client: Client, job: str) -> None:
        self.client, self.job = client, job

    def submit(self, name: str, function: Any, *args: Any, **kwargs: Any) -> Future:
        return self.client.submit(function, *args, **kwargs, key=f"{name}-{self.job}")

    def run(self, name: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        return self.submit(name, function, *args, **kwargs).result()


def _build_tiles(tasks: _Tasks, plan: Plan, output: Output, progress: StageProgress) -> pd.DataFrame:
    create_store(output.cubes, {"recipe": plan.recipe.name, "classes": list(plan.nomenclature.classes)})
    landcover = read_sorted_landcover(output.landcover)

    def build(tiles: Sequence[Any]) -> dict[str, list[Any]]:
        graph = batch_graph(plan, tiles, landcover, cubes=output.cubes, table=output.patches, job=tasks.job)
        return graph.stages

    size = batch_size(thread_count(tasks.client))
    return add_up(run_batches(tasks.client, plan.tiles, build, size, progress.advance))


def _export_lmdb(tasks: _Tasks, plan: Plan, output: Output, tallies: pd.DataFrame, progress: StageProgress) -> None:
    status = tallies[tallies["measure"] == "status"]
    kept = status[status["key"] == KEPT].set_index("tile")["patches"]
    counts = [(part, int(kept.get(part.stem, 0))) for part in part_files(output.patches)]
    single = plan.lmdb_shards is None
    shards = plan_shards(counts, plan.lmdb_shards or 1)
    names = ["" if single else shard_name(number, len(shards)) for number in range(len(shards))]
    topic = f"lmdb-{tasks.job}"
    progress.begin("lmdb", sum(count for _, count in counts))
    tasks.client.subscribe_topic(topic, lambda event: progress.advance("lmdb", event[1]))
    futures = [
        tasks.submit(f"lmdb-{number:05d}", export_lmdb, output.lmdb / name, ranges, output.cubes, name, topic)
        for number, (name, ranges) in enumerate(zip(names, shards, strict=True))
    ]
    try:
        for future in as_completed(futures):
            future.result()
    finally:
        tasks.client.unsubscribe_topic(topic)
    progress.finish("lmdb")
    if not single:
        write_index(output.lmdb, tasks.client.gather(futures), plan.nomenclature.classes)


@contextmanager
def _clock(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = perf_counter()
    yield
    seconds[step] = perf_counter() - start
