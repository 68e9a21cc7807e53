"""Sentinel-1 images by the names that processors and archives give them, or by a table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from reben_dask.errors import InputError
from reben_dask.sources.sentinel1 import find_scenes

SNAP = "S1A_IW_GRDH_1SDV_20180724T165131_20180724T165156_022940_027D55_ABCD_Orb_Cal_TC"
GRDH, RTC = "S1A_IW_GRDH_1SDV_20180724T165131", "S1A_IW_RTC_1SDV_20180724T165131"
OPERA = "OPERA_L2_RTC-S1_T124-264302-IW1_20180724T165131Z_20180725T093000Z_S1A_30_v1.0"

NAMES = {
    "SNAP": (f"{SNAP}_dB_{{}}.tif", f"{SNAP}_dB", GRDH),
    "SNAP, polarisation in the middle": (f"{SNAP}_Sigma0_{{}}_db.tif", f"{SNAP}_Sigma0_db", GRDH),
    "SNAP, BEAM-DIMAP": (f"{SNAP}.data/Sigma0_{{}}_db.img", SNAP, GRDH),
    "HyP3": (
        "S1A_IW_20180724T165131_DVP_RTC20_G_gdunem_ABCD/S1A_IW_20180724T165131_DVP_RTC20_G_gdunem_ABCD_{}.tif",
        "S1A_IW_20180724T165131_DVP_RTC20_G_gdunem_ABCD",
        RTC,
    ),
    "pyroSAR": ("S1A__IW___A_20180724T165131_{}_gamma0-rtc_db.tif", "S1A__IW___A_20180724T165131_gamma0-rtc_db", RTC),
    "ESA COG": (
        f"{SNAP}.SAFE/measurement/s1a-iw-grd-{{}}-20180724t165131-20180724t165156-022940-027d55-001-cog.tiff",
        "s1a-iw-grd-20180724t165131-20180724t165156-022940-027d55-001-cog",
        RTC,
    ),
    "OPERA": (f"{OPERA}_{{}}.tif", OPERA, RTC),
    "Planetary Computer": (f"{SNAP}_rtc/measurement/iw-{{}}.rtc.tiff", f"{SNAP}_rtc", GRDH),
    "lower case": (f"{SNAP.lower()}_{{}}.TIF", SNAP.lower(), GRDH),
}
TIME = datetime(2018, 7, 24, 16, 51, 31, tzinfo=UTC)


def _image(path: Path, epsg: int | None = 32633, shift_m: float = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    driver = "ENVI" if path.suffix == ".img" else "GTiff"
    profile = {"driver": driver, "height": 4, "width": 4, "count": 1, "dtype": "float32"}
    place = from_origin(600_000 + shift_m, 5_400_000, 10, 10)
    with rasterio.open(path, "w", crs=epsg, transform=place, **profile) as image:
        image.write(np.full((4, 4), -12, np.float32), 1)


@pytest.mark.parametrize("kind", NAMES)
def test_names_of_processors_and_archives(tmp_path: Path, kind: str) -> None:
    pattern, name, short_name = NAMES[kind]
    is_lower = "grd-" in pattern or "iw-" in pattern
    images = {each: tmp_path / pattern.format(each.lower() if is_lower else each) for each in ("VV", "VH")}
    for path in images.values():
        _image(path)
    # What comes with them is none.
    folder = images["VV"].parent
    for other in ("ls_map.tif", "rgb.tif", "dem.tif", "mask.tif"):
        (folder / f"S1A_IW_20180724T165131_{other}").write_bytes(b"")
    (folder / f"{images['VV'].name}.aux.xml").write_bytes(b"")
    (scene,) = find_scenes(str(tmp_path))
    assert (scene.name, scene.short_name, scene.time) == (name, short_name, TIME)
    assert scene.images == {each: str(path) for each, path in images.items()}


def test_the_folder_of_a_scene_itself(tmp_path: Path) -> None:
    for name in ("vv", "vh"):
        _image(tmp_path / f"{SNAP}_rtc" / f"{name}.tif")
    (scene,) = find_scenes(str(tmp_path / f"{SNAP}_rtc"))
    assert (scene.name, scene.time) == (f"{SNAP}_rtc", TIME)


def _refused(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        find_scenes(str(path))
    for word in words:
        assert word in str(caught.value)


def test_one_scene_given_twice(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        for name in ("VV", "VH"):
            _image(tmp_path / folder / f"{SNAP}_{name}.tif")
    _refused(tmp_path, SNAP, "two images of VH", f"{tmp_path}/a", f"{tmp_path}/b")


def test_one_scene_in_two_processings(tmp_path: Path) -> None:
    for step in ("Sigma0", "Gamma0"):
        for name in ("VV", "VH"):
            _image(tmp_path / f"{SNAP}_{step}_{name}.tif")
    _refused(tmp_path, "Gamma0", "Sigma0", "same location and time", "leave one out")


def test_bursts_of_one_second_at_different_places_are_different_scenes(tmp_path: Path) -> None:
    for number, burst in enumerate(("IW1", "IW2")):
        for name in ("VV", "VH"):
            _image(tmp_path / f"{OPERA.replace('IW1', burst)}_{name}.tif", shift_m=number * 1_000)
    assert len(find_scenes(str(tmp_path))) == 2


def test_a_product_that_is_not_terrain_corrected(tmp_path: Path) -> None:
    for name in ("vv", "vh"):
        _image(tmp_path / NAMES["ESA COG"][0].format(name), epsg=None)
    _refused(tmp_path, "no coordinate reference system", "terrain-corrected")


HEADER = "file,polarisation,satellite,time,note"


def _table(folder: Path, lines: Sequence[str], header: str = HEADER) -> Path:
    for name in ("a.tif", "b.tif"):
        _image(folder / "images" / name)
    (folder / "scenes.csv").write_text("\n".join([header, *lines, ""]), encoding="utf-8-sig")
    return folder / "scenes.csv"


def test_a_table_says_which_file_is_what(tmp_path: Path) -> None:
    lines = ["images/a.tif,VV,S1B,2018-07-24T16:51:31,", "images/b.tif,vh,S1B,2018-07-24T18:51:31+02:00,"]
    (scene,) = find_scenes(str(_table(tmp_path, lines)))
    assert (scene.short_name, scene.time) == ("S1B_IW_RTC_1SDV_20180724T165131", TIME)
    assert scene.images == {"VV": str(tmp_path / "images/a.tif"), "VH": str(tmp_path / "images/b.tif")}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("images/a.tif,HH,S1B,2018-07-24T16:51:31,", ("Line 2", "'HH'", "VV or VH")),
        ("images/a.tif,VV,S2B,2018-07-24T16:51:31,", ("Line 2", "'S2B'")),
        ("images/a.tif,VV,S1B,yesterday,", ("Line 2", "'yesterday'")),
        ("images/c.tif,VV,S1B,2018-07-24T16:51:31,", ("Line 2", "'images/c.tif'", "does not exist")),
        ("images/a.tif,VV,S1B,2018-07-24T16:51:31,", ("no image of VH",)),
        ("images/a.tif,VV", ("Line 2", "''")),
    ],
)
def test_what_is_no_table_of_images(tmp_path: Path, line: str, words: Sequence[str]) -> None:
    _refused(_table(tmp_path, [line]), *words)


def test_a_table_without_a_column(tmp_path: Path) -> None:
    _refused(_table(tmp_path, ["images/a.tif,VV"], "file,polarisation"), "has no column satellite, time")
    _refused(_table(tmp_path, []), "No Sentinel-1 scene")
