"""Figures of a report, for a desktop or, with ``width=NARROW``, a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.dates import AutoDateLocator, DateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from reben_dask.analysis.legend import Legend
from reben_dask.drawing import ABSENT, FAINT, FONT_PT, INK, NO_SPLIT_COLOUR, PRESENT, SPLIT_COLOURS, new_figure, plain
from reben_dask.formats.bands import S1_BANDS
from reben_dask.formats.columns import SPLITS
from reben_dask.formats.statistics import BIN_WIDTH, has_exact_bins
from reben_dask.patches.statistics import IMAGES
from reben_dask.report.examples import Example, natural_colour
from reben_dask.report.strategies import TileSplits

WIDE, NARROW = 11.2, 5.0
"""Figure widths in inches: the text column of a desktop page at 96 pixels per inch, and a phone."""

_MARKERS = {"train": "o", "validation": "s", "test": "D"}
_PANELS, _BARS = 4, 60
"""Panels in a row, and bins of each, of distributions."""

_SHIFTS = {"train": 0.2, "validation": 0.0, "test": -0.2}
"""Vertical offset of markers, so that they do not hide one another."""

_MOST_CLASSES = 30
_MARGIN, _SHORT = pd.Timedelta(days=12), pd.Timedelta(days=75)
_NO_SPLIT = "in no split"
_LINE = 0.2
"""Height of a line of text in inches."""

_PALE = 0.28
"""Opacity of rejected patches."""


def draw_funnel(steps: Sequence[tuple[str, int]], kept: int, *, width: float = WIDE) -> Figure:
    """Draw the funnel from candidates over the rejections of each rule (``steps``) to the kept patches."""
    (title, whole), *losses = steps
    rows = [(title, 0, whole, PRESENT)]
    left = whole
    for name, lost in losses:
        left -= lost
        rows.append((name, left, lost, ABSENT))
    rows.append(("kept", 0, kept, PRESENT))
    figure, axes = _figure_of_rows([name for name, *_ in rows], width)
    for place, (_, start, count, colour) in enumerate(rows):
        axes.barh(place, count, left=start, height=0.66, color=colour)
        sign = "\N{MINUS SIGN}" * (0 < place < len(rows) - 1)
        share = f" ({count / whole:.1%})" if whole else ""
        _note(axes, (start + count, place), f"{sign}{count:,}{share}")
    axes.set_xlim(0, max(whole, 1) * (1.25 if width > NARROW else 1.8))
    axes.set_xlabel("Patches")
    _count_axis(axes.xaxis)
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= whole])
    axes.spines["bottom"].set_bounds(0, whole)
    _bare(axes, grid="x")
    return figure


def draw_classes(classes: pd.DataFrame, splits: pd.Series[int], *, width: float = WIDE) -> Figure:
    """Draw the share of the patches of each split (``splits``) that carry each class (index of ``classes``)."""
    shown = [split for split in SPLITS if splits[split]]
    ordered = classes.sort_values("all", kind="stable", ascending=False)
    figure, axes = _figure_of_rows(list(ordered.index), width, row=0.36)
    shares, places = ordered[shown] / splits[shown], np.arange(len(ordered))
    if shares.size:
        axes.hlines(places, shares.min(axis=1), shares.max(axis=1), color=ABSENT, linewidth=2, zorder=1)
    for split in shown:
        axes.plot(
            shares[split],
            places - _SHIFTS[split],
            linestyle="none",
            marker=_MARKERS[split],
            markersize=7,
            color=SPLIT_COLOURS[split],
            markeredgecolor="white",
            markeredgewidth=0.8,
            label=f"{split} ({splits[split]:,})",
            clip_on=False,
        )
    # Markers at 0 reach over the axis.
    axes.tick_params(axis="y", pad=8)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0 if shares.size and shares.max().max() > 0.03 else 1))
    axes.set_xlabel("Share of the patches of each split")
    _bare(axes, grid="both")
    if shown:
        figure.legend(loc="outside upper left", ncols=3, handletextpad=0.2, columnspacing=1.2)
    return figure


def draw_label_numbers(numbers: pd.DataFrame, *, width: float = WIDE) -> Figure:
    """Draw kept patches by number of labels (index) and split."""
    figure = new_figure(width, 4.2)
    axes = figure.subplots()
    parts = numbers[[split for split in SPLITS if numbers[split].any()]]
    outside = numbers["all"] - numbers[list(SPLITS)].sum(axis=1)
    parts = parts.assign(**{_NO_SPLIT: outside}) if outside.any() else parts
    bottom = pd.Series(0, index=parts.index)
    for name in map(str, parts):
        colour = SPLIT_COLOURS.get(name, NO_SPLIT_COLOUR)
        axes.bar(parts.index, parts[name], bottom=bottom, width=0.8, color=colour, label=name)
        bottom += parts[name]
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="Labels of a patch", ylabel="Patches")
    _count_axis(axes.yaxis)
    _bare(axes, grid="y")
    if len(parts.columns):
        figure.legend(loc="outside upper left", ncols=4)
    return figure


def draw_histograms(histograms: pd.DataFrame, *, width: float = WIDE) -> Figure:
    """Draw the distribution of the pixel values of each band and split.

    ``histograms`` has the columns ``band``, ``split`` (None for patches in no split), ``value`` and ``pixels``. Each
    panel leaves out 0.1 % of the pixels at either end.
    """
    bands = list(dict.fromkeys(histograms["band"]))
    across = _PANELS if width > NARROW else _PANELS // 2
    down = -(-len(bands) // across)
    figure = new_figure(width, 1.75 * down + 0.5)
    panels = figure.subplots(down, across, squeeze=False)
    drawn: dict[str, Line2D] = {}
    for axes, band in zip(panels.flat, bands, strict=False):
        of_band = histograms[histograms["band"] == band].sort_values("value")
        edges = _edges(of_band, 1 if has_exact_bins(IMAGES[band]) else BIN_WIDTH)
        for split in (*SPLITS, None):
            of_split = of_band[of_band["split"].isna() if split is None else of_band["split"] == split]
            if total := of_split["pixels"].sum():
                shares = np.histogram(of_split["value"], edges, weights=of_split["pixels"] / total)[0]
                colour, name = SPLIT_COLOURS.get(str(split), NO_SPLIT_COLOUR), split or _NO_SPLIT
                (drawn[name],) = axes.plot(
                    (edges[:-1] + edges[1:]) / 2, shares, color=colour, linewidth=1.6, label=name
                )
        axes.set_title(f"{band} ({'dB' if band in S1_BANDS else 'DN'})", pad=4)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(bottom=0)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=3))
        _bare(axes, grid="x")
    for axes in panels.flat[len(bands) :]:
        axes.set_visible(False)
    figure.legend(handles=list(drawn.values()), loc="outside upper left", ncols=4)
    return figure


def _edges(of_band: pd.DataFrame, unit: float) -> npt.NDArray[np.float64]:
    """Edges of bins, of the same number of whole values each, from the permille to the permille from the top."""
    until = of_band["pixels"].cumsum() / of_band["pixels"].sum()
    low, high = (float(of_band["value"].iloc[int(until.searchsorted(part))]) for part in (0.001, 0.999))
    step = unit * max(1, round((high - low) / unit / _BARS))
    edges: npt.NDArray[np.float64] = low - unit / 2 + step * np.arange(int((high - low) // step) + 2, dtype=np.float64)
    return edges


def draw_dates(dates: pd.DataFrame, *, width: float = WIDE) -> Figure:
    """Draw kept patches by day of sensing; index such as ``2017-06-13``, column ``all``."""
    figure = new_figure(width, 3.8)
    axes = figure.subplots()
    days = pd.to_datetime(dates.index)
    axes.vlines(days, 0, dates["all"], color=PRESENT, linewidth=3 if len(days) < 40 else 1.5)
    axes.plot(days, dates["all"], linestyle="none", marker="o", markersize=6, color=PRESENT)
    axes.set_xlim(*date2num([days.min() - _MARGIN, days.max() + _MARGIN]))
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(AutoDateLocator(minticks=3, maxticks=4 if width <= NARROW else 9))
    axes.xaxis.set_major_formatter(DateFormatter("%d %b %Y" if days.max() - days.min() < _SHORT else "%b %Y"))
    axes.set(xlabel="Day of sensing (UTC)", ylabel="Kept patches")
    _count_axis(axes.yaxis)
    _bare(axes, grid="y")
    return figure


def draw_seconds(seconds: Mapping[str, float], *, width: float = WIDE) -> Figure:
    """Draw the wall time of each stage of the job."""
    figure, axes = _figure_of_rows(list(seconds), width, row=0.44)
    longest = max(seconds.values()) or 1
    unit, scale = ("h", 3600) if longest >= 7200 else ("min", 60) if longest >= 300 else ("s", 1)
    for place, value in enumerate(seconds.values()):
        axes.barh(place, value / scale, height=0.62, color=PRESENT)
        _note(axes, (value / scale, place), f"{value / scale:,.1f}")
    axes.set_xlim(0, longest / scale * 1.12)
    axes.set_xlabel(f"Wall time ({unit})")
    _bare(axes, grid="x")
    return figure


def draw_label_changes(classes: pd.DataFrame, *, width: float = WIDE) -> Figure:
    """Draw the patches that lose (``only A``) and gain (``only B``) each of the classes that change most."""
    changes = classes["only A"] + classes["only B"]
    ordered = classes.loc[changes[changes > 0].sort_values(kind="stable", ascending=False).index[:_MOST_CLASSES]]
    figure, axes = _figure_of_rows(list(ordered.index), width, row=0.36)
    places = range(len(ordered))
    axes.barh(places, -ordered["only A"], height=0.66, color=ABSENT, label="lost: only A has it")
    axes.barh(places, ordered["only B"], height=0.66, color=PRESENT, label="gained: only B has it")
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlabel("Patches that are kept in both")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):,.0f}")
    _bare(axes, grid="x")
    figure.legend(loc="outside upper left", ncols=2 if width > NARROW else 1)
    return figure


def draw_splits(tile: TileSplits, *, width: float = WIDE) -> Figure:
    """Draw each strategy of a tile as a map of its patches, in a row or column; rejected patches are pale."""
    across = len(tile.splits) if width > NARROW else 1
    down = -(-len(tile.splits) // across)
    figure = new_figure(width, (width / across + 0.4) * down + 0.6)
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    rows, columns = tile.kept.shape
    extent = (0, columns * tile.patch_m / 1000, rows * tile.patch_m / 1000, 0)
    for axes, (name, split) in zip(grid.flat, tile.splits.items(), strict=True):
        axes.imshow(_split_pixels(split, tile.kept), extent=extent, interpolation="nearest")
        axes.set_title(plain(name), fontsize=12, pad=8)
        axes.set_xlabel("km eastwards")
        axes.grid(visible=False)
        axes.tick_params(length=3, color=FAINT)
    for axes in grid[:, 0]:
        axes.set_ylabel("km southwards")
    handles = [Patch(color=SPLIT_COLOURS[name], label=name) for name in SPLITS]
    if any(name is None for split in tile.splits.values() for name in split[tile.kept]):
        handles.append(Patch(color=NO_SPLIT_COLOUR, label=_NO_SPLIT))
    if not tile.kept.all():
        handles.append(Patch(facecolor="#d9dde1", label="pale: rejected"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles) if across > 1 else 2)
    return figure


def draw_examples(examples: Sequence[Example], *, bright: bool, legend: Legend, width: float = WIDE) -> Figure:
    """Draw patches in a row, each above its reference map and labels, with a legend of the codes."""
    codes = np.unique(np.concatenate([example.codes.ravel() for example in examples])).tolist()
    names = {code: _wrapped([legend.entry(code).name], 46) for code in codes}
    entries = [
        Patch(facecolor=legend.entry(code).colour, edgecolor=INK, linewidth=0.4, label=name)
        for code, name in names.items()
    ]
    side = width / max(len(examples), 3)
    texts = [_wrapped(example.labels, int(side * 9)) for example in examples]
    lines = max(text.count("\n") + 1 for text in texts)
    height = 2 * side + _LINE * (lines + sum(name.count("\n") for name in names.values()))
    figure = new_figure(width, height + 0.27 * -(-len(names) // 2) + 0.4, compress=True)
    panels = figure.subplots(2, len(examples), squeeze=False)
    for (above, below), example, text in zip(panels.T, examples, texts, strict=True):
        if example.reflectance is None:
            above.text(0.5, 0.5, "no natural\ncolour", ha="center", va="center", color=FAINT)
            above.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        else:
            above.imshow(natural_colour(example.reflectance, bright=bright), interpolation="nearest")
        above.set_title(f"{example.day}", fontsize=FONT_PT, pad=4, weight="normal")
        below.imshow(legend.colours(example.codes), interpolation="nearest")
        below.set_xlabel(text, loc="left", labelpad=5)
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set(visible=True, linewidth=0.5, color=FAINT)
    figure.legend(handles=entries, loc="outside lower left", ncols=2, handlelength=1.4, labelspacing=0.45)
    return figure


def _split_pixels(split: npt.NDArray[np.object_], kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    image = np.empty((*split.shape, 3))
    image[:] = to_rgb(NO_SPLIT_COLOUR)
    for name, colour in SPLIT_COLOURS.items():
        image[split == name] = to_rgb(colour)
    return np.where(kept[..., np.newaxis], image, 1 - _PALE * (1 - image))


def _wrapped(labels: Sequence[str], characters: int) -> str:
    return "\n".join(fill(plain(label), characters, subsequent_indent="  ") for label in labels)


def _figure_of_rows(names: Sequence[str], width: float, *, row: float = 0.52) -> tuple[Figure, Axes]:
    """Figure with a named row of height ``row`` (inches) for each bar, from the top."""
    figure = new_figure(width, 1.2 + row * max(len(names), 1))
    axes = figure.subplots()
    characters = 50 if width > NARROW else 27
    labels = [fill(plain(str(name)), characters, max_lines=2, placeholder=" …") for name in names]
    axes.set_yticks(range(len(names)), labels)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
    return figure, axes


def _note(axes: Axes, place: tuple[float, float], text: str) -> None:
    axes.annotate(text, place, xytext=(5, 0), textcoords="offset points", va="center", ha="left")


def _count_axis(axis: Axis) -> None:
    axis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axis.set_major_formatter(EngFormatter(sep=" ", places=None))


def _bare(axes: Axes, grid: str) -> None:
    axes.grid(visible=False)
    axes.grid(visible=True, axis=grid)  # type: ignore[arg-type]
    axes.tick_params(length=0)
