"""When the images of a dataset were taken."""

from __future__ import annotations

import pandas as pd
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from reben_dask.drawing import COLOURS, new_figure

_WIDTH = 6.6
_MARGIN = pd.Timedelta(days=12)


def draw_dates(dates: pd.DataFrame) -> Figure:
    """Draw how many kept patches were sensed on each day.

    Parameters
    ----------
    dates : DataFrame
        Index: days as ``2017-06-13``; column ``all``.
    """
    figure = new_figure(_WIDTH, 3.2)
    axes = figure.subplots()
    days = pd.to_datetime(dates.index)
    axes.vlines(days, 0, dates["all"], color=COLOURS[0], linewidth=3 if len(days) < 40 else 1.5)
    axes.plot(days, dates["all"], linestyle="none", marker="o", markersize=5, color=COLOURS[0])
    if len(days):
        axes.set_xlim(days.min() - _MARGIN, days.max() + _MARGIN)
    axes.set_ylim(bottom=0)
    locator = AutoDateLocator(minticks=3, maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.yaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.set(xlabel="Day of sensing (UTC)", ylabel="Kept patches")
    axes.grid(visible=False, axis="x")
    axes.tick_params(length=0)
    return figure
