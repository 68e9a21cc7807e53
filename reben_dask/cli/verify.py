"""The ``verify`` command."""

from __future__ import annotations

from pathlib import Path

import click

from reben_dask.cli.base import Command, of_finished_jobs
from reben_dask.errors import InputError

EPILOG = """
\b
Examples:
  reben verify dataset
  reben verify dataset --full --digest
  reben verify BigEarthNet-V2-LMDB --metadata metadata.parquet
  reben verify BigEarthNet-S2.tar.zst
  reben verify SeasoNet
"""


@click.command("verify", cls=Command, epilog=EPILOG)
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@click.option(
    "--metadata",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Metadata file of an LMDB or of trees, if it is not beside them; repeat the option for each file.",
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
    """Check that a dataset is complete and valid.

    PATH is one of: a dataset of `reben run`; an LMDB in rico-hdl's layout, a folder of such shards, or a folder that
    holds one beside its metadata, as for ConfigILM; a folder with GeoTIFF trees in the layout of a recipe or of a
    published dataset, or a single tree; the archives of these trees, as `reben run` writes them, or a single archive;
    a folder of samples in shards for WebDataset or Hugging Face; a Zarr store of `reben convert`.

    Checks names, order, splits, flags and labels of the metadata; that each patch has its bands, its Sentinel-1 partner
    and its reference map, with the right types and shapes; that nothing is left over; and that labels match the
    reference maps. For a dataset, also checks that pixels, patch table, counts, LMDB, trees, archives, and the tables
    and label files of trees agree. Without a dataset, these tables and label files are checked by themselves. For LMDBs
    and Zarr stores, a sample of the pixels is read, unless --full is given; archives are not unpacked.

    Does not compare pixels with Sentinel products or maps with the land cover, and does not recompute splits,
    countries, seasons and shares of snow and cloud.

    Data without a run record are treated as the published dataset with the same patch names. If they were made with
    another recipe, keep the folder run of their dataset beside them.

    Prints one line for each check, and a verdict, which lists anything not checked. The exit status is 0 if there are
    no problems, 1 if there are, and 2 if PATH cannot be verified.
    """
    from reben_dask.progress import StageProgress, console  # noqa: PLC0415 - takes long to import, for --help
    from reben_dask.verify import Report, Settings, silent  # noqa: PLC0415
    from reben_dask.verify import verify as start  # noqa: PLC0415

    output, report = console(), Report()
    with StageProgress(output, {}) as progress:
        settings = Settings(full=full, digest=digest, begin=progress.stage if output.is_terminal else silent)
        try:
            with of_finished_jobs(path):
                checks = start(path, metadata, settings, report)
        except InputError as error:
            raise click.UsageError(str(error)) from None
        for check in checks:
            output.print(check.line(), style="red" if check.problems else None, highlight=False)
    for name, sha256 in report.digests.items():
        output.print(f"{sha256}  {name}", highlight=False)
    output.print(f"{path}: {report.verdict()}", style="bold", highlight=False)
    if report.problems:
        ctx.exit(1)
