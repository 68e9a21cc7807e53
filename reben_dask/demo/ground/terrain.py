"""The lie of the land: a sea in the west, plains, hills, a range in the north, high mountains in the north-east.

Everything is laid out in *sides*: fractions of a tile's side, ``u`` eastwards and ``v`` southwards from the
region's upper-left corner, so that the small and the full-size region are the same landscape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from reben_dask.demo.ground.noise import Field, Fractal, Stream, ramp

if TYPE_CHECKING:
    from reben_dask.demo.ground.layout import Axis, Layout

COAST_U = 0.24
"""Where the coast runs, on average."""

LAKE_UV, LAKE_RADII = (1.18, 0.82), (0.13, 0.055)
LAGOON_UV, LAGOON_RADII = (0.315, 0.25), (0.028, 0.075)
CORNER_SIDE = 0.215
"""Side of the corner in the south-west that the land-cover map leaves out."""

_REFERENCE_SIDE_M = 10_200


@dataclass(frozen=True, slots=True)
class Ground:
    """The land on one grid; every array is float32 of shape ``(y, x)``.

    Parameters
    ----------
    inland : ndarray
        Distance from the coast in sides: negative at sea, positive on land.
    river_m : ndarray
        Distance from the river's centre line in metres.
    lake, lagoon : ndarray
        Positive inside the lake and the lagoon.
    height_m : ndarray
        Height above the sea in metres.
    """

    inland: Field
    river_m: Field
    lake: Field
    lagoon: Field
    height_m: Field


class Terrain:
    """The landscape of a region.

    Parameters
    ----------
    layout : Layout
        The region.
    """

    def __init__(self, layout: Layout) -> None:
        box, side = layout.map_box.grown(0.1 * layout.side_m), layout.side_m
        self.side_m, self.west, self.north = side, layout.region.west, layout.region.north
        self.bend_x = Fractal(Stream.LAYOUT_X, box, 0.3 * side, 0.03 * side, 0.45)
        self.bend_y = Fractal(Stream.LAYOUT_Y, box, 0.3 * side, 0.03 * side, 0.45)
        self.shore = Fractal(Stream.SHORE, box, 0.1 * side, 60, 0.6)
        self.relief = Fractal(Stream.RELIEF, box, min(0.25 * side, 3000), 120, 0.56, ridged=True)
        self.corner_edge = Fractal(Stream.CORNER, box, 0.06 * side, 80, 0.6)

    def sides(self, eastings: Axis, northings: Axis) -> tuple[Field, Field]:
        """Return ``u`` and ``v`` of a grid as arrays that broadcast to ``(y, x)``."""
        u = ((eastings - self.west) / self.side_m).astype(np.float32)[None, :]
        v = ((self.north - northings) / self.side_m).astype(np.float32)[:, None]
        return u, v

    def ground(self, eastings: Axis, northings: Axis) -> Ground:
        """Describe the land on the grid of these columns and rows.

        Parameters
        ----------
        eastings, northings : ndarray of float64, shapes (x,) and (y,)
            In metres.
        """
        u0, v0 = self.sides(eastings, northings)
        u = u0 + np.float32(0.045) * self.bend_x.sample(eastings, northings)
        v = v0 + np.float32(0.045) * self.bend_y.sample(eastings, northings)
        shore = self.shore.sample(eastings, northings)
        inland = u - COAST_U - 0.05 * np.sin(7 * v + 0.6) + np.float32(0.006) * shore
        river_m = np.abs(v - river_course(u)) * np.float32(self.side_m * 0.85)
        lake = _ellipse(u, v, LAKE_UV, LAKE_RADII) + np.float32(0.07) * shore
        lagoon = _ellipse(u, v, LAGOON_UV, LAGOON_RADII) + np.float32(0.1) * shore
        height = self._height(u, v, inland, river_m, self.relief.sample(eastings, northings))
        return Ground(inland, river_m, lake, lagoon, height)

    def _height(self, u: Field, v: Field, inland: Field, river_m: Field, relief: Field) -> Field:
        # A range along the northern edge that rises to the east, a massif in the north-east, hills in the south-east.
        north = np.exp(-((v / 0.33) ** 2)) * ramp(u, 0.38, 0.78)
        massif = np.exp(-(((u - 1.62) / 0.36) ** 2) - ((v - 0.16) / 0.34) ** 2)
        hills = np.exp(-(((u - 1.55) / 0.35) ** 2) - ((v - 0.98) / 0.24) ** 2)
        mountain = 1.0 * north + massif + np.float32(0.22) * hills
        valley = 1 - 0.9 * np.exp(-((river_m / (0.07 * self.side_m)) ** 2))
        rugged = (0.035 + mountain) * valley
        land = ramp(inland, 0.0, 0.12)
        height: Field = land * (8 + 60 * np.maximum(inland, 0) + 1100 * mountain * valley + 330 * rugged * relief)
        return np.maximum(height, 0).astype(np.float32)

    def uncovered(self, eastings: Axis, northings: Axis) -> npt.NDArray[np.bool_]:
        """Say where the land-cover map has no polygons: a corner with a ragged edge, bool of shape ``(y, x)``."""
        u, v = self.sides(eastings, northings)
        edge = np.float32(0.012) * self.corner_edge.sample(eastings, northings)
        missing: npt.NDArray[np.bool_] = (u + edge < CORNER_SIDE) & (1 - v + edge < CORNER_SIDE)
        return missing

    def river_width_m(self) -> float:
        """Width of the river: wider in the larger region, but not in proportion."""
        return float(150 * (self.side_m / _REFERENCE_SIDE_M) ** 0.3)


def river_course(u: Field) -> Field:
    """Return ``v`` of the river's centre line at each ``u``."""
    course: Field = 0.60 + 0.07 * np.sin(5.2 * u + 0.4) + 0.018 * np.sin(19 * u)
    return course


def _ellipse(u: Field, v: Field, centre_uv: tuple[float, float], radii: tuple[float, float]) -> Field:
    reach = np.hypot((u - centre_uv[0]) / radii[0], (v - centre_uv[1]) / radii[1])
    inside: Field = (1 - reach).astype(np.float32)
    return inside
