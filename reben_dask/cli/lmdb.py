"""The ``lmdb`` commands."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from reben_dask.cli.base import Command
from reben_dask.formats.dataset import METADATA_FILE
from reben_dask.wording import counted

EXAMPLE = """
\b
Example:
  reben run … --lmdb-shards 16
  reben lmdb merge dataset/lmdb merged
"""


@click.group("lmdb")
def lmdb() -> None:
    """Work on LMDB environments."""


@lmdb.command("merge", cls=Command, epilog=EXAMPLE)
@click.argument("sources", metavar="SHARDS…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("destination", metavar="OUT", type=click.Path(path_type=Path))
def merge(sources: tuple[Path, ...], destination: Path) -> None:
    """Merge LMDB environments into one.

    Any reader can open the result.

    SHARDS are environments, or a folder of shards with its index.json, as `reben run --lmdb-shards` writes it. Entries
    are copied as they are, in the order of their keys; a key that is in two environments must have the same value in
    both. OUT must be a new folder on a local disk. It gets the rows of its patches from the metadata files beside the
    SHARDS, so that lmdb_samples can open it.
    """
    from reben_dask.progress import StageProgress, console  # noqa: PLC0415
    from reben_dask.stores.lmdb import find_environments, merge_environments  # noqa: PLC0415
    from reben_dask.stores.metadata import copy_metadata  # noqa: PLC0415

    output = console()
    environments = find_environments(sources)
    with StageProgress(output, {"merge": 1}) as progress:
        begin, advance = partial(progress.start, "merge"), partial(progress.advance, "merge")
        entries = merge_environments(environments, destination, begin, advance)
        progress.finish("merge")
    rows = copy_metadata(environments, destination)
    output.print(
        f"{destination}: {counted(entries, 'entry')} of {counted(len(environments), 'environment')}", highlight=False
    )
    if not rows:
        output.print(f"Note: no {METADATA_FILE} of these patches is beside the shards; lmdb_samples needs one in OUT.")
