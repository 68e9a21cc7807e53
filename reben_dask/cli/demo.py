"""The ``demo`` command."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from reben_dask.cli.base import Command
from reben_dask.demo import make_demo_region


@click.command("demo", cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--full-size",
    is_flag=True,
    help="Make tiles of 109.8 km, as real ones are, to measure speed and memory: minutes, 4 GB of memory and 2.5 GB "
    "of disk, without Sentinel-1. By default tiles are 10.2 km: seconds and 30 MB of disk.",
)
def demo(folder: Path, *, full_size: bool) -> None:
    """Generate a small synthetic region.

    DIR gets all inputs of a run: Sentinel-2 products (two neighbouring tiles, summer and winter), a land-cover map with
    the schema of CORINE Land Cover 2018, countries, and Sentinel-1 patches with their table of pairs.

    The region has an example of each case that a run must handle: a tile that failed its quality check; patches with
    nodata, without land cover, under snow, under cloud and in cloud shadow; a product in a zip archive; products with
    and without an offset; and a patch without a Sentinel-1 partner.

    The landscape and the borders are invented, and identical at every call. The last line of the output is the command
    that builds a dataset from the region.
    """
    region = make_demo_region(folder, full_size=full_size, progress=click.echo)
    click.echo(f"\n{folder}: {_megabytes(folder):,.0f} MB")
    for path, what in (
        (region.s2, "Sentinel-2 products"),
        (region.landcover, "land-cover map"),
        (region.countries, "countries (invented borders)"),
        (region.s1, "Sentinel-1 patches"),
        (region.s1_pairs, "matching Sentinel-1 and Sentinel-2 patches"),
    ):
        if path is not None:
            click.echo(f"  {path.name:<15} {what}")
    click.echo("\nBuild a dataset from it:\n")
    inputs = {
        "--s2": region.s2,
        "--landcover": region.landcover,
        "--countries": region.countries,
        "--s1": region.s1,
        "--s1-pairs": region.s1_pairs,
    }
    options = " ".join(f"{option} {shlex.quote(str(path))}" for option, path in inputs.items() if path is not None)
    click.echo(f"reben run {options} --out {shlex.quote(str(folder.with_name(folder.name + '-dataset')))}")


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
