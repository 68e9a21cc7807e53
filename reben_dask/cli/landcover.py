"""The ``landcover`` command."""

from __future__ import annotations

from pathlib import Path

import click

from reben_dask.cli.base import Command
from reben_dask.errors import InputError
from reben_dask.wording import counted

EPILOG = """
\b
Example:
  reben landcover U2018_CLC2018_V2020_20u1.gpkg clc2018.parquet
  reben run --s2 tiles --landcover clc2018.parquet --out dataset
"""


@click.command("landcover", cls=Command, epilog=EPILOG)
@click.argument("source", metavar="MAP")
@click.argument("destination", metavar="OUT.parquet", type=click.Path(path_type=Path))
@click.option("--code-column", metavar="NAME", help="Column of the class codes, if not detected.")
def landcover(source: str, destination: Path, code_column: str | None) -> None:
    """Sort a land-cover map for fast reading.

    Each tile then reads only the parts that it overlaps.

    MAP is any vector file with class codes that GDAL reads, GeoParquet, or a zip archive or folder that holds one;
    FILE:LAYER names a layer. OUT.parquet becomes a folder of GeoParquet files along a
    Hilbert curve, with the bounding box of every polygon; `reben run --landcover`, GeoPandas, DuckDB and QGIS read it.
    The map is streamed; memory does not grow with its size.

    A run with a MAP makes such a copy itself and keeps it beside its output for the next run. Use this command to
    choose the location, or to share one copy.
    """
    from reben_dask.progress import StageProgress, console  # noqa: PLC0415
    from reben_dask.sources.landcover import is_sorted_landcover, open_landcover, sort_landcover  # noqa: PLC0415

    output = console()
    if is_sorted_landcover(source):
        raise InputError(f"{source} is sorted already; give it to: reben run --landcover")
    described = open_landcover(source, code_column=code_column)
    output.print(
        f"{described.path}: {counted(described.polygons, 'polygon')}, {described.crs}, layer {described.layer}, codes "
        f"in {described.code_column}",
        highlight=False,
    )
    with StageProgress(output, {"landcover": described.polygons or 1}) as progress:
        made = sort_landcover(described, destination.absolute(), lambda rows: progress.advance("landcover", rows))
    polygons, parts = counted(made.polygons, "polygon"), counted(len(made.parts), "part")
    output.print(f"{destination}: {polygons} in {parts}", highlight=False)
    if made.left_out:
        output.print(f"Note: skipped {counted(made.left_out, 'row')} without a polygon.", style="yellow")
