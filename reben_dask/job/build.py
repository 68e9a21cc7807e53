"""Running a plan on a cluster, stage after stage."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import pandas as pd
from distributed import Client

from reben_dask.formats.columns import KEPT
from reben_dask.formats.dataset import COMPARISON_FILE, FLAGGED_METADATA_FILE, METADATA_FILE
from reben_dask.formats.lmdb import Shard, ShardIndex, shard_name
from reben_dask.job.export import export_tile_archive, export_tile_tree, join_archives
from reben_dask.job.graph import STAGES
from reben_dask.job.plan import Plan
from reben_dask.job.second_look import look_again
from reben_dask.job.submit import Tasks
from reben_dask.job.tally import add_up, from_rows, to_rows, total
from reben_dask.job.tasks import compare_with_published, export_lmdb, sort_for_job
from reben_dask.job.tiles import TileBuilder, table_folder
from reben_dask.output.files import remove
from reben_dask.output.folder import Output
from reben_dask.patches.reference_map import OVERLAP_PX
from reben_dask.progress import StageProgress
from reben_dask.sources.landcover import SortedMap, is_sorted_landcover
from reben_dask.stores.cubes import consolidate_store
from reben_dask.stores.lmdb_export import plan_shards
from reben_dask.stores.metadata import write_metadata
from reben_dask.stores.patch_table import part_files
from reben_dask.stores.trees import write_tables


def stage_totals(plan: Plan) -> dict[str, int]:
    """Steps of each stage that progress is shown for; each polygon of the map passes twice when it is sorted."""
    tiles = len(plan.usable)
    counts = {"bands": tiles * len(plan.recipe.bands), "labels": tiles, "patches": len(plan.tiles)}
    stages = {stage: counts[stage] for stage in STAGES}
    choice = {"choice": len(plan.tiles)} if plan.looks_again else {}
    exports = {"geotiff": plan.candidates} if plan.exports else {}
    last = {"metadata": 1, "lmdb": plan.candidates, **exports}
    return {"landcover": 2 * plan.landcover.polygons or 1, **stages, **choice, **last}


@dataclass(frozen=True)
class Built:
    """What a job found out on its way.

    Parameters
    ----------
    tallies : DataFrame
        Counts of patches by tile; see :func:`~reben_dask.job.tally.tally`.
    seconds : dict of str to float
        Wall time of each step.
    differences : tuple of DataFrame or None
        With published metadata: differences by tile and by class.
    """

    tallies: pd.DataFrame
    seconds: dict[str, float]
    differences: tuple[pd.DataFrame, pd.DataFrame] | None = None


def build_dataset(client: Client, plan: Plan, output: Output, progress: StageProgress) -> Built:
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

    Raises
    ------
    Exception
        The error of the first task that fails, as it was raised on the worker.
    """
    tasks = Tasks(client, output.job)
    seconds: dict[str, float] = {}
    with _clock(seconds, "landcover"):
        landcover = _sorted_landcover(tasks, plan, output, progress)
    with _clock(seconds, "tiles"):
        tallies = TileBuilder(tasks, plan, landcover, output, progress).run()
    if plan.looks_again:
        with _clock(seconds, "choice"):
            tallies = _look_again(tasks, plan, output, tallies, progress)
    with _clock(seconds, "metadata"):
        differences = _write_tables(tasks, plan, output)
        progress.advance("metadata")
    with _clock(seconds, "lmdb"):
        _export_lmdb(tasks, plan, output, tallies, progress)
    if plan.exports:
        with _clock(seconds, "geotiff"):
            _export_geotiff(tasks, plan, output, tallies, progress)
    return Built(tallies, seconds, differences)


def _look_again(
    tasks: Tasks, plan: Plan, output: Output, tallies: pd.DataFrame, progress: StageProgress
) -> pd.DataFrame:
    """The second look, from the beginning unless it is finished: what it writes it also reads."""
    done = output.state.done("choice")
    if done:
        progress.finish("choice")
        return from_rows(done["all"])
    # What the part files do not keep is counted once, with the tiles.
    contested = tallies[tallies["measure"] == OVERLAP_PX]
    remove(output.patches)
    shutil.copytree(output.building / table_folder(plan), output.patches)
    tallies = add_up([look_again(tasks, plan, output, progress), contested])
    output.state.mark("choice", "all", to_rows(tallies))
    return tallies


def _write_tables(tasks: Tasks, plan: Plan, output: Output) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Write the metadata files and gather the metadata of the cubes; compare with what was published."""
    parts = part_files(output.patches)
    tasks.run("metadata", write_metadata, parts, output.work, plan.nomenclature.classes)
    for name in (METADATA_FILE, FLAGGED_METADATA_FILE):
        output.keep(name)
    tasks.run("consolidate", consolidate_store, output.cubes, len(plan.usable))
    if not plan.published.metadata:
        return None
    place = output.run / COMPARISON_FILE
    return tasks.run("comparison", compare_with_published, parts, plan.published.metadata, place)  # type: ignore[no-any-return]


def _sorted_landcover(tasks: Tasks, plan: Plan, output: Output, progress: StageProgress) -> SortedMap:
    """The map as it was given, if that is sorted, or a sorted copy, if there is one; else one is made."""
    if isinstance(plan.landcover, SortedMap):
        landcover = plan.landcover
    else:
        landcover = SortedMap(output.landcover(plan.landcover.cache_name))
        if not is_sorted_landcover(landcover.folder):
            with tasks.heard("landcover", progress) as topic:
                tasks.run("sort-landcover", sort_for_job, plan.landcover, landcover.folder, topic)
        landcover.require_known(plan.nomenclature.codes)
    progress.finish("landcover")
    return landcover


def _export_lmdb(tasks: Tasks, plan: Plan, output: Output, tallies: pd.DataFrame, progress: StageProgress) -> None:
    status = tallies[tallies["measure"] == "status"]
    kept = status[status["key"] == KEPT].set_index("tile")["patches"]
    counts = [(part, int(kept.get(part.stem, 0))) for part in part_files(output.patches)]
    single = plan.lmdb_shards is None
    shards = plan_shards(counts, plan.lmdb_shards or 1)
    names = ["" if single else shard_name(number, len(shards)) for number in range(len(shards))]
    progress.begin("lmdb", sum(count for _, count in counts))
    done = {name: Shard(**record) for name, record in output.state.done("lmdb").items()}
    with tasks.heard("lmdb", progress) as topic:
        folder = output.work / "lmdb"
        futures = [
            tasks.submit(f"lmdb-{name}", export_lmdb, folder / name, ranges, output.cubes, name, topic)
            for name, ranges in zip(names, shards, strict=True)
            if name not in done
        ]
        progress.advance("lmdb", sum(record.patches for record in done.values()))
        for _, record in tasks.results(futures):
            output.keep(Path("lmdb", record.path))
            output.state.mark("lmdb", record.path, asdict(record))
            done[record.path] = record
    progress.finish("lmdb")
    if not single:
        ShardIndex(plan.nomenclature.classes, tuple(done[name] for name in names)).write(output.lmdb)


def _export_geotiff(tasks: Tasks, plan: Plan, output: Output, tallies: pd.DataFrame, progress: StageProgress) -> None:
    layout = plan.layout
    parts, joined = part_files(output.patches), output.building / "parts"
    each = layout.folders_per_patch
    progress.begin("geotiff", total(tallies, "status").get(KEPT, 0) * each * len(plan.exports))
    exports = {
        "geotiff": (export_tile_tree, output.building, output.work / "trees"),
        "geotiff-archives": (export_tile_archive, joined),
    }
    with tasks.heard("geotiff", progress) as topic:
        for name in plan.exports:
            done = output.state.done(name)
            waiting = {f"{name}-{part.stem}": part for part in parts if part.stem not in done}
            futures = [
                tasks.submit(key, *exports[name], layout.trees, part, output.cubes, topic)
                for key, part in waiting.items()
            ]
            for key, _ in tasks.results(futures):
                output.state.mark(name, waiting[key].stem)
    if "geotiff-archives" in plan.exports:
        tasks.run("join-archives", join_archives, output.building, layout.trees, joined)
    if layout.tables:
        tasks.run("tree-tables", write_tables, layout, parts, output.building)
    progress.finish("geotiff")


@contextmanager
def _clock(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = perf_counter()
    yield
    seconds[step] = perf_counter() - start
