"""One job from its options to its result: plan, print the plan, run it, report."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from dask.utils import format_bytes
from distributed import performance_report
from rich.console import Console

from reben_dask.cluster import ClusterOptions, connect
from reben_dask.errors import InputError
from reben_dask.formats.columns import KEPT
from reben_dask.formats.dataset import COMPARISON_FILE, PERFORMANCE_FILE, REPORT
from reben_dask.job.announcing import Announcer, add_page
from reben_dask.job.build import build_dataset, stage_totals
from reben_dask.job.description import describe_dataset
from reben_dask.job.origin import origin_of
from reben_dask.job.plan import Plan
from reben_dask.job.planning import make_plan
from reben_dask.job.preflight import require_memory, require_workers
from reben_dask.job.published import Published
from reben_dask.job.sentinel1 import Sentinel1Inputs
from reben_dask.job.show import show_differences, show_failures, show_note, show_plan, show_result
from reben_dask.output.folder import Output
from reben_dask.output.space import explaining_full_disk
from reben_dask.output.state import TILES_STAGE
from reben_dask.progress import StageProgress, cells_of_notebook, console
from reben_dask.recipes import load_recipe
from reben_dask.sources.published.metadata import metadata_files

_FILES = {"pairs": "s1_pairs", "snow_list": "snow_list", "cloud_list": "cloud_list"}


def disk_shortage(plan: Plan, output: Output) -> str | None:
    """One sentence if the disk has less room than the plan may need."""
    place = next(folder for folder in (output.root, *output.root.parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    needed = plan.cube_bytes + plan.lmdb_bytes + plan.table_bytes + plan.export_bytes
    if free >= needed:
        return None
    return f"{place} has {format_bytes(free)} free, and this job may need {format_bytes(needed)}."


def _plan_inputs(options: dict[str, Any]) -> dict[str, Any]:
    """Options of the command line as :func:`~reben_dask.job.planning.make_plan` takes them."""
    given = [file.absolute() for path in options.pop("published", ()) for file in metadata_files(path)]
    metadata = {file.resolve(): file for file in given}.values()
    files = {name: options.pop(option, None) for name, option in _FILES.items()}
    sentinel1 = Sentinel1Inputs(patches=options.pop("s1", None), scenes=options.pop("s1_scenes", None))
    layers = _layers(options.pop("layers", ()))
    return {
        **options,
        "recipe": load_recipe(options["recipe"]),
        "layers": layers,
        "sentinel1": sentinel1,
        "published": Published(tuple(metadata), **{name: file and file.absolute() for name, file in files.items()}),
    }


def _layers(given: Sequence[str]) -> dict[str, str]:
    """Files by attribute, from NAME=FILE."""
    layers: dict[str, str] = {}
    for name, _, file in (layer.partition("=") for layer in given):
        if not (name and file):
            raise InputError(f"--join {name!r} is not NAME=FILE, such as urbanisation=RegioStaR.gpkg.")
        if name in layers:
            raise InputError(f"--join gives {name} two layers, {layers[name]} and {file}; leave one of them out.")
        layers[name] = file
    return layers


class Ended(NamedTuple):
    """How a job ended that did not fail.

    Parameters
    ----------
    lacks_report : bool
        Whether there is a dataset without a report: a new one, or one whose report was interrupted.
    is_whole : bool
        Whether no tile was set aside, and any patch is kept.
    """

    lacks_report: bool
    is_whole: bool


def run_job(
    inputs: Mapping[str, Any],
    cluster: Mapping[str, Any],
    *,
    dry_run: bool = False,
    overwrite: bool = False,
    restart: bool = False,
) -> Ended:
    """Carry out one job, talking to the user as it goes.

    Parameters
    ----------
    inputs : mapping
        ``out`` (Path), ``recipe`` (name or path), and what :func:`~reben_dask.job.planning.make_plan` takes.
    cluster : mapping
        Fields of :class:`~reben_dask.cluster.ClusterOptions`.
    dry_run : bool
        Stop after the plan; nothing is computed or written.
    overwrite : bool
        Replace the dataset in ``out``, once the new one is complete.
    restart : bool
        Throw away what an unfinished job in ``out`` has done.

    Returns
    -------
    Ended
        Whether it lacks its report, and whether it lacks anything else.

    Raises
    ------
    RebenError
        If something is wrong that the user can mend; nothing is published then, and what is finished is kept.
    """
    start = perf_counter()
    terminal = console()
    options = ClusterOptions(**cluster)
    chosen = dict(inputs)
    output = Output(Path(chosen.pop("out")).absolute())
    output.require_folder()
    plan = make_plan(**_plan_inputs(chosen))
    output = output.with_exports(plan.export_names)
    origin = origin_of(plan)
    if output.needs_recovery and not dry_run:
        with output.owned():
            show_note(terminal, f"{output.root} was being published when an earlier job ended; this is finished now.")
    if output.is_finished(origin) and not overwrite:
        terminal.print(f"{output.root} is complete, and was made from the same inputs: there is nothing to do.")
        return Ended(lacks_report=not (output.root / REPORT).exists(), is_whole=_has_patches(output))
    output.check(origin, overwrite=overwrite, restart=restart)
    show_plan(terminal, plan, output, options.describe())
    if not restart and (done := len(output.state.done(TILES_STAGE))):
        show_note(terminal, f"{done:,} of {len(plan.tiles):,} tiles were finished by an earlier attempt, and are kept.")
    if shortage := disk_shortage(plan, output):
        show_note(terminal, shortage)
    if dry_run:
        return Ended(lacks_report=False, is_whole=True)
    with connect(options) as client:
        require_memory(client, plan.worker_bytes)
        terminal.print(f"Dashboard: {client.dashboard_link}", highlight=False, soft_wrap=True)
        if page := add_page(client):
            terminal.print(f"Tiles:     {page}", highlight=False, soft_wrap=True)
        with output.owned(), explaining_full_disk(output.root):
            # Another job may have been here since.
            output.check(origin, overwrite=overwrite, restart=restart)
            output.begin(origin, {tile.name: str(tile.path) for tile in plan.tiles}, restart=restart)
            for note in require_workers(client, plan, output.work):
                show_note(terminal, note)
            with (
                _telling_what_is_kept(terminal, plan, output),
                Announcer(client, output.job, _facts(plan, output)) as announcer,
            ):
                with (
                    _reported(output.run / PERFORMANCE_FILE),
                    StageProgress(terminal, stage_totals(plan), announcer, *cells_of_notebook()) as progress,
                ):
                    built = build_dataset(client, plan, output, progress)
                failures = output.state.failures()
                describe_dataset(output, plan, origin, built, options.describe())
                output.publish()
    show_result(terminal, plan, output, built.tallies, perf_counter() - start)
    if built.differences is not None:
        show_differences(terminal, *built.differences, output.root / "run" / COMPARISON_FILE)
    show_failures(terminal, failures, len(plan.tiles))
    return Ended(lacks_report=True, is_whole=not failures and _has_patches(output))


def _has_patches(output: Output) -> bool:
    """Whether any patch of a finished dataset is kept."""
    return bool((output.record() or {}).get("counts", {}).get("status", {}).get(KEPT))


def _facts(plan: Plan, output: Output) -> dict[str, Any]:
    """What the page of a scheduler shows of a job."""
    return {"recipe": plan.recipe.title, "out": str(output.root), "tiles": len(plan.tiles)}


@contextmanager
def _reported(file: Path) -> Iterator[None]:
    """Write Dask's performance report at the end, but after an error, when there may be no scheduler to ask."""
    report = performance_report(file)
    report.__enter__()
    yield
    report.__exit__(None, None, None)


@contextmanager
def _telling_what_is_kept(terminal: Console, plan: Plan, output: Output) -> Iterator[None]:
    try:
        yield
    except BaseException:
        done = len(output.state.done(TILES_STAGE))
        show_note(terminal, f"{done:,} of {len(plan.tiles):,} tiles are finished and kept; the same command goes on.")
        raise
