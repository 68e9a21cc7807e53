"""One job from its options to its result: plan, print the plan, run it, report."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from dask.utils import format_bytes
from distributed import performance_report
from rich.console import Console

from reben_dask.cluster import ClusterOptions, connect, explain_lost_workers, require_memory
from reben_dask.job.build import build_dataset, stage_totals
from reben_dask.job.output import Output
from reben_dask.job.plan import Plan, make_plan
from reben_dask.job.progress import StageProgress
from reben_dask.job.record import REPORT_FILE, write_record
from reben_dask.job.show import show_note, show_plan, show_result
from reben_dask.recipes import load_recipe


def disk_shortage(plan: Plan, output: Output) -> str | None:
    """One sentence if the disk has less room than the plan may need."""
    place = next(folder for folder in (output.root, *output.root.parents) if folder.is_dir())
    free, needed = shutil.disk_usage(place).free, plan.cube_bytes + plan.lmdb_bytes + plan.table_bytes
    if free >= needed:
        return None
    return f"{place} has {format_bytes(free)} free, and this job may need {format_bytes(needed)}."


def run_job(
    inputs: Mapping[str, Any], cluster: Mapping[str, Any], *, dry_run: bool = False, overwrite: bool = False
) -> None:
    """Carry out one job, talking to the user as it goes.

    Parameters
    ----------
    inputs : mapping
        ``out`` (Path), ``recipe`` (name or path), and what :func:`~reben_dask.job.plan.make_plan` takes.
    cluster : mapping
        Fields of :class:`~reben_dask.cluster.ClusterOptions`.
    dry_run : bool
        Stop after the plan; nothing is computed or written.
    overwrite : bool
        Replace the dataset in ``out``, once the new one is complete.

    Raises
    ------
    RebenError
        If something is wrong that the user can mend; nothing is published then.
    """
    start = perf_counter()
    console = Console(markup=False)
    options = ClusterOptions(**cluster)
    chosen = dict(inputs)
    output = Output(Path(chosen.pop("out")).absolute())
    output.check(overwrite=overwrite)
    plan = make_plan(**{**chosen, "recipe": load_recipe(chosen["recipe"])})
    show_plan(console, plan, output, options.describe())
    if shortage := disk_shortage(plan, output):
        show_note(console, shortage)
    if dry_run:
        return
    with connect(options) as client:
        require_memory(client, plan.worker_bytes)
        console.print(f"Dashboard: {client.dashboard_link}", highlight=False, soft_wrap=True)
        output.begin()
        try:
            report = performance_report(output.run / REPORT_FILE)
            with explain_lost_workers(), report, StageProgress(console, stage_totals(plan)) as progress:
                tallies, seconds = build_dataset(client, plan, output, progress)
            write_record(output.run, plan, tallies, seconds, options.describe())
            output.publish()
        finally:
            output.release()
    show_result(console, plan, output, tallies, perf_counter() - start)
