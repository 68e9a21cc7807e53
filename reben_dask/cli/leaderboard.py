"""The ``leaderboard`` command."""

from __future__ import annotations

from pathlib import Path

import click

from reben_dask.cli.base import Command

EPILOG = """
\b
Examples:
  reben leaderboard runs/*
  reben leaderboard runs/* --format latex > table2.tex
"""


@click.command("leaderboard", cls=Command, epilog=EPILOG)
@click.argument("runs", metavar="RUN …", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--split", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True)
@click.option(
    "--dataset", metavar="FOLDER", help="Metrics on another dataset than that of the training, by its folder."
)
@click.option(
    "--format", "style", type=click.Choice(["markdown", "csv", "latex"]), default="markdown", show_default=True
)
@click.option("--no-papers", is_flag=True, help="Leave out the papers' own figures.")
def leaderboard(runs: tuple[Path, ...], *, split: str, dataset: str | None, style: str, no_papers: bool) -> None:
    """Print a table of trained networks.

    This is Table II of the reBEN paper, for any runs. RUN is a folder of `reben train` with metrics of
    `reben evaluate`. Runs that differ only in their seed make one row, with mean ± standard deviation. Figures of the
    papers for the same network and modality follow; their data and training may differ from yours.

    Markdown and LaTeX are in percent, CSV has values from 0 to 1, and standard deviations in columns of their own.
    """
    from reben_dask.tables import TEXT, Table  # noqa: PLC0415 - takes long to import
    from reben_dask.training.leaderboard import leaderboard as compare  # noqa: PLC0415
    from reben_dask.training.leaderboard import table_of  # noqa: PLC0415

    board = compare(*runs, split=split, dataset=dataset, with_papers=not no_papers)
    if style == "csv":
        click.echo(board.to_csv(index=False, lineterminator="\n"), nl=False)
        return
    shown = table_of(board)
    table = Table("", list(shown.columns), shown.to_numpy(object).tolist(), TEXT)
    click.echo(table.to_markdown() if style == "markdown" else table.to_latex(), nl=False)
