"""The job's command line, as ``python -m reben_dask.run``, ``reben run`` and ``dask reben run``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from reben_dask.cli.base import Command
from reben_dask.cli.options import flag_of, model_options
from reben_dask.environment import require_building
from reben_dask.errors import InputError
from reben_dask.options import ClusterOptions, JobOptions, Sen2CorOptions

OPTIONS_OF_MANY = ("--s2", "--l1c")
EXIT_PARTIAL = 3
"""Exit status of a dataset without all tiles, or without any patch."""


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
    """Command whose ``--s2`` and ``--l1c`` take all values that follow them, as a shell expands ``*``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take settings as defaults, and expand the values of ``--s2`` and ``--l1c``."""
        if not {*args} & {*ctx.help_option_names}:
            from reben_dask.cli.configuration import option_defaults  # noqa: PLC0415 - takes long to import, for --help

            ctx.default_map = _explained(option_defaults)
        return super().parse_args(ctx, expand_values(args))


def _explained(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return read()
    except InputError as error:
        raise click.UsageError(f"{error} See `reben config`.") from None


def expand_values(args: list[str]) -> list[str]:
    """Repeat ``--s2`` and ``--l1c`` before each of their values: ``--s2 a b`` becomes ``--s2 a --s2 b``."""
    spread_out: list[str] = []
    option: str | None = None
    for arg in args:
        if option and not arg.startswith("-") and spread_out[-1] != option:
            spread_out.append(option)
        if arg.startswith("-"):
            if spread_out and spread_out[-1] in OPTIONS_OF_MANY:
                raise click.UsageError(f"{spread_out[-1]} needs a path, but is followed by {arg}.")
            option = arg if arg in OPTIONS_OF_MANY else None
        spread_out.append(arg)
    return spread_out


@click.command("run", cls=RunCommand, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@model_options(JobOptions)
@model_options(Sen2CorOptions)
@model_options(ClusterOptions)
@click.option(
    "--report/--no-report",
    "with_report",
    default=True,
    show_default=True,
    help="Make reports on the dataset (OUT/report/index.html) and, by Dask, on the job (OUT/run/performance.html).",
)
@click.option("--dry-run", is_flag=True, help="Print the plan and stop; nothing is computed or written.")
@click.option("--overwrite", is_flag=True, help="Replace the dataset in OUT, once the new one is complete.")
@click.option("--restart", is_flag=True, help="Discard the unfinished job in OUT and start over.")
@click.option("--debug", is_flag=True, help="Show tracebacks and the log of the cluster.")
@click.pass_context
def run(ctx: click.Context, /, **options: Any) -> None:
    """Build a dataset from tiles and land cover.

    Sentinel-2 tiles are labelled with a land-cover map of vector polygons. Products may have different forms.

    Each tile is cut into patches of 1200 m; each patch gets a reference map and labels from the map's polygons,
    a split, a season, a country, and snow and cloud fractions. The patch table lists every candidate, with the reason
    if it is rejected.

    With --l1c, L1C products are first corrected with sen2cor, as by `reben l2a`; --s2 is then optional.

    Rerunning the same command resumes an interrupted job and is a no-op for a finished one. The next run retries tiles
    that could not be built. The exit status is 0 if all tiles are in the dataset, 3 if some failed or no patch was
    kept, 1 if there is no dataset, and 2 for wrong options.

    Without --scheduler, --scheduler-file or Dask's own scheduler-address, a cluster is started for this job alone.
    """
    debug, with_report = options.pop("debug"), options.pop("with_report")
    how = {name: options.pop(name) for name in ("dry_run", "overwrite", "restart")}
    cluster = _cluster_options(ctx, {name: options.pop(name) for name in ClusterOptions.model_fields})
    correction = Sen2CorOptions.of(**{name: options.pop(name) for name in Sen2CorOptions.model_fields})
    if not (options["s2"] or options["s2_stac"] or options["l1c"]):
        raise click.UsageError("Give products with --s2, --s2-stac or --l1c.")
    job = JobOptions.of(**options)
    require_building()
    # These imports take seconds; --help should not wait for them.
    from reben_dask.job.run import run_job  # noqa: PLC0415

    result = run_job(job, cluster, correction, **how, with_performance=with_report, quiet=not debug)
    if with_report and result.needs_report:
        from reben_dask.cli.report import report_on  # noqa: PLC0415

        report_on(job.out)
    if not result.is_complete:
        ctx.exit(EXIT_PARTIAL)


def _cluster_options(ctx: click.Context, values: dict[str, Any]) -> ClusterOptions:
    """Ignore settings of an embedded cluster, and refuse its options, if a running one is given."""
    options = ClusterOptions.of(**values)
    running = [_flag(name) for name in ("scheduler", "scheduler_file") if values[name]]
    if not running and not _is_configured():
        return options
    asked = [name for name in options.embedded if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if len(running) > 1:
        raise click.UsageError(f"Give {running[0]} or {running[1]}, not both.")
    if running and asked:
        raise click.UsageError(f"{_flag(asked[0])} is for an embedded cluster; {running[0]} brings its own workers.")
    return options.model_copy(update=dict.fromkeys(set(options.embedded) - set(asked)))


def _flag(name: str) -> str:
    return flag_of(name, ClusterOptions.model_fields[name])


def _is_configured() -> bool:
    from dask import config  # noqa: PLC0415 - takes long to import, for --help

    return config.get("scheduler-address", None) is not None


if __name__ == "__main__":
    run(prog_name="python -m reben_dask.run")
