"""Figures of a dataset for a notebook: those of its report, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from reben_dask.drawing import house_style
from reben_dask.errors import InputError
from reben_dask.report.examples import examples_of
from reben_dask.report.figures.counts import draw_classes, draw_funnel
from reben_dask.report.figures.patches import draw_examples
from reben_dask.report.figures.splits import draw_splits
from reben_dask.report.record import read_record
from reben_dask.report.survey import survey
from reben_dask.report.where import best_tile_splits


@house_style()
def view_funnel(out: Path) -> Figure:
    """Draw how many candidates of a dataset each rule takes away.

    Parameters
    ----------
    out : Path
        Folder of the dataset.

    Raises
    ------
    InputError
        If it is not a dataset of this program, or its patch table cannot be read.
    """
    found = survey(out)
    return draw_funnel(found.steps, found.kept)


@house_style()
def view_classes(out: Path) -> Figure:
    """Draw which share of the patches of each split carries each class.

    Parameters
    ----------
    out : Path
        Folder of the dataset.

    Raises
    ------
    InputError
        If it is not a dataset of this program, its patch table cannot be read, or no patch is kept.
    """
    found = survey(out)
    if not found.kept:
        raise InputError(f"None of the {found.candidates:,} candidates of {out} is kept, so there are no classes.")
    return draw_classes(found.classes, found.splits.sum())


@house_style()
def view_splits(out: Path) -> Figure:
    """Draw the tile with most kept patches under each split strategy, those that the dataset has not being computed.

    Parameters
    ----------
    out : Path
        Folder of the dataset.

    Raises
    ------
    InputError
        If it is not a dataset of this program, or its patch table cannot be read.
    """
    return draw_splits(best_tile_splits(survey(out), read_record(out)))


@house_style()
def view_patches(out: Path, patch_ids: Sequence[str], *, bright: bool = False) -> Figure:
    """Draw patches of a dataset in natural colour, each above its reference map in the colours of CORINE Land Cover.

    Parameters
    ----------
    out : Path
        Folder of the dataset.
    patch_ids : sequence of str
        Names of kept patches, at least one.
    bright : bool
        Stretch each patch up to its brightest pixels, for those under snow or cloud; otherwise all are stretched alike.

    Raises
    ------
    InputError
        If a patch is not among the kept ones, or its pixels are not in the dataset.
    """
    record = read_record(out)
    has_label = {code: title is not None for code, title in record.classes_of_codes.items()}
    harmonized = record.part("recipe", "harmonize") is True
    examples = examples_of(out, patch_ids, harmonized=harmonized)
    return draw_examples(examples, bright=bright, has_label=has_label)
