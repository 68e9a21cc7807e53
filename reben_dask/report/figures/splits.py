"""One tile under several split strategies, as in figure 3 of the reBEN paper."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from reben_dask.drawing import FAINT, new_figure, plain
from reben_dask.formats.columns import SPLITS
from reben_dask.report.figures.counts import OUTSIDE, OUTSIDE_COLOUR, SPLIT_COLOURS
from reben_dask.report.strategies import TileSplits

_PANEL = 3.0
_PALE = 0.28
"""How much of their colour patches keep that are not part of the dataset."""


def draw_splits(tile: TileSplits, *, across: int | None = None) -> Figure:
    """Draw each strategy of a tile as a map of its patches, all or some side by side; rejected patches are pale."""
    across = across or len(tile.splits)
    down = -(-len(tile.splits) // across)
    figure = new_figure(_PANEL * across + 0.4, (_PANEL + 0.7) * down + 0.6)
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    rows, columns = tile.kept.shape
    extent = (0, columns * tile.patch_m / 1000, rows * tile.patch_m / 1000, 0)
    panels = grid.ravel()
    for axes in panels[len(tile.splits) :]:
        axes.set_axis_off()
    for axes, (name, split) in zip(panels[: len(tile.splits)], tile.splits.items(), strict=True):
        axes.imshow(_colours(split, tile.kept), extent=extent, interpolation="nearest")
        axes.set_title(plain(name), fontsize=11.5, pad=8)
        axes.set_xlabel("km eastwards")
        axes.grid(visible=False)
        axes.tick_params(length=3, color=FAINT)
    for axes in grid[:, 0]:
        axes.set_ylabel("km southwards")
    found = {name for split in tile.splits.values() for name in split[tile.kept]}
    handles = [Patch(color=SPLIT_COLOURS[name], label=name) for name in SPLITS]
    if None in found:
        handles.append(Patch(color=OUTSIDE_COLOUR, label=OUTSIDE))
    if not tile.kept.all():
        handles.append(Patch(facecolor="#d9dde1", label="pale: rejected"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 2 * across))
    return figure


def _colours(split: npt.NDArray[np.object_], kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    image = np.empty((*split.shape, 3))
    image[:] = to_rgb(OUTSIDE_COLOUR)
    for name, colour in SPLIT_COLOURS.items():
        image[split == name] = to_rgb(colour)
    return np.where(kept[..., np.newaxis], image, 1 - _PALE * (1 - image))
