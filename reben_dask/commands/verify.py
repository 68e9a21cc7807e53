"""The ``verify`` command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

import click

from reben_dask.commands.base import Command
from reben_dask.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

EPILOG = """
\b
Examples:
  reben verify dataset
  reben verify dataset --full --digest
  reben verify BigEarthNet-V2-LMDB --metadata metadata.parquet
"""


@click.command("verify", cls=Command, epilog=EPILOG)
@click.argument("path", metavar="OUT|LMDB|TREE", type=click.Path(path_type=Path))
@click.option(
    "--metadata",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Metadata file of an LMDB or TREE, if it is not beside it; give the option once for each file.",
)
@click.option("--full", is_flag=True, help="Read all pixels, not a sample.")
@click.option("--digest", is_flag=True, help="Print a SHA-256 digest of the content of each artefact.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def verify(
    ctx: click.Context,
    path: Path,
    *,
    metadata: tuple[Path, ...],
    full: bool,
    digest: bool,
    debug: bool,  # noqa: ARG001 - for Command
) -> None:
    """Check that a dataset is complete and consistent.

    OUT is a dataset of `reben run`. LMDB is an environment in rico-hdl's layout, or a folder of such shards. TREE is a
    folder with the published trees of GeoTIFFs (BigEarthNet-S2, BigEarthNet-S1, Reference_Maps), or one of them.

    Checks names, order, splits, flags and labels of the metadata; that each of their patches has its bands, its
    Sentinel-1 partner and its reference map, with the right types and shapes; that nothing is left over; that labels
    are those of the reference maps; and of OUT, that pixels, patch table, counts and LMDB agree. Pixels are compared on
    a sample, unless --full is given.

    Prints one line for each check, and a verdict. The exit status is 0 if there are no problems, 1 if there are, and 2
    if PATH is nothing that can be verified.
    """
    from reben_dask.progress import console  # noqa: PLC0415 - takes long to import, and --help should not wait
    from reben_dask.verify import Report, Settings  # noqa: PLC0415
    from reben_dask.verify import verify as start  # noqa: PLC0415

    output, report = console(), Report()
    with _Bars(output) as progress:
        try:
            checks = start(path, metadata, Settings(full=full, digest=digest, progress=progress), report)
        except InputError as error:
            raise click.UsageError(str(error)) from None
        for check in checks:
            output.print(check.line(), style="red" if check.problems else None, highlight=False)
    for name, sha256 in report.digests.items():
        output.print(f"{sha256}  {name}", highlight=False)
    output.print(f"{path}: {report.verdict()}", style="bold", highlight=False)
    if report.problems:
        ctx.exit(1)


class _Bars:
    """Progress on a terminal; nothing elsewhere."""

    def __init__(self, output: Console) -> None:
        from rich.progress import Progress, TaskID  # noqa: PLC0415

        self._bars = Progress(console=output, transient=True, disable=not output.is_terminal)
        self._ids: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def begin(self, stage: str, total: int | None = None) -> None:
        from reben_dask.verify import STAGES  # noqa: PLC0415

        self._ids[stage] = self._bars.add_task(f"{STAGES[stage]:<26}", total=total)

    def advance(self, stage: str, steps: int = 1) -> None:
        self._bars.advance(self._ids[stage], steps)
