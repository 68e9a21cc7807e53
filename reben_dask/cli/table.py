"""The ``table`` command."""

from __future__ import annotations

import re
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

    from reben_dask.stores.acquisitions import read_acquisitions  # noqa: PLC0415

    return pd.concat([read_acquisitions(path, clear_only=clear) for path in paths], ignore_index=True)


_READERS: dict[str, Callable[[Sequence[Path], bool], pd.DataFrame]] = {
    "class": _labels,
    "date": _acquisitions,
    "season": _acquisitions,
    "labels": _labels,
}
"""What each table is counted from."""


@click.command("table", cls=Command, epilog=EPILOG)
@click.argument("paths", metavar="OUT|METADATA.parquet …", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--by",
    type=click.Choice(list(_READERS)),
    default="class",
    show_default=True,
    help="What to count patches by: their classes, day or season of sensing (of a dataset only), or number of labels.",
)
@click.option(
    "--format", "style", type=click.Choice(["markdown", "csv", "latex"]), default="markdown", show_default=True
)
@click.option("--clear", is_flag=True, help="Of a dataset, count only patches without snow, cloud or shadow.")
def table(paths: Sequence[Path], by: str, style: str, *, clear: bool) -> None:
    """Print how many patches of each split carry each class: Table I of the reBEN paper, for any dataset.

    Takes datasets that `reben run` made, or metadata files as they are published. A patch counts once for each of its
    labels. With --by it prints how many were sensed on each day or in each season, or have how many labels.
    """
    from reben_dask.patches.count_tables import TABLES  # noqa: PLC0415

    with of_finished_jobs(*paths):
        counts = TABLES[by](_READERS[by](paths, clear))
    click.echo(_STYLES[style](counts), nl=False)


def _markdown(counts: pd.DataFrame) -> str:
    header = [str(counts.index.name), *map(str, counts.columns)]
    lines = [header, ["---", *["---:"] * len(counts.columns)]]
    lines += [
        [str(name).replace("|", r"\|"), *(f"{count:,}" for count in row)]
        for name, row in zip(counts.index, counts.to_numpy(), strict=True)
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _csv(counts: pd.DataFrame) -> str:
    return str(counts.to_csv(lineterminator="\n"))


def _latex(counts: pd.DataFrame) -> str:
    rows = [" & ".join(str(name).capitalize() for name in (counts.index.name, *counts.columns))]
    rows += [
        " & ".join([re.sub(r"([&%$#_{}])", r"\\\1", str(name)), *map(str, row)])
        for name, row in zip(counts.index, counts.to_numpy(), strict=True)
    ]
    body = [f"  {row} \\\\" for row in rows]
    columns = "l" + "r" * len(counts.columns)
    lines = [f"\\begin{{tabular}}{{{columns}}}", "  \\toprule", body[0], "  \\midrule", *body[1:], "  \\bottomrule"]
    return "\n".join([*lines, "\\end{tabular}", ""])


_STYLES: dict[str, Callable[[pd.DataFrame], str]] = {"markdown": _markdown, "csv": _csv, "latex": _latex}
