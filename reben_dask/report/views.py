"""Figures of a dataset's report, one at a time, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from reben_dask.analysis.legend import legend_of
from reben_dask.drawing import house_style
from reben_dask.errors import InputError
from reben_dask.report.dataset import best_tile_splits
from reben_dask.report.examples import examples_of
from reben_dask.report.figures import draw_classes, draw_examples, draw_funnel, draw_splits
from reben_dask.report.origin import read_record
from reben_dask.report.survey import survey


@house_style()
def view_funnel(out: Path) -> Figure:
    """Draw the number of candidates of a dataset that each rule rejects.

    Raises InputError if it is not a dataset of this program, or its patch table cannot be read.
    """
    found = survey(out)
    return draw_funnel(found.steps, found.kept)


@house_style()
def view_classes(out: Path) -> Figure:
    """Draw the share of the patches of each split that carry each class.

    Raises InputError if it is not a dataset of this program, its patch table cannot be read, or no patch is kept.
    """
    found = survey(out)
    if not found.kept:
        raise InputError(f"None of the {found.candidates:,} candidates of {out} is kept, so there are no classes.")
    return draw_classes(found.tables["class"], found.splits)


@house_style()
def view_splits(out: Path) -> Figure:
    """Draw the tile with most kept patches under each split strategy; missing strategies are computed.

    Raises InputError if it is not a dataset of this program, or its patch table cannot be read.
    """
    record, _ = read_record(out)
    return draw_splits(best_tile_splits(survey(out), record))


@house_style()
def view_patches(out: Path, patch_ids: Sequence[str], *, bright: bool = False) -> Figure:
    """Draw patches of a dataset in natural colour, each above its reference map.

    Parameters
    ----------
    out : Path
        Folder of the dataset.
    patch_ids : sequence of str
        Names of kept patches, at least one.
    bright : bool
        Stretch each patch to its brightest pixels, for snow or cloud; otherwise all are stretched alike.

    Raises
    ------
    InputError
        If a patch is not among the kept ones, or its pixels are not in the dataset.
    """
    record, _ = read_record(out)
    return draw_examples(examples_of(out, patch_ids), bright=bright, legend=legend_of(record))
