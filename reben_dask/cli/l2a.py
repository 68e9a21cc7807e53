"""The ``l2a`` command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reben_dask.cli.base import Command
from reben_dask.cli.options import model_options
from reben_dask.options import ClusterOptions, Sen2CorOptions

EXIT_PARTIAL = 3
"""Exit status if some products could not be corrected."""

EPILOG = """
\b
Examples:
  reben l2a l1c --out l2a --sen2cor ~/Sen2Cor-02.11.00-Linux64
  reben l2a l1c --out l2a --gipp L2A_GIPP.xml --timeout 2h --scheduler tcp://node1:8786
  reben run --s2 l2a --landcover U2018_CLC2018_V2020_20u1.gpkg --out dataset
"""


@click.command("l2a", cls=Command, epilog=EPILOG)
@click.argument("l1c", nargs=-1, required=True, metavar="L1C…")
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Folder for the L2A products."
)
@model_options(Sen2CorOptions)
@model_options(ClusterOptions)
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@click.option("--debug", is_flag=True, help="Show tracebacks and the log of the cluster.")
@click.pass_context
def l2a(ctx: click.Context, /, **options: Any) -> None:
    """Correct L1C products with sen2cor.

    L1C are Sentinel-2 L1C products (.SAFE folders), or folders of them. ESA's sen2cor makes the L2A products that
    `reben run` reads. It is an external program for Linux (https://step.esa.int); reBEN was made with version 02.11.00.

    Each product is a Dask task that takes the resource sen2cor from its worker, so that a worker never runs two at
    once. On a running cluster, start the workers with --resources "sen2cor=1", on machines with at least 16 GB of
    memory and 8 threads for each. An embedded cluster gets as many workers as fit this machine.

    sen2cor runs with a clean environment, in a folder of its own, with one L2A_GIPP.xml for all products, which is kept
    in DIR. A run succeeds only if it writes one complete product. A failed run is retried once after its output is
    deleted. A product that fails again, or exceeds the time limit, is reported, with its log in DIR/logs. The next run
    of the same command retries it, and skips finished products. DIR/l2a-record.json has the version of sen2cor, the
    SHA-256 of the configuration, and each product.

    The exit status is 0 if all products are corrected, 3 if some are not, 1 after an error, and 2 for wrong options.
    """
    from reben_dask.job.correct import correct_products  # noqa: PLC0415 - takes long to import, for --help

    dry_run, debug, out = (options.pop(name) for name in ("dry_run", "debug", "out"))
    cluster = ClusterOptions.of(**{name: options.pop(name) for name in ClusterOptions.model_fields})
    settings = Sen2CorOptions.of(**{name: options.pop(name) for name in Sen2CorOptions.model_fields})
    result = correct_products(options["l1c"], out, settings, cluster, dry_run=dry_run, quiet=not debug)
    if result.failures:
        ctx.exit(EXIT_PARTIAL)
