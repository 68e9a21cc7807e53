"""Datasets that a job builds in the process of the tests, without a command line: quicker where only files matter."""

from __future__ import annotations

import io
from pathlib import Path

from distributed import Client
from rich.console import Console

from reben_dask.formats.dataset import PERFORMANCE_FILE
from reben_dask.job.build import build_dataset, stage_totals
from reben_dask.job.description import describe_dataset
from reben_dask.job.origin import origin_of
from reben_dask.job.plan import Plan
from reben_dask.output.folder import Output
from reben_dask.progress import StageProgress


def build(client: Client, plan: Plan, out: Path) -> Path:
    """Make everything that a plan asks for, but for Dask's report, which is empty; gives the finished dataset."""
    output = Output(out).with_exports(plan.export_names)
    origin = origin_of(plan)
    output.begin(origin, {})
    with StageProgress(Console(file=io.StringIO()), stage_totals(plan)) as progress:
        built = build_dataset(client, plan, output, progress)
    describe_dataset(output, plan, origin, built, "in the process of the tests")
    (output.run / PERFORMANCE_FILE).touch()
    output.publish()
    return output.root
