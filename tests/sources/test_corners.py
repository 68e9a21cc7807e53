"""Where a published image lies: as rasterio says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine, from_origin

from reben_dask.errors import InputError
from reben_dask.sources.published import corners
from reben_dask.sources.published.corners import Corner, read_corner

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def _write(path: Path, options: dict[str, Any]) -> Path:
    kind = {"driver": "GTiff", "height": 20, "width": 20, "count": 1, "dtype": "uint16"}
    with rasterio.open(path, "w", **kind, **options) as file:
        file.write(np.zeros((20, 20), np.uint16), 1)
    return path


def test_published_files_are_placed_as_rasterio_does_and_without_it(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(corners, "_corner_from_gdal")
    files = [path for tree in ("bigearthnet", "bigearthnet-v1") for path in (data_dir / tree).rglob("*.tif")]
    assert len(files) == 99
    for path in files:
        with rasterio.open(path) as file:
            expected = (file.crs.to_epsg(), file.transform.c, file.transform.f, file.transform.a)
        assert read_corner(path) == expected


@pytest.mark.parametrize("crs", [32633, 32733, 3035, 4326])
@pytest.mark.parametrize("kind", [{}, {"BIGTIFF": "YES"}, {"ENDIANNESS": "BIG"}], ids=str)
def test_corners(tmp_path: Path, crs: int, kind: dict[str, Any]) -> None:
    place = {"crs": crs, "transform": from_origin(300_000.5, 5_000_020, 60, 60)}
    path = _write(tmp_path / "a.tif", {**place, **kind})
    assert read_corner(path) == Corner(crs, 300_000.5, 5_000_020, 60)


@pytest.mark.parametrize(
    "place",
    [
        {},
        {"crs": 32633},
        {"crs": 32633, "transform": Affine(10, 1, 0, 1, -10, 0)},
        {"crs": 32633, "transform": Affine(10, 0, 0, 0, -20, 0)},
        {"crs": 32633, "transform": Affine(10, 0, 0, 0, 10, 0)},
        {"transform": from_origin(0, 0, 10, 10)},
    ],
    ids=str,
)
def test_what_has_no_corner(tmp_path: Path, place: dict[str, Any]) -> None:
    path = _write(tmp_path / "a.tif", place)
    with pytest.raises(InputError, match=rf"{os.fspath(path)} cannot be placed: .+\."):
        read_corner(path)


def test_a_file_that_is_damaged_or_missing(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    with pytest.raises(InputError, match=r"a\.tif cannot be placed"):
        read_corner(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"b\.tif cannot be read"):
        read_corner(tmp_path / "b.tif")
