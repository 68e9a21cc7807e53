"""Map of the tiles of a dataset."""

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
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from reben_dask.drawing import FAINT, new_figure
from reben_dask.formats.columns import BOUNDS
from reben_dask.report.figures import NARROW, WIDE

_MARGIN = 0.12
_ASPECT = {WIDE: 2.0, NARROW: 1.0}
"""Ratio of width to height of the map."""

_TILES_AS_PIXELS = 2000
"""Number of tiles above which an SVG draws them as pixels, as it would be slow to open."""

_LAND, _LINE = "#eceff1", "#c3c9cf"
_DARK_BELOW, _ON_BRIGHT = 0.65, "#101418"
"""Limit of the share below which a tile's colour is dark, and text colour on bright tiles."""

_LABELLED = 16


class _View(NamedTuple):
    """Map extent in metres of an equal-area projection around its centre."""

    system: pyproj.CRS
    bounds: tuple[float, float, float, float]


def draw_tiles(places: pd.DataFrame, countries: gpd.GeoSeries | None, *, width: float = WIDE) -> Figure:
    """Draw tiles coloured by the share of candidates kept; ``countries`` may be in any coordinate system."""
    corners = [_corners(row) for row in places.itertuples(index=False)]
    view = _view(np.concatenate(corners), _ASPECT[width])
    figure = new_figure(width, 0.94 * width / _ASPECT[width] + 0.9)
    axes = figure.subplots()
    axes.set(xlim=view.bounds[::2], ylim=view.bounds[1::2], aspect="equal")
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
        ScalarMappable(scale, colours), ax=axes, location="bottom", shrink=0.7, aspect=40, format=PercentFormatter(1)
    )
    bar.outline.set_visible(False)
    bar.set_label("Share of the candidate patches that is kept")
    return figure


def shows_countries(places: pd.DataFrame, countries: gpd.GeoSeries) -> bool:
    """Return True if a country is visible on the map of :func:`draw_tiles`."""
    corners = [_corners(row) for row in places.itertuples(index=False)]
    return bool(len(_visible(countries, _view(np.concatenate(corners), _ASPECT[WIDE]))))


def _corners(row: Any) -> npt.NDArray[np.float64]:
    """Outline of a tile in degrees, densified, shape ``(point, 2)``."""
    box = shapely.box(*(float(getattr(row, name)) for name in BOUNDS))
    outline = shapely.get_coordinates(shapely.segmentize(box, box.length / 32))
    to_degrees = pyproj.Transformer.from_crs(int(row.epsg), 4326, always_xy=True)
    return np.column_stack(to_degrees.transform(*outline.T))


def _view(degrees: npt.NDArray[np.float64], aspect: float) -> _View:
    """Map extent around points in degrees, with a margin."""
    lon, lat = _mean_longitude(degrees[:, 0]), (degrees[:, 1].min() + degrees[:, 1].max()) / 2
    system = pyproj.CRS.from_proj4(f"+proj=laea +lat_0={lat:.6f} +lon_0={lon:.6f} +datum=WGS84 +units=m")
    points = _projected(degrees, _View(system, (0, 0, 0, 0)))
    (x, y), sides = (points.min(axis=0) + points.max(axis=0)) / 2, np.ptp(points, axis=0)
    half_x, half_y = sides / 2 + _MARGIN * sides.max()
    half_x, half_y = max(half_x, half_y * aspect), max(half_y, half_x / aspect)
    return _View(system, (x - half_x, y - half_y, x + half_x, y + half_y))


def _mean_longitude(lon: npt.NDArray[np.float64]) -> float:
    """Circular mean, as tiles may lie on both sides of 180 degrees."""
    return float(np.degrees(np.angle(np.exp(1j * np.radians(lon)).mean())))


def _projected(degrees: npt.NDArray[np.float64], view: _View) -> npt.NDArray[np.float64]:
    transformer = pyproj.Transformer.from_crs(4326, view.system, always_xy=True)
    return np.column_stack(transformer.transform(*degrees.T))


def _visible(countries: gpd.GeoSeries, view: _View) -> list[npt.NDArray[np.float64]]:
    """Outlines of the visible countries, in the projection of the view."""
    window = shapely.box(*view.bounds)
    # Cut in degrees first: the far side of the globe has no place in this projection.
    around = gpd.GeoSeries([window.buffer(0.5 * window.length)], crs=view.system).to_crs(4326).total_bounds
    near = countries.to_crs(4326).make_valid().clip_by_rect(*around)
    shapes = near[~near.is_empty].to_crs(view.system).intersection(window)
    rings = [ring for shape in shapely.get_parts(shapes.to_numpy()) for ring in shapely.get_rings(shape)[:1]]
    return [shapely.get_coordinates(ring) for ring in rings]


def _draw_graticule(axes: Axes, view: _View) -> None:
    west, south, east, north = view.bounds
    x, y = np.meshgrid(np.linspace(west, east, 81), np.linspace(south, north, 81))
    lon, lat = pyproj.Transformer.from_crs(view.system, 4326, always_xy=True).transform(x, y)
    lon = (lon - lon[40, 40] + 180) % 360 - 180 + lon[40, 40]
    of_axes = ((lon, lon[0], x[0], axes.xaxis, "EW"), (lat, lat[:, 0], y[:, 0], axes.yaxis, "NS"))
    for values, edge, along, axis, sides in of_axes:
        steps = MaxNLocator(5).tick_values(edge[0], edge[-1])
        levels = [float(level) for level in steps if edge[0] < level < edge[-1]]
        axes.contour(x, y, values, levels, colors=_LINE, linewidths=0.6, zorder=2)
        names = [_degrees((level + 180) % 360 - 180, sides) for level in levels]
        axis.set_ticks(np.interp(levels, edge, along), names, color=FAINT, fontsize=11)
    axes.tick_params(length=0)


def _degrees(value: float, sides: str) -> str:
    return f"{abs(value):.6g}°" + ("" if round(value, 6) in (0, -180) else sides[value < 0])


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
            fontsize=11,
            color="white" if share < _DARK_BELOW else _ON_BRIGHT,
            zorder=4,
        )
