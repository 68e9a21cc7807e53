"""Snow, cloud, shadow and NODATA of patches, against loops over pixels."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reben_dask.formats.bands import BANDS, Band, ImageKind
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.candidates import nodata_pixels
from reben_dask.patches.scl import scl_fractions
from reben_dask.recipes.model import SclClasses

BAND_OF = {10: BANDS["B02"], 20: BANDS["B05"], 60: BANDS["B01"]}
REBEN = SclClasses(snow=(11,), cloud=(8, 9, 10), shadow=(3,), flag_from=1.0)
ONE_PATCH = PatchGrid(32633, 300_000, 5_400_000, ShapeYX(1200, 1200))


def _shapes(side: int) -> st.SearchStrategy[tuple[int, int]]:
    """Images of up to three by three patches of ``side`` pixels, with any left-over strip."""
    axis = st.integers(0, 4 * side - 1)
    return st.tuples(axis, axis)


def _grid(image: np.ndarray, resolution: int, patch_m: int) -> PatchGrid:
    height, width = image.shape
    return PatchGrid(32633, 0, 0, ShapeYX(resolution * height, resolution * width), patch_m)


def _patches(image: np.ndarray, side: int) -> list[list[int]]:
    """Pixels of each complete patch, column by column of patches."""
    rows, columns = (size // side for size in image.shape)
    return [
        image[side * y : side * (y + 1), side * x : side * (x + 1)].ravel().tolist()
        for x, y in product(range(columns), range(rows))
    ]


@given(
    _shapes(3).flatmap(lambda shape: hnp.arrays(np.uint8, shape, elements=st.integers(0, 12) | st.just(255))),
    st.sampled_from([1 / 9, 2 / 9, 5 / 9, 1.0]),
)
def test_sky_is_that_of_a_loop(scl: np.ndarray, flag_from: float) -> None:
    rule = REBEN.model_copy(update={"flag_from": flag_from})
    columns = scl_fractions(scl, _grid(scl, 20, 60), rule)
    needed = round(9 * flag_from)
    expected = []
    for pixels in _patches(scl, 3):
        snow, cloud, shadow = (sum(value in values for value in pixels) for values in ([11], [8, 9, 10], [3]))
        expected.append((snow / 9, cloud / 9, shadow / 9, snow >= needed, cloud + shadow >= needed))
    assert list(columns.itertuples(index=False, name=None)) == expected
    assert list(columns) == [
        *("snow_fraction", "cloud_fraction", "shadow_fraction"),
        *("contains_seasonal_snow", "contains_cloud_or_shadow"),
    ]
    assert [str(kind) for kind in columns.dtypes] == ["float64"] * 3 + ["bool"] * 2


@pytest.mark.parametrize(
    ("values", "snow", "cloud_or_shadow"),
    [
        ([11], True, False),
        ([8], False, True),
        ([9], False, True),
        ([10], False, True),
        ([3], False, True),
        ([8, 9, 10], False, True),
        ([9, 3], False, True),  # neither covers the patch, both together do
        ([11, 9], False, False),
        ([11, 3], False, False),
        ([2], False, False),  # dark areas are no cloud shadow
        ([0, 1, 4, 5, 6, 7], False, False),
    ],
)
def test_a_patch_is_flagged_when_it_is_covered(values: list[int], snow: bool, cloud_or_shadow: bool) -> None:  # noqa: FBT001
    scl = np.resize(np.array(values, np.uint8), (60, 60))
    columns = scl_fractions(scl, ONE_PATCH, REBEN)
    assert columns["contains_seasonal_snow"].tolist() == [snow]
    assert columns["contains_cloud_or_shadow"].tolist() == [cloud_or_shadow]


@pytest.mark.parametrize("values", [[11], [9], [3], [9, 3]])
def test_one_clear_pixel_is_enough_not_to_be_flagged(values: list[int]) -> None:
    scl = np.resize(np.array(values, np.uint8), (60, 60))
    scl[59, 0] = 4
    columns = scl_fractions(scl, ONE_PATCH, REBEN)
    assert not columns[["contains_seasonal_snow", "contains_cloud_or_shadow"]].to_numpy().any()
    assert columns[["snow_fraction", "cloud_fraction", "shadow_fraction"]].to_numpy().sum() == 3599 / 3600


@pytest.mark.parametrize(
    ("flag", "covered"), [("contains_seasonal_snow", [11]), ("contains_cloud_or_shadow", [8, 9, 10, 3])]
)
def test_a_patch_is_flagged_when_its_share_reaches_the_threshold(flag: str, covered: list[int]) -> None:
    """Every whole per cent is a whole number of the 3,600 pixels: one less must not do, exactly as many must."""
    two_patches = PatchGrid(32633, 0, 0, ShapeYX(2 * 1200, 1200))
    wrong = []
    for percent in range(1, 101):
        scl = np.zeros((2, 3600), np.uint8)
        for patch, pixels in enumerate((36 * percent - 1, 36 * percent)):
            scl[patch, :pixels] = np.resize(covered, pixels)
        rule = REBEN.model_copy(update={"flag_from": percent / 100})
        if scl_fractions(scl.reshape(120, 60), two_patches, rule)[flag].tolist() != [False, True]:
            wrong.append(percent)
    assert wrong == []


def test_sky_of_the_left_over_strip_does_not_count() -> None:
    scl = np.full((70, 63), 9, np.uint8)
    scl[:60, :60] = 4
    columns = scl_fractions(scl, PatchGrid(32633, 0, 0, ShapeYX(1400, 1260)), REBEN)
    assert columns.to_numpy().tolist() == [[0, 0, 0, False, False]]


def test_sky_of_no_patches() -> None:
    columns = scl_fractions(np.zeros((0, 0), np.uint8), PatchGrid(32633, 0, 0, ShapeYX(0, 0)), REBEN)
    assert columns.empty
    assert [str(kind) for kind in columns.dtypes] == ["float64"] * 3 + ["bool"] * 2


@given(_shapes(2).flatmap(lambda shape: hnp.arrays(np.uint16, shape, elements=st.sampled_from([0, 0, 1, 65_535]))))
def test_nodata_is_that_of_a_loop(dn: np.ndarray) -> None:
    counts = nodata_pixels(dn, _grid(dn, 60, 120), BANDS["B01"])
    assert counts.tolist() == [pixels.count(0) for pixels in _patches(dn, 2)]
    assert counts.dtype == np.int32


@pytest.mark.parametrize("resolution", [10, 20, 60])
@pytest.mark.parametrize("place", ["first", "last"])
def test_one_zero_counts_in_its_patch_alone(resolution: int, place: str) -> None:
    side = 1200 // resolution
    dn = np.full((3 * side + 1, 2 * side + 2), 500, np.uint16)
    rows, columns = (0, 0) if place == "first" else (side - 1, side - 1)
    dn[2 * side + rows, side + columns] = 0
    counts = nodata_pixels(dn, _grid(dn, resolution, 1200), BAND_OF[resolution])
    assert counts.tolist() == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("resolution", [10, 20, 60])
def test_zeros_in_the_left_over_strip_do_not_count(resolution: int) -> None:
    side = 1200 // resolution
    dn = np.zeros((side * 2 + side // 2, side * 2 + 1), np.uint16)
    dn[: 2 * side, : 2 * side] = 1
    assert nodata_pixels(dn, _grid(dn, resolution, 1200), BAND_OF[resolution]).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("nodata", "counts"), [(0, [1, 0]), (255, [0, 2]), (None, [0, 0])])
def test_nodata_is_that_of_the_band(nodata: int | None, counts: list[int]) -> None:
    pixels = np.ones((20, 40), np.uint8)
    pixels[3, 3], pixels[4:6, 21] = 0, 255
    band = Band("X", ImageKind.S2, 60, "uint8", nodata)
    grid = PatchGrid(32633, 0, 0, ShapeYX(1200, 2400))
    assert nodata_pixels(pixels, grid, band).tolist() == counts


def test_a_full_tile_of_zeros() -> None:
    grid = PatchGrid(32633, 300_000, 5_400_000, ShapeYX(109_800, 109_800))
    counts = nodata_pixels(np.zeros((1830, 1830), np.uint16), grid, BANDS["B01"])
    assert counts.tolist() == [400] * 8281
