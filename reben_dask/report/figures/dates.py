"""When the images of a dataset were taken."""

from __future__ import annotations

import pandas as pd
from matplotlib.dates import AutoDateLocator, DateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from reben_dask.drawing import COLOURS, new_figure

_WIDTH = 5.0
_MARGIN, _SHORT = pd.Timedelta(days=12), pd.Timedelta(days=75)


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
        axes.set_xlim(*date2num([days.min() - _MARGIN, days.max() + _MARGIN]))
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(AutoDateLocator(minticks=3, maxticks=4))
    is_short = len(days) > 0 and days.max() - days.min() < _SHORT
    axes.xaxis.set_major_formatter(DateFormatter("%d %b %Y" if is_short else "%b %Y"))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.yaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.set(xlabel="Day of sensing (UTC)", ylabel="Kept patches")
    axes.grid(visible=False, axis="x")
    axes.tick_params(length=0)
    return figure
