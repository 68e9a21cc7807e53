"""A job from its options to its result: plan, build, resume, publish."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import dask
import pandas as pd
from dask.utils import format_bytes
from distributed import Client, performance_report
from rich.console import Console

from reben_dask.atomic import remove
from reben_dask.cluster import connect, describe
from reben_dask.dashboard.jobs import DashboardReporter, add_page
from reben_dask.environment import require_building
from reben_dask.errors import InputError, OutputError
from reben_dask.formats.columns import KEPT, OVERLAP_PX, S1_GAPS
from reben_dask.formats.dataset import (
    CATALOGUE,
    COMPARISON_FILE,
    FLAGGED_METADATA_FILE,
    HISTOGRAMS_FILE,
    LMDB,
    METADATA_FILE,
    PERFORMANCE_FILE,
    REPORT,
    RUN,
    STATISTICS,
    RunRecord,
)
from reben_dask.formats.lmdb import Shard, ShardIndex, shard_name
from reben_dask.formats.sample_shards import WEBDATASET
from reben_dask.job.correct import NOTHING_CORRECTED, CorrectionResult, correct_products
from reben_dask.job.global_steps import run_global_steps
from reben_dask.job.graph import STAGES
from reben_dask.job.overlaps import count_conflicts
from reben_dask.job.plan import (
    Plan,
    changed_landcover,
    make_plan,
    origin_of,
    require_known_codes_of,
    with_known_landcover,
)
from reben_dask.job.preflight import require_memory, require_workers
from reben_dask.job.published import Published
from reben_dask.job.record import concat_counts, counts_from_json, counts_to_json, describe_dataset, sum_counts
from reben_dask.job.scheduling import Tasks, batches
from reben_dask.job.sentinel1 import Sentinel1Inputs
from reben_dask.job.show import show_differences, show_failures, show_note, show_plan, show_result
from reben_dask.job.tasks import (
    compare_with_published,
    export_lmdb,
    export_samples,
    export_tile_archive,
    export_tile_tree,
    join_archives,
    join_sums,
    sort_for_job,
    write_statistics,
)
from reben_dask.job.tiles import MAX_INITIAL_FAILURES, TileBuilder, sums_file, table_folder
from reben_dask.options import ClusterOptions, JobOptions, Sen2CorOptions
from reben_dask.progress import StageProgress, cells_of_notebook, console
from reben_dask.recipes import load_recipe
from reben_dask.sources.landcover import SortedMap, is_sorted_landcover, open_any_landcover
from reben_dask.sources.published.metadata import metadata_files
from reben_dask.sources.remote import without_secrets
from reben_dask.sources.vector_files import absolute_path
from reben_dask.stores.cubes import consolidate_store
from reben_dask.stores.lmdb import is_on_network_disk, plan_shards
from reben_dask.stores.metadata import write_metadata
from reben_dask.stores.patch_table import part_files
from reben_dask.stores.sample_shards import plan_sample_shards, write_index
from reben_dask.stores.stac import write_catalogue
from reben_dask.stores.trees import write_tables
from reben_dask.wording import counted
from reben_dask.workspace import TILES, Output, explaining_full_disk, free_bytes

SUMS_PER_TASK = 64
"""Files of sums that a task adds up: about 0.6 MB each."""

# The job


class JobResult(NamedTuple):
    """Result of a job that did not fail; it is complete if no tile failed and any patch is kept."""

    needs_report: bool
    """True if the report is missing or was interrupted."""
    is_complete: bool


def run_job(  # noqa: PLR0913 - the options of a command
    options: JobOptions,
    cluster: ClusterOptions | Client,
    correction: Sen2CorOptions | None = None,
    *,
    dry_run: bool = False,
    overwrite: bool = False,
    restart: bool = False,
    with_performance: bool = True,
    quiet: bool = True,
) -> JobResult:
    """Run a job, and print its plan, progress and result.

    Parameters
    ----------
    options : JobOptions
        Inputs and choices.
    cluster : ClusterOptions or Client
        Cluster to start or to connect to, or the client of one.
    correction : Sen2CorOptions, optional
        Program and settings for the L1C products of ``options``, which are corrected first.
    dry_run, overwrite, restart : bool
        Stop after the plan; replace the dataset in ``out`` once the new one is complete; discard an unfinished job.
    with_performance : bool
        Write Dask's performance report, which takes half a second or more.
    quiet : bool
        Keep Dask's own log lines out of the terminal.

    Raises
    ------
    RebenError
        If the user has to fix something; nothing is published then, and finished tiles are kept.
    """
    start = perf_counter()
    require_building()
    terminal = console()
    workers = describe(cluster)
    output = Output(options.out.absolute())
    output.require_folder()
    corrected = _correct(options, cluster, correction or Sen2CorOptions(), dry_run=dry_run, quiet=quiet)
    if corrected.waiting:
        terminal.print("The plan of the dataset follows once the L2A products are complete.")
        return JobResult(needs_report=False, is_complete=True)
    plan = plan_of(options, corrected)
    output = output.with_exports(plan.export_names)
    earlier = output.earlier_origin()
    plan = with_known_landcover(plan, earlier, output.landcover)
    origin = origin_of(plan)
    if not dry_run:
        _recover(output, terminal)
    if (finished := output.finished(origin)) and not overwrite:
        terminal.print(f"{output.root} is complete and was built from the same inputs; nothing to do.")
        if options.title not in (None, finished.title):
            show_note(terminal, f"It keeps its title, {finished.title!r}; --overwrite builds it with the new one.")
        return JobResult(not (output.root / REPORT).exists(), _has_patches(finished))
    with _naming_sorted_map(changed_landcover(plan, earlier, output.landcover)):
        output.check(origin, overwrite=overwrite, restart=restart)
    require_known_codes_of(plan, output.landcover)
    show_plan(terminal, plan, output, workers)
    if not restart and (done := len(output.state.done(TILES))):
        show_note(terminal, f"{done:,} of {len(plan.tiles):,} tiles were finished by an earlier attempt, and are kept.")
    _show_notes(terminal, disk_shortage(plan, output))
    if dry_run:
        return JobResult(needs_report=False, is_complete=True)
    with connect(cluster, quiet=quiet) as client:
        require_memory(client, plan.worker_bytes)
        terminal.print(f"Dashboard: {client.dashboard_link}", highlight=False, soft_wrap=True)
        if page := add_page(client):
            terminal.print(f"Tiles:     {page}", highlight=False, soft_wrap=True)
        with output.owned() as lock_note, explaining_full_disk(output.root):
            # Another job may have written here since.
            output.check(origin, overwrite=overwrite, restart=restart)
            paths = {tile.name: without_secrets(tile.location) for tile in plan.tiles}
            paths |= {product.name: without_secrets(product.location) for product in plan.damaged}
            output.start(origin, paths, restart=restart)
            _show_notes(terminal, lock_note, *require_workers(client, plan, output.work))
            with (
                _noting_finished_tiles(terminal, plan, output),
                DashboardReporter(client, output.job, _facts(plan, output)) as reporter,
            ):
                report = performance_report(output.run / PERFORMANCE_FILE) if with_performance else None
                seconds = {"start": perf_counter() - start}
                built = _build_with_progress(client, plan, output, terminal, reporter, report)
                record = describe_dataset(output, plan, origin, built.counts, seconds | built.seconds, workers)
                _show_notes(terminal, output.publish())
    show_result(terminal, plan, output, built.counts, sum(record.seconds.values()))
    if built.differences is not None:
        show_differences(terminal, *built.differences, output.root / RUN / COMPARISON_FILE)
    show_failures(terminal, record.failures, len(plan.tiles) + len(plan.damaged))
    return JobResult(needs_report=True, is_complete=not record.failures and _has_patches(record))


def _show_notes(terminal: Console, *notes: str | None) -> None:
    for note in filter(None, notes):
        show_note(terminal, note)


def _correct(
    options: JobOptions,
    cluster: ClusterOptions | Client,
    correction: Sen2CorOptions,
    *,
    dry_run: bool,
    quiet: bool,
) -> CorrectionResult:
    """Correct L1C products, if any, which may take days, once the other inputs can be opened."""
    if not options.l1c:
        return NOTHING_CORRECTED
    load_recipe(options.recipe)
    open_any_landcover(absolute_path(options.landcover), code_column=options.code_column)
    out = options.out.absolute()
    folder = options.l2a or out.with_name(f"{out.name}-l2a")
    return correct_products(options.l1c, folder, correction, cluster, dry_run=dry_run, quiet=quiet)


def _recover(output: Output, terminal: Console) -> None:
    """Finish the publication of an earlier job that was interrupted."""
    if output.needs_recovery:
        with output.owned():
            show_note(terminal, f"The interrupted publication of {output.root} by an earlier job is now complete.")


def _facts(plan: Plan, output: Output) -> dict[str, str | int]:
    """Describe a job for the page of tiles."""
    return {"recipe": plan.recipe.title, "out": str(output.root), "tiles": len(plan.tiles)}


def _build_with_progress(
    client: Client,
    plan: Plan,
    output: Output,
    terminal: Console,
    reporter: DashboardReporter,
    report: performance_report | None,
) -> Built:
    """Build a dataset; its ``seconds`` also have that of Dask's report, if there is one."""
    with StageProgress(terminal, stage_totals(plan), reporter, *cells_of_notebook()) as progress:
        if report is None:
            return build_dataset(client, plan, output, progress)
        report.__enter__()
        built = build_dataset(client, plan, output, progress)
        end = perf_counter()
        # Not after an error, when there may be no scheduler to ask.
        report.__exit__(None, None, None)
    return replace(built, seconds={**built.seconds, "report": perf_counter() - end})


def disk_shortage(plan: Plan, output: Output) -> str | None:
    """Return one sentence if the disk has less room than the plan may need."""
    free = free_bytes(output.root)
    needed = plan.cube_bytes + plan.lmdb_bytes + plan.table_bytes + plan.export_bytes
    if free >= needed:
        return None
    return f"The disk of {output.root} has {format_bytes(free)} free, and this job may need {format_bytes(needed)}."


@contextmanager
def _naming_sorted_map(copy: SortedMap | None) -> Iterator[None]:
    """Add the path of the earlier job's map to the error about other inputs."""
    try:
        yield
    except OutputError as error:
        if copy is None:
            raise
        raise OutputError(f"{error} The land-cover map of that job, sorted, is {copy.path}.") from None


def plan_of(options: JobOptions, corrected: CorrectionResult = NOTHING_CORRECTED) -> Plan:
    """Check the inputs of a job, with products made of its L1C ones; see :func:`~reben_dask.job.plan.make_plan`."""
    s2 = (*options.s2, *map(str, corrected.products))
    if not (s2 or options.s2_stac):
        raise _no_products_error(corrected)
    title = options.title or options.out.absolute().name
    given = [file.absolute() for path in options.published for file in metadata_files(path)]
    metadata = {file.resolve(): file for file in given}.values()
    lists = {"pairs": options.s1_pairs, "snow_list": options.snow_list, "cloud_list": options.cloud_list}
    plan = make_plan(
        s2=s2,
        s2_stac=options.s2_stac,
        landcover=options.landcover,
        recipe=load_recipe(options.recipe),
        countries=options.countries,
        layers=options.layers,
        code_column=options.code_column,
        lmdb_shards=options.lmdb_shards,
        sentinel1=Sentinel1Inputs(patches=options.s1, scenes=options.s1_scenes),
        published=Published(tuple(metadata), **{name: file and file.absolute() for name, file in lists.items()}),
        exports=options.exports,
        keep_reprocessed=options.keep_reprocessed,
        failed=corrected.failures,
        notes=filter(None, [corrected.note]),
    )
    return replace(plan, title=title)


def _no_products_error(corrected: CorrectionResult) -> InputError:
    if not corrected.failures:
        return InputError("There are no Sentinel-2 products; give s2 (L2A), or l1c (L1C).")
    errors = " ".join(str(failure.error) for failure in corrected.failures[:MAX_INITIAL_FAILURES])
    return InputError(f"sen2cor corrected none of {counted(len(corrected.failures), 'L1C product')}. {errors}")


def _has_patches(record: RunRecord) -> bool:
    return bool(record.counts.get("status", {}).get(KEPT))


@contextmanager
def _noting_finished_tiles(terminal: Console, plan: Plan, output: Output) -> Iterator[None]:
    try:
        yield
    except BaseException:
        done = len(output.state.done(TILES))
        show_note(terminal, f"{done:,} of {len(plan.tiles):,} tiles done. Run the same command again to resume.")
        raise


# Its stages


def stage_totals(plan: Plan) -> dict[str, int]:
    """Return the steps of each stage."""
    tiles = len(plan.usable)
    counts = {"bands": tiles * len(plan.recipe.bands), "labels": tiles, "patches": len(plan.tiles)}
    return {
        "landcover": plan.landcover.polygons or 1,
        **{stage: counts[stage] for stage in STAGES},
        **({"choice": len(plan.tiles)} if plan.needs_global_steps else {}),
        "metadata": 1,
        "lmdb": plan.candidates,
        **({"geotiff": plan.candidates} if plan.tree_exports else {}),
        **({"samples": plan.candidates} if plan.shard_forms else {}),
    }


@dataclass(frozen=True)
class Built:
    """Results of a job besides its artefacts: counts of patches, and wall time by step (s)."""

    counts: pd.DataFrame
    seconds: dict[str, float]
    differences: tuple[pd.DataFrame, pd.DataFrame] | None = None
    """Differences from published metadata, by tile and by class."""


def build_dataset(client: Client, plan: Plan, output: Output, progress: StageProgress) -> Built:
    """Build everything in the plan below ``output.building``; the first error of a task is raised as on its worker."""
    return _Builder(Tasks(client, output.job), plan, output, progress).build()


@dataclass
class _Builder:
    """Stages of a job; each resumes where an earlier attempt ended."""

    tasks: Tasks
    plan: Plan
    output: Output
    progress: StageProgress
    seconds: dict[str, float] = field(default_factory=dict)

    def build(self) -> Built:
        with self._clock("landcover"):
            landcover = self._sort_landcover()
        appends = self._appends_to_lmdb
        with self._clock("tiles"):
            builder = TileBuilder(self.tasks, self.plan, landcover, self.output, self.progress, appends_to_lmdb=appends)
            counts = builder.run()
        if self.plan.needs_global_steps:
            with self._clock("choice"):
                counts = self._run_global_steps(counts)
        with self._clock("overlaps"):
            counts = concat_counts([counts, count_conflicts(self.tasks, self.plan, self.output.patches)])
        with self._clock("metadata"):
            differences = self._write_tables()
        if appends:
            pieces = [part.stem for part in part_files(self.output.patches)]
        else:
            with self._clock("lmdb"):
                pieces = self._export_lmdb(counts)
        with self._clock("statistics"):
            self._write_statistics(pieces)
        if self.plan.tree_exports:
            with self._clock("geotiff"):
                self._export_geotiff(counts)
        if self.plan.shard_forms:
            with self._clock("samples"):
                self._export_samples(counts)
        return Built(counts, self.seconds, differences)

    @property
    def _appends_to_lmdb(self) -> bool:
        """True if the LMDB is filled while tiles are built: a single one on a local disk, without global steps."""
        is_local = not dask.config.get("temporary-directory", None) and not is_on_network_disk(self.output.building)
        return is_local and self.plan.lmdb_shards is None and not self.plan.needs_global_steps

    @contextmanager
    def _clock(self, step: str) -> Iterator[None]:
        start = perf_counter()
        yield
        self.seconds[step] = perf_counter() - start

    def _sort_landcover(self) -> SortedMap:
        """Return the map if it is sorted, else its sorted copy, which an earlier job may have made."""
        given = self.plan.landcover
        if isinstance(given, SortedMap):
            landcover = given
        else:
            landcover = SortedMap(self.output.landcover(given.cache_name))
            if not is_sorted_landcover(landcover.folder):
                with self.tasks.progress_topic("landcover", self.progress) as topic:
                    self.tasks.run("sort-landcover", sort_for_job, given, landcover.folder, topic)
        self.progress.finish("landcover")
        return landcover

    def _run_global_steps(self, counts: pd.DataFrame) -> pd.DataFrame:
        """Run unfinished global steps from the start: they overwrite the table that they read."""
        output = self.output
        if done := output.state.done("choice"):
            self.progress.finish("choice")
            return counts_from_json(done["all"])
        remove(output.patches)
        shutil.copytree(output.building / table_folder(self.plan), output.patches)
        # The part files lack the columns that this was counted from.
        observed = counts[counts["measure"].isin([OVERLAP_PX, S1_GAPS])]
        counts = concat_counts([run_global_steps(self.tasks, self.plan, output.patches, self.progress), observed])
        output.state.mark_done("choice", "all", counts_to_json(counts))
        return counts

    def _write_tables(self) -> tuple[pd.DataFrame, pd.DataFrame] | None:
        plan, output, run = self.plan, self.output, self.tasks.run
        parts = part_files(output.patches)
        run("metadata", write_metadata, parts, output.work, plan.nomenclature.classes)
        for name in (METADATA_FILE, FLAGGED_METADATA_FILE):
            output.accept(name)
        grids = {tile.name: plan.grids(tile)[0] for tile in plan.tiles}
        contents = plan.recipe.catalogue(plan.nomenclature, has_sentinel1=plan.partners is not None)
        run("catalogue", write_catalogue, parts, grids, output.work / CATALOGUE, contents)
        output.accept(CATALOGUE)
        run("consolidate", consolidate_store, output.cubes, len(plan.usable))
        differences = None
        if published := plan.published.metadata:
            differences = run("comparison", compare_with_published, parts, published, output.run / COMPARISON_FILE)
        self.progress.advance("metadata")
        return differences

    def _export_lmdb(self, counts: pd.DataFrame) -> list[str]:
        """Write the LMDB; return the names of its environments."""
        plan, output, progress = self.plan, self.output, self.progress
        status = counts[counts["measure"] == "status"]
        kept = status[status["key"] == KEPT].set_index("tile")["patches"]
        patches = [(part, int(kept.get(part.stem, 0))) for part in part_files(output.patches)]
        shards = plan_shards(patches, plan.lmdb_shards or 1)
        single = plan.lmdb_shards is None
        names = ["" if single else shard_name(number, len(shards)) for number in range(len(shards))]
        progress.start("lmdb", sum(count for _, count in patches))
        earlier = output.state.done("lmdb").items()
        done = {name: Shard(**record) for name, record in earlier if (output.building / sums_file(name)).exists()}
        with self.tasks.progress_topic("lmdb", progress) as topic:
            folder = output.work / LMDB
            futures = [
                self.tasks.submit(
                    f"lmdb-{name}",
                    export_lmdb,
                    folder / name,
                    ranges,
                    output.cubes,
                    name,
                    output.work / sums_file(name),
                    topic,
                )
                for name, ranges in zip(names, shards, strict=True)
                if name not in done
            ]
            progress.advance("lmdb", sum(record.patches for record in done.values()))
            for _, record in self.tasks.results(futures):
                output.accept(Path(LMDB, record.path))
                output.accept(sums_file(record.path))
                output.state.mark_done("lmdb", record.path, asdict(record))
                done[record.path] = record
        progress.finish("lmdb")
        if not single:
            ShardIndex(plan.nomenclature.classes, tuple(done[name] for name in names)).write(output.building / LMDB)
        return names

    def _write_statistics(self, pieces: Sequence[str]) -> None:
        """Add up the sums of the pieces of the LMDB; many are first joined in groups, on all workers."""
        output = self.output
        sums = [output.building / sums_file(name) for name in pieces]
        while len(sums) > SUMS_PER_TASK:
            groups = batches(sums, SUMS_PER_TASK)
            joined = [output.work / sums_file(f"{len(groups)}-{number}") for number in range(len(groups))]
            pairs = zip(groups, joined, strict=True)
            self.tasks.wait([self.tasks.submit(f"sums-{file.stem}", join_sums, group, file) for group, file in pairs])
            sums = joined
        files = (output.building / STATISTICS, output.run / HISTOGRAMS_FILE)
        self.tasks.run("statistics", write_statistics, sums, self.plan.nomenclature, *files)

    def _export_geotiff(self, counts: pd.DataFrame) -> None:
        plan, output, layout = self.plan, self.output, self.plan.layout
        parts, joined = part_files(output.patches), output.building / "parts"
        folders = sum_counts(counts, "status").get(KEPT, 0) * layout.folders_per_patch
        self.progress.start("geotiff", folders * len(plan.tree_exports))
        exports = {
            "geotiff": (export_tile_tree, output.building, output.work / "trees"),
            "geotiff-archives": (export_tile_archive, joined),
        }
        with self.tasks.progress_topic("geotiff", self.progress) as topic:
            for name in plan.tree_exports:
                done = output.state.done(name)
                waiting = {f"{name}-{part.stem}": part for part in parts if part.stem not in done}
                futures = [
                    self.tasks.submit(key, *exports[name], layout.trees, part, output.cubes, topic)
                    for key, part in waiting.items()
                ]
                for key, _ in self.tasks.results(futures):
                    output.state.mark_done(name, waiting[key].stem)
        if "geotiff-archives" in plan.tree_exports:
            self.tasks.run("join-archives", join_archives, output.building, layout.trees, joined)
        if layout.tables:
            self.tasks.run("tree-tables", write_tables, layout, parts, output.building)
        self.progress.finish("geotiff")

    def _export_samples(self, counts: pd.DataFrame) -> None:
        plan, output = self.plan, self.output
        kept = sum_counts(counts, "status").get(KEPT, 0)
        self.progress.start("samples", kept * len(plan.shard_forms))
        shards = self.tasks.run("plan-samples", plan_sample_shards, part_files(output.patches))
        with self.tasks.progress_topic("samples", self.progress) as topic:
            for form in plan.shard_forms:
                (output.building / form.name).mkdir(exist_ok=True)
                done = output.state.done(form.name)
                waiting = {f"{form.name}-{shard.file}": shard for shard in shards if str(shard.file) not in done}
                self.progress.advance("samples", sum(shard.patches for shard in shards if str(shard.file) in done))
                task = (export_samples, output.work / form.name, form, plan.sample_contents, output.cubes, topic)
                futures = [self.tasks.submit(key, *task, shard) for key, shard in waiting.items()]
                for key, _ in self.tasks.results(futures):
                    file = waiting[key].file
                    output.accept(Path(form.name, f"{file}{form.suffix}"))
                    output.state.mark_done(form.name, str(file))
                if form == WEBDATASET:
                    write_index(output.building / form.name, shards, plan.nomenclature.classes)
        self.progress.finish("samples")
