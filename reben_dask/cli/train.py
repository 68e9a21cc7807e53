"""The ``train`` command."""

from __future__ import annotations

from pathlib import Path

import click

from reben_dask.cli.base import Command, Failure, of_finished_jobs
from reben_dask.signals import ignore_sigint

EPILOG = """
\b
Examples:
  reben train dataset --model resnet50 --out runs/resnet50-0
  reben train dataset --model scnn --modality S2 --epochs 20 --batch-size 16 --out runs/scnn
  reben train SeasoNet --config seasonet-maps --device cuda --out runs/maps
"""

_PATH = click.Path(path_type=Path)


@click.command("train", cls=Command, epilog=EPILOG)
@click.argument("out", metavar="OUT", type=_PATH)
@click.option("--out", "run", metavar="RUN", required=True, type=_PATH, help="New folder for the run.")
@click.option("--model", metavar="NAME", help="Network, see above.  [default: resnet50]")
@click.option("--modality", type=click.Choice(["S1", "S2", "S1+S2"]), help="Bands.  [default: S1+S2]")
@click.option("--epochs", metavar="N", type=click.IntRange(min=1), help="Passes over the data.  [default: 100]")
@click.option("--batch-size", metavar="N", type=click.IntRange(min=2), help="Patches a step.  [default: 512]")
@click.option("--seed", metavar="N", type=click.IntRange(min=0), help="Seed of all random numbers.  [default: 0]")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="By default a GPU, if there is one.")
@click.option("--workers", metavar="N", type=click.IntRange(min=0), help="Processes that read patches.  [default: 0]")
@click.option(
    "--config", metavar="NAME|FILE.yaml", help="Protocol: a shipped one, or your own; options above take precedence."
)
@click.option("--resume", is_flag=True, help="Resume after the last finished epoch.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def train(out: Path, *, run: Path, config: str | None, resume: bool, debug: bool, **keys: str | int | None) -> None:  # noqa: ARG001 - for Command
    """Train a network on a dataset.

    OUT is a dataset of `reben run`, or an LMDB in rico-hdl's layout with its metadata. Patches that are flagged for
    snow, cloud or shadow are left out. The default protocol is that of the reBEN paper; `reben`, `bigearthnet-v1`,
    `seasonet` and `seasonet-maps` are shipped.

    RUN gets the parameters of the epoch that is best on the validation split (model.safetensors), a checkpoint, the
    record of all settings (run.json), losses and metrics by epoch (history.csv), and a model card (README.md). After an
    interruption, run the same command with --resume: the result is the same.

    Networks: resnet50, resnet101, vit_base, mlp_mixer, convmixer, mobilevit_s, convnextv2_base (reBEN), densenet121,
    deeplabv3 (SeasoNet), scnn (BigEarthNet v1).

    Needs the extra `train`: pip install 'reben_dask[train]'
    """
    from reben_dask.progress import StageProgress, console  # noqa: PLC0415 - takes long to import
    from reben_dask.training.evaluation import silent  # noqa: PLC0415
    from reben_dask.training.fit import train as start  # noqa: PLC0415

    output = console()
    try:
        with of_finished_jobs(out), StageProgress(output, {}) as progress:
            record = start(
                out,
                run,
                config=config,
                resume=resume,
                begin=progress.stage if output.is_terminal else silent,
                report=lambda line: output.print(line, highlight=False),
                **keys,
            )
    except KeyboardInterrupt:
        ignore_sigint()
        raise Failure("Interrupted. Finished epochs are kept; run the same command with --resume.") from None
    output.print(f"{run}: the network of epoch {record.best_epoch}", highlight=False)
