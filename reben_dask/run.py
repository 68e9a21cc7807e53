"""The job's command line, as ``python -m reben_dask.run``, ``reben run`` and ``dask reben run``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from reben_dask.cli.base import Command
from reben_dask.errors import InputError

OPTION_OF_MANY = "--s2"
EXIT_PARTIAL = 3
"""Exit status of a dataset without all tiles, or without any patch."""

_EXISTING = ("scheduler", "scheduler_file")
_FILE = click.Path(path_type=Path)
_EMBEDDED = ("workers", "threads", "memory_limit", "dashboard_address")

EPILOG = """
\b
Examples:
  reben demo demo-data
  reben run --s2 demo-data/sentinel2 --landcover demo-data/landcover.gpkg \\
            --countries demo-data/countries.gpkg --out demo-out
  reben run --s2 tiles/*.SAFE --landcover U2018_CLC2018_V2020_20u1.gpkg \\
            --out dataset --scheduler tcp://node1:8786 --lmdb-shards 16
"""


class RunCommand(Command):
    """Command whose ``--s2`` takes all values that follow it, as a shell expands ``*``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take settings as defaults, and spread the values of ``--s2``."""
        if not {*args} & {*ctx.help_option_names}:
            from reben_dask.cli.configuration import option_defaults  # noqa: PLC0415 - takes long to import, for --help

            ctx.default_map = _explained(option_defaults)
        return super().parse_args(ctx, spread(args))


def _explained(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return read()
    except InputError as error:
        raise click.UsageError(f"{error} See `reben config`.") from None


def spread(args: list[str]) -> list[str]:
    """Repeat ``--s2`` before each of its values: ``--s2 a b`` becomes ``--s2 a --s2 b``."""
    spread_out: list[str] = []
    is_open = False
    for arg in args:
        if is_open and not arg.startswith("-") and spread_out[-1] != OPTION_OF_MANY:
            spread_out.append(OPTION_OF_MANY)
        if arg.startswith("-"):
            if spread_out and spread_out[-1] == OPTION_OF_MANY:
                raise click.UsageError(f"{OPTION_OF_MANY} needs a path, but is followed by {arg}.")
            is_open = arg == OPTION_OF_MANY
        spread_out.append(arg)
    return spread_out


@click.command("run", cls=RunCommand, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    OPTION_OF_MANY,
    multiple=True,
    required=True,
    metavar="DIR_OR_PRODUCT …",
    help="Sentinel-2 L2A products (.SAFE folders or .zip files of them), or folders that hold products.",
)
@click.option("--landcover", required=True, metavar="MAP.gpkg", help="Vector map with CORINE codes, in any CRS.")
@click.option("--out", required=True, metavar="OUT", type=click.Path(path_type=Path), help="Folder for the dataset.")
@click.option("--recipe", default="reben", show_default=True, metavar="NAME|FILE.yaml", help="What to build.")
@click.option("--countries", metavar="FILE", help="Vector file of country polygons; without it, country stays empty.")
@click.option(
    "--join",
    "layers",
    multiple=True,
    metavar="NAME=FILE",
    help="Polygon layer for an attribute of the recipe, such as urbanisation=RegioStaR.gpkg.",
)
@click.option("--s1", metavar="DIR", help="Published Sentinel-1 patches; needs --published or --s1-pairs.")
@click.option(
    "--s1-pairs", metavar="FILE.csv", type=_FILE, help="CSV of matching Sentinel-1 and Sentinel-2 patch names."
)
@click.option("--s1-scenes", metavar="DIR", help="Terrain-corrected Sentinel-1 scenes (GeoTIFF, dB), for new regions.")
@click.option(
    "--published",
    multiple=True,
    metavar="METADATA.parquet",
    type=_FILE,
    help="Published metadata, files or their folder: keep exactly these patches, take over names and flags, compare.",
)
@click.option("--snow-list", metavar="FILE", type=_FILE, help="Names (v1) of patches with seasonal snow.")
@click.option("--cloud-list", metavar="FILE", type=_FILE, help="Names (v1) of patches with cloud or cloud shadow.")
@click.option("--code-column", metavar="NAME", help="Column of the map with the class codes, if it is not found.")
@click.option("--scheduler", metavar="ADDRESS", help="A running Dask scheduler, such as tcp://host:8786.")
@click.option(
    "--scheduler-file", metavar="FILE", type=click.Path(path_type=Path), help="File that a running scheduler wrote."
)
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Embedded cluster: worker processes.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Embedded cluster: threads of each worker.")
@click.option("--memory-limit", metavar="4GiB", help="Embedded cluster: memory of each worker.")
@click.option(
    "--dashboard-address",
    metavar=":8787",
    help="Embedded cluster: where the dashboard listens; on loopback, unless a host is given (0.0.0.0:8787).",
)
@click.option(
    "--lmdb-shards", type=click.IntRange(min=1), metavar="N", help="Write N LMDB environments in parallel, not one."
)
@click.option(
    "--export",
    "exports",
    multiple=True,
    type=click.Choice(["geotiff", "geotiff-archives"]),
    help="Also write the published trees of GeoTIFFs, as loose files or straight into archives (.tar.zst).",
)
@click.option(
    "--report/--no-report",
    "with_report",
    default=True,
    show_default=True,
    help="Make a page about the dataset when it is complete (OUT/report/index.html).",
)
@click.option("--dry-run", is_flag=True, help="Print the plan and stop; nothing is computed or written.")
@click.option("--overwrite", is_flag=True, help="Replace the dataset in OUT, once the new one is complete.")
@click.option("--restart", is_flag=True, help="Discard the unfinished job in OUT and start over.")
@click.option("--debug", is_flag=True, help="Show tracebacks and the log of the cluster.")
@click.pass_context
def run(ctx: click.Context, /, **options: Any) -> None:
    """Build a labelled dataset from Sentinel-2 tiles and a land-cover map.

    Each tile is cut into patches of 1200 m; each patch gets a reference map and labels from the map's polygons,
    a split, a season, a country, and snow and cloud fractions. Every candidate is on record with its reason.

    Rerunning the same command resumes an interrupted job and is a no-op for a finished one. The next run retries tiles
    that could not be built. The exit status is 0 if all tiles are in the dataset, 3 if some failed or no patch was
    kept, 1 if there is no dataset, and 2 for wrong options.

    Without --scheduler, --scheduler-file or Dask's own scheduler-address, a cluster is started for this job alone.
    """
    debug, with_report, out = options.pop("debug"), options.pop("with_report"), options["out"]
    how = {name: options.pop(name) for name in ("dry_run", "overwrite", "restart")}
    cluster = {name: options.pop(name) for name in (*_EXISTING, *_EMBEDDED)}
    _require_one_cluster(ctx, cluster)
    # What the job needs takes seconds to import, and --help should not wait for it.
    from reben_dask.job.run import run_job  # noqa: PLC0415

    result = run_job(options, {**cluster, "quiet": not debug}, **how)
    if with_report and result.needs_report:
        from reben_dask.cli.report import report_on  # noqa: PLC0415

        report_on(out)
    if not result.is_complete:
        ctx.exit(EXIT_PARTIAL)


def _require_one_cluster(ctx: click.Context, cluster: dict[str, Any]) -> None:
    """Ignore settings of an embedded cluster, and refuse its options, if a running one is given."""
    for name in _EMBEDDED:
        if _is_running_one(cluster) and ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            cluster[name] = None
    existing = [f"--{name.replace('_', '-')}" for name in _EXISTING if cluster[name]]
    embedded = [f"--{name.replace('_', '-')}" for name in _EMBEDDED if cluster[name]]
    if len(existing) > 1:
        raise click.UsageError(f"Give {existing[0]} or {existing[1]}, not both.")
    if existing and embedded:
        raise click.UsageError(f"{embedded[0]} is for an embedded cluster; {existing[0]} brings its own workers.")


def _is_running_one(cluster: dict[str, Any]) -> bool:
    from dask import config  # noqa: PLC0415 - takes long to import, for --help

    return any(cluster[name] for name in _EXISTING) or config.get("scheduler-address", None) is not None


if __name__ == "__main__":
    run(prog_name="python -m reben_dask.run")
