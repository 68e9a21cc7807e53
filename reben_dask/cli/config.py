"""The ``config`` command."""

from __future__ import annotations

import click

from reben_dask.cli.base import Command

EPILOG = """
\b
Examples:
  reben config
  DASK_REBEN__MEMORY_LIMIT=6GiB reben config
"""


@click.command("config", cls=Command, epilog=EPILOG)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def config(*, debug: bool) -> None:  # noqa: ARG001 - for Command
    """Print the settings and their sources.

    Settings are defaults of the options of `reben run`. They are read from the section `reben` of any file in Dask's
    configuration; a commented copy of all of them is placed in its folder. The command line takes precedence over
    environment variables, such as DASK_REBEN__MEMORY_LIMIT=6GiB, and these over files.
    """
    from rich.table import Table  # noqa: PLC0415 - takes long to import, for --help

    from reben_dask.cli.configuration import place_for_user, settings  # noqa: PLC0415
    from reben_dask.progress import console  # noqa: PLC0415

    place = place_for_user()
    table = Table("setting", "value", "source", box=None, pad_edge=False)
    for setting in settings():
        table.add_row(setting.key, "" if setting.value is None else str(setting.value), setting.source)
    output = console()
    output.print(table)
    output.print(f"Change them in {place}, section reben.", highlight=False)
