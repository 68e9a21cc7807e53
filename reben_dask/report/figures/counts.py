"""Bars and dots: what became of the candidates, classes, numbers of labels, and seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from reben_dask.drawing import COLOURS, FAINT, INK, new_figure, plain
from reben_dask.formats.columns import SPLITS

SPLIT_COLOURS = {"train": COLOURS[0], "validation": COLOURS[4], "test": COLOURS[2]}
OUTSIDE = "in no set"
OUTSIDE_COLOUR = "#9aa1a8"
_MARKERS = {"train": "o", "validation": "s", "test": "D"}
_HEIGHTS = {"train": 0.2, "validation": 0.0, "test": -0.2}
"""Of the markers of a row, which would hide one another on one line."""

_LOST, _LEFT = "#b4bac1", COLOURS[0]
_WIDTH = 5.0
_NAME_WIDTH = 27
_MOST_CLASSES = 30


def draw_funnel(steps: Sequence[tuple[str, int]], kept: int) -> Figure:
    """Draw how many candidates each rule takes away, one below the other.

    Parameters
    ----------
    steps : sequence of (str, int)
        All candidates, then each rule and how many it rejects, in the order of the rules.
    kept : int
        What remains.
    """
    (title, whole), *losses = steps
    rows: list[tuple[str, int, int, str]] = [(title, 0, whole, FAINT)]
    left = whole
    for name, lost in losses:
        left -= lost
        rows.append((name, left, lost, _LOST))
    rows.append(("kept", 0, kept, _LEFT))
    figure = new_figure(_WIDTH, 0.75 + 0.52 * len(rows))
    axes = figure.subplots()
    for place, (_, start, length, colour) in enumerate(rows):
        axes.barh(place, length, left=start, height=0.66, color=colour)
        share = f"{length:,} ({length / whole:.1%})" if whole else f"{length:,}"
        inside = start + length > 0.62 * whole
        axes.annotate(
            f"\N{MINUS SIGN}{share}" if 0 < place < len(rows) - 1 else share,
            (start if inside and start > 0.3 * whole else start + length, place),
            xytext=(-5 if inside and start > 0.3 * whole else 5, 0),
            textcoords="offset points",
            va="center",
            ha="right" if inside and start > 0.3 * whole else "left",
        )
    _names(axes, [name for name, *_ in rows])
    axes.set_xlim(0, max(whole, 1) * 1.6)
    axes.set_xlabel("Patches")
    _count_axis(axes, "x")
    # There is nothing beyond all candidates but their number.
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= whole])
    axes.spines["bottom"].set_bounds(0, whole)
    _bare(axes, grid="x")
    return figure


def draw_classes(classes: pd.DataFrame, splits: pd.Series[int]) -> Figure:
    """Draw which share of the patches of each set carries each class.

    Parameters
    ----------
    classes : DataFrame
        Index: class; patches by split, and ``all``.
    splits : Series
        Patches of each split.
    """
    shown = [split for split in SPLITS if splits[split]]
    ordered = classes.sort_values("all", kind="stable")
    figure = new_figure(_WIDTH, 1.3 + 0.36 * max(len(ordered), 1))
    axes = figure.subplots()
    shares = ordered[shown] / splits[shown]
    if shown and len(ordered):
        axes.hlines(range(len(ordered)), shares.min(axis=1), shares.max(axis=1), color=_LOST, linewidth=2, zorder=1)
    for split in shown:
        axes.plot(
            shares[split],
            [place + _HEIGHTS[split] for place in range(len(ordered))],
            linestyle="none",
            marker=_MARKERS[split],
            markersize=6,
            color=SPLIT_COLOURS[split],
            markeredgecolor="white",
            markeredgewidth=0.8,
            label=f"{split} ({splits[split]:,})",
            clip_on=False,
        )
    _names(axes, list(ordered.index), down=False)
    # Markers at 0 reach over the axis.
    axes.tick_params(axis="y", pad=8)
    axes.set_xlim(left=0)
    axes.set_ylim(-0.7, len(ordered) - 0.3)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0 if shares.size and shares.max().max() > 0.03 else 1))
    axes.set_xlabel("Share of the patches of each set")
    _bare(axes, grid="both")
    if shown:
        figure.legend(loc="outside upper left", ncols=3, handletextpad=0.2, columnspacing=1.2)
    return figure


def draw_label_numbers(numbers: pd.DataFrame) -> Figure:
    """Draw how many patches have how many labels, by set; ``numbers`` has an integer index."""
    figure = new_figure(_WIDTH, 3.6)
    axes = figure.subplots()
    parts = _with_outside(numbers)
    bottom = pd.Series(0, index=parts.index)
    for name in parts:
        axes.bar(parts.index, parts[name], bottom=bottom, width=0.8, color=_colour(str(name)), label=str(name))
        bottom += parts[name]
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="Labels of a patch", ylabel="Patches")
    _count_axis(axes, "y")
    _bare(axes, grid="y")
    if len(parts.columns):
        figure.legend(loc="outside upper left", ncols=4)
    return figure


def draw_seconds(seconds: Mapping[str, float]) -> Figure:
    """Draw how long each stage of the job took."""
    figure = new_figure(_WIDTH, 0.9 + 0.42 * max(len(seconds), 1))
    axes = figure.subplots()
    longest = max(seconds.values(), default=0) or 1
    unit, scale = ("h", 3600) if longest >= 7200 else ("min", 60) if longest >= 300 else ("s", 1)
    for place, value in enumerate(seconds.values()):
        axes.barh(place, value / scale, height=0.62, color=_LEFT)
        axes.annotate(
            f"{value / scale:,.1f}", (value / scale, place), xytext=(5, 0), textcoords="offset points", va="center"
        )
    _names(axes, list(seconds))
    axes.set_xlim(0, longest / scale * 1.12)
    axes.set_xlabel(f"Wall time ({unit})")
    _bare(axes, grid="x")
    return figure


def draw_label_changes(classes: pd.DataFrame) -> Figure:
    """Draw how many patches lose and gain each class from A to B, the classes with most changes only.

    Parameters
    ----------
    classes : DataFrame
        Index: class; ``only A`` and ``only B``.
    """
    changed = classes[(classes["only A"] > 0) | (classes["only B"] > 0)]
    ordered = changed.assign(sum=changed["only A"] + changed["only B"]).sort_values("sum", kind="stable")
    ordered = ordered.tail(_MOST_CLASSES)
    figure = new_figure(_WIDTH, 1.3 + 0.36 * max(len(ordered), 1))
    axes = figure.subplots()
    places = range(len(ordered))
    axes.barh(places, -ordered["only A"], height=0.66, color=COLOURS[1], label="lost: only A has it")
    axes.barh(places, ordered["only B"], height=0.66, color=COLOURS[0], label="gained: only B has it")
    axes.axvline(0, color=INK, linewidth=0.8)
    _names(axes, list(ordered.index), down=False)
    axes.set_ylim(-0.7, max(len(ordered), 1) - 0.3)
    axes.set_xlabel("Patches that are kept in both")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):,.0f}")
    _bare(axes, grid="x")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def _with_outside(counts: pd.DataFrame) -> pd.DataFrame:
    """Patches of each set, and those in none if there are any."""
    parts = counts[[split for split in SPLITS if counts[split].any()]]
    outside = counts["all"] - counts[list(SPLITS)].sum(axis=1)
    return parts.assign(**{OUTSIDE: outside}) if outside.any() else parts


def _colour(split: str) -> str:
    return SPLIT_COLOURS.get(split, OUTSIDE_COLOUR)


def _names(axes: Axes, names: Sequence[str], *, down: bool = True) -> None:
    """Names of rows, on two lines where they are long."""
    axes.set_yticks(
        range(len(names)),
        [fill(plain(str(name)), _NAME_WIDTH, max_lines=2, placeholder=" …") for name in names],
        fontsize=10,
    )
    if down:
        axes.invert_yaxis()


def _count_axis(axes: Axes, which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axis.set_major_formatter(EngFormatter(sep=" ", places=None))


def _bare(axes: Axes, grid: str) -> None:
    axes.grid(visible=False)
    axes.grid(visible=True, axis=grid)  # type: ignore[arg-type]
    axes.tick_params(length=0)
