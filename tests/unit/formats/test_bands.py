"""Bands: nodata, types of arrays that several share, and the published ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reben_dask.formats import bands
from reben_dask.formats.bands import BANDS, PUBLISHED_BANDS, Band, ImageKind, by_resolution, shared_array


def _band(name: str, dtype: str, nodata: float | None) -> Band:
    return Band(name, ImageKind.S2, 20, dtype, nodata)


ADDED = [_band("X16", "uint16", None), _band("X08", "uint8", 0), _band("X32", "float32", -1)]


def test_published_bands_are_those_of_the_published_files(data_dir: Path) -> None:
    files = (data_dir / "bigearthnet" / "BigEarthNet-S2").rglob("*.tif")
    assert {path.stem.rpartition("_")[2] for path in files} == set(PUBLISHED_BANDS)
    assert PUBLISHED_BANDS.items() <= BANDS.items()


def test_bands_have_the_length_of_the_names_of_images() -> None:
    """A product names its images ``…_<band>_<resolution>m``, with three characters for the band."""
    assert all(len(name) == 3 and name == band.name for name, band in BANDS.items())
    assert {band.resolution_m for band in BANDS.values()} == {10, 20, 60}


def test_bands_of_a_resolution_in_the_order_of_esa() -> None:
    assert by_resolution(sorted(BANDS, reverse=True)) == {
        10: ("B02", "B03", "B04", "B08"),
        20: ("B05", "B06", "B07", "B8A", "B11", "B12"),
        60: ("B01", "B09"),
    }
    assert bands.POLARISATIONS == ("VV", "VH")


@pytest.mark.parametrize(
    ("band", "nodata"),
    [
        (_band("B05", "uint16", 0), [True, False, False]),
        (_band("X", "uint8", 255), [False, False, True]),
        (_band("X", "uint8", None), [False, False, False]),
    ],
)
def test_nodata_pixels_of_a_band(band: Band, nodata: list[bool]) -> None:
    assert band.is_nodata(np.array([[0, 1, 255]], band.dtype)).tolist() == [nodata]


def test_backscatter_that_is_not_a_number_is_nodata() -> None:
    pixels = np.array([np.nan, 0, -12], np.float32)
    assert bands.S1_BANDS["VV"].is_nodata(pixels).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("names", "shared"),
    [
        (("B05", "B11"), ("uint16", 0)),
        (("B05", "X16"), ("uint16", 0)),
        (("X16",), ("uint16", None)),
        (("X08",), ("uint8", 0)),
        (("B05", "X08"), ("uint16", 0)),
        (("X32",), ("float32", -1)),
    ],
)
def test_bands_share_an_array(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], shared: tuple[str, float | None]
) -> None:
    for band in ADDED:
        monkeypatch.setitem(BANDS, band.name, band)
    assert by_resolution(names) == {20: names}
    assert shared_array(names) == shared


def test_bands_with_different_nodata_do_not_share_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    for band in ADDED:
        monkeypatch.setitem(BANDS, band.name, band)
    with pytest.raises(ValueError, match="share an array, but nodata is 0 in B05 and -1 in X32; leave one of them out"):
        shared_array(("B05", "X16", "X32"))
