"""Where the tiles of a dataset lie, and how much of each is kept."""

from __future__ import annotations

from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from reben_dask.drawing import FAINT, new_figure

_WIDTH, _TALLEST = 5.0, 6.0
_MARGIN = 0.12
_STEPS_DEG = (10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02)
_LINES = 3
_TILES_AS_PIXELS = 2000
"""With more tiles than this, an SVG would be slow to open; the tiles in it are pixels then."""

_LAND, _LINE = "#eceff1", "#c3c9cf"
_DARK_BELOW, _ON_BRIGHT = 0.65, "#101418"
"""Up to this share the colour of a tile is dark; and the colour of letters on one that is not."""

_LABELLED = 16


class _View(NamedTuple):
    """The part of the world that is drawn, in metres of a projection of equal area around its middle."""

    system: pyproj.CRS
    bounds: tuple[float, float, float, float]


def draw_tiles(places: pd.DataFrame, countries: gpd.GeoSeries | None) -> Figure:
    """Draw tiles on a map, coloured by the share of their candidates that is kept.

    Parameters
    ----------
    places : DataFrame
        A row for each place: ``epsg``, ``minx`` to ``maxy``, ``candidates``, ``kept`` and ``images``.
    countries : GeoSeries or None
        Country polygons, in any system; without them only a graticule is drawn.
    """
    corners = [_corners(row) for row in places.itertuples(index=False)]
    view = _view(np.concatenate(corners))
    width, height = (view.bounds[2] - view.bounds[0]), (view.bounds[3] - view.bounds[1])
    figure = new_figure(_WIDTH, min(_TALLEST, 1.2 + 0.82 * _WIDTH * height / width))
    axes = figure.subplots()
    axes.set(xlim=view.bounds[::2], ylim=view.bounds[1::2], aspect="equal", xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=FAINT, linewidth=0.7)
    if countries is not None:
        land = _visible(countries, view)
        axes.add_collection(PolyCollection(land, facecolors=_LAND, edgecolors=FAINT, linewidths=0.7, zorder=1))
    _draw_graticule(axes, view)
    scale, colours = Normalize(0, 1), colormaps["viridis"]
    squares = PolyCollection(
        [_projected(each, view) for each in corners],
        facecolors=colours(scale((places["kept"] / places["candidates"]).to_numpy(float))),
        edgecolors="white",
        linewidths=0.8 if len(places) < _TILES_AS_PIXELS else 0.2,
        zorder=3,
        rasterized=len(places) > _TILES_AS_PIXELS,
    )
    axes.add_collection(squares)
    if len(places) <= _LABELLED:
        _draw_names(axes, places, corners, view)
    bar = figure.colorbar(
        ScalarMappable(scale, colours), ax=axes, location="bottom", shrink=0.7, aspect=30, format=PercentFormatter(1)
    )
    bar.outline.set_visible(False)
    bar.set_label("Share of the candidate patches that is kept")
    return figure


def shows_countries(places: pd.DataFrame, countries: gpd.GeoSeries) -> bool:
    """Whether any of the countries lies in the part of the world that :func:`draw_tiles` draws."""
    view = _view(np.concatenate([_corners(row) for row in places.itertuples(index=False)]))
    return bool(len(_visible(countries, view)))


def _corners(row: Any) -> npt.NDArray[np.float64]:
    """Outline of a tile in degrees, with points along its sides, shape ``(point, 2)``."""
    box = shapely.box(*(float(getattr(row, name)) for name in ("minx", "miny", "maxx", "maxy")))
    outline = shapely.get_coordinates(shapely.segmentize(box, box.length / 32))
    to_degrees = pyproj.Transformer.from_crs(int(row.epsg), 4326, always_xy=True)
    return np.column_stack(to_degrees.transform(*outline.T))


def _view(degrees: npt.NDArray[np.float64]) -> _View:
    lon, lat = (degrees.min(axis=0) + degrees.max(axis=0)) / 2
    system = pyproj.CRS.from_proj4(f"+proj=laea +lat_0={lat:.6f} +lon_0={lon:.6f} +datum=WGS84 +units=m")
    points = _projected(degrees, _View(system, (0, 0, 0, 0)))
    (west, south), (east, north) = points.min(axis=0), points.max(axis=0)
    margin = _MARGIN * max(east - west, north - south)
    # A map that is a narrow strip shows nothing of where it is.
    half = [max((high - low) / 2 + margin, 0.25 * max(east - west, north - south)) for low, high in
            ((west, east), (south, north))]  # fmt: skip
    x, y = (west + east) / 2, (south + north) / 2
    return _View(system, (x - half[0], y - half[1], x + half[0], y + half[1]))


def _projected(degrees: npt.NDArray[np.float64], view: _View) -> npt.NDArray[np.float64]:
    transformer = pyproj.Transformer.from_crs(4326, view.system, always_xy=True)
    return np.column_stack(transformer.transform(*degrees.T))


def _visible(countries: gpd.GeoSeries, view: _View) -> list[npt.NDArray[np.float64]]:
    """Outlines of what is seen of the countries, in the projection of the map."""
    window = shapely.box(*view.bounds)
    # What is drawn is cut in degrees first: the far side of the globe has no place in this projection.
    around = gpd.GeoSeries([window.buffer(0.5 * window.length)], crs=view.system).to_crs(4326).total_bounds
    near = countries.to_crs(4326).make_valid().clip_by_rect(*around)
    shapes = near[~near.is_empty].to_crs(view.system).intersection(window)
    rings = [ring for shape in shapely.get_parts(shapes.to_numpy()) for ring in shapely.get_rings(shape)[:1]]
    return [shapely.get_coordinates(ring) for ring in rings]


def _draw_graticule(axes: Axes, view: _View) -> None:
    west, _, east, _ = view.bounds
    inverse = pyproj.Transformer.from_crs(view.system, 4326, always_xy=True)
    edge = shapely.get_coordinates(shapely.segmentize(shapely.box(*view.bounds), (east - west) / 50))
    lon, lat = inverse.transform(*edge.T)
    lines = []
    for values, is_meridian in ((lon, True), (lat, False)):
        low, high = float(values.min()), float(values.max())
        step = next((step for step in _STEPS_DEG if (high - low) / step >= _LINES), _STEPS_DEG[-1])
        decimals = next(count for count in range(3) if round(step, count) == step)
        for value in np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step:
            other = np.linspace(*((lat.min(), lat.max()) if is_meridian else (lon.min(), lon.max())), 101)
            line = np.column_stack([np.full(101, value), other] if is_meridian else [other, np.full(101, value)])
            points = _projected(line, view)
            lines.append(points)
            _label(
                axes,
                points,
                view,
                _degrees(float(value), "EW" if is_meridian else "NS", decimals),
                is_meridian=is_meridian,
            )
    axes.add_collection(LineCollection(lines, colors=_LINE, linewidths=0.6, zorder=2))


def _label(axes: Axes, points: npt.NDArray[np.float64], view: _View, text: str, *, is_meridian: bool) -> None:
    """Write the degrees of a line where it leaves the map at the lower or left edge."""
    along, across = (0, 1) if is_meridian else (1, 0)
    edge = view.bounds[1] if is_meridian else view.bounds[0]
    order = np.argsort(points[:, across])
    place = float(np.interp(edge, points[order, across], points[order, along]))
    if view.bounds[along] <= place <= view.bounds[along + 2]:
        at = (place, edge) if is_meridian else (edge, place)
        axes.annotate(
            text,
            at,
            xytext=(0, -4) if is_meridian else (-4, 0),
            textcoords="offset points",
            ha="center" if is_meridian else "right",
            va="top" if is_meridian else "center",
            color=FAINT,
            fontsize=9,
            annotation_clip=False,
        )


def _degrees(value: float, sides: str, decimals: int) -> str:
    return f"{abs(value):.{decimals}f}°" + (sides[value < 0] if round(value, decimals) else "")


def _draw_names(axes: Axes, places: pd.DataFrame, corners: list[npt.NDArray[np.float64]], view: _View) -> None:
    rows: list[Any] = list(places.itertuples(index=False))
    for row, degrees in zip(rows, corners, strict=True):
        x, y = _projected(degrees, view).mean(axis=0)
        share = row.kept / row.candidates
        images = f"\n{row.images} images" if row.images > 1 else ""
        axes.annotate(
            f"{row.name}{images}\n{share:.0%}",
            (x, y),
            ha="center",
            va="center",
            fontsize=9,
            color="white" if share < _DARK_BELOW else _ON_BRIGHT,
            zorder=4,
        )
