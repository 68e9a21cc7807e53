"""Terrain-corrected Sentinel-1 scenes (GeoTIFF or COG, dB), brought onto the pixels of a tile."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds

from reben_dask.errors import InputError, missing
from reben_dask.formats.bands import POLARISATIONS

_IMAGE = re.compile(
    r"(?P<scene>S1[A-D]_(?:IW|EW|SM)_GRD[HM]_1S[DS][VH]_(?P<time>\d{8}T\d{6}).*)_(?P<polarisation>VV|VH)\.tiff?",
    re.IGNORECASE,
)
PIXEL_M = 10


@dataclass(frozen=True)
class RadarScene:
    """A scene: one image for each polarisation.

    Parameters
    ----------
    name : str
        What its files are called before the polarisation; begins as ``S1A_IW_GRDH_1SDV_20170613T165043``.
    time : datetime
        Start of sensing, in UTC, from the name.
    images : dict of str to str
        Path of the image of each polarisation.
    bounds : tuple of float
        ``(west, south, east, north)`` in degrees.
    """

    name: str
    time: datetime
    images: dict[str, str]
    bounds: tuple[float, float, float, float]

    @property
    def short_name(self) -> str:
        """First five parts of the name, with which the names of published patches begin."""
        return "_".join(self.name.split("_")[:5])

    def meets(self, bounds: tuple[float, float, float, float]) -> bool:
        """Whether the scene may cover something of an area given in degrees."""
        return bool(shapely.box(*self.bounds).intersects(shapely.box(*bounds)))


def find_scenes(path: str) -> tuple[RadarScene, ...]:
    """Find the scenes in a folder, at any depth; headers are read, no pixels.

    Raises
    ------
    InputError
        If there is none, or one lacks a polarisation or cannot be opened.
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


def warp_scene(
    scene: RadarScene, epsg: int, ulx: float, uly: float, shape_yx: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Bring a scene onto pixels of 10 m, bilinearly.

    Parameters
    ----------
    scene : RadarScene
        The scene.
    epsg : int
        System of the pixels.
    ulx, uly : float
        Upper-left corner in metres.
    shape_yx : tuple of int
        Rows and columns.

    Returns
    -------
    ndarray of float32, shape (polarisation, y, x)
        dB, ``VH`` then ``VV``; NaN where the scene has none.

    Raises
    ------
    InputError
        If an image is damaged.
    """
    return np.stack([_warp(scene.images[name], epsg, (ulx, uly), shape_yx) for name in POLARISATIONS])


def _scene(name: str, time: datetime, images: dict[str, str]) -> RadarScene:
    missing = [polarisation for polarisation in POLARISATIONS if polarisation not in images]
    if missing:
        raise InputError(f"The Sentinel-1 scene {name} has no image of {', '.join(missing)}.")
    try:
        with rasterio.open(images[POLARISATIONS[0]]) as dataset:
            if dataset.crs is None:
                raise InputError(f"The Sentinel-1 image {dataset.name} has no coordinate reference system.")
            return RadarScene(name, time, images, transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds))
    except RasterioError as error:
        cause = str(error)
    raise InputError(f"The Sentinel-1 scene {name} cannot be opened ({cause}).")


def _warp(path: str, epsg: int, corner: tuple[float, float], shape_yx: tuple[int, int]) -> npt.NDArray[np.float32]:
    height, width = shape_yx
    target = {
        "crs": f"EPSG:{epsg}",
        "transform": from_origin(*corner, PIXEL_M, PIXEL_M),
        "height": height,
        "width": width,
        "resampling": Resampling.bilinear,
        "nodata": np.nan,
        "dtype": "float32",
        # Left to itself, GDAL derives the width of its kernel from the sizes of source and window: pixels would then
        # depend on how many are asked for, and would be smoothed.
        "XSCALE": "1",
        "YSCALE": "1",
    }
    try:
        with rasterio.open(path) as dataset, WarpedVRT(dataset, src_nodata=_nodata(dataset), **target) as warped:
            db: npt.NDArray[np.float32] = warped.read(1)
            return db
    except RasterioError as error:
        cause = str(error)
    raise InputError(f"The Sentinel-1 image {path} cannot be read ({cause}).")


def _nodata(dataset: rasterio.DatasetReader) -> float:
    """What the file calls NODATA; scenes without the tag have NaN, or nothing, beyond their border."""
    return float("nan") if dataset.nodata is None else float(dataset.nodata)
