"""The ``status`` command."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reben_dask.cli.base import Command
from reben_dask.wording import ago, counted, utc

if TYPE_CHECKING:
    from reben_dask.workspace import Status

EPILOG = """
\b
Examples:
  reben status dataset
  reben status dataset --json | jq .unfinished
"""

_SHOWN = 12


@click.command("status", cls=Command, epilog=EPILOG)
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def status(
    ctx: click.Context,
    out: Path,
    *,
    as_json: bool,
    debug: bool,  # noqa: ARG001 - for Command
) -> None:
    """Show which tiles are done, failed or stale.

    Covers the dataset in OUT and its unfinished job, if there is one: the number of completed tiles, the errors of
    failed ones, and stale ones, whose products have changed since or are missing. Nothing is written, and a running job
    is not disturbed.

    The exit status is 0 if the dataset is complete and up to date, 3 if anything failed, is stale, or is unfinished,
    and 1 if there is nothing at OUT.
    """
    from reben_dask.errors import InputError  # noqa: PLC0415 - takes long to import, for --help
    from reben_dask.sources.sentinel2 import read_tile, tile_identity  # noqa: PLC0415
    from reben_dask.workspace import read_status  # noqa: PLC0415

    def identify(path: Path) -> str | None:
        try:
            return tile_identity(read_tile(path))
        except (InputError, OSError):
            return None

    found = read_status(out.absolute(), identify)
    if as_json:
        described = asdict(found) | {"root": str(found.root), "is_settled": found.is_settled}
        click.echo(json.dumps(described, indent=2, ensure_ascii=False))
    else:
        _show(found)
    if not found.is_settled:
        ctx.exit(3)


def _show(found: Status) -> None:
    from reben_dask.progress import console  # noqa: PLC0415 - as above

    output, now = console(), datetime.now(UTC)
    if found.finished is not None:
        finished = f"finished {utc(found.finished)} ({ago(found.finished, now)})"
        output.print(f"Dataset: recipe {found.recipe}, {finished}, {_tiles(found.dataset)}.", highlight=False)
    if found.unfinished:
        output.print(f"Unfinished job: {_tiles(found.unfinished)}.")
    for name, error in list(found.errors.items())[:_SHOWN]:
        output.print(f"  failed  {name}: {error}", style="red", highlight=False)
    stale = [name for name, state in (found.dataset | found.unfinished).items() if state == "stale"]
    for name in stale[:_SHOWN]:
        output.print(f"  stale   {name}: its product has changed or is missing", style="yellow", highlight=False)
    if found.is_publishing:
        output.print(
            "An earlier job was interrupted during publication; the next `reben run` completes it.", style="yellow"
        )
    if found.owner is not None:
        heartbeat = f"; last heartbeat {ago(found.heartbeat, now)}" if found.heartbeat else ""
        output.print(f"A job is writing here (host, process and job: {found.owner}{heartbeat}).", highlight=False)
    elif found.unfinished:
        output.print("No job is running. Run the same command again to resume.")


def _tiles(states: dict[str, str]) -> str:
    counts = {state: list(states.values()).count(state) for state in dict.fromkeys(states.values())}
    parts = ", ".join(f"{count:,} {state}" for state, count in counts.items())
    return f"{counted(len(states), 'tile')} ({parts})"
