"""Comparison of datasets, or of the splits of one, as a page or as sections of a dataset's page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from reben_dask.analysis.correlation import SpatialCorrelation, spatial_correlation
from reben_dask.analysis.differences import Differences, compare_datasets
from reben_dask.analysis.patch_set import PatchSet, has_patch_table, names_of, read_patch_set
from reben_dask.analysis.plots import draw_correlation
from reben_dask.analysis.results import correlation_tables, difference_tables
from reben_dask.report.figures import NARROW, WIDE, draw_label_changes
from reben_dask.report.origin import read_record
from reben_dask.report.page import Page
from reben_dask.report.strategies import with_strategies
from reben_dask.tables import Table

_OF_PATCHES = ("Patches, matched", "Kept in one")
_TITLES = {
    "compared-patches": "Patches in both and in one",
    "compared-labels": "Labels and splits of patches in both",
    "compared-splits": "Distance and similarity",
}


@dataclass(frozen=True)
class Comparison:
    """Comparison of two datasets, or the splits of one, by the letters A and B."""

    datasets: Mapping[str, PatchSet]
    differences: Differences | None
    correlation: Mapping[str, SpatialCorrelation]

    @property
    def sections(self) -> dict[str, str]:
        """Title of each section by its key."""
        keys = []
        if self.differences is not None:
            keys = ["compared-patches"]
            if self.differences.overlap.loc["kept", "both"]:
                keys.append("compared-labels")
        return {key: _TITLES[key] for key in [*keys, "compared-splits"]}

    @property
    def figures(self) -> dict[str, Callable[..., Figure]]:
        """Drawing functions by the names of figures."""
        figures: dict[str, Callable[..., Figure]] = {}
        if len(self.changed_classes):
            figures["compared-labels"] = partial(draw_label_changes, self.changed_classes)
        return {**figures, "compared-splits": self._draw_correlation}

    @property
    def changed_classes(self) -> pd.DataFrame:
        """Classes that patches in both lose or gain."""
        if self.differences is None:
            return pd.DataFrame()
        classes = self.differences.labels.classes
        return classes[(classes["only A"] > 0) | (classes["only B"] > 0)]

    @property
    def folders(self) -> dict[str, str]:
        """Name of the folder of each dataset."""
        return {letter: dataset.path.resolve().name for letter, dataset in self.datasets.items()}

    @property
    def named_correlation(self) -> dict[str, SpatialCorrelation]:
        """Spatial correlation by the names of the datasets."""
        names = names_of(self.datasets)
        return {names[letter]: found for letter, found in self.correlation.items()}

    @property
    def tables(self) -> dict[str, list[Table | str]]:
        """Tables and remarks of each section by its key."""
        parts = list(difference_tables(self.differences)) if self.differences is not None else []
        of_patches = [part for part in parts if isinstance(part, str) or part.title.startswith(_OF_PATCHES)]
        return {
            "compared-patches": of_patches,
            "compared-labels": [part for part in parts if part not in of_patches],
            "compared-splits": list(correlation_tables(self.correlation)),
        }

    def _draw_correlation(self, *, width: float = WIDE) -> Figure:
        return draw_correlation(self.named_correlation, across=1 if width <= NARROW else 2)


def read_with_strategies(out: Path) -> PatchSet:
    """Read the patches of a dataset, and add splits by the strategies that it lacks; not to published metadata."""
    dataset = read_patch_set(out)
    return with_strategies(dataset, read_record(out)[0]) if has_patch_table(out) else dataset


def compare(out: Path, other: Path) -> Comparison:
    """Compare two datasets, for the page of the first.

    Raises InputError if one is not a dataset of this program, or they have no candidate in common.
    """
    datasets = {"A": read_with_strategies(out), "B": read_with_strategies(other)}
    differences = compare_datasets(*datasets.values())
    return Comparison(datasets, differences, {name: spatial_correlation(each) for name, each in datasets.items()})


def comparison_page(comparison: Comparison) -> Page:
    """Compose the page of a comparison."""
    datasets, names = comparison.datasets, comparison.folders
    is_pair = comparison.differences is not None
    facts: dict[str, str] = {}
    for letter, dataset in datasets.items():
        mark = f" {letter}" * is_pair
        facts |= {f"Dataset{mark}": names[letter], f"Kept{mark}": f"{len(dataset.kept()):,}"}
    if comparison.differences is not None:
        facts["Kept in both"] = f"{comparison.differences.overlap['both']['kept']:,}"
    return Page(
        template="comparison.html.j2",
        kind="Comparison of datasets" if is_pair else "Comparison of splits",
        title=" and ".join(names.values()) if is_pair else f"Splits of {names['A']}",
        subtitle="",
        facts=facts,
        sections=comparison.sections,
        source=f"reben compare {'OUT_A OUT_B' if is_pair else 'OUT'} --report FOLDER",
        content={"comparison": comparison},
        figures=comparison.figures,
    )
