"""Map of the products that a search selected."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
from matplotlib.patches import Patch

from reben_dask.drawing import COLOURS, FAINT, house_style, new_figure, plain, save_figure

_WIDTH, _MAX_HEIGHT = 12.0, 12.0
_LABELLED = 40


def draw_selection(frame: gpd.GeoDataFrame, path: Path) -> None:
    """Draw the footprints of a selection, with a colour for each collection, and save them as PNG or SVG.

    Parameters
    ----------
    frame : GeoDataFrame
        ``collection``, ``mgrs``, ``sensing_time`` and footprints in EPSG:4326.
    path : Path
        File that ends in ``.png`` or ``.svg``.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    drawn = frame[frame.geometry.notna()]
    first, last = frame["sensing_time"].min(), frame["sensing_time"].max()
    with house_style():
        west, south, east, north = drawn.total_bounds if len(drawn) else (0, 0, 1, 1)
        stretch = float(np.cos(np.radians((south + north) / 2)))
        height = _WIDTH * (north - south) / max((east - west) * stretch, 1e-9)
        figure = new_figure(_WIDTH, float(np.clip(height, 4, _MAX_HEIGHT)))
        axes = figure.subplots()
        legend = []
        for colour, (collection, group) in zip(COLOURS, drawn.groupby("collection"), strict=False):
            group.plot(ax=axes, facecolor=colour, edgecolor=colour, alpha=0.25)
            legend.append(Patch(color=colour, alpha=0.5, label=f"{collection}: {len(group):,}"))
        tiles = drawn.dropna(subset=["mgrs"]).drop_duplicates("mgrs")
        if len(tiles) <= _LABELLED:
            for name, centre in zip(tiles["mgrs"], tiles.geometry.representative_point(), strict=True):
                axes.annotate(plain(str(name)), (centre.x, centre.y), ha="center", va="center")
        axes.set(xlabel="longitude (°)", ylabel="latitude (°)", aspect=1 / stretch)
        axes.tick_params(colors=FAINT)
        axes.set_title(f"{len(frame):,} products, {_day(first)} to {_day(last)}")
        if legend:
            axes.legend(handles=legend, loc="best")
        save_figure(figure, path)


def _day(time: pd.Timestamp) -> str:
    return f"{time:%Y-%m-%d}"
