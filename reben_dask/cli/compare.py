"""The ``compare`` command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from reben_dask.cli.base import Command, of_finished_jobs
from reben_dask.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reben_dask.compare.correlation import SpatialCorrelation
    from reben_dask.stores.patch_set import PatchSet

EPILOG = """
\b
Examples:
  reben compare reben-out v1-out --out comparison
  reben compare dataset --plot splits.png
  reben compare dataset --report splits
"""

_PATH = click.Path(path_type=Path)


@click.command("compare", cls=Command, epilog=EPILOG)
@click.argument("a", metavar="OUT_A", type=_PATH)
@click.argument("b", metavar="[OUT_B]", required=False, type=_PATH)
@click.option("--out", metavar="FOLDER", type=_PATH, help="Write all tables into a new folder, as CSV and Parquet.")
@click.option("--plot", metavar="FILE.png|.svg", type=_PATH, help="Draw distances and similarity.")
@click.option(
    "--report",
    "page",
    metavar="FOLDER",
    type=_PATH,
    help="Make a page of all tables and figures; splits that a dataset has not are computed for it, and measured too.",
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def compare(
    a: Path,
    b: Path | None,
    *,
    out: Path | None,
    plot: Path | None,
    page: Path | None,
    debug: bool,  # noqa: ARG001 - for Command
) -> None:
    """Compare two datasets of one area, and measure what their splits do to spatial correlation.

    OUT_A and OUT_B are datasets of `reben run`, made from the same products with different recipes. Patches are matched
    by place, side and sensing time, not by name. Tells which candidates and kept patches both have, which labels the
    patches kept in both gain and lose, class by class, and how their splits go together.

    Of each dataset, for its split and any further column `split_<strategy>`: how far test patches are from the nearest
    training patch, how many touch one, and how alike the labels of the two are, beside random pairs; and how the
    similarity of labels decays with distance. With OUT_A alone, only this.

    FOLDER gets each table as a CSV file, matched patches with the labels of both, and the nearest training patch of
    each test patch, as Parquet. With --report, the page FOLDER/index.html has everything, and loads nothing from
    elsewhere; each of its figures is also a PNG and an SVG file.
    """
    from reben_dask.compare.correlation import spatial_correlation  # noqa: PLC0415 - takes long to import
    from reben_dask.compare.differences import compare_datasets  # noqa: PLC0415
    from reben_dask.compare.plot import plot_correlation  # noqa: PLC0415
    from reben_dask.compare.show import show_correlation, show_datasets, show_differences  # noqa: PLC0415
    from reben_dask.compare.write import write_comparison  # noqa: PLC0415
    from reben_dask.drawing import require_image_name  # noqa: PLC0415
    from reben_dask.progress import console  # noqa: PLC0415
    from reben_dask.report.comparison import comparison_page, read_with_strategies  # noqa: PLC0415
    from reben_dask.report.write import publish_page, require_place  # noqa: PLC0415
    from reben_dask.stores.building import require_new  # noqa: PLC0415
    from reben_dask.stores.patch_set import read_patch_set  # noqa: PLC0415

    output = console()
    if out is not None:
        require_new(out)
    if plot is not None:
        require_image_name(plot)
    if page is not None:
        require_place(page)
    read = read_patch_set if page is None else read_with_strategies
    given = {name: path for name, path in (("A", a), ("B", b)) if path is not None}
    with of_finished_jobs(*given.values()):
        datasets = {name: read(path) for name, path in given.items()}
    show_datasets(output, datasets)
    differences = compare_datasets(*datasets.values()) if b is not None else None
    if differences is not None:
        show_differences(output, differences)
    found = {name: spatial_correlation(dataset) for name, dataset in datasets.items()}
    if b is None and not found["A"].splits:
        raise InputError(f"{a} cannot be measured: {next(iter(found['A'].without.values()))}.")
    show_correlation(output, found)
    if out is not None:
        write_comparison(out, datasets, differences, found)
        output.print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}", highlight=False)
    if plot is not None:
        plot_correlation(_named(datasets, found), plot)
        output.print(f"{plot}: the plot", highlight=False)
    if page is not None:
        made = publish_page(comparison_page(datasets, differences, found), page)
        output.print(f"{made}: the report", highlight=False)


def _named(datasets: Mapping[str, PatchSet], found: Mapping[str, SpatialCorrelation]) -> dict[str, SpatialCorrelation]:
    """The names of the folders, if they differ, say more than A and B."""
    names = {name: dataset.path.resolve().name for name, dataset in datasets.items()}
    is_clear = len(set(names.values())) == len(names)
    return {names[name] if is_clear else name: correlation for name, correlation in found.items()}
