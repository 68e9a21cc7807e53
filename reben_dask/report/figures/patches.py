"""Example patches in natural colour, each beside its reference map."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from reben_dask.drawing import FAINT, INK, new_figure, plain
from reben_dask.patches.legend import coloured, legend_entry
from reben_dask.report.examples import Example

WHITE = 0.26
"""Reflectance that is shown white, in a common landscape."""

_GAMMA = 1 / 1.5
_BRIGHTEST = 0.98
_SIDE = 1.55
_LEGEND_COLUMNS = 2


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
    """Draw patches in a row, each above its reference map, with a legend of the codes in these maps.

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
    lines = -(-len(codes) // _LEGEND_COLUMNS)
    figure = new_figure(max(6.6, _SIDE * len(examples) + 0.3), 2 * _SIDE + 0.35 + 0.22 * lines)
    panels = figure.subplots(2, len(examples), squeeze=False)
    for (above, below), example in zip(panels.T, examples, strict=True):
        if example.reflectance is None:
            above.text(0.5, 0.5, "no natural\ncolour", ha="center", va="center", color=FAINT)
            above.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        else:
            above.imshow(natural_colour(example.reflectance, bright=bright), interpolation="nearest")
        below.imshow(coloured(example.codes), interpolation="nearest")
        above.set_title(f"{example.row['sensing_time']:%Y-%m-%d}", fontsize=9.5, pad=4, weight="normal")
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set(visible=True, linewidth=0.5, color=FAINT)
    handles = [Patch(facecolor=legend_entry(code).colour, edgecolor=INK, linewidth=0.4, label=_entry(code, has_label))
               for code in codes]  # fmt: skip
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


def _entry(code: int, has_label: dict[int, bool]) -> str:
    mark = "" if has_label.get(code, False) else " (no label)"
    return fill(plain(f"{code} {legend_entry(code).name}{mark}"), 46, max_lines=2, placeholder=" …")
