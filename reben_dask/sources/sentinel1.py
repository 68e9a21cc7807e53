"""Sentinel-1 in dB: published patches, and terrain-corrected scenes (GeoTIFF or COG) warped to the pixels of a tile."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds

from reben_dask.errors import InputError, missing
from reben_dask.formats.bands import POLARISATIONS, S1_RESOLUTION_M
from reben_dask.sources.gdal import use_image
from reben_dask.sources.published.tiff import read_tiff

PUBLISHED_FOLDER = "BigEarthNet-S1"

_IMAGE = re.compile(
    r"(?P<scene>S1[A-D]_(?:IW|EW|SM)_GRD[HM]_1S[DS][VH]_(?P<time>\d{8}T\d{6}).*)_(?P<polarisation>VV|VH)\.tiff?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class PatchTree:
    """Published patches, ``<scene>/<s1_name>/<s1_name>_VV.tif``, with or without the folder of the scene."""

    root: Path

    def find(self, s1_name: str) -> Path | None:
        """Folder of a patch, if it exists."""
        if not s1_name.startswith("S1") or Path(s1_name).name != s1_name:
            return None
        scene = s1_name.rsplit("_", 3)[0]
        places = (self.root / scene / s1_name, self.root / s1_name)
        return next((place for place in places if place.is_dir()), None)

    def read(self, s1_name: str, side_px: int) -> npt.NDArray[np.float32] | None:
        """Read the backscatter of a patch of ``side_px`` pixels.

        Returns
        -------
        ndarray of float32, shape (polarisation, y, x), or None
            dB, ``VH`` then ``VV``; ``None`` if the patch does not exist.

        Raises
        ------
        InputError
            If it is damaged, lacks a polarisation, or has another size.
        """
        folder = self.find(s1_name)
        if folder is None:
            return None
        files = [folder / f"{s1_name}_{polarisation}.tif" for polarisation in POLARISATIONS]
        db: npt.NDArray[np.float32] = np.stack([read_tiff(file).astype(np.float32) for file in files])
        if db.shape[1:] != (side_px, side_px):
            raise InputError(
                f"The Sentinel-1 patch {folder} has {db.shape[1:]} pixels instead of {side_px} x {side_px}."
            )
        return db


def open_patch_tree(path: str) -> PatchTree:
    """Open a folder of published patches; :class:`InputError` if it does not exist, or is empty."""
    root = Path(path).absolute()
    if not root.is_dir():
        raise InputError(missing("The Sentinel-1 folder", path))
    inner = root / PUBLISHED_FOLDER
    tree = PatchTree(inner if inner.is_dir() else root)
    if not any(tree.root.iterdir()):
        raise InputError(f"The Sentinel-1 folder {tree.root} is empty.")
    return tree


@dataclass(frozen=True)
class S1Scene:
    """Scene with one image for each polarisation."""

    name: str
    """File name before the polarisation, such as ``S1A_IW_GRDH_1SDV_20170613T165043…``."""

    time: datetime
    """Start of sensing, in UTC, from the name."""

    images: dict[str, str]

    bounds: tuple[float, float, float, float]
    """``(west, south, east, north)`` in degrees."""

    @property
    def short_name(self) -> str:
        """First five parts of the name, the start of published patch names."""
        return "_".join(self.name.split("_")[:5])

    def intersects(self, bounds: tuple[float, float, float, float]) -> bool:
        """Test if the scene intersects bounds in degrees."""
        return bool(shapely.box(*self.bounds).intersects(shapely.box(*bounds)))


def find_scenes(path: str) -> tuple[S1Scene, ...]:
    """Find the scenes in a folder, at any depth; only headers are read.

    :class:`InputError` if there is none, or one lacks a polarisation or cannot be opened.
    """
    root = Path(path).absolute()
    if not root.is_dir():
        raise InputError(missing("The folder of Sentinel-1 scenes", path))
    images: dict[str, dict[str, str]] = defaultdict(dict)
    times: dict[str, datetime] = {}
    for file in sorted(root.rglob("*")):
        if match := _IMAGE.fullmatch(file.name):
            images[match["scene"]][match["polarisation"].upper()] = str(file)
            times[match["scene"]] = datetime.strptime(match["time"], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    if not images:
        raise InputError(
            f"No Sentinel-1 scene found in {path}; expected files such as S1A_IW_GRDH_1SDV_20170613T165043_…_VV.tif."
        )
    return tuple(_scene(name, times[name], images[name]) for name in sorted(images))


def warp_scene(scene: S1Scene, epsg: int, ulx: float, uly: float, shape_yx: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Warp a scene to pixels of 10 m, bilinearly; :class:`InputError` if an image is damaged.

    Parameters
    ----------
    ulx, uly : float
        Upper-left corner in metres of the system ``epsg``.
    shape_yx : tuple of int
        Rows and columns.

    Returns
    -------
    ndarray of float32, shape (polarisation, y, x)
        dB, ``VH`` then ``VV``; NaN where the scene has no data.
    """
    target = {
        "crs": f"EPSG:{epsg}",
        "transform": from_origin(ulx, uly, S1_RESOLUTION_M, S1_RESOLUTION_M),
        "height": shape_yx[0],
        "width": shape_yx[1],
        "resampling": Resampling.bilinear,
        "nodata": np.nan,
        "dtype": "float32",
        # By default GDAL derives the width of its kernel from the sizes of source and window: pixels would then depend
        # on the size of the window, and would be smoothed.
        "XSCALE": "1",
        "YSCALE": "1",
    }
    return np.stack([_warp(scene.images[polarisation], target) for polarisation in POLARISATIONS])


def _scene(name: str, time: datetime, images: dict[str, str]) -> S1Scene:
    lacking = [polarisation for polarisation in POLARISATIONS if polarisation not in images]
    if lacking:
        raise InputError(f"The Sentinel-1 scene {name} has no image of {', '.join(lacking)}.")

    def bounds(dataset: Any) -> tuple[float, float, float, float]:
        if dataset.crs is None:
            raise InputError(f"The Sentinel-1 image {dataset.name} has no coordinate reference system.")
        west, south, east, north = transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds)
        return (west, south, east, north)

    # Scenes may have their place or NODATA in side files, which GDAL_OPTIONS would leave out.
    found = use_image(
        images[POLARISATIONS[0]],
        bounds,
        lambda cause: f"The Sentinel-1 scene {name} cannot be opened ({cause}).",
        options={},
    )
    return S1Scene(name, time, images, found)


def _warp(path: str, target: dict[str, Any]) -> npt.NDArray[np.float32]:
    def read(dataset: Any) -> npt.NDArray[np.float32]:
        # Scenes without the tag have NaN, or nothing, beyond their border.
        nodata = float("nan") if dataset.nodata is None else float(dataset.nodata)
        with WarpedVRT(dataset, src_nodata=nodata, **target) as warped:
            db: npt.NDArray[np.float32] = warped.read(1)
            return db

    return use_image(path, read, lambda cause: f"The Sentinel-1 image {path} cannot be read ({cause}).", options={})
