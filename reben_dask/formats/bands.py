"""The bands of a Sentinel-2 L2A product."""

from __future__ import annotations

SCENE_CLASSIFICATION = "SCL"

BAND_RESOLUTION_M = {
    "B01": 60,
    "B02": 10,
    "B03": 10,
    "B04": 10,
    "B05": 20,
    "B06": 20,
    "B07": 20,
    "B08": 10,
    "B8A": 20,
    "B09": 60,
    "B11": 20,
    "B12": 20,
}
"""Native resolution in metres of the twelve bands. B10 has no surface information and does not exist in L2A."""

IMAGE_RESOLUTION_M = {**BAND_RESOLUTION_M, SCENE_CLASSIFICATION: 20}
"""Resolution in metres at which each image is read; products hold coarser copies too, which are not."""

PHYSICAL_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""Bands in the order of ``band_id`` 0 to 12 of the product metadata (PSD, Spectral_Information_List)."""
