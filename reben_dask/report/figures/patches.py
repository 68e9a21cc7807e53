"""Example patches in natural colour, each beside its reference map."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from reben_dask.analysis.legend import coloured, legend_entry
from reben_dask.drawing import FAINT, INK, new_figure, plain
from reben_dask.report.examples import Example

WHITE = 0.26
"""Reflectance that is shown white, in a common landscape."""

_GAMMA = 1 / 1.5
_BRIGHTEST = 0.98
_SIDE = 1.55
_LEGEND_COLUMNS, _LEGEND_LINE, _LEGEND_GAP = 2, 0.14, 0.06
_LABEL_SIZE, _LABEL_CHARACTERS, _LABEL_LINE = 6.3, 29, 0.115
"""Labels below a patch: size of type in points, characters of a line, and height of one in inches."""


def natural_colour(reflectance: npt.NDArray[np.float64], *, bright: bool) -> npt.NDArray[np.uint8]:
    """Stretch reflectance to what a screen shows.

    All patches are stretched alike, so that they can be compared; under snow or cloud, which may be as bright as can
    be, up to the brightest pixels of a patch.

    Parameters
    ----------
    reflectance : ndarray of float64, shape (y, x, 3)
        Red, green and blue.
    bright : bool
        Whether the patch is under snow or cloud.
    """
    white = float(np.clip(np.quantile(reflectance, _BRIGHTEST), WHITE, 1)) if bright else WHITE
    share = np.clip(reflectance / white, 0, 1) ** _GAMMA
    return np.rint(share * 255).astype(np.uint8)


def draw_examples(examples: Sequence[Example], *, bright: bool, has_label: dict[int, bool]) -> Figure:
    """Draw patches in a row, each above its reference map and its labels, with a legend of the codes in these maps.

    Parameters
    ----------
    examples : sequence of Example
        At least one.
    bright : bool
        Whether they are under snow or cloud.
    has_label : dict of int to bool
        Whether a code of the maps carries a label.
    """
    codes = np.unique(np.concatenate([example.codes.ravel() for example in examples])).tolist()
    handles = [Patch(facecolor=legend_entry(code).colour, edgecolor=INK, linewidth=0.4, label=_entry(code, has_label))
               for code in codes]  # fmt: skip
    labels = [_listed(example.labels) for example in examples]
    height = 2 * _SIDE + 0.5 + _LABEL_LINE * max(map(_lines, labels)) + _legend_height(handles)
    figure = new_figure(max(6.6, _SIDE * len(examples) + 0.3), height)
    panels = figure.subplots(2, len(examples), squeeze=False)
    for (above, below), example, text in zip(panels.T, examples, labels, strict=True):
        if example.reflectance is None:
            above.text(0.5, 0.5, "no natural\ncolour", ha="center", va="center", color=FAINT)
            above.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        else:
            above.imshow(natural_colour(example.reflectance, bright=bright), interpolation="nearest")
        below.imshow(coloured(example.codes), interpolation="nearest")
        below.set_xlabel(text, fontsize=_LABEL_SIZE, loc="left", labelpad=5)
        above.set_title(f"{example.row['sensing_time']:%Y-%m-%d}", fontsize=9.5, pad=4, weight="normal")
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set(visible=True, linewidth=0.5, color=FAINT)
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=_LEGEND_COLUMNS,
        fontsize=8.5,
        handlelength=1.4,
        columnspacing=1.2,
        labelspacing=0.45,
    )
    return figure


def _listed(labels: Sequence[str]) -> str:
    return "\n".join(fill(plain(label), _LABEL_CHARACTERS, subsequent_indent="  ") for label in labels)


def _lines(text: str) -> int:
    return 1 + text.count("\n")


def _legend_height(handles: Sequence[Patch]) -> float:
    """Inches of the higher column."""
    heights = [_LEGEND_GAP + _LEGEND_LINE * _lines(str(handle.get_label())) for handle in handles]
    longer = -(-len(heights) // _LEGEND_COLUMNS)
    return max(sum(heights[:longer]), sum(heights[longer:]))


def _entry(code: int, has_label: dict[int, bool]) -> str:
    mark = "" if has_label.get(code, False) else " (no label)"
    return fill(plain(f"{code} {legend_entry(code).name}{mark}"), 46, max_lines=2, placeholder=" …")
