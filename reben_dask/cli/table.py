"""The ``table`` command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reben_dask.cli.base import Command, of_finished_jobs

if TYPE_CHECKING:
    import pandas as pd

EPILOG = """
\b
Examples:
  reben table dataset
  reben table dataset --by season
  reben table metadata.parquet metadata_for_patches_with_snow_cloud_or_shadow.parquet
  reben table dataset --format latex > table1.tex
"""


def _labels(paths: Sequence[Path], clear: bool) -> pd.DataFrame:  # noqa: FBT001
    from reben_dask.sources.published.metadata import metadata_files, read_metadata  # noqa: PLC0415

    files = [file for path in paths for file in metadata_files(path, clear_only=clear)]
    return read_metadata(files, ["labels", "split"])


def _acquisitions(paths: Sequence[Path], clear: bool) -> pd.DataFrame:  # noqa: FBT001
    import pandas as pd  # noqa: PLC0415

    from reben_dask.analysis.counts import read_acquisitions  # noqa: PLC0415

    return pd.concat([read_acquisitions(path, clear_only=clear) for path in paths], ignore_index=True)


_READERS: dict[str, Callable[[Sequence[Path], bool], pd.DataFrame]] = {
    "class": _labels,
    "date": _acquisitions,
    "season": _acquisitions,
    "labels": _labels,
}
"""Reader of each table."""


@click.command("table", cls=Command, epilog=EPILOG)
@click.argument("paths", metavar="OUT|METADATA.parquet …", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--by",
    type=click.Choice(list(_READERS)),
    default="class",
    show_default=True,
    help="Count patches by class, day or season of sensing, or number of labels.",
)
@click.option(
    "--format", "style", type=click.Choice(["markdown", "csv", "latex"]), default="markdown", show_default=True
)
@click.option("--clear", is_flag=True, help="For a dataset, count only patches without snow, cloud or shadow.")
def table(paths: Sequence[Path], by: str, style: str, *, clear: bool) -> None:
    """Print a table of patches by class and split.

    This is Table I of the reBEN paper, for any dataset.

    Takes datasets that `reben run` made, or published metadata files. A patch counts once for each of its labels. With
    --by, counts patches by day or season of sensing, or by number of labels.
    """
    from reben_dask.analysis.counts import TABLES, with_unassigned  # noqa: PLC0415
    from reben_dask.tables import Table  # noqa: PLC0415

    with of_finished_jobs(*paths):
        counts = Table.from_frame("", with_unassigned(TABLES[by](_READERS[by](paths, clear))))
    text = {"markdown": counts.to_markdown, "csv": counts.to_csv, "latex": counts.to_latex}[style]()
    click.echo(text, nl=False)
