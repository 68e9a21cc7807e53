"""What each land-cover class looks like: mixtures of two endmembers that differ by season.

``endmembers.csv`` holds the reflectance of pure surfaces (times 10,000, one column per band) and ``surfaces.csv``
says how each class of the CORINE nomenclature mixes them. Both were made up for this demo from the usual shape of
such spectra; they are not measurements.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt
import pandas as pd

from reben_dask.demo.ground.noise import Stream, random_stream

BANDS: dict[str, int] = {
    "B02": 10, "B03": 10, "B04": 10, "B08": 10,
    "B05": 20, "B06": 20, "B07": 20, "B8A": 20, "B11": 20, "B12": 20,
    "B01": 60, "B09": 60,
}  # fmt: skip
"""Native resolution in metres of each band."""

SEASONS = ("spring", "summer", "winter")

OPEN_SEA = 523
"""Class whose looks a place has that no polygon covers: CORINE maps leave out the sea beyond the coast."""

VARIANTS = 256
"""A field of a class looks like one of this many mixtures."""

_BRIGHTNESS_SPREAD = {200: 0.14, 300: 0.05, 400: 0.03, 1000: 0.01}
"""How much fields of one class differ in brightness, by the code below which it holds."""

_FLAT_FROM = 411
_VEGETATED_NDVI = 0.4
_SCL_VEGETATION, _SCL_BARE, _SCL_WATER, _SCL_SNOW = 4, 5, 6, 11
_PERPETUAL_SNOW = 335


def _table(name: str, index: str) -> pd.DataFrame:
    with (resources.files("reben_dask.demo.ground") / name).open(encoding="utf-8") as file:
        return pd.read_csv(file).set_index(index)


@cache
def surfaces() -> pd.DataFrame:
    """Return the table of classes, indexed by the level-3 code in ascending order."""
    return _table("surfaces.csv", "code").sort_index()


@cache
def _endmembers() -> pd.DataFrame:
    return _table("endmembers.csv", "name")


def class_rows() -> npt.NDArray[np.uint8]:
    """Return the look-up table from a level-3 code to its row in :func:`surfaces`.

    Returns
    -------
    ndarray of uint8, shape (1000,)
        Codes that do not exist, 0 among them, get the row of the open sea.
    """
    codes = surfaces().index
    table = np.full(1000, codes.get_loc(OPEN_SEA), np.uint8)
    table[codes.to_numpy()] = np.arange(len(codes))
    return table


def column(name: str) -> npt.NDArray[np.float32]:
    """Return a numeric column of :func:`surfaces` as float32, shape (class,)."""
    values: npt.NDArray[np.float32] = surfaces()[name].to_numpy(np.float32)
    return values


def _mixing(season: str) -> npt.NDArray[np.float32]:
    """Share of the second endmember, shape (class, variant); each season deals the fields out anew."""
    rng = random_stream(Stream.FIELDS, SEASONS.index(season))
    place = np.stack([rng.permutation(VARIANTS) for _ in surfaces().index]) / (VARIANTS - 1)
    share = column("share_b")[:, None] + column("spread")[:, None] * (2 * place - 1)
    return np.clip(share, 0, 1).astype(np.float32)


def _brightness(season: str) -> npt.NDArray[np.float32]:
    rng = random_stream(Stream.FIELDS, 100 + SEASONS.index(season))
    codes = surfaces().index.to_numpy()
    spread = np.array([next(s for limit, s in _BRIGHTNESS_SPREAD.items() if code < limit) for code in codes.tolist()])
    return (1 + spread[:, None] * rng.uniform(-1, 1, (codes.size, VARIANTS))).astype(np.float32)


def reflectance_table(band: str, season: str) -> npt.NDArray[np.float32]:
    """Reflectance of each variant of each class.

    Parameters
    ----------
    band : str
        One of :data:`BANDS`.
    season : str
        One of :data:`SEASONS`.

    Returns
    -------
    ndarray of float32, shape (class, variant)
        Surface reflectance times 10,000.
    """
    spectrum = _endmembers()[band]
    first = spectrum[surfaces()[f"{season}_a"]].to_numpy(np.float32)[:, None]
    second = spectrum[surfaces()[f"{season}_b"]].to_numpy(np.float32)[:, None]
    share = _mixing(season)
    table: npt.NDArray[np.float32] = (first + share * (second - first)) * _brightness(season)
    return table.astype(np.float32)


def scene_class_table(season: str) -> npt.NDArray[np.uint8]:
    """Scene classification (SCL) of each variant of each class under a clear sky, shape (class, variant)."""
    red, infrared = reflectance_table("B04", season), reflectance_table("B08", season)
    ndvi = (infrared - red) / (infrared + red)
    table = np.where(ndvi > _VEGETATED_NDVI, _SCL_VEGETATION, _SCL_BARE).astype(np.uint8)
    codes = surfaces().index.to_numpy()
    table[is_water()] = _SCL_WATER
    table[codes == _PERPETUAL_SNOW] = _SCL_SNOW
    return table


def is_water() -> npt.NDArray[np.bool_]:
    """Say which classes are open water, shape (class,)."""
    water: npt.NDArray[np.bool_] = surfaces().index.to_numpy() >= 500
    return water


def takes_shading() -> npt.NDArray[np.float32]:
    """1 for classes on slopes, 0 for waters and wetlands, which are flat; shape (class,)."""
    return (surfaces().index.to_numpy() < _FLAT_FROM).astype(np.float32)


def pure(name: str, band: str) -> float:
    """Reflectance times 10,000 of an endmember."""
    return float(_endmembers()[band][name])
