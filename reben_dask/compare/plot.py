"""The figure of a comparison: distance from test to training patches, and similarity of labels by distance."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from reben_dask.compare.correlation import SpatialCorrelation, SplitCorrelation
from reben_dask.drawing import COLOURS, FAINT, INK, house_style, new_figure, plain, save_figure
from reben_dask.grid import PATCH_SIDE_M
from reben_dask.patches.split_distance import APART

_Line = str | tuple[int, tuple[float, ...]]


class _Look(NamedTuple):
    """What tells the two datasets apart, without colour."""

    line: _Line
    marker: str
    colour: str


_LOOKS = (_Look("-", "o", INK), _Look((0, (4, 1.5)), "s", FAINT))

_COLUMNS, _TICKS = 4, 9
_DIGITS = ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 3, 5), (1, 2, 5), (1,))
"""Digits at which distances have ticks: the first of these that makes not too many."""

_STEPS = 2001
_LINEAR_KM = 1.0
"""Up to this the scale of distances is linear, as patches may be at no distance; beyond, it is logarithmic."""


def plot_correlation(found: Mapping[str, SpatialCorrelation], path: Path) -> None:
    """Draw the spatial correlation of one or two datasets into an image file, whole or not at all.

    Parameters
    ----------
    found : mapping of str to SpatialCorrelation
        Spatial correlation of each dataset, by the name that the legend gives it.
    path : Path
        The file, ``.png`` or ``.svg``.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with house_style():
        save_figure(draw_correlation(found), path)


@house_style()
def draw_correlation(found: Mapping[str, SpatialCorrelation], *, across: int = 2) -> Figure:
    """Draw both panels, side by side or one above the other; see :func:`plot_correlation`."""
    figure = new_figure(6 * across, 5.8 if across > 1 else 11)
    distances, similarity = figure.subplots(2 // across, across).flat
    colour_of = _colours(found)
    for (name, correlation), look in zip(found.items(), _LOOKS[: len(found)], strict=True):
        prefix = plain(f"{name}, ") if len(found) > 1 else ""
        _draw_correlogram(similarity, correlation, prefix, look)
        for split in correlation.splits:
            colour = colour_of[name, split.title]
            _draw_distances(distances, split, f"{prefix}{plain(split.title)}", colour, look.line)
            _draw_nearest(similarity, split, colour, look.marker)
    _finish_distances(distances, found)
    _finish_similarity(similarity, found)
    lines, _ = distances.get_legend_handles_labels()
    if lines:
        figure.legend(
            loc="outside lower center",
            handles=lines,
            ncols=min(len(lines), _COLUMNS if across > 1 else 1),
            title=fill("Split, and the share of its test patches that touch or overlap a training patch", 45 * across),
        )
    return figure


def _colours(found: Mapping[str, SpatialCorrelation]) -> dict[tuple[str, str], str]:
    """A colour for each split of each dataset; where there are too few, for the splits of one title."""
    splits = [(name, split.title) for name, correlation in found.items() for split in correlation.splits]
    kinds = splits if len(splits) <= len(COLOURS) else [("", title) for title in dict.fromkeys(t for _, t in splits)]
    chosen = dict(zip(kinds, cycle(COLOURS), strict=False))
    return {(name, title): chosen.get((name, title)) or chosen["", title] for name, title in splits}


def _draw_distances(axes: Axes, split: SplitCorrelation, title: str, colour: str, line: _Line) -> None:
    """The cumulative distribution of one split, in as many steps as can be seen."""
    share = np.linspace(0, 1, _STEPS)
    distance = np.quantile(split.nearest.distance_m, share, method="inverted_cdf") / 1000
    touching = np.mean(split.nearest.contact != APART)
    axes.step(
        [distance[0], *distance],
        [0, *share],
        where="post",
        color=colour,
        linestyle=line,
        linewidth=2.2,
        clip_on=False,
        label=f"{title}: {touching:.0%}",
    )


def _draw_correlogram(axes: Axes, correlation: SpatialCorrelation, prefix: str, look: _Look) -> None:
    table = correlation.correlogram
    if table.empty:
        return
    axes.plot(
        table["distance_m"] / 1000,
        table["jaccard"],
        color=look.colour,
        linestyle=look.line,
        marker=look.marker,
        markersize=4.5,
        linewidth=1.6,
        clip_on=False,
        label=f"{prefix}pairs of patches at a distance",
    )
    axes.axhline(
        correlation.by_chance, color=look.colour, linestyle=":", linewidth=1.6, label=f"{prefix}random pairs of patches"
    )


def _draw_nearest(axes: Axes, split: SplitCorrelation, colour: str, marker: str) -> None:
    axes.plot(
        np.median(split.nearest.distance_m) / 1000,
        split.similarity.mean(),
        linestyle="none",
        marker=marker,
        markersize=12,
        color=colour,
        markeredgecolor="white",
        markeredgewidth=1.5,
        clip_on=False,
        zorder=4,
    )


def _finish_distances(axes: Axes, found: Mapping[str, SpatialCorrelation]) -> None:
    farthest = [split.nearest.distance_m.max() for correlation in found.values() for split in correlation.splits]
    sides = [side for correlation in found.values() for side in correlation.kept.patches["side"].unique()]
    side = max(sides, default=PATCH_SIDE_M)
    _distance_axis(axes, max([2 * side, *farthest]) / 1000)
    axes.axvline(side / 1000, color="#999999", linewidth=1, zorder=1)
    axes.annotate(
        "side of a patch",
        (side / 1000, 1),
        xytext=(0, 4),
        textcoords="offset points",
        color=FAINT,
        ha="center",
        fontsize=9,
    )
    axes.set(title="How far are test patches from training data?", ylim=(0, 1), ylabel="Share of test patches")
    axes.set_xlabel("Distance to the nearest training patch (km)")
    axes.yaxis.set_major_formatter(PercentFormatter(1))


def _finish_similarity(axes: Axes, found: Mapping[str, SpatialCorrelation]) -> None:
    farthest = [distance for correlation in found.values() for distance in correlation.correlogram["distance_m"]]
    _distance_axis(axes, max([2000, *farthest]) / 1000)
    axes.set(title="How alike are labels at that distance?", ylim=(0, 1), ylabel="Mean Jaccard similarity of labels")
    axes.set_xlabel("Distance between two patches (km)")
    if any(correlation.splits for correlation in found.values()):
        axes.plot(
            [],
            [],
            linestyle="none",
            marker="o",
            markersize=10,
            color="#bbbbbb",
            label="test patch and nearest training patch\n(colour of the split, at the median distance)",
        )
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper right")


def _distance_axis(axes: Axes, farthest_km: float) -> None:
    steps = ([digit * 10.0**power for power in range(5) for digit in digits] for digits in _DIGITS)
    fitting = ([step for step in some if step <= farthest_km] for some in steps)
    shown = [0.0, *next(some for some in fitting if len(some) < _TICKS)]
    axes.set_xscale("symlog", linthresh=_LINEAR_KM, linscale=0.5)
    axes.set_xlim(0, farthest_km * 1.05)
    axes.set_xticks(shown, [f"{step:,g}" for step in shown])
    axes.set_xticks([], minor=True)
