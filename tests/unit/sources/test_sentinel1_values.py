"""Sentinel-1 values without valid backscatter, and images in power: values worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
import zarr
from numpy.typing import NDArray
from rasterio.transform import from_origin

from reben_dask.errors import InputError
from reben_dask.formats.bands import lacks_backscatter
from reben_dask.formats.cube import CubeLayout
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.job.published import Published
from reben_dask.job.sentinel1 import PublishedPartners, Sentinel1Inputs, open_partners, pair_tile
from reben_dask.recipes import load_recipe
from reben_dask.sources.sentinel1 import find_scenes, open_patch_tree, warp_scene
from reben_dask.stores.cubes import create_store

EPSG, ULX, ULY = 32633, 600_000, 5_400_000
SCENE = "S1A_IW_GRDH_1SDV_20180724T165131_X"
NAN, INF = float("nan"), float("inf")

Pixels = NDArray[np.float32]


def _image(path: Path, pixels: NDArray[Any], *, nodata: float | None = None, shift_m: float = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pixels.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": pixels.dtype, "nodata": nodata}
    with rasterio.open(path, "w", crs=EPSG, transform=from_origin(ULX + shift_m, ULY, 10, 10), **profile) as image:
        image.write(pixels, 1)


def _warped(
    folder: Path, vv: Pixels, vh: Pixels, *, shift_m: float = 0, scale: Any = "db", nodata: float | None = None
) -> Pixels:
    for name, pixels in (("VV", vv), ("VH", vh)):
        _image(folder / f"{SCENE}_{name}.tif", pixels, nodata=nodata, shift_m=shift_m)
    (scene,) = find_scenes(str(folder), scale)
    return warp_scene(scene, EPSG, ULX, ULY, vv.shape, scale)


def _plain(level: float, shape: tuple[int, int] = (6, 8)) -> Pixels:
    return np.full(shape, level, np.float32)


@pytest.mark.parametrize(
    ("vv", "vh", "tag", "is_gap"),
    [
        pytest.param(0.0, 0.0, None, (True, True), id="0 in both, no tag"),
        pytest.param(0.0, 0.0, -9999.0, (False, False), id="0 in both, another tag"),
        pytest.param(0.0, -17.0, None, (False, False), id="0 in one"),
        pytest.param(0.0, -17.0, 0.0, (True, False), id="0 in one, tagged"),
        pytest.param(NAN, -17.0, None, (True, False), id="NaN"),
        pytest.param(-INF, -17.0, None, (True, False), id="-inf"),
        pytest.param(-10.0, INF, None, (False, True), id="inf"),
        pytest.param(-9999.0, -17.0, -9999.0, (True, False), id="tag"),
    ],
)
def test_values_that_are_no_backscatter(
    tmp_path: Path, vv: float, vh: float, tag: float | None, is_gap: tuple[bool, bool]
) -> None:
    """In the same pixels, only the pixel itself is lost."""
    images = _plain(-10), _plain(-17)
    images[0][2, 3], images[1][2, 3] = vv, vh
    found = _warped(tmp_path, *images, nodata=tag)
    expected = np.stack([_plain(-10), _plain(-17)])
    expected[:, 2, 3] = [NAN if gap else value for gap, value in zip(is_gap, (vv, vh), strict=True)]
    np.testing.assert_array_equal(found, expected)


def test_a_pixel_with_a_contributing_gap_is_a_gap(tmp_path: Path) -> None:
    """Shifted by a quarter pixel to the west, each target pixel is made of its own and the eastern neighbour."""
    vv = np.tile(np.arange(8, dtype=np.float32) - 20, (6, 1))
    vh = _plain(-17)
    vv[2, 3] = vh[2, 3] = 0
    found = _warped(tmp_path, vv, vh, shift_m=-2.5)
    # Column c lies at c + 0.25: 3/4 of pixel c and 1/4 of pixel c + 1. The last column lies on the edge.
    expected = np.tile(np.arange(7, dtype=np.float32) - 19.75, (6, 1))
    expected[2, 2:4] = NAN
    np.testing.assert_allclose(found[0][:, :7], expected, atol=1e-3)
    np.testing.assert_array_equal(np.isnan(found[1][:, :7]), np.isnan(expected))


def test_power_is_interpolated_as_power(tmp_path: Path) -> None:
    """Half a pixel between 0.1 and 0.001: 10 log10(0.0505) = -12.967 dB, where the mean in dB would be -20."""
    power = np.tile(np.array([0.1, 0.001], np.float32), (6, 4))
    found = _warped(tmp_path, power, power, shift_m=-5, scale="linear")
    np.testing.assert_allclose(found[:, :, :7], 10 * math.log10(0.0505), atol=0.02)


@pytest.mark.parametrize("value", [0.0, -0.01, NAN, INF])
def test_no_power_is_a_gap_even_in_one_polarisation(tmp_path: Path, value: float) -> None:
    power = _plain(0.01)
    power[1, 1] = value
    found = _warped(tmp_path, power, _plain(0.1), scale="linear")
    expected = np.stack([_plain(-20), _plain(-10)])
    expected[0, 1, 1] = NAN
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("level", "scale", "words"),
    [
        (0.05, "db", ("looks like linear power", "0.05", "sentinel1.scale: linear")),
        (-12.0, "linear", ("looks like dB", "-12", "sentinel1.scale: db")),
        (-12.0, "db", None),
        (0.05, "linear", None),
        (1.7, "db", None),
    ],
)
@pytest.mark.parametrize("kind", ["scenes", "patches"])
def test_a_scale_that_is_not_that_of_the_images(
    tmp_path: Path, kind: str, level: float, scale: Any, words: Sequence[str] | None
) -> None:
    pixels = _plain(level, (120, 120))
    pixels[:, :70] = 0
    for name in ("VV", "VH"):
        _image(tmp_path / f"{SCENE}_33UUP_1_1" / f"{SCENE}_33UUP_1_1_{name}.tif", pixels)
    function = find_scenes if kind == "scenes" else open_patch_tree
    if words is None:
        assert function(str(tmp_path), scale)
        return
    with pytest.raises(InputError) as caught:
        function(str(tmp_path), scale)
    for word in words:
        assert word in str(caught.value)


def test_the_recipe_has_the_scale() -> None:
    recipe = load_recipe("reben")
    assert recipe.sentinel1.scale == "db"
    assert type(recipe.sentinel1).model_validate({"required": True, "max_days": 6, "scale": "linear"}).scale == "linear"


# Published patches

TILE: Any = SimpleNamespace(name="S2A_MSIL2A_20180725T100031_N0500_R122_T33UVP", mgrs="33UVP")
GRID = PatchGrid(EPSG, ULX, ULY, ShapeYX(1200, 6 * 1200))
S1 = "S1A_IW_GRDH_1SDV_20180724T165131_33UVP"
PATCHES: dict[int, tuple[float | None, float | None, float | None]] = {
    0: (None, None, None),
    1: (NAN, None, None),
    2: (0.0, None, 0.0),
    3: (0.0, 0.0, None),
    4: (0.0, None, None),
    5: (-INF, -INF, None),
}
"""By column: VV and VH of one pixel, where they are not plain backscatter, and the NODATA tag of VV."""

WITH_GAPS = {1, 2, 3, 5}


def _tree(folder: Path) -> Path:
    for x, (vv, vh, tag) in PATCHES.items():
        for name, value, level, nodata in (("VV", vv, -10, tag), ("VH", vh, -17, None)):
            pixels = np.full((120, 120), level, np.float64 if x == 0 else np.float32)
            pixels[5, 7] = level if value is None else value
            _image(folder / f"{S1}_{x}_0" / f"{S1}_{x}_0_{name}.tif", pixels, nodata=nodata)
    return folder


def _pair(folder: Path, *, published: bool) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    ids = [f"{TILE.name}_{x}_0" for x in PATCHES]
    if published:
        rows = {"patch_id": ids, "s1_name": [f"{S1}_{x}_0" for x in PATCHES], "s2v1_name": None}
        rows |= {"labels": [["Pastures"]] * 6, "split": "train", "country": "Austria"}
        rows |= {"contains_seasonal_snow": False, "contains_cloud_or_shadow": False}
        pd.DataFrame(rows).to_parquet(folder / "metadata.parquet")
        names = Published(metadata=(folder / "metadata.parquet",))
    else:
        lines = [f"{name},{S1}_{x}_0" for x, name in enumerate(ids)]
        (folder / "pairs.csv").write_text("\n".join(["patch_id,s1_name", *lines]))
        names = Published(pairs=folder / "pairs.csv")
    partners = open_partners(Sentinel1Inputs(patches=str(_tree(folder / "s1"))), names, 6)
    assert isinstance(partners, PublishedPartners)
    layout = CubeLayout("T1", GRID, {60: ("B01",)}, {}, ("VV", "VH"))
    create_store(folder / "store", {})
    return pair_tile(TILE, folder / "store", (layout,), partners), zarr.open_array(folder / "store/T1/s1/db")[:]


def test_a_published_partner_with_a_gap_is_none(tmp_path: Path) -> None:
    found, db = _pair(tmp_path, published=False)
    assert set(np.flatnonzero(found["s1_name"].isna())) == WITH_GAPS
    assert not found["s1_gaps"].any()
    for x in PATCHES:
        patch = db[:, :, x * 120 : (x + 1) * 120]
        if x in WITH_GAPS:
            assert np.isnan(patch).all()
        else:
            assert not lacks_backscatter(patch).any()
            assert (patch[0, 0, 0], patch[1, 0, 0]) == (-10, -17)


def test_a_reproduction_keeps_it_and_counts_it(tmp_path: Path) -> None:
    found, db = _pair(tmp_path, published=True)
    assert found["s1_name"].notna().all()
    assert set(np.flatnonzero(found["s1_gaps"])) == WITH_GAPS
    assert [db[0, 5, x * 120 + 7] for x in (0, 2, 3, 4)] == [-10, 0, 0, 0]
    assert np.isnan(db[0, 5, 127])
    assert db[1, 5, 5 * 120 + 7] == -INF
