"""Sentinel-1 in dB: published patches, and terrain-corrected scenes (GeoTIFF or COG) warped to the pixels of a tile."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import shapely
from rasterio.crs import CRS
from rasterio.enums import MaskFlags, Resampling
from rasterio.transform import Affine, from_origin
from rasterio.warp import reproject, transform_bounds
from rasterio.windows import Window

from reben_dask.errors import InputError, missing
from reben_dask.formats.bands import POLARISATIONS, S1_RESOLUTION_M, BackscatterScale
from reben_dask.sources.gdal import use_image
from reben_dask.sources.published.tiff import read_with_nodata
from reben_dask.sources.sentinel1_names import SceneImages, find_images

PUBLISHED_FOLDER = "BigEarthNet-S1"

_MARGIN_PX = 8
"""Pixels that are read around the target: bilinear interpolation needs two, and GDAL places them to 1/8 pixel."""

_LEAST_WEIGHT = 1e-6
"""Weight from which a pixel contributes; smaller ones are rounding errors of coinciding positions."""

_SAMPLES, _SAMPLE_PX = 16, 256
"""Windows of an image, and their largest side, from which its scale is recognised."""

_SAMPLED_PATCHES = 8

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PatchTree:
    """Published patches, ``<scene>/<s1_name>/<s1_name>_VV.tif``, with or without the folder of the scene."""

    root: Path
    scale: BackscatterScale = "db"

    def find(self, s1_name: str) -> Path | None:
        """Folder of a patch, if it exists."""
        if not s1_name.startswith("S1") or Path(s1_name).name != s1_name:
            return None
        scene = s1_name.rsplit("_", 3)[0]
        places = (self.root / scene / s1_name, self.root / s1_name)
        return next((place for place in places if place.is_dir()), None)

    def read(self, s1_name: str, side_px: int) -> np.ma.MaskedArray[Any, Any] | None:
        """Read the backscatter of a patch of ``side_px`` pixels.

        Returns
        -------
        masked array of float32, shape (polarisation, y, x), or None
            dB, ``VV`` then ``VH``; masked where it is not valid backscatter: not finite, the file's NODATA, or exactly
            0 in both polarisations where a file has no NODATA tag. ``None`` if the patch does not exist.

        Raises
        ------
        InputError
            If it is damaged, lacks a polarisation, or has another size.
        """
        folder = self.find(s1_name)
        if folder is None:
            return None
        images = [read_with_nodata(folder / f"{s1_name}_{polarisation}.tif") for polarisation in POLARISATIONS]
        if other := [pixels.shape for pixels, _ in images if pixels.shape != (side_px, side_px)]:
            raise InputError(f"The Sentinel-1 patch {folder} has {other[0]} pixels instead of {side_px} x {side_px}.")
        values = np.stack([pixels.astype(np.float32) for pixels, _ in images])
        mask = _gaps(values, [tag is not None for _, tag in images], self.scale)
        mask |= np.stack([pixels == tag for pixels, tag in images])
        return np.ma.MaskedArray(_to_db(values) if self.scale == "linear" else values, mask)


def open_patch_tree(path: str, scale: BackscatterScale = "db") -> PatchTree:
    """Open a folder of published patches; :class:`InputError` if it does not exist, is empty, or has another scale."""
    root = Path(path).absolute()
    if not root.is_dir():
        raise InputError(missing("The Sentinel-1 folder", path))
    inner = root / PUBLISHED_FOLDER
    tree = PatchTree(inner if inner.is_dir() else root, scale)
    if not any(tree.root.iterdir()):
        raise InputError(f"The Sentinel-1 folder {tree.root} is empty.")
    for file in islice(tree.root.rglob(f"*_{POLARISATIONS[0]}.tif"), _SAMPLED_PATCHES):
        pixels, tag = read_with_nodata(file)
        _require_scale(str(file), pixels[pixels != tag], scale)
    return tree


@dataclass(frozen=True)
class S1Scene:
    """Scene with one image for each polarisation."""

    name: str
    """File name without the polarisation, such as ``S1A_IW_GRDH_1SDV_20170613T165043…``."""

    time: datetime
    """Start of sensing, in UTC, from the name."""

    images: dict[str, str]
    """Paths by polarisation."""

    bounds: tuple[float, float, float, float]
    """``(west, south, east, north)`` in degrees."""

    short_name: str
    """Start of patch names: satellite, mode, product and time."""

    def intersects(self, bounds: tuple[float, float, float, float]) -> bool:
        """Test if the scene intersects bounds in degrees."""
        return bool(shapely.box(*self.bounds).intersects(shapely.box(*bounds)))


def find_scenes(path: str, scale: BackscatterScale = "db") -> tuple[S1Scene, ...]:
    """Find the scenes of a folder or of a CSV table; headers are read, and a few pixels.

    :class:`InputError` if there is none, or one lacks a polarisation, cannot be opened, or is not in ``scale``.
    """
    scenes = tuple(_scene(found, scale) for found in find_images(path))
    places: dict[Any, S1Scene] = {}
    for scene in scenes:
        other = places.setdefault((scene.short_name, scene.bounds), scene)
        if other is not scene:
            raise InputError(
                f"The Sentinel-1 scenes {other.name} and {scene.name} are of the same location and time; leave one out."
            )
    return scenes


def warp_scene(
    scene: S1Scene, epsg: int, ulx: float, uly: float, shape_yx: tuple[int, int], scale: BackscatterScale = "db"
) -> FloatArray:
    """Warp a scene to pixels of 10 m, bilinearly (in power if it is linear).

    Parameters
    ----------
    ulx, uly : float
        Upper-left corner in metres of the system ``epsg``.
    shape_yx : tuple of int
        Rows and columns.
    scale : {"db", "linear"}
        Scale of the images.

    Returns
    -------
    ndarray of float32, shape (polarisation, y, x)
        dB, ``VV`` then ``VH``; NaN beyond the scene, and where a pixel is made of one without valid backscatter: not
        finite, NODATA, exactly 0 in both polarisations of images without a NODATA tag, or no power at all.

    Raises
    ------
    InputError
        If an image is damaged.
    """
    place = _Place(epsg, from_origin(ulx, uly, S1_RESOLUTION_M, S1_RESOLUTION_M), shape_yx)
    sources = [_read_source(scene.images[polarisation], place) for polarisation in POLARISATIONS]
    if all(source.grid == sources[0].grid for source in sources):
        values, tags = np.stack([source.values for source in sources]), [source.has_tag for source in sources]
        gaps = [*_gaps(values, tags, scale)]
    else:
        # Of images on different pixels, each is judged alone.
        gaps = [_gaps(source.values[None], [source.has_tag], scale)[0] for source in sources]
    return np.stack([_warp(source, gap | source.mask, place, scale) for source, gap in zip(sources, gaps, strict=True)])


class _Place(NamedTuple):
    """Pixels of a target."""

    epsg: int
    transform: Affine
    shape_yx: tuple[int, int]


@dataclass(frozen=True)
class _Source:
    """Part of an image around a target."""

    values: FloatArray
    mask: npt.NDArray[np.bool_]
    """NODATA by the file."""
    has_tag: bool
    crs: CRS
    transform: Affine

    @property
    def grid(self) -> tuple[Any, ...]:
        return (self.values.shape, self.transform, self.crs)


def _scene(found: SceneImages, scale: BackscatterScale) -> S1Scene:
    lacking = [polarisation for polarisation in POLARISATIONS if polarisation not in found.images]
    if lacking:
        raise InputError(f"The Sentinel-1 scene {found.name} has no image of {', '.join(lacking)}.")

    def look(dataset: Any) -> tuple[tuple[float, float, float, float], npt.NDArray[Any]]:
        if dataset.crs is None:
            raise InputError(
                f"The Sentinel-1 image {dataset.name} has no coordinate reference system; scenes must be "
                "terrain-corrected."
            )
        west, south, east, north = transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds)
        return (west, south, east, north), _sample(dataset)

    bounds = []
    for polarisation in POLARISATIONS:
        path = found.images[polarisation]
        # Scenes may have their position or NODATA in side files, which GDAL_OPTIONS would ignore.
        place, sample = use_image(
            path, look, lambda cause: f"The Sentinel-1 scene {found.name} cannot be opened ({cause}).", options={}
        )
        _require_scale(path, sample, scale)
        bounds.append(place)
    return S1Scene(found.name, found.time, found.images, bounds[0], found.short_name)


def _sample(dataset: Any) -> npt.NDArray[Any]:
    """Read the valid values of a few windows, spread over an image."""
    windows = [window for _, window in dataset.block_windows(1)]
    chosen = [windows[round(place)] for place in np.linspace(0, len(windows) - 1, min(_SAMPLES, len(windows)))]
    values = []
    for window in chosen:
        middle = max(0, window.width - _SAMPLE_PX) // 2
        part = Window(
            window.col_off + middle, window.row_off, min(window.width, _SAMPLE_PX), min(window.height, _SAMPLE_PX)
        )
        values.append(dataset.read(1, window=part)[dataset.read_masks(1, window=part) > 0])
    return np.concatenate(values)


def _require_scale(path: str, sample: npt.NDArray[Any], scale: BackscatterScale) -> None:
    """Refuse an image whose values are not in the scale of the recipe; :class:`InputError`."""
    valid = sample[np.isfinite(sample) & (sample != 0)]
    if not valid.size:
        return
    median = float(np.median(valid))
    if scale == "db" and 0 <= median <= 1:
        looks, other = "linear power", "linear"
    elif scale == "linear" and median < 0:
        looks, other = "dB", "db"
    else:
        return
    raise InputError(
        f"The Sentinel-1 image {path} looks like {looks}: its median is {median:.3g}, and sentinel1.scale of the "
        f"recipe is {scale}. Set sentinel1.scale: {other} in a recipe of your own, or convert the images."
    )


def _gaps(values: FloatArray, have_tags: list[bool], scale: BackscatterScale) -> npt.NDArray[np.bool_]:
    """Mask of values without valid backscatter, whatever their NODATA tags say; both of shape (polarisation, y, x)."""
    gaps: npt.NDArray[np.bool_] = ~np.isfinite(values)
    if scale == "linear":
        gaps |= values <= 0
        return gaps
    gaps |= (values == 0).all(axis=0) & ~np.array(have_tags)[:, None, None]
    return gaps


def _to_db(power: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        db: FloatArray = 10 * np.log10(np.where(power > 0, power, np.nan)).astype(np.float32)
    return db


def _read_source(path: str, place: _Place) -> _Source:
    def read(dataset: Any) -> _Source:
        window = _window_of(dataset, place)
        values = dataset.read(1, window=window).astype(np.float32)
        mask = dataset.read_masks(1, window=window) == 0
        has_tag = MaskFlags.all_valid not in dataset.mask_flag_enums[0]
        return _Source(values, mask, has_tag, dataset.crs, dataset.window_transform(window))

    return use_image(path, read, lambda cause: f"The Sentinel-1 image {path} cannot be read ({cause}).", options={})


def _window_of(dataset: Any, place: _Place) -> Window:
    """Window of an image around a target; all of an image that is not north up, or lies across the 180th meridian."""
    whole = Window(0, 0, dataset.width, dataset.height)
    height, width = place.shape_yx
    left, top = place.transform * (0, 0)
    right, bottom = place.transform * (width, height)
    west, south, east, north = transform_bounds(f"EPSG:{place.epsg}", dataset.crs, left, bottom, right, top)
    step = dataset.transform
    if step.b or step.d or step.a <= 0 or step.e >= 0 or west > east:
        return whole
    first_x, first_y = ~step * (west, north)
    last_x, last_y = ~step * (east, south)
    ends = []
    for first, last, size in ((first_x, last_x, dataset.width), (first_y, last_y, dataset.height)):
        start = int(np.clip(np.floor(first) - _MARGIN_PX, 0, size))
        ends.append((start, int(np.clip(np.ceil(last) + _MARGIN_PX, start, size)) - start))
    (column, columns), (row, rows) = ends
    return Window(column, row, columns, rows)


def _warp(source: _Source, gap: npt.NDArray[np.bool_], place: _Place, scale: BackscatterScale) -> FloatArray:
    warped = np.full((2, *place.shape_yx), np.nan, np.float32)
    values: FloatArray
    values, share = warped
    if not source.values.size:
        return values
    # The share of gaps in each pixel is interpolated as the values are: GDAL itself would leave gaps out of a mean.
    reproject(
        np.stack([np.where(gap, np.float32(0), source.values), gap.astype(np.float32)]),
        warped,
        src_transform=source.transform,
        src_crs=source.crs,
        src_nodata=np.nan,
        dst_transform=place.transform,
        dst_crs=f"EPSG:{place.epsg}",
        dst_nodata=np.nan,
        resampling=Resampling.bilinear,
        # By default GDAL derives the width of its kernel from the sizes of source and window: pixels would then depend
        # on the size of the window, and would be smoothed.
        XSCALE="1",
        YSCALE="1",
    )
    if scale == "linear":
        values = _to_db(values)
    values[~(share < _LEAST_WEIGHT)] = np.nan
    return values
