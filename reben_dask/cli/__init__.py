"""The ``reben`` command and its subcommands, imported on demand.

Dask imports this module for every ``dask …`` command, so it imports only click.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module

import click

from reben_dask import __version__

SUBCOMMANDS = {
    "fetch": "reben_dask.cli.fetch:fetch",
    "run": "reben_dask.run:run",
    "l2a": "reben_dask.cli.l2a:l2a",
    "status": "reben_dask.cli.status:status",
    "convert": "reben_dask.cli.convert:convert",
    "verify": "reben_dask.cli.verify:verify",
    "report": "reben_dask.cli.report:report",
    "table": "reben_dask.cli.table:table",
    "statistics": "reben_dask.cli.statistics:statistics",
    "compare": "reben_dask.cli.compare:compare",
    "train": "reben_dask.cli.train:train",
    "evaluate": "reben_dask.cli.evaluate:evaluate",
    "leaderboard": "reben_dask.cli.leaderboard:leaderboard",
    "landcover": "reben_dask.cli.landcover:landcover",
    "lmdb": "reben_dask.cli.lmdb:lmdb",
    "config": "reben_dask.cli.config:config",
    "demo": "reben_dask.cli.demo:demo",
}

_OWN_OPTIONS = {"-h", "--help", "--version"}


class LazyGroup(click.Group):
    """Group that imports subcommands on demand; options alone mean ``run``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the subcommands in their usual order of use."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand."""
        if cmd_name not in SUBCOMMANDS:
            return None
        module, _, name = SUBCOMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a subcommand, with a suggestion for an unknown name."""
        if args[0] not in SUBCOMMANDS:
            near = get_close_matches(args[0], SUBCOMMANDS, n=1)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert ``run`` before options without a subcommand."""
        if args and args[0].startswith("-") and args[0] not in _OWN_OPTIONS:
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group("reben", cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="reben_dask")
def main() -> None:
    """Build labelled Sentinel datasets (reBEN and its relatives) as one Dask job.

    `reben --s2 …` is short for `reben run --s2 …`. Start with `reben demo`.
    """
