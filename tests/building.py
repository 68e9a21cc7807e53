"""Datasets that a job builds in the process of the tests, without a command line: quicker where only files matter."""

from __future__ import annotations

import io
from pathlib import Path

from distributed import Client
from reben_dask.job.output import Output
from rich.console import Console

from reben_dask.job.build import build_dataset, stage_totals
from reben_dask.job.plan import Plan
from reben_dask.job.record import REPORT_FILE, write_record
from reben_dask.progress import StageProgress


def build(client: Client, plan: Plan, out: Path) -> Path:
    """Make everything that a plan asks for, but for Dask's report, which is empty; gives the finished dataset."""
    output = Output(out).with_exports(plan.export_names)
    output.begin()
    with StageProgress(Console(file=io.StringIO()), stage_totals(plan)) as progress:
        built = build_dataset(client, plan, output, progress)
    write_record(output.run, plan, built.tallies, built.seconds, "in the process of the tests")
    (output.run / REPORT_FILE).touch()
    output.publish()
    return output.root
