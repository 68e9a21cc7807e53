"""The ``evaluate`` command."""

from __future__ import annotations

from pathlib import Path

import click

from reben_dask.cli.base import Command, of_finished_jobs

EPILOG = """
\b
Examples:
  reben evaluate runs/resnet50-0 dataset
  reben evaluate runs/resnet50-0 other-dataset --split validation
"""

_PATH = click.Path(path_type=Path)


@click.command("evaluate", cls=Command, epilog=EPILOG)
@click.argument("run", metavar="RUN", type=_PATH)
@click.argument("out", metavar="OUT", type=_PATH)
@click.option("--split", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="By default a GPU, if there is one.")
@click.option("--workers", metavar="N", type=click.IntRange(min=0), help="Processes that read patches.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def evaluate(run: Path, out: Path, *, split: str, device: str | None, workers: int | None, debug: bool) -> None:  # noqa: ARG001 - for Command
    """Evaluate a trained network.

    RUN is a folder of `reben train`, OUT the dataset of the training or another one with the same classes. Writes all
    metrics, also by class, to RUN/metrics-SPLIT.json (for another dataset RUN/metrics-FOLDER-SPLIT.json), and prints
    those of the papers' tables in percent.

    A network trained with a protocol that has region_thresholds_px or below_px is also evaluated without regions below,
    and on regions below these sizes.

    Needs the extra `train`: pip install 'reben_dask[train]'
    """
    from reben_dask.progress import StageProgress, console  # noqa: PLC0415 - takes long to import
    from reben_dask.tables import Table  # noqa: PLC0415
    from reben_dask.training.evaluation import evaluate as start  # noqa: PLC0415
    from reben_dask.training.evaluation import silent  # noqa: PLC0415
    from reben_dask.training.model_card import SHOWN  # noqa: PLC0415

    output = console()
    with of_finished_jobs(out), StageProgress(output, {}) as progress:
        begin = progress.stage if output.is_terminal else silent
        metrics = start(run, out, split=split, device=device, workers=workers, begin=begin)
    parts = {"all": metrics, **metrics.get("regions", {})}
    rows = [[name, *(_percent(part.get(key)) for key in SHOWN)] for name, part in parts.items()]
    title = f"{metrics['dataset']}, {split}: {metrics['patches']:,} patches, percent"
    Table(title, ["regions", *SHOWN.values()], rows, ".2f").without_zero_columns().show(output)


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
