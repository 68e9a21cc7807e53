"""Images with their places: what rasterio says of a file, whether it is read with GDAL or without."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine, from_origin

from reben_dask.errors import InputError
from reben_dask.sources.published import image as room
from reben_dask.sources.published.image import decode_image

PLAIN: dict[str, dict[str, Any]] = {
    "Sentinel-2": {"nodata": 0},
    "Sentinel-1": {"dtype": "float32"},
    "reference map": {"nodata": 0, "compress": "deflate", "predictor": 2},
    "southern zone": {"crs": "EPSG:32733", "nodata": 0},
    "another value": {"nodata": 65535},
}
OTHER: dict[str, dict[str, Any]] = {
    "no system": {"crs": None, "nodata": 0},
    "degrees": {"crs": "EPSG:4326"},
    "rotated": {"transform": Affine.translation(300_000, 5_400_000) * Affine.rotation(10) * Affine.scale(10, -10)},
    "oblong pixels": {"transform": from_origin(300_000, 5_400_000, 10, 20)},
    "two bands": {"count": 2, "nodata": 0},
    "another compression": {"compress": "lzw", "nodata": 0},
}


def _write(path: Path, **options: Any) -> Path:
    dtype = options.get("dtype", "uint16")
    pixels = (np.arange(1, 121 * 60 + 1).reshape(121, 60) % 5_000).astype(dtype)
    usual = {"crs": "EPSG:32633", "transform": from_origin(300_000, 5_400_000, 20, 20), "count": 1, "dtype": dtype}
    with rasterio.open(path, "w", driver="GTiff", height=121, width=60, **{**usual, **options}) as file:
        file.write(pixels, 1)
    return path


@pytest.mark.parametrize("name", [*PLAIN, *OTHER])
def test_as_rasterio_says(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "image.tif", **{**PLAIN, **OTHER}[name])
    if name in PLAIN:
        monkeypatch.delattr(room, "MemoryFile")
    image = decode_image(path.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            np.testing.assert_array_equal(image.pixels, file.read(1))
            assert image.pixels.dtype == file.dtypes[0]
            assert (image.count, image.nodata) == (file.count, file.nodata)
            assert image.epsg == (file.crs and file.crs.to_epsg())
            assert image.transform == tuple(file.transform)[:6]
            if name != "rotated":
                assert image.bounds == tuple(file.bounds)


def test_published_files(data_dir: Path) -> None:
    paths = [
        path
        for tree in ("BigEarthNet-S2", "BigEarthNet-S1")
        for path in (data_dir / "bigearthnet" / tree).rglob("*.tif")
    ]
    assert len(paths) >= 14
    for path in paths:
        image = decode_image(path.read_bytes())
        with rasterio.open(path) as file:
            assert (image.nodata, image.epsg) == (file.nodata, file.crs.to_epsg())
            assert image.bounds == tuple(file.bounds)


@pytest.mark.parametrize("content", [b"", b"II*\0", b"GIF89a", b"<VRTDataset/>"], ids=repr)
def test_what_is_no_image(content: bytes) -> None:
    with pytest.raises(InputError, match=r"is empty|cannot be decoded"):
        decode_image(content)


@pytest.mark.parametrize("name", ["Sentinel-2", "reference map", "another compression"])
def test_damaged_pixels(tmp_path: Path, name: str) -> None:
    content = _write(tmp_path / "image.tif", **{**PLAIN, **OTHER}[name]).read_bytes()
    with pytest.raises(InputError, match="cannot be decoded"):
        decode_image(content[: len(content) // 2])


def test_a_huge_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    options = {
        "count": 1,
        "dtype": "uint16",
        "crs": "EPSG:32633",
        "transform": from_origin(0, 0, 10, 10),
        "SPARSE_OK": True,
    }
    with rasterio.open(path, "w", driver="GTiff", height=40_000, width=40_000, **options):
        pass
    with pytest.raises(InputError, match="40,000 x 40,000 pixels"):
        decode_image(path.read_bytes())
