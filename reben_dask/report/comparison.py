"""The comparison of datasets, and of the splits of one, as sections of a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from reben_dask import tables
from reben_dask.analysis.correlation import SpatialCorrelation, spatial_correlation
from reben_dask.analysis.differences import Differences, compare_datasets
from reben_dask.analysis.patch_set import PatchSet, names_of, read_patch_set
from reben_dask.analysis.plots import draw_correlation
from reben_dask.analysis.results import correlation_tables, difference_tables
from reben_dask.report.blocks import Block, Page, Picture, Section, Table, Text
from reben_dask.report.figures.counts import draw_label_changes
from reben_dask.report.record import read_record
from reben_dask.report.strategies import with_strategies

_OF_PATCHES = ("Patches, matched", "Kept in one")
_TOUCHING = "touch or overlap a training patch"


def read_with_strategies(out: Path) -> PatchSet:
    """Patches of a dataset, with splits by the strategies that it has not; see :func:`with_strategies`."""
    return with_strategies(read_patch_set(out), read_record(out))


def comparison_sections(out: Path, other: Path) -> list[Section]:
    """Compare two datasets for a page that is about the first.

    Raises
    ------
    InputError
        If one of them is not a dataset of this program, or they have no candidate in common.
    """
    datasets = {"A": read_with_strategies(out), "B": read_with_strategies(other)}
    found = {name: spatial_correlation(dataset) for name, dataset in datasets.items()}
    return list(_sections(datasets, compare_datasets(*datasets.values()), found))


def comparison_page(
    datasets: Mapping[str, PatchSet], differences: Differences | None, found: Mapping[str, SpatialCorrelation]
) -> Page:
    """A page about a comparison.

    Parameters
    ----------
    datasets : mapping of str to PatchSet
        What was compared, by the letters A and B.
    differences : Differences or None
        How two datasets differ; ``None`` of a single one.
    found : mapping of str to SpatialCorrelation
        Spatial correlation in each.
    """
    names = [_name(dataset) for dataset in datasets.values()]
    facts = []
    for letter, dataset in datasets.items():
        mark = f" {letter}" * (len(datasets) > 1)
        facts += [(f"Dataset{mark}", _name(dataset)), (f"Kept{mark}", f"{len(dataset.kept()):,}")]
    if differences is not None:
        facts.append(("Kept in both", f"{int(differences.overlap['both']['kept']):,}"))
    title = " and ".join(names) if differences is not None else f"Splits of {names[0]}"
    source = (
        "reben compare OUT_A OUT_B --report FOLDER" if differences is not None else "reben compare OUT --report FOLDER"
    )
    return Page(title, "Comparison of datasets" if differences is not None else "Comparison of splits",
                facts, list(_sections(datasets, differences, found)), source)  # fmt: skip


def _sections(
    datasets: Mapping[str, PatchSet], differences: Differences | None, found: Mapping[str, SpatialCorrelation]
) -> Iterator[Section]:
    if differences is not None:
        yield _overlap_section(datasets, differences)
        if differences.overlap.loc["kept", "both"]:
            yield _label_section(differences)
    yield _correlation_section(datasets, found)


def _overlap_section(datasets: Mapping[str, PatchSet], differences: Differences) -> Section:
    which = " ".join(
        f"{letter} is {_name(dataset)}: {len(dataset):,} candidates, {len(dataset.kept()):,} kept, "
        f"{len(dataset.labels.classes)} classes."
        for letter, dataset in datasets.items()
    )
    parts = difference_tables(differences)
    of_patches = [part for part in parts if isinstance(part, str) or part.title.startswith(_OF_PATCHES)]
    return Section("compared-patches", "Patches in both and in one", [Text(which), *_blocks(of_patches)])


def _label_section(differences: Differences) -> Section:
    of_labels = [
        part
        for part in difference_tables(differences)
        if not isinstance(part, str) and not part.title.startswith(_OF_PATCHES)
    ]
    classes = differences.labels.classes
    changed = classes[(classes["only A"] > 0) | (classes["only B"] > 0)]
    blocks: list[Block] = [Text("All patches that both keep have the same labels.")]
    if len(changed):
        alt = "Bars to both sides. " + "; ".join(
            f"{name!s}: {row['only A']:,} lost, {row['only B']:,} gained" for name, row in changed.iterrows()
        )
        caption = "Patches that lose and gain each class from A to B; classes that do not change are left out."
        blocks = [Picture("compared-labels", caption, f"{alt}.", partial(draw_label_changes, classes))]
    return Section("compared-labels", "Labels and sets of patches in both", [*blocks, *_blocks(of_labels)])


def _correlation_section(datasets: Mapping[str, PatchSet], found: Mapping[str, SpatialCorrelation]) -> Section:
    names = names_of(datasets)
    named = {names[letter]: correlation for letter, correlation in found.items()}
    text = (
        "Neighbouring patches are alike. Where test patches lie beside training patches, a test says little about "
        "places that were not seen in training. Splits that are marked as computed are not part of a dataset: they "
        "show what these strategies would make of its patches."
    )
    touching = [
        f"{split.title} of {name}: {split.measures()[_TOUCHING]:.0%} of test patches touch a training patch"
        for name, correlation in named.items()
        for split in correlation.splits
    ]
    caption = (
        "How far test patches are from the nearest training patch; and how alike the labels of two patches are by the "
        "distance between them (correlogram), and of test patches and their nearest training patches."
    )
    alt = "Two panels. " + "; ".join(touching)
    draw, narrow = partial(draw_correlation, named), partial(draw_correlation, named, across=1)
    picture = Picture("compared-splits", caption, f"{alt}.", draw, narrow)
    return Section(
        "compared-splits", "Distance and similarity", [Text(text), picture, *_blocks(correlation_tables(found))]
    )


def _blocks(parts: Iterable[tables.Table | str]) -> Iterator[Block]:
    for part in parts:
        if isinstance(part, str):
            yield Text(part, is_note=True)
        else:
            yield Table(part.title, part.columns, part.texts, words=part.is_number.index(True))


def _name(dataset: PatchSet) -> str:
    return dataset.path.resolve().name
