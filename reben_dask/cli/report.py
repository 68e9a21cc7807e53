"""The ``report`` command, and the report at the end of a job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from reben_dask.cli.base import Command, explain, of_finished_jobs
from reben_dask.errors import RebenError

if TYPE_CHECKING:
    import geopandas

EPILOG = """
\b
Examples:
  reben report dataset
  reben report dataset --compare other-dataset
"""

_PATH = click.Path(path_type=Path)


@click.command("report", cls=Command, epilog=EPILOG)
@click.argument("out", metavar="OUT", type=_PATH)
@click.option("--compare", "other", metavar="OTHER", type=_PATH, help="Compare with another dataset of the same area.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def report(out: Path, *, other: Path | None, debug: bool) -> None:  # noqa: ARG001 - for Command
    """Make a report on a dataset.

    The self-contained page OUT/report/index.html is made from the contents of OUT. It shows why candidates were
    rejected, and classes, splits, tiles, dates and example patches beside their reference maps. Each of its figures is
    also saved as PNG and SVG in OUT/report/figures. An older report is replaced.

    With --compare it also has the results of `reben compare OUT OTHER`.
    """
    from reben_dask.progress import console  # noqa: PLC0415 - takes long to import

    with of_finished_jobs(*filter(None, (out, other))):
        page = make_report(out, other)
    console().print(f"{page}: the report", highlight=False)


def make_report(out: Path, other: Path | None = None) -> Path:
    """Make the report of a dataset, compared with another one if given; return the path of the page."""
    from reben_dask.formats.dataset import REPORT  # noqa: PLC0415 - takes long to import
    from reben_dask.report.comparison import compare  # noqa: PLC0415
    from reben_dask.report.dataset import dataset_page  # noqa: PLC0415
    from reben_dask.report.page import publish_page, require_place  # noqa: PLC0415

    require_place(out / REPORT)
    comparison = None if other is None else compare(out, other)
    return publish_page(dataset_page(out, _countries(out), comparison), out / REPORT)


def report_on(out: Path) -> None:
    """Make the report of a dataset that was just completed; a failure is only noted."""
    from reben_dask.progress import console  # noqa: PLC0415 - takes long to import

    terminal = console()
    try:
        page = make_report(out)
    except Exception as error:  # noqa: BLE001 - must not look as if the dataset had failed
        why = explain(error) or f"{type(error).__name__}: {error}"
        terminal.print(
            f"Note: The dataset is complete, but its report could not be made ({why.rstrip('.')}); run "
            f"`reben report {out}` to try again.",
            style="yellow",
            highlight=False,
        )
    else:
        terminal.print(f"Report: {page}", highlight=False)


def _countries(out: Path) -> geopandas.GeoSeries | None:
    """Country polygons of the job, if still readable."""
    from reben_dask.report.origin import read_record  # noqa: PLC0415 - takes long to import
    from reben_dask.sources.vector_layers import read_outlines  # noqa: PLC0415

    record, _ = read_record(out)
    path = record.inputs.countries if record else None
    try:
        return read_outlines(path) if path else None
    except RebenError:
        return None
