"""Small trees of invented patches, laid out as the published ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin

from reben_dask.formats.bands import ImageKind
from reben_dask.sources.published.trees import IMAGES

S2, S1, MAPS = ImageKind.S2, ImageKind.S1, ImageKind.MAP

TILE = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
ULX, ULY, EPSG = 300_000, 5_400_000, 32633
PATCH_M = 1200
TREES = {"s2": S2, "s1": S1, "maps": MAPS}
_OPTIONS: dict[ImageKind, dict[str, Any]] = {
    S2: {"nodata": 0},
    S1: {},
    MAPS: {"nodata": 0, "compress": "deflate", "predictor": 2},
}


def pixels_of(kind: ImageKind, name: str, band: str) -> np.ndarray:
    """Contents of a file, derived from its name."""
    side = IMAGES[kind][band].side_px()
    random = np.random.default_rng([*f"{name}_{band}".encode()])
    smooth = np.add.outer(np.arange(side), np.arange(side)) + random.integers(1, 500)
    return (smooth + random.integers(0, 3, (side, side))).astype(IMAGES[kind][band].dtype)


def write_patch(
    parent: Path, kind: ImageKind, name: str, *, origin: tuple[int, int] = (ULX, ULY), epsg: int = EPSG
) -> Path:
    """Write the folder of a patch, which lies where its name says in the tile that begins at ``origin``."""
    images = {band: pixels_of(kind, name, band) for band in IMAGES[kind]}
    return write_images(parent, kind, name, images, origin=origin, epsg=epsg)


def write_images(
    parent: Path, kind: ImageKind, name: str, images: Mapping[str, np.ndarray], *, origin: tuple[int, int], epsg: int
) -> Path:
    """Write the folder of a patch with given pixels by band."""
    folder = parent / name
    folder.mkdir(parents=True)
    x, y = map(int, name.rsplit("_", 2)[1:])
    for band, pixels in images.items():
        resolution = IMAGES[kind][band].resolution_m
        place = from_origin(origin[0] + x * PATCH_M, origin[1] - y * PATCH_M, resolution, resolution)
        with rasterio.open(
            folder / f"{name}_{band}.tif",
            "w",
            driver="GTiff",
            height=pixels.shape[0],
            width=pixels.shape[1],
            count=1,
            dtype=pixels.dtype,
            crs=epsg,
            transform=place,
            **_OPTIONS[kind],
        ) as file:
            file.write(pixels, 1)
    return folder


def write_tree(root: Path, kind: ImageKind, cells: Iterable[tuple[int, int]], tile: str = TILE, **where: Any) -> Path:
    """Write patches of one tile."""
    for x, y in cells:
        write_patch(root / tile, kind, f"{tile}_{x:02d}_{y:02d}", **where)
    return root
