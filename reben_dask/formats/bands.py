"""Bands, polarisations and the reference map of a patch.

To add a band, add a line to :data:`BANDS`; recipes, cubes, LMDB values, trees and the verifier derive from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np

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


def _sentinel2(name: str, resolution_m: int) -> Band:
    return Band(name, ImageKind.S2, resolution_m, "uint16", 0)


BANDS = {
    band.name: band
    for band in (
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
}
"""Bands of a Sentinel-2 L2A product, by name. B10 does not exist in L2A."""

S1_BANDS = {name: Band(name, ImageKind.S1, 10, "float32", np.nan) for name in ("VH", "VV")}
"""Backscatter in dB, by polarisation, in the order in which arrays hold them."""

REFERENCE_MAP = Band("reference_map", ImageKind.MAP, 10, "uint16", None)
"""Level-3 CORINE code of each pixel of 10 m."""

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
    """Group bands by their resolution in metres, finest first, each group in alphabetical order."""
    groups: dict[int, tuple[str, ...]] = {}
    for name in sorted(names):
        groups[BANDS[name].resolution_m] = (*groups.get(BANDS[name].resolution_m, ()), name)
    return dict(sorted(groups.items()))
