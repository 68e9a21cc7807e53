"""The ``compare`` command."""

from __future__ import annotations

from pathlib import Path

import click

from reben_dask.cli.base import Command, of_finished_jobs
from reben_dask.errors import InputError

EPILOG = """
\b
Examples:
  reben compare reben-out v1-out --out comparison
  reben compare dataset --plot splits.png
  reben compare dataset --report splits
  reben compare rebuilt BigEarthNet-V2
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
    help="Write a page with all tables and figures; missing splits are computed and measured too.",
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
    """Compare two datasets and their splits.

    The datasets are of one area; the spatial correlation between splits is measured.

    OUT_A and OUT_B are datasets of `reben run`, made from the same products with different recipes, or metadata of
    reBEN as published (a file, or the folder of both). Patches are matched by location, side and sensing time (to the
    second), not by name; published metadata have these in their names. Prints the candidates and kept patches common to
    both, and for patches kept in both the labels lost and gained, by class, and the splits.

    For the split of each dataset, and any further column `split_<strategy>`, prints the distance from test patches to
    the nearest training patch, the share that touches one, and the similarity of their labels compared with random
    pairs; also the similarity of labels by distance. With OUT_A alone, only this.

    FOLDER gets each table as a CSV file, and as Parquet the matched patches with the labels of both and the nearest
    training patch of each test patch. With --report, the self-contained page FOLDER/index.html shows everything; each
    of its figures is also saved as PNG and SVG.
    """
    from reben_dask.analysis import results  # noqa: PLC0415 - takes long to import
    from reben_dask.analysis.correlation import spatial_correlation  # noqa: PLC0415
    from reben_dask.analysis.differences import compare_datasets  # noqa: PLC0415
    from reben_dask.analysis.patch_set import names_of, read_patch_set  # noqa: PLC0415
    from reben_dask.progress import console  # noqa: PLC0415
    from reben_dask.workspace import require_new  # noqa: PLC0415

    output, read = console(), read_patch_set
    if out is not None:
        require_new(out)
    # Figures need libraries of an extra.
    if plot is not None:
        from reben_dask.analysis.plots import plot_correlation  # noqa: PLC0415
        from reben_dask.drawing import require_image_name  # noqa: PLC0415

        require_image_name(plot)
    if page is not None:
        from reben_dask.report.comparison import Comparison, comparison_page, read_with_strategies  # noqa: PLC0415
        from reben_dask.report.page import publish_page, require_place  # noqa: PLC0415

        require_place(page)
        read = read_with_strategies
    given = {name: path for name, path in (("A", a), ("B", b)) if path is not None}
    with of_finished_jobs(*given.values()):
        datasets = {name: read(path) for name, path in given.items()}
    for line in results.describe_datasets(datasets):
        output.print(line, highlight=False)
    differences = compare_datasets(*datasets.values()) if b is not None else None
    if differences is not None:
        results.show(output, results.difference_tables(differences))
    found = {name: spatial_correlation(dataset) for name, dataset in datasets.items()}
    if b is None and not found["A"].splits:
        raise InputError(f"{a} cannot be measured: {next(iter(found['A'].without.values()))}.")
    results.show(output, results.correlation_tables(found))
    if out is not None:
        results.write_results(out, datasets, differences, found)
        output.print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}", highlight=False)
    if plot is not None:
        names = names_of(datasets)
        plot_correlation({names[letter]: correlation for letter, correlation in found.items()}, plot)
        output.print(f"{plot}: the plot", highlight=False)
    if page is not None:
        made = publish_page(comparison_page(Comparison(datasets, differences, found)), page)
        output.print(f"{made}: the report", highlight=False)
