"""Bands, polarisations and the reference map of a patch, and the bands of each processing level.

To add a band, or another image of L2A products, add a line to :data:`FURTHER_BANDS`. Recipes may then name it; readers
of products, cubes, LMDB values, trees, the verifier and the synthetic region derive from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from reben_dask.grid import PATCH_SIDE_M

SCENE_CLASSIFICATION = "SCL"
"""Scene classification of a product, read at 20 m."""


class ImageKind(Enum):
    """Kinds of images of a patch, with their titles."""

    S2 = "Sentinel-2"
    S1 = "Sentinel-1"
    MAP = "reference maps"


@dataclass(frozen=True, slots=True)
class Band:
    """One image of a patch, at its native resolution."""

    name: str
    kind: ImageKind
    resolution_m: int
    dtype: str
    nodata: float | None
    """Value of pixels without data; ``None`` if every value is valid."""

    def side_px(self, patch_m: int = PATCH_SIDE_M) -> int:
        """Side in pixels of a patch of ``patch_m`` metres."""
        return patch_m // self.resolution_m

    def nbytes(self, patch_m: int = PATCH_SIDE_M) -> int:
        """Bytes of the pixels of a patch of ``patch_m`` metres."""
        return self.side_px(patch_m) ** 2 * np.dtype(self.dtype).itemsize

    def is_nodata(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Mask of the nodata pixels, in the shape of ``pixels``."""
        if self.nodata is None:
            return np.zeros(pixels.shape, bool)
        mask: npt.NDArray[np.bool_] = np.isnan(pixels) if np.isnan(self.nodata) else pixels == self.nodata
        return mask


def _sentinel2(name: str, resolution_m: int, dtype: str = "uint16", nodata: float | None = 0) -> Band:
    return Band(name, ImageKind.S2, resolution_m, dtype, nodata)


def _by_name(*bands: Band) -> dict[str, Band]:
    return {band.name: band for band in bands}


PUBLISHED_BANDS = _by_name(
    _sentinel2("B01", 60),
    _sentinel2("B02", 10),
    _sentinel2("B03", 10),
    _sentinel2("B04", 10),
    _sentinel2("B05", 20),
    _sentinel2("B06", 20),
    _sentinel2("B07", 20),
    _sentinel2("B08", 10),
    _sentinel2("B8A", 20),
    _sentinel2("B09", 60),
    _sentinel2("B11", 20),
    _sentinel2("B12", 20),
)
"""Bands of the published datasets, and of every Sentinel-2 product, by name."""

FURTHER_BANDS = _by_name()
"""Further images of L2A products, such as ``_sentinel2("AOT", 20)``: the name and resolution in their file names."""

L1C_BANDS = _by_name(_sentinel2("B10", 60))
"""Bands of L1C products alone: B10 measures cirrus, and has no information about the surface."""

BANDS = PUBLISHED_BANDS | FURTHER_BANDS | L1C_BANDS
"""Bands that a recipe may name, by name."""

Level = Literal["L2A", "L1C"]
"""Processing level of products: reflectance at the surface, or at the top of the atmosphere."""

LEVEL_BANDS: dict[Level, dict[str, Band]] = {
    "L2A": PUBLISHED_BANDS | FURTHER_BANDS,
    "L1C": PUBLISHED_BANDS | L1C_BANDS,
}
"""Bands of the products of each level."""

S1_BANDS = {name: Band(name, ImageKind.S1, 10, "float32", np.nan) for name in ("VV", "VH")}
"""Backscatter in dB, by polarisation, in the order in which arrays hold them."""

BackscatterScale = Literal["db", "linear"]
"""Scale of Sentinel-1 images: dB, or power."""


def lacks_backscatter(db: npt.NDArray[Any], axis: int = 0) -> npt.NDArray[np.bool_]:
    """Mask of pixels without valid backscatter: not finite, or exactly 0 in all polarisations.

    ``axis`` is that of the polarisations, which the mask does not have.
    """
    mask: npt.NDArray[np.bool_] = ~np.isfinite(db).all(axis) | (db == 0).all(axis)
    return mask


REFERENCE_MAP = Band("reference_map", ImageKind.MAP, 10, "uint16", None)
"""Land-cover code of each pixel of 10 m."""

POLARISATIONS = tuple(S1_BANDS)
BAND_RESOLUTION_M = {name: band.resolution_m for name, band in BANDS.items()}
IMAGE_RESOLUTION_M = {**BAND_RESOLUTION_M, SCENE_CLASSIFICATION: 20}
"""Resolution in metres at which each image is read; the product's coarser copies are not."""

MAP_RESOLUTION_M = REFERENCE_MAP.resolution_m
S1_RESOLUTION_M = S1_BANDS["VV"].resolution_m

QUALITY_INDICATORS = ("FORMAT_CORRECTNESS", "GENERAL", "GEOMETRIC", "RADIOMETRIC", "SENSOR", "L2A")

PHYSICAL_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""Bands in the order of ``band_id`` 0 to 12 of the product metadata (PSD, Spectral_Information_List)."""


def by_resolution(names: Iterable[str]) -> dict[int, tuple[str, ...]]:
    """Group bands by their resolution in metres, finest first, each group in the order of :data:`BANDS`."""
    order = [*BANDS]
    groups: dict[int, tuple[str, ...]] = {}
    for name in sorted(names, key=order.index):
        groups[BANDS[name].resolution_m] = (*groups.get(BANDS[name].resolution_m, ()), name)
    return dict(sorted(groups.items()))


def shared_array(names: Iterable[str]) -> tuple[str, float | None]:
    """Type that holds the values of several bands, and their nodata value; ``None`` if no band has one.

    Raises
    ------
    ValueError
        If bands differ in their nodata values.
    """
    bands = [BANDS[name] for name in names]
    nodata = {band.nodata: band.name for band in bands if band.nodata is not None}
    if len(nodata) > 1:
        values = " and ".join(f"{value:g} in {name}" for value, name in nodata.items())
        raise ValueError(f"bands of one resolution share an array, but nodata is {values}; leave one of them out")
    return np.result_type(*(band.dtype for band in bands)).name, next(iter(nodata), None)


_WITHOUT_60_M = by_resolution(name for name, band in PUBLISHED_BANDS.items() if band.resolution_m < 60)
_S2 = tuple(name for names in _WITHOUT_60_M.values() for name in names)

Modality = Literal["S1", "S2", "S1+S2"]

MODALITIES: Mapping[Modality, tuple[str, ...]] = {"S1": POLARISATIONS, "S2": _S2, "S1+S2": (*_S2, *POLARISATIONS)}
"""Bands of each modality, in the order of the channels.

``S2`` has the ten bands of the reBEN paper, which leaves out those of 60 m, B01 and B09: B02, B03, B04, B08, B05, B06,
B07, B8A, B11, B12. ``S1`` is VV, VH. ``S1+S2`` is ``S2``, then ``S1``.
"""
