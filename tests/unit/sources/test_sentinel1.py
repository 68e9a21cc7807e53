"""Sentinel-1: published patches as rasterio reads them, and scenes on a grid as pyproj and scipy bring them there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
import zarr
from numpy.typing import NDArray
from rasterio.transform import Affine, from_origin
from scipy.ndimage import map_coordinates

from reben_dask.errors import InputError
from reben_dask.formats import cube as cube_layout
from reben_dask.formats.cube import CubeLayout
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.job.published import Published
from reben_dask.job.sentinel1 import ScenePartners, Sentinel1Inputs, open_partners, pair_tile
from reben_dask.sources.sentinel1 import S1Scene, find_scenes, open_patch_tree, warp_scene
from reben_dask.stores.cubes import create_cube, create_store

NAME = "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_70_48"
SCENE = "S1A_IW_GRDH_1SDV_20170613T165043_20170613T165108_017019_01C5B3_B7F5"
EPSG, ULX, ULY = 32633, 600_000, 5_400_000
"""Corner of the target: near the border of zone 33, where the axes of zone 34 are turned by some degrees."""

SHAPE = (360, 240)


def _refused(function: Callable[[], object], *words: str) -> None:
    with pytest.raises(InputError) as caught:
        function()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    for word in words:
        assert word in message


def _pixels(path: Path) -> NDArray[np.float32]:
    with rasterio.open(path) as image:
        pixels: NDArray[np.float32] = image.read(1)
        return pixels


# Published patches


@pytest.mark.parametrize("inner", ["", "BigEarthNet-S1"])
def test_a_published_patch_is_found_in_the_folder_of_its_scene(data_dir: Path, inner: str) -> None:
    tree = open_patch_tree(str(data_dir / "bigearthnet" / inner))
    folder = data_dir / "bigearthnet" / "BigEarthNet-S1" / NAME.rsplit("_", 3)[0] / NAME
    assert tree.find(NAME) == folder
    db = tree.read(NAME, 120)
    assert db is not None
    assert (db.dtype, db.shape) == (np.float32, (2, 120, 120))
    for image, polarisation in zip(db, ("VV", "VH"), strict=True):
        np.testing.assert_array_equal(image, _pixels(folder / f"{NAME}_{polarisation}.tif"))


def test_patches_without_folders_of_scenes(data_dir: Path) -> None:
    root = data_dir / "bigearthnet-v1" / "BigEarthNet-S1-Example"
    tree = open_patch_tree(str(root))
    folders = [path for path in root.iterdir() if path.is_dir()]
    assert len(folders) == 6
    for folder in folders:
        db = tree.read(folder.name, 120)
        assert db is not None
        np.testing.assert_array_equal(db[0], _pixels(folder / f"{folder.name}_VV.tif"))
        np.testing.assert_array_equal(db[1], _pixels(folder / f"{folder.name}_VH.tif"))


@pytest.mark.parametrize("name", [NAME.replace("70_48", "70_49"), f"../BigEarthNet-S1/{NAME}", f"{NAME}/", "S1A", ""])
def test_a_patch_that_is_not_there_is_none(data_dir: Path, name: str) -> None:
    tree = open_patch_tree(str(data_dir / "bigearthnet"))
    assert tree.find(name) is None
    assert tree.read(name, 120) is None


def test_a_damaged_patch_is_refused(data_dir: Path, tmp_path: Path) -> None:
    source = data_dir / "bigearthnet" / "BigEarthNet-S1" / NAME.rsplit("_", 3)[0] / NAME
    shutil.copytree(source, tmp_path / NAME, copy_function=shutil.copyfile)
    tree = open_patch_tree(str(tmp_path))
    _refused(lambda: tree.read(NAME, 60), NAME, "60 x 60")
    image = tmp_path / NAME / f"{NAME}_VV.tif"
    image.write_bytes(image.read_bytes()[:20_000])
    _refused(lambda: tree.read(NAME, 120), str(image), "cannot be")
    image.unlink()
    _refused(lambda: tree.read(NAME, 120), str(image), "cannot be")


def test_a_folder_of_no_patches_is_refused(tmp_path: Path) -> None:
    _refused(lambda: open_patch_tree(str(tmp_path / "none")), str(tmp_path / "none"), "does not exist")
    _refused(lambda: open_patch_tree(str(tmp_path)), str(tmp_path), "is empty")


# Scenes


def _write(path: Path, pixels: NDArray[np.float32], transform: Affine, epsg: int | None, nodata: float | None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pixels.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": "float32", "nodata": nodata}
    with rasterio.open(path, "w", crs=epsg, transform=transform, **profile) as image:
        image.write(pixels, 1)
    return path


def _scene(folder: Path, images: dict[str, NDArray[np.float32]], transform: Affine, epsg: int) -> S1Scene:
    for polarisation, pixels in images.items():
        _write(folder / f"{SCENE}_{polarisation}.tif", pixels, transform, epsg, None)
    (scene,) = find_scenes(str(folder))
    return scene


def _noise(shape: tuple[int, int], seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(-12, 3, shape).astype(np.float32)


def _warped(scene: S1Scene) -> NDArray[np.float32]:
    return warp_scene(scene, EPSG, ULX, ULY, SHAPE)


def _grids() -> dict[str, tuple[int, Affine, tuple[int, int]]]:
    """Grids of pixels of 10 m or more that cover the target with a margin, in three systems."""
    corners = [(ULX + x, ULY - y) for x in (0, 10 * SHAPE[1]) for y in (0, 10 * SHAPE[0])]
    grids = {}
    for name, epsg, step in (("shifted", EPSG, 10.0), ("next zone", EPSG + 1, 10.0), ("degrees", 4326, 1.4e-4)):
        move = pyproj.Transformer.from_crs(EPSG, epsg, always_xy=True)
        x, y = (np.array(axis) for axis in zip(*(move.transform(*corner) for corner in corners), strict=True))
        west, north = x.min() - 20.3 * step, y.max() + 20.7 * step
        shape = int((north - y.min()) / step) + 20, int((x.max() - west) / step) + 20
        grids[name] = epsg, from_origin(west, north, step, step), shape
    return grids


def _places(epsg: int, transform: Affine) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Column and row in a scene, in pixels from its corner, of the centre of each pixel of the target."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    places = pyproj.Transformer.from_crs(EPSG, epsg, always_xy=True).transform(ULX + 10 * x, ULY - 10 * y)
    column, row = ~transform * places
    return column, row


@pytest.mark.parametrize("name", ["shifted", "next zone", "degrees"])
def test_a_plane_stays_a_plane(tmp_path: Path, name: str) -> None:
    """Bilinear interpolation of a linear field is exact: what is left is how exactly GDAL finds a place (1/8 pixel)."""
    epsg, transform, shape = _grids()[name]
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    images = {"VV": columns * 0.02 - rows * 0.01 - 20, "VH": columns * 0.01 + rows * 0.03 - 30}
    scene = _scene(tmp_path, {key: field.astype(np.float32) for key, field in images.items()}, transform, epsg)
    found = _warped(scene)
    column, row = _places(epsg, transform)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[1], column * 0.01 + row * 0.03 - 30, atol=0.04 / 8, rtol=0)
    np.testing.assert_allclose(found[0], column * 0.02 - row * 0.01 - 20, atol=0.03 / 8, rtol=0)


@pytest.mark.parametrize("name", ["shifted", "next zone", "degrees"])
def test_each_pixel_is_made_of_its_four_neighbours(tmp_path: Path, name: str) -> None:
    """Speckle of 3 dB, interpolated by scipy; GDAL may miss a place by 1/8 pixel, which is some hundredths of a dB."""
    epsg, transform, shape = _grids()[name]
    images = {"VV": _noise(shape, 1), "VH": _noise(shape, 2)}
    found = _warped(_scene(tmp_path, images, transform, epsg))
    column, row = _places(epsg, transform)
    for pixels, image in zip(found, (images["VV"], images["VH"]), strict=True):
        expected = map_coordinates(image.astype(float), [row - 0.5, column - 0.5], order=1)
        difference = np.abs(pixels - expected)
        assert difference.mean() < 0.05
        assert difference.max() < 1


@pytest.mark.parametrize("name", ["shifted", "next zone", "degrees"])
def test_the_pixels_do_not_depend_on_how_many_are_asked_for(tmp_path: Path, name: str) -> None:
    epsg, transform, shape = _grids()[name]
    scene = _scene(tmp_path, {key: _noise(shape, 3) for key in ("VV", "VH")}, transform, epsg)
    strips = [warp_scene(scene, EPSG, ULX, ULY - 10 * row, (120, SHAPE[1])) for row in range(0, SHAPE[0], 120)]
    np.testing.assert_allclose(np.concatenate(strips, axis=1), _warped(scene), atol=0.5, rtol=0)


@pytest.mark.parametrize("offset", [(0, 0), (50, 30)])
def test_on_the_same_pixels_nothing_changes(tmp_path: Path, offset: tuple[int, int]) -> None:
    down, right = offset
    shape = SHAPE[0] + 2 * down, SHAPE[1] + 2 * right
    images = {"VV": _noise(shape, 3), "VH": _noise(shape, 4)}
    scene = _scene(tmp_path, images, from_origin(ULX - 10 * right, ULY + 10 * down, 10, 10), EPSG)
    cut = np.s_[down : down + SHAPE[0], right : right + SHAPE[1]]
    np.testing.assert_array_equal(_warped(scene), np.stack([images["VV"][cut], images["VH"][cut]]))


@pytest.mark.parametrize("nodata", [None, float("nan"), -9999.0, 0.0])
def test_beyond_the_scene_is_nothing(tmp_path: Path, nodata: float | None) -> None:
    """NODATA inside the image, and columns that it does not have."""
    image = _noise((SHAPE[0], 200), 5)
    gap = np.nan if nodata is None else nodata
    image[100:150] = gap
    paths = [tmp_path / f"{SCENE}_{polarisation}.tif" for polarisation in ("VV", "VH")]
    for path in paths:
        _write(path, image, from_origin(ULX, ULY, 10, 10), EPSG, nodata)
    found = _warped(find_scenes(str(tmp_path))[0])
    expected = np.full((2, *SHAPE), np.nan, np.float32)
    expected[:, :, :200] = image
    expected[:, 100:150] = np.nan
    np.testing.assert_array_equal(found, expected)


def test_scenes_are_found_at_any_depth(tmp_path: Path) -> None:
    image, place = _noise((4, 4), 6), from_origin(ULX, ULY, 10, 10)
    other = "S1B_IW_GRDH_1SDV_20180101T235959"
    for path in (f"a/b/{SCENE}_VV.tif", f"a/{SCENE}_VH.tif", f"{other}_VH.tiff", f"c/{other}_VV.tif"):
        _write(tmp_path / path, image, place, EPSG, None)
    for path in ("notes.txt", "S1A_orbit.tif.xml", "S2A_MSIL2A_20170613T101031_VV.tif"):
        (tmp_path / path).write_text("")
    first, second = find_scenes(str(tmp_path))
    assert (first.name, first.short_name) == (SCENE, "S1A_IW_GRDH_1SDV_20170613T165043")
    assert first.time == datetime(2017, 6, 13, 16, 50, 43, tzinfo=UTC)
    assert first.images == {"VV": str(tmp_path / f"a/b/{SCENE}_VV.tif"), "VH": str(tmp_path / f"a/{SCENE}_VH.tif")}
    assert (second.name, second.short_name) == (other, other)
    assert second.time == datetime(2018, 1, 1, 23, 59, 59, tzinfo=UTC)
    longitude, latitude = pyproj.Transformer.from_crs(EPSG, 4326, always_xy=True).transform(ULX + 20, ULY - 20)
    assert first.intersects((longitude, latitude, longitude, latitude))
    assert not first.intersects((longitude + 0.1, latitude, longitude + 0.2, latitude))


def test_the_case_of_an_ending_does_not_matter(tmp_path: Path) -> None:
    for polarisation in ("VV", "VH"):
        _write(tmp_path / f"{SCENE}_{polarisation}.TIF", _noise((4, 4), 7), from_origin(ULX, ULY, 10, 10), EPSG, None)
    assert [scene.name for scene in find_scenes(str(tmp_path))] == [SCENE]


def test_what_is_no_scene(tmp_path: Path) -> None:
    _refused(lambda: find_scenes(str(tmp_path / "none")), str(tmp_path / "none"), "does not exist")
    _refused(lambda: find_scenes(str(tmp_path)), str(tmp_path), "No Sentinel-1 scene", "_VV.tif")
    place = from_origin(ULX, ULY, 10, 10)
    image = _write(tmp_path / f"{SCENE}_VH.tif", _noise((40, 40), 8), place, None, None)
    _refused(lambda: find_scenes(str(tmp_path)), SCENE, "no image of VV")
    first = Path(shutil.copyfile(image, tmp_path / f"{SCENE}_VV.tif"))
    _refused(lambda: find_scenes(str(tmp_path)), str(first), "no coordinate reference system")
    first.write_bytes(b"no image")
    _refused(lambda: find_scenes(str(tmp_path)), SCENE, "cannot be opened")


def test_a_damaged_image_is_refused(tmp_path: Path) -> None:
    images = {name: _noise(SHAPE, 9) for name in ("VV", "VH")}
    scene = _scene(tmp_path, images, from_origin(ULX, ULY, 10, 10), EPSG)
    path = Path(scene.images["VV"])
    path.write_bytes(path.read_bytes()[:50_000])
    _refused(lambda: _warped(scene), str(path), "cannot be read")


# Choosing scenes

GRID = PatchGrid(32633, 500_000, 5_400_000, ShapeYX(3 * 1200, 4 * 1200 + 300))
SENSED = datetime(2018, 7, 25, 10, tzinfo=UTC)
TILE: Any = SimpleNamespace(name="S2A", mgrs="33UVP", sensing_time=SENSED)


def _timed_scene(
    folder: Path, days: float, columns: slice, seed: int, hole: tuple[int, int] | None = None
) -> tuple[str, Any]:
    """Write a scene on the pixels of the grid, which covers some columns of pixels; give its name and its pixels."""
    name = f"S1A_IW_GRDH_1SDV_{SENSED + timedelta(days=days):%Y%m%dT%H%M%S}"
    db = np.random.default_rng(seed).normal(-12, 3, (2, 360, 480)).astype(np.float32)
    if hole:
        db[0, hole[0], hole[1]] = np.nan
    folder.mkdir(exist_ok=True)
    place = from_origin(GRID.ulx + 10 * columns.start, GRID.uly, 10, 10)
    for image, polarisation in zip(db, ("VV", "VH"), strict=True):
        cut = image[:, columns]
        profile = {"driver": "GTiff", "dtype": "float32", "count": 1, "height": 360, "width": cut.shape[1]}
        with rasterio.open(folder / f"{name}_0_{polarisation}.tif", "w", crs=32633, transform=place, **profile) as file:
            file.write(cut, 1)
    return name, db


def _pair(folder: Path, store: Path, max_days: float) -> tuple[list[list[str | None]], Any]:
    """Names by row and column, and the array of the store."""
    layout = CubeLayout("T1", GRID, {60: ("B01",)}, {}, ("VV", "VH"))
    create_store(store, {})
    create_cube(store, layout)
    partners = ScenePartners(find_scenes(str(folder)), max_days).near(TILE, GRID)
    column = pair_tile(TILE, store, (layout,), partners)
    names = column["s1_name"].to_numpy(object).reshape(4, 3).T
    return [[None if pd.isna(name) else name for name in row] for row in names], zarr.open_array(store / "T1/s1/db")[:]


@pytest.mark.parametrize("shard", [1, 2, 13])
@pytest.mark.parametrize("max_days", [6, 2.5, 8])
def test_the_closest_scene_that_covers_all_of_a_patch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_days: float, shard: int
) -> None:
    monkeypatch.setattr(cube_layout, "SHARD_PATCHES", shard)
    scenes = {
        "near": _timed_scene(tmp_path / "s1", -0.5, slice(360, 480), 1),
        "half": _timed_scene(tmp_path / "s1", -2, slice(0, 300), 2),
        "whole": _timed_scene(tmp_path / "s1", 3, slice(0, 480), 3, hole=(200, 260)),
        "late": _timed_scene(tmp_path / "s1", 7, slice(0, 480), 4),
    }
    rows = {
        6: ["half half whole near", "half half - near", "half half whole near"],
        2.5: ["half half - near"] * 3,
        8: ["half half whole near", "half half late near", "half half whole near"],
    }
    names, db = _pair(tmp_path / "s1", tmp_path / "store", max_days)
    for y, row in enumerate(rows[max_days]):
        for x, chosen in enumerate(row.split()):
            found = db[:, y * 120 : (y + 1) * 120, x * 120 : (x + 1) * 120]
            if chosen == "-":
                assert names[y][x] is None
                assert np.isnan(found).all()
            else:
                name, pixels = scenes[chosen]
                assert names[y][x] == f"{name}_33UVP_{x}_{y}"
                np.testing.assert_array_equal(found, pixels[:, y * 120 : (y + 1) * 120, x * 120 : (x + 1) * 120])


def test_days_are_counted_both_ways_and_the_last_is_included(tmp_path: Path) -> None:
    for days, expected in ((6, True), (-6, True), (6.001, False), (-6.001, False)):
        name, _ = _timed_scene(tmp_path / str(days), days, slice(0, 480), 1)
        names, _ = _pair(tmp_path / str(days), tmp_path / f"store{days}", 6)
        assert names[2][3] == (f"{name}_33UVP_3_2" if expected else None)


def _open(**given: object) -> Callable[[], object]:
    published = given.pop("published", Published())
    return lambda: open_partners(Sentinel1Inputs(**given), published, 6)


def test_contradictions_are_refused(tmp_path: Path) -> None:
    cases = {
        "not both": _open(patches="a", scenes="b"),
        "add --published or --s1-pairs": _open(patches=str(tmp_path)),
        "does not exist": _open(scenes=str(tmp_path / "none")),
        "is empty": _open(patches=str(tmp_path), published=Published(pairs=tmp_path / "pairs.csv")),
    }
    for words, function in cases.items():
        with pytest.raises(InputError, match=words) as caught:
            function()
        assert "\n" not in str(caught.value)
    assert _open()() is None
