"""Where a published image lies, from its own georeference; as with its pixels, most files are read without GDAL."""

from __future__ import annotations

import math
import os
import warnings
from typing import NamedTuple

from reben_dask.errors import InputError
from reben_dask.sources.gdal import GDAL_OPTIONS
from reben_dask.sources.published.tiff import KNOWN_TAGS
from reben_dask.sources.published.tiff_directory import Directory, Unusual, read_directory

HEAD_BYTES = 4_096
"""The published files have all of their tags in the first 400. Those of Sentinel-1 have 58 kB, of which the system then
reads a quarter."""

_PIXEL_SCALE, _TIEPOINT, _GEO_KEYS = 33550, 33922, 34735
_MODEL_TYPE, _RASTER_TYPE, _PROJECTED_SYSTEM = 1024, 1025, 3072
_PROJECTED, _PIXEL_IS_AREA = 1, 1
_HARMLESS_KEYS = {1026, 2049, 2054, 3073, 3076}
"""Names of the systems, degrees as angular unit, metres as linear unit: what UTM has in any case."""

_UTM = (range(32601, 32661), range(32701, 32761))
"""EPSG codes of UTM on WGS 84, north and south."""


class Corner(NamedTuple):
    """The upper-left corner of an image.

    Parameters
    ----------
    epsg : int
        Coordinate reference system, in metres.
    left, top : float
        Coordinates of the corner.
    pixel_m : float
        Side of a pixel in metres.
    """

    epsg: int
    left: float
    top: float
    pixel_m: float


def read_corner(path: str | os.PathLike[str]) -> Corner:
    """Read where a small TIFF file lies.

    Raises
    ------
    InputError
        If the file cannot be read, or is not georeferenced north up, with square pixels, in a system with an EPSG code.
    """
    content = _read_head(path)
    try:
        return corner_of(read_directory(content, KNOWN_TAGS))
    except Unusual:
        return _corner_from_gdal(path)


def _read_head(path: str | os.PathLike[str]) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - making a Path costs as much as reading the file
            return file.read(HEAD_BYTES) or b""
    except OSError as error:
        raise InputError(f"{os.fspath(path)} cannot be read ({error.strerror}).") from None


def corner_of(directory: Directory) -> Corner:
    """Where a file lies whose tags were read; raises :class:`Unusual` if that is not told as in the published files."""
    scale, tiepoint = directory.doubles(_PIXEL_SCALE), directory.doubles(_TIEPOINT)
    if len(scale) != 3 or len(tiepoint) != 6 or any(tiepoint[:3]):
        raise Unusual
    (across, down, _), (left, top) = scale, tiepoint[3:5]
    if not (across == down > 0 and math.isfinite(left + top + across)):
        raise Unusual
    return Corner(_epsg(directory.integers(_GEO_KEYS)), left, top, across)


def _epsg(keys: tuple[int, ...]) -> int:
    """The system from the directory of geographic keys: a head of 4 numbers, then 4 for each key."""
    if len(keys) < 4 or keys[:2] != (1, 1) or len(keys) != 4 + 4 * keys[3]:
        raise Unusual
    entries = [keys[start : start + 4] for start in range(4, len(keys), 4)]
    values = {key: value for key, location, count, value in entries if (location, count) == (0, 1)}
    usual = {_MODEL_TYPE: _PROJECTED, _RASTER_TYPE: _PIXEL_IS_AREA}
    if any(values.get(key) != value for key, value in usual.items()):
        raise Unusual
    if {key for key, *_ in entries} - usual.keys() - _HARMLESS_KEYS - {_PROJECTED_SYSTEM}:
        raise Unusual
    epsg = values.get(_PROJECTED_SYSTEM, 0)
    if not any(epsg in zones for zones in _UTM):
        raise Unusual
    return epsg


def _corner_from_gdal(path: str | os.PathLike[str]) -> Corner:
    import rasterio  # noqa: PLC0415
    from rasterio.errors import NotGeoreferencedWarning, RasterioError  # noqa: PLC0415

    try:
        with warnings.catch_warnings(), rasterio.Env(**GDAL_OPTIONS):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver="GTiff") as dataset:
                transform, epsg = dataset.transform, dataset.crs and dataset.crs.to_epsg()
    except (RasterioError, OSError, ValueError) as error:
        cause = str(error)
    else:
        is_straight = not (transform.b or transform.d) and transform.a == -transform.e > 0
        if epsg and is_straight:
            return Corner(epsg, transform.c, transform.f, transform.a)
        cause = "it needs square pixels, north up, and a coordinate system with an EPSG code"
    raise InputError(f"{os.fspath(path)} cannot be placed: {cause}.")
