"""Datasets that a job builds in the process of the tests, without a command line: quicker where only files matter."""

from __future__ import annotations

import io
from pathlib import Path

from distributed import Client
from rich.console import Console

from reben_dask.job.plan import Plan, origin_of
from reben_dask.job.record import describe_dataset
from reben_dask.job.run import build_dataset, stage_totals
from reben_dask.progress import StageProgress
from reben_dask.workspace import Output


def build(client: Client, plan: Plan, out: Path) -> Path:
    """Make everything that a plan asks for, but for Dask's report; gives the finished dataset."""
    output = Output(out).with_exports(plan.export_names)
    origin = origin_of(plan)
    output.start(origin, {})
    with StageProgress(Console(file=io.StringIO()), stage_totals(plan)) as progress:
        built = build_dataset(client, plan, output, progress)
    describe_dataset(output, plan, origin, built.counts, built.seconds, "in the process of the tests")
    output.publish()
    return output.root
