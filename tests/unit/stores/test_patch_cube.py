"""One patch as a cube: its own pixels, at its own place, as digital numbers and as reflectance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import BANDS, EPSG, OFFSETS, PATCHES, TILE, ULX, ULY, of_patch, write_tiny

from reben_dask.errors import InputError
from reben_dask.stores.lazy_cubes import open_patch, surface_reflectance

RGB = ["B04", "B03", "B02"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "dataset")


def _row(number: int) -> dict[str, object]:
    patch = PATCHES[number]
    return {"patch_id": patch.name, "tile": TILE, "grid": patch.grid, "x": patch.x, "y": patch.y}


@pytest.mark.parametrize("number", range(len(PATCHES)))
def test_a_patch_has_its_pixels_at_its_place(tiny: Path, number: int) -> None:
    patch, cube = PATCHES[number], open_patch(tiny, _row(number))
    assert cube.name == patch.name
    assert set(cube.children) == {"r10m", "r20m", "r60m", "reference_map", "s1"}
    shift = 600 * (patch.grid - 1)
    left, top = ULX + shift + 1200 * patch.x, ULY - shift - 1200 * patch.y
    for resolution, names in BANDS.items():
        node = cube[f"r{resolution}m"].to_dataset()
        for name in names:
            np.testing.assert_array_equal(node["dn"].sel(band=name), of_patch(patch, name))
        assert node.rio.bounds() == (left, top - 1200, left + 1200, top)
        assert node.rio.crs.to_epsg() == EPSG
        assert node["spatial_ref"].attrs["GeoTransform"].split() == [
            *(f"{float(value)}" for value in (left, resolution, 0, top, 0, -resolution)),
        ]
    np.testing.assert_array_equal(cube["reference_map"]["reference_map"], of_patch(patch, "map"))
    np.testing.assert_array_equal(cube["s1"]["db"].sel(polarisation="VH"), of_patch(patch, "VH"))


@pytest.mark.usefixtures("nothing_computes")
def test_nothing_is_read_before_it_is_asked_for(tiny: Path) -> None:
    cube = open_patch(tiny, _row(0))
    assert cube["r10m"]["dn"].chunks == ((1,) * 4, (120,), (120,))
    assert surface_reflectance(cube, RGB).chunks is not None


def test_reflectance_has_the_offset_of_the_product(tiny: Path) -> None:
    reflectance = surface_reflectance(open_patch(tiny, _row(1)), RGB)
    assert reflectance.dims == ("band", "y", "x")
    for name in RGB:
        dn = of_patch(PATCHES[1], name).astype(np.float64)
        expected = np.where(dn == 0, np.nan, (dn + OFFSETS[name]) / 10_000)
        np.testing.assert_allclose(reflectance.sel(band=name), expected, rtol=0, atol=1e-12)


def test_harmonized_numbers_have_no_offset_any_more(tiny: Path) -> None:
    harmonized = next(number for number, patch in enumerate(PATCHES) if patch.grid == 2)
    cube = open_patch(tiny, _row(harmonized))
    dn = of_patch(PATCHES[harmonized], "B04").astype(np.float64)
    expected = np.where(dn == 0, np.nan, dn / 10_000)
    # The attribute stands with the group that was opened: the tile's, or that of a further grid.
    assert cube.attrs["harmonized"]
    np.testing.assert_allclose(surface_reflectance(cube, ["B04"])[0], expected, rtol=0, atol=1e-12)


def test_nodata_is_not_a_reflectance(tiny: Path) -> None:
    cube = open_patch(tiny, _row(0))
    cube["r10m"]["dn"] = cube["r10m"]["dn"].where(cube["r10m"]["dn"] > 5_000, 0)
    reflectance = surface_reflectance(cube, ["B08"])
    np.testing.assert_array_equal(np.isnan(reflectance[0]), of_patch(PATCHES[0], "B08") <= 5_000)
    assert reflectance.attrs == {"long_name": "surface reflectance"}


def test_bands_of_two_resolutions_have_no_common_pixels(tiny: Path) -> None:
    with pytest.raises(InputError, match=r"^The bands B04, B11 are not of one resolution in this cube"):
        surface_reflectance(open_patch(tiny, _row(0)), ["B04", "B11"])


def test_a_tile_that_is_not_in_the_store(tiny: Path) -> None:
    with pytest.raises(InputError, match=r"has no group X; rejected tiles have no pixels"):
        open_patch(tiny, {**_row(0), "tile": "X"})


def test_a_place_beyond_the_tile(tiny: Path) -> None:
    with pytest.raises(InputError, match=r"no patch in column 3, row 0: the tile has 3 x 2, counted from 0"):
        open_patch(tiny, {**_row(0), "x": 3})
