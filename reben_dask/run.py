"""The job's command line: plan, print the plan, run it, report.

``python -m reben_dask.run``, ``reben`` and ``dask reben`` are the same command.
"""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import click
from rich.console import Console

OPTION_OF_MANY = "--s2"

EPILOG = """
\b
Examples:
  reben demo demo-data
  reben run --s2 demo-data/sentinel2 --landcover demo-data/landcover.gpkg \\
            --countries demo-data/countries.gpkg --out demo-out
  reben run --s2 tiles/*.SAFE --landcover U2018_CLC2018_V2020_20u1.gpkg \\
            --out dataset --scheduler tcp://node1:8786 --lmdb-shards 16
"""


class RunCommand(click.Command):
    """A command whose ``--s2`` takes all the values that follow it, as a shell's ``*`` gives them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spread(args))


def spread(args: list[str]) -> list[str]:
    """Repeat ``--s2`` before each of its values: ``--s2 a b`` becomes ``--s2 a --s2 b``."""
    spread_out: list[str] = []
    is_open = False
    for arg in args:
        if is_open and not arg.startswith("-") and spread_out[-1] != OPTION_OF_MANY:
            spread_out.append(OPTION_OF_MANY)
        if arg.startswith("-"):
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
@click.option("--landcover", required=True, metavar="MAP.gpkg", help="Vector land-cover map with CORINE codes, any CRS.")
@click.option("--out", required=True, metavar="OUT", type=click.Path(path_type=Path), help="Folder for the dataset.")
@click.option("--recipe", default="reben", show_default=True, metavar="NAME|FILE.yaml", help="What to build.")
@click.option("--countries", metavar="FILE", help="Vector file of country polygons; without it, country stays empty.")
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
@click.option("--dry-run", is_flag=True, help="Print the plan and stop; nothing is computed or written.")
@click.option("--overwrite", is_flag=True, help="Replace the dataset in OUT, once the new one is complete.")
@click.option("--debug", is_flag=True, help="Show tracebacks and the log of the cluster.")
def run(**options: Any) -> None:
    """Build a labelled dataset from Sentinel-2 tiles and a land-cover map.

    Each tile is cut into patches of 1200 m; each patch gets a reference map and labels from the map's polygons, a split,
    a season, a country, and snow and cloud fractions. Every candidate is on record with the reason for its fate.

    Without --scheduler, --scheduler-file or Dask's own scheduler-address, a cluster is started for this job alone.
    """
    from reben_dask.errors import RebenError

    console = Console(soft_wrap=False)
    try:
        _run(console, **options)
    except RebenError as error:
        if options["debug"]:
            raise
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("Interrupted; what was in OUT before is untouched.")
    except Exception as error:
        if options["debug"]:
            raise
        _fail(f"{type(error).__name__}: {error}\nThis is not an error of yours; run again with --debug for details.")


def _run(console: Console, **options: Any) -> None:
    from reben_dask.cluster import connect, require_memory
    from reben_dask.job.build import build_dataset, stage_totals
    from reben_dask.job.output import Output
    from reben_dask.job.plan import make_plan
    from reben_dask.job.progress import StageProgress
    from reben_dask.job.record import write_record
    from reben_dask.job.show import show_plan, show_result
    from reben_dask.recipes import load_recipe

    start = perf_counter()
    cluster = _cluster_options(options)
    output = Output(options["out"].absolute())
    output.check(overwrite=options["overwrite"])
    inputs = {name: options[name] for name in ("s2", "landcover", "countries", "code_column", "lmdb_shards")}
    plan = make_plan(recipe=load_recipe(options["recipe"]), **inputs)
    workers = _describe(cluster)
    show_plan(console, plan, output, workers)
    if options["dry_run"]:
        return
    with connect(cluster) as client:
        require_memory(client, plan.task_bytes)
        console.print(f"Dashboard: {client.dashboard_link}", highlight=False)
        output.begin()
        with _performance_report(output.run), StageProgress(console, stage_totals(plan)) as progress:
            tallies, seconds = build_dataset(client, plan, output, progress)
    write_record(output.run, plan, tallies, seconds, workers)
    output.publish()
    show_result(console, plan, output, tallies, perf_counter() - start)


def _cluster_options(options: dict[str, Any]) -> Any:
    from reben_dask.cluster import ClusterOptions

    embedded = ("workers", "threads", "memory_limit", "dashboard_address")
    cluster = ClusterOptions(
        options["scheduler"],
        options["scheduler_file"],
        **{name: options[name] for name in embedded},
        quiet=not options["debug"],
    )
    if options["scheduler"] and options["scheduler_file"]:
        raise click.UsageError("Give --scheduler or --scheduler-file, not both.")
    given = [f"--{name.replace('_', '-')}" for name in embedded if options[name] is not None]
    if given and (options["scheduler"] or options["scheduler_file"]):
        raise click.UsageError(f"{given[0]} is for an embedded cluster; a running scheduler has workers of its own.")
    return cluster


def _describe(cluster: Any) -> str:
    from dask.utils import format_bytes

    from reben_dask.cluster import embedded_size

    if not cluster.is_embedded:
        return f"those of the scheduler at {cluster.address or cluster.scheduler_file}"
    workers, threads, memory = embedded_size(cluster)
    return f"embedded: {workers} x {threads} threads, {format_bytes(memory)} each"


def _performance_report(folder: Path) -> Any:
    from distributed import performance_report

    from reben_dask.job.record import REPORT_FILE

    return performance_report(folder / REPORT_FILE)


def _fail(message: str) -> None:
    Console(stderr=True, soft_wrap=True).print(f"Error: {message}", style="bold red", highlight=False, markup=False)
    sys.exit(1)


if __name__ == "__main__":
    run(prog_name="python -m reben_dask.run")
