"""Figure of a comparison: distance from test to training patches, and similarity of labels by distance.

Colour marks the strategy, line and marker the dataset.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from reben_dask.analysis.correlation import APART, SpatialCorrelation, SplitCorrelation
from reben_dask.drawing import COLOURS, FAINT, INK, STRATEGY_COLOURS, house_style, new_figure, plain, save_figure
from reben_dask.grid import PATCH_SIDE_M


class _Look(NamedTuple):
    line: str | tuple[int, tuple[float, ...]]
    marker: str


_LOOKS = (_Look("-", "o"), _Look((0, (4, 1.5)), "s"))
_COLUMNS, _TICKS = 4, 9
_DIGITS = ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 3, 5), (1, 2, 5), (1,))
"""Candidate digits for distance ticks; the first that yields fewer than ``_TICKS`` is used."""

_SHARES = np.linspace(0, 1, 2001)
_LINEAR_KM = 1.0
"""Upper end of the linear part of the distance scale, which includes 0; logarithmic beyond."""


def plot_correlation(found: Mapping[str, SpatialCorrelation], path: Path) -> None:
    """Draw the spatial correlation of datasets, by name, to a ``.png`` or ``.svg`` file, atomically.

    Raises OutputError if the file cannot be written.
    """
    with house_style():
        save_figure(draw_correlation(found), path)


@house_style()
def draw_correlation(found: Mapping[str, SpatialCorrelation], *, across: int = 2) -> Figure:
    """Draw both panels in ``across`` columns; see :func:`plot_correlation`."""
    figure = new_figure(6 * across, 5.8 if across > 1 else 11)
    distances, similarity = figure.subplots(2 // across, across).flat
    colours = _colours(split for correlation in found.values() for split in correlation.splits)
    for (name, correlation), look in zip(found.items(), _LOOKS[: len(found)], strict=True):
        prefix = plain(f"{name}, ") if len(found) > 1 else ""
        _draw_correlogram(similarity, correlation, prefix, look)
        for split in correlation.splits:
            _draw_split(distances, similarity, split, prefix, look, colours[_strategy(split)])
    _finish_distances(distances, found)
    _finish_similarity(similarity, found)
    lines, _ = distances.get_legend_handles_labels()
    if lines:
        figure.legend(
            loc="outside lower center",
            handles=lines,
            ncols=1 if across == 1 else len(found) if len(found) > 1 else min(len(lines), _COLUMNS),
            title=fill("Split, and the share of its test patches that touch or overlap a training patch", 45 * across),
        )
    return figure


def _strategy(split: SplitCorrelation) -> str:
    """Strategy without a mark such as ``(computed)``."""
    return split.strategy.partition(" (")[0]


def _colours(splits: Iterable[SplitCorrelation]) -> dict[str, str]:
    others = sorted({_strategy(split) for split in splits} - STRATEGY_COLOURS.keys())
    free = cycle(colour for colour in COLOURS if colour not in STRATEGY_COLOURS.values())
    return {**STRATEGY_COLOURS, **dict(zip(others, free, strict=False))}


def _draw_split(
    distances: Axes, similarity: Axes, split: SplitCorrelation, prefix: str, look: _Look, colour: str
) -> None:
    kilometres = np.quantile(split.nearest.distance_m, _SHARES, method="inverted_cdf") / 1000
    touching = np.mean(split.nearest.contact != APART)
    distances.step(
        [kilometres[0], *kilometres],
        [0, *_SHARES],
        where="post",
        color=colour,
        linestyle=look.line,
        linewidth=2.2,
        clip_on=False,
        label=f"{prefix}{plain(split.title)}: {touching:.0%}",
    )
    similarity.plot(
        np.median(split.nearest.distance_m) / 1000,
        split.similarity.mean(),
        linestyle="none",
        marker=look.marker,
        markersize=12,
        color=colour,
        markeredgecolor="white",
        markeredgewidth=1.5,
        clip_on=False,
        zorder=4,
    )


def _draw_correlogram(axes: Axes, correlation: SpatialCorrelation, prefix: str, look: _Look) -> None:
    table = correlation.correlogram
    if table.empty:
        return
    kilometres = table["distance_m"] / 1000
    style: dict[str, Any] = {"linestyle": look.line, "linewidth": 1.6, "clip_on": False}
    label = f"{prefix}pairs of patches at a distance"
    axes.plot(kilometres, table["jaccard"], color=INK, marker=look.marker, markersize=4.5, label=label, **style)
    axes.axhline(correlation.by_chance, color=FAINT, label=f"{prefix}random pairs of patches", **style)


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
        fontsize=11,
    )
    axes.set(title="Distance from test patches to training patches", ylim=(0, 1), ylabel="Share of test patches")
    axes.set_xlabel("Distance to the nearest training patch (km)")
    axes.yaxis.set_major_formatter(PercentFormatter(1))


def _finish_similarity(axes: Axes, found: Mapping[str, SpatialCorrelation]) -> None:
    farthest = [distance for correlation in found.values() for distance in correlation.correlogram["distance_m"]]
    _distance_axis(axes, max([2000, *farthest]) / 1000)
    axes.set(title="Similarity of labels at that distance", ylim=(0, 1), ylabel="Mean Jaccard similarity of labels")
    axes.set_xlabel("Distance between two patches (km)")
    handles, _ = axes.get_legend_handles_labels()
    if any(correlation.splits for correlation in found.values()):
        label = "test patch and nearest training patch\n(colour of the split, at the median distance)"
        handles.append(Line2D([], [], linestyle="none", marker="o", markersize=10, color="#bbbbbb", label=label))
    if handles:
        # Room for the legend above the data, which reaches up to 1.
        lines = sum(str(handle.get_label()).count("\n") + 1 for handle in handles)
        axes.set_yticks(np.linspace(0, 1, 6))
        axes.set_ylim(0, 1.04 + 0.09 * lines)
        axes.spines["left"].set_bounds(0, 1)
        axes.legend(handles=handles, loc="upper right", borderaxespad=0)


def _distance_axis(axes: Axes, farthest_km: float) -> None:
    steps = ([digit * 10.0**power for power in range(5) for digit in digits] for digits in _DIGITS)
    fitting = ([step for step in some if step <= farthest_km] for some in steps)
    shown = [0.0, *next(some for some in fitting if len(some) < _TICKS)]
    axes.set_xscale("symlog", linthresh=_LINEAR_KM, linscale=0.5)
    axes.set_xlim(0, farthest_km * 1.05)
    axes.set_xticks(shown, [f"{step:,g}" for step in shown])
    axes.set_xticks([], minor=True)
