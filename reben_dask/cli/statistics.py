"""The ``statistics`` command."""

from __future__ import annotations

from pathlib import Path

import click

from reben_dask.cli.base import Command, of_finished_jobs

EPILOG = """
\b
Examples:
  reben statistics dataset
  reben statistics BigEarthNet-V2-LMDB --out statistics.json
  reben statistics dataset/cubes.zarr
"""

_PATH = click.Path(path_type=Path)


@click.command("statistics", cls=Command, epilog=EPILOG)
@click.argument("path", metavar="PATH", type=_PATH)
@click.option("--out", "file", metavar="FILE", type=_PATH, help="Also write the statistics to a JSON file.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def statistics(path: Path, *, file: Path | None, debug: bool) -> None:  # noqa: ARG001 - for Command
    """Print statistics of bands and classes.

    PATH is a dataset of `reben run`, whose statistics.json is read. All pixels are read for an LMDB in
    rico-hdl's layout, a folder of such shards, or a folder that holds one beside its metadata.parquet, and for a Zarr
    store with patches.parquet beside it, such as dataset/cubes.zarr.

    Counts the pixels of clear patches by band and split; nodata is excluded. Prints mean, standard deviation,
    minimum, maximum and percentiles, and the frequency of each class with its weight for a loss.
    """
    from reben_dask.analysis.statistics import find_statistics  # noqa: PLC0415 - takes long to import, for --help
    from reben_dask.formats.statistics import SPLIT_KEYS  # noqa: PLC0415
    from reben_dask.progress import StageProgress, console  # noqa: PLC0415
    from reben_dask.stores.statistics import band_table, class_table  # noqa: PLC0415

    output = console()
    with of_finished_jobs(path), StageProgress(output, {}) as progress:
        found = find_statistics(path, lambda patches: progress.stage("statistics", patches))
    for table in (band_table(found, SPLIT_KEYS), class_table(found)):
        table.show(output)
        output.print()
    if file is not None:
        found.write(file)
        output.print(f"{file}: the statistics", highlight=False)
