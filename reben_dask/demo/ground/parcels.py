"""Parcels of land: a warped Voronoi diagram, and the class that each parcel gets."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from reben_dask.demo.ground.noise import Field, Fractal, SmoothNoise, Stream, random_stream

if TYPE_CHECKING:
    from reben_dask.demo.ground.layout import Axis, Layout
    from reben_dask.demo.ground.terrain import Terrain

_JITTER = 0.42
_WIGGLE_M = 60
_TOWN_AREA_M2 = 1.8e7
"""Land for each town."""


class Place(NamedTuple):
    """Which parcel each pixel lies in, and where in it.

    ``parcel`` is int32, the offsets from the parcel's seed ``east_m`` and ``north_m`` are float32; all have shape
    ``(y, x)``.
    """

    parcel: npt.NDArray[np.int32]
    east_m: Field
    north_m: Field


class Parcels:
    """Voronoi cells of jittered lattice points, with winding borders.

    Parameters
    ----------
    layout : Layout
        The region.
    """

    def __init__(self, layout: Layout) -> None:
        self.parcel_m = layout.parcel_m
        box = layout.map_box.grown(3 * layout.parcel_m)
        self.west, self.north = box.west, box.north
        self.rows = int((box.north - box.south) / self.parcel_m) + 1
        self.columns = int((box.east - box.west) / self.parcel_m) + 1
        rng = random_stream(Stream.PARCELS)
        jitter = rng.uniform(-_JITTER, _JITTER, (2, self.rows, self.columns)).astype(np.float32)
        self.seed_x = (np.arange(self.columns, dtype=np.float32)[None, :] + 0.5 + jitter[0]) * self.parcel_m
        self.seed_y = (np.arange(self.rows, dtype=np.float32)[:, None] + 0.5 + jitter[1]) * self.parcel_m
        self.angle = rng.uniform(0, np.pi, self.rows * self.columns).astype(np.float32)
        self.wiggle_x = Fractal(Stream.BORDERS_X, box, 420, 55, 0.60)
        self.wiggle_y = Fractal(Stream.BORDERS_Y, box, 420, 55, 0.60)

    @property
    def count(self) -> int:
        """Number of parcels."""
        return self.rows * self.columns

    def lattice_axes(self) -> tuple[Axis, Axis]:
        """Eastings of the lattice's columns and northings of its rows."""
        eastings = self.west + np.arange(0.5, self.columns) * self.parcel_m
        northings = self.north - np.arange(0.5, self.rows) * self.parcel_m
        return eastings, northings

    def locate(self, eastings: Axis, northings: Axis) -> Place:
        """Find the parcel of each pixel of a grid.

        Parameters
        ----------
        eastings, northings : ndarray of float64, shapes (x,) and (y,)
            In metres.
        """
        plain_x = (eastings - self.west).astype(np.float32)[None, :]
        plain_y = (self.north - northings).astype(np.float32)[:, None]
        x = plain_x + np.float32(_WIGGLE_M) * self.wiggle_x.sample(eastings, northings)
        y = plain_y + np.float32(_WIGGLE_M) * self.wiggle_y.sample(eastings, northings)
        parcel = self._nearest(x, y)
        return Place(parcel, plain_x - self.seed_x.ravel()[parcel], self.seed_y.ravel()[parcel] - plain_y)

    def _nearest(self, x: Field, y: Field) -> npt.NDArray[np.int32]:
        column = np.clip((x / self.parcel_m).astype(np.int32), 1, self.columns - 2)
        row = np.clip((y / self.parcel_m).astype(np.int32), 1, self.rows - 2)
        home = row * np.int32(self.columns) + column
        seed_x, seed_y = self.seed_x.ravel(), self.seed_y.ravel()
        best = np.full(x.shape, np.inf, np.float32)
        nearest = home.copy()
        for step in [i * self.columns + j for i in (-1, 0, 1) for j in (-1, 0, 1)]:
            candidate = home + np.int32(step)
            distance = (x - seed_x[candidate]) ** 2 + (y - seed_y[candidate]) ** 2
            closer = distance < best
            np.copyto(best, distance, where=closer)
            np.copyto(nearest, candidate, where=closer)
        return nearest


def niches() -> pd.DataFrame:
    """Return where each class of parcels is at home, indexed by the level-3 code.

    For each property of a place there is the value that suits the class best, and the deviation (``_tol``) that
    costs as much as one unit of ``weight``; empty means that the class does not care.
    """
    with (resources.files("reben_dask.demo.ground") / "niches.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file).set_index("code")


def suitability(layout: Layout, parcels: Parcels, terrain: Terrain) -> Field:
    """Say how well each class suits each parcel.

    Returns
    -------
    ndarray of float32, shape (class, parcel)
        In the order of :func:`niches`; higher is better. Random differences between neighbourhoods are included.
    """
    eastings, northings = parcels.lattice_axes()
    ground = terrain.ground(eastings, northings)
    box = layout.map_box.grown(3 * layout.parcel_m)
    moisture = Fractal(Stream.MOISTURE, box, min(0.16 * layout.side_m, 2500), 600, 0.6)
    places: dict[str, Field] = {
        "height_m": ground.height_m,
        "inland": ground.inland,
        "river_m": ground.river_m,
        "moisture": moisture.sample(eastings, northings),
        "settlement": _settlement(eastings, northings, ground.height_m, ground.inland),
    }
    scores = np.empty((len(niches()), parcels.count), np.float32)
    for row, (code, niche) in enumerate(niches().iterrows()):
        score = np.full(ground.height_m.shape, niche["weight"], np.float32)
        for name, value in places.items():
            best, tolerance = niche[name], niche[name.removesuffix("_m") + "_tol"]
            if not np.isnan(best):
                score -= ((value - np.float32(best)) / np.float32(tolerance)) ** 2
        taste = SmoothNoise(random_stream(Stream.CLASSES, int(str(code))), box, 1.7 * layout.parcel_m)
        score += np.float32(0.9) * taste.sample(eastings, northings)
        scores[row] = score.ravel()
    scores += np.float32(0.55) * random_stream(Stream.CLASSES).standard_normal(scores.shape, dtype=np.float32)
    return scores


def _settlement(eastings: Axis, northings: Axis, height_m: Field, inland: Field) -> Field:
    """How built-up a place is, from 0 to 1: towns on low ground, each with a centre and suburbs."""
    rng = random_stream(Stream.TOWNS)
    area = np.ptp(eastings) * np.ptp(northings)
    wanted = max(int(area / _TOWN_AREA_M2), 6)
    rows, columns = np.nonzero((height_m < 200) & (inland > 0.02))
    chosen = rng.choice(rows.size, size=min(wanted, rows.size), replace=False)
    radii = np.exp(rng.normal(np.log(480), 0.45, chosen.size))
    result = np.zeros(height_m.shape, np.float32)
    for pick, radius in zip(chosen, radii, strict=True):
        distance = np.hypot(eastings[None, :] - eastings[columns[pick]], northings[:, None] - northings[rows[pick]])
        np.maximum(result, np.exp(-((distance / radius) ** 2)).astype(np.float32), out=result)
    return result


def choose_classes(scores: Field, land_share: Field) -> npt.NDArray[np.int16]:
    """Give each parcel the class that suits it best, and each class at least its share of parcels.

    Parameters
    ----------
    scores : ndarray, shape (class, parcel)
        See :func:`suitability`.
    land_share : ndarray, shape (parcel,)
        Share of the parcel that is dry, covered by the map and well inside a tile.

    Returns
    -------
    ndarray of int16, shape (parcel,)
        Level-3 codes.
    """
    codes = niches().index.to_numpy(np.int16)
    best = scores.argmax(axis=0)
    usable = land_share > 0.8
    least = max(int(usable.sum()) // 4000, 1)
    counts = np.bincount(best[usable], minlength=codes.size)
    for missing in np.flatnonzero(counts < least):
        # A parcel is free to change when its own class can spare one.
        free = usable & (counts[best] > least + 2)
        wish = np.where(free, scores[missing] - scores.max(axis=0), -np.inf)
        for parcel in np.argsort(-wish, kind="stable")[: least - counts[missing]]:
            counts[best[parcel]] -= 1
            counts[missing] += 1
            best[parcel] = missing
    chosen: npt.NDArray[np.int16] = codes[best]
    return chosen
