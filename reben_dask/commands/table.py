"""The ``table`` command."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reben_dask.commands.base import Command

if TYPE_CHECKING:
    import pandas as pd

EPILOG = """
\b
Examples:
  reben table dataset
  reben table metadata.parquet metadata_for_patches_with_snow_cloud_or_shadow.parquet
  reben table dataset --format latex > table1.tex
"""


@click.command("table", cls=Command, epilog=EPILOG)
@click.argument("paths", metavar="OUT|METADATA.parquet …", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--format", "style", type=click.Choice(["markdown", "csv", "latex"]), default="markdown", show_default=True
)
@click.option("--clear", is_flag=True, help="Of a dataset, count only patches without snow, cloud or shadow.")
def table(paths: Sequence[Path], style: str, *, clear: bool) -> None:
    """Print how many patches of each split carry each class: Table I of the reBEN paper, for any dataset.

    Takes datasets that `reben run` made, or metadata files as they are published. A patch counts once for each of its
    labels.
    """
    from reben_dask.patches.class_table import class_table  # noqa: PLC0415
    from reben_dask.sources.published.metadata import metadata_files, read_metadata  # noqa: PLC0415

    files = [file for path in paths for file in metadata_files(path, clear_only=clear)]
    click.echo(_STYLES[style](class_table(read_metadata(files, ["labels", "split"]))), nl=False)


def _markdown(counts: pd.DataFrame) -> str:
    header = ["class", *map(str, counts.columns)]
    lines = [header, ["---", *["---:"] * len(counts.columns)]]
    lines += [
        [str(name).replace("|", r"\|"), *(f"{count:,}" for count in row)]
        for name, row in zip(counts.index, counts.to_numpy(), strict=True)
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _csv(counts: pd.DataFrame) -> str:
    return str(counts.to_csv(lineterminator="\n"))


def _latex(counts: pd.DataFrame) -> str:
    rows = [" & ".join(["Class", *(str(name).capitalize() for name in counts.columns)])]
    rows += [
        " & ".join([re.sub(r"([&%$#_{}])", r"\\\1", str(name)), *map(str, row)])
        for name, row in zip(counts.index, counts.to_numpy(), strict=True)
    ]
    body = [f"  {row} \\\\" for row in rows]
    columns = "l" + "r" * len(counts.columns)
    lines = [f"\\begin{{tabular}}{{{columns}}}", "  \\toprule", body[0], "  \\midrule", *body[1:], "  \\bottomrule"]
    return "\n".join([*lines, "\\end{tabular}", ""])


_STYLES: dict[str, Callable[[pd.DataFrame], str]] = {"markdown": _markdown, "csv": _csv, "latex": _latex}
