"""Reference map of a tile: land-cover polygons burnt into the pixel grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from rasterio import Env
from rasterio.enums import MergeAlg
from rasterio.features import rasterize
from rasterio.transform import from_origin

from reben_dask.formats.bands import MAP_RESOLUTION_M
from reben_dask.formats.columns import OVERLAP_PX
from reben_dask.grid import PatchGrid, extent_px_yx
from reben_dask.nomenclature import UNLABELED_CODE, Nomenclature

if TYPE_CHECKING:
    from collections.abc import Iterator

    import geopandas
    from affine import Affine

POLYGONS_AT_ONCE = 1_500
"""Rasterio takes vertices as Python objects: 22,000 polygons at once need 700 MB beside the map itself."""

_GDAL_CACHE_BYTES = 16 * 2**20
"""GDAL copies the image up to this size; no slower than 64 MiB for a full tile."""

_STRIP_ROWS = 64
_NEAR_PX = 1e-6


class RasterizedMap(NamedTuple):
    """Reference map of a tile, and the pixels that several polygons cover."""

    codes: npt.NDArray[np.uint16]
    """Codes from the tile's upper-left corner to the end of the last complete patch, shape ``(y, x)``; 999 where no
    polygon covers.
    """

    overlap_bits: npt.NDArray[np.uint8]
    """One bit for each of these pixels, shape ``(y, ceil(x / 8))``, as :func:`numpy.packbits` packs rows."""


def unlabeled_map(*grids: PatchGrid) -> RasterizedMap:
    """Map of a tile that no polygon is near; see :func:`rasterize_map`."""
    shape = extent_px_yx(grids, MAP_RESOLUTION_M)
    return RasterizedMap(np.full(shape, UNLABELED_CODE, np.uint16), _no_bits(shape))


def rasterize_codes(
    polygons: geopandas.GeoDataFrame | None, nomenclature: Nomenclature, *grids: PatchGrid
) -> RasterizedMap:
    """Burn polygons with the codes of a map as their values; none may be near. See :func:`rasterize_map`."""
    if polygons is None:
        return unlabeled_map(*grids)
    return rasterize_map(polygons.assign(code=nomenclature.map_values(polygons["code"])), *grids)


def rasterize_map(polygons: geopandas.GeoDataFrame, *grids: PatchGrid) -> RasterizedMap:
    """Burn land-cover polygons into the 10 m pixels of a tile.

    A pixel takes the code of the polygon that covers its centre. Polygons are transformed vertex by vertex to the
    tile's system, without densifying. Where polygons overlap, the one later in the map (larger ``order``) wins.

    Parameters
    ----------
    polygons : GeoDataFrame
        Columns ``code`` (int), ``order`` (int, position in the source map) and the geometry, in any system and row
        order; polygons outside the tile are harmless.
    *grids : PatchGrid
        One or several grids of the tile.

    Returns
    -------
    RasterizedMap
        Codes (uint16) and bits of overlaps (uint8) of all that the grids cover together.

    Notes
    -----
    One pass finds codes and overlaps: pixels sum class numbers so large that two of them exceed any one. Polygons near
    pixels that this leaves ambiguous are burnt again, in order.
    """
    grid, shape = grids[0], extent_px_yx(grids, MAP_RESOLUTION_M)
    transform = from_origin(grid.ulx, grid.uly, MAP_RESOLUTION_M, MAP_RESOLUTION_M)
    in_order = polygons[~polygons.is_empty].sort_values("order")
    classes, ranks = np.unique(in_order["code"].to_numpy(), return_inverse=True)
    numbered = in_order.assign(number=ranks + len(classes))
    # Sums saturate at the maximum of their type.
    sums = np.zeros(shape, np.uint16 if 2 * len(classes) <= np.iinfo(np.uint16).max else np.uint32)
    windows, on_centres = [np.empty((0, 4), int)], [np.empty(0, bool)]
    for portion in _portions(numbered, grid.epsg):
        _burn(portion.geometry, portion["number"], sums, transform, MergeAlg.add)
        windows.append(_windows(portion.geometry, transform, shape))
        on_centres.append(_has_edges_on_pixel_centres(portion.geometry, transform))
    rasterized = _decode(sums, classes)
    near = _candidates(rasterized.overlap_bits, np.concatenate(windows), np.concatenate(on_centres))
    for portion in _portions(in_order[near], grid.epsg):
        _burn(portion.geometry, portion["code"], rasterized.codes, transform, MergeAlg.replace)
    return rasterized


def _portions(polygons: geopandas.GeoDataFrame, epsg: int) -> Iterator[geopandas.GeoDataFrame]:
    for start in range(0, len(polygons), POLYGONS_AT_ONCE):
        yield polygons.iloc[start : start + POLYGONS_AT_ONCE].to_crs(epsg=epsg)


def _burn(
    shapes: geopandas.GeoSeries, values: pd.Series[int], out: npt.NDArray[Any], transform: Affine, rule: MergeAlg
) -> None:
    pairs = zip(shapes, values.astype(int), strict=True)
    with Env(GDAL_CACHEMAX=_GDAL_CACHE_BYTES):
        rasterize(pairs, out=out, transform=transform, all_touched=False, merge_alg=rule)


def _decode(sums: npt.NDArray[Any], classes: npt.NDArray[Any]) -> RasterizedMap:
    """Decode sums strip by strip, so that the map is in memory once and its strips stay in the cache."""
    count = max(1, len(classes))
    code_of = np.full(2 * count + 1, UNLABELED_CODE, np.uint16)
    code_of[count : count + len(classes)] = classes
    overlap_bits = _no_bits(sums.shape)
    codes = sums if sums.dtype == np.uint16 else np.empty(sums.shape, np.uint16)
    for start in range(0, len(sums), _STRIP_ROWS):
        strip = slice(start, start + _STRIP_ROWS)
        overlap_bits[strip] = np.packbits(sums[strip] >= 2 * count, axis=1)
        codes[strip] = np.take(code_of, sums[strip], mode="clip")
    return RasterizedMap(codes, overlap_bits)


def _no_bits(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    return np.zeros((shape[0], -(-shape[1] // 8)), np.uint8)


def _windows(shapes: geopandas.GeoSeries, transform: Affine, shape: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Pixels within the bounds of each polygon, as columns ``top``, ``bottom``, ``left``, ``right``."""
    bounds = shapes.bounds
    top, bottom = ((transform.f - bounds[edge].to_numpy()) / MAP_RESOLUTION_M for edge in ("maxy", "miny"))
    left, right = ((bounds[edge].to_numpy() - transform.c) / MAP_RESOLUTION_M for edge in ("minx", "maxx"))
    edges = np.floor(np.column_stack([top, bottom + 1, left, right + 1]))
    inside: npt.NDArray[np.float64] = np.clip(edges, 0, np.repeat(shape, 2))
    return inside.astype(np.int64)


def _has_edges_on_pixel_centres(shapes: geopandas.GeoSeries, transform: Affine) -> npt.NDArray[np.bool_]:
    """Mask of polygons with an edge along the pixel centres of a row: GDAL burns those differently when it adds."""
    points, owners = shapely.get_coordinates(shapes.to_numpy(), return_index=True)
    rows = (transform.f - points[:, 1]) / MAP_RESOLUTION_M
    on_centres = np.abs(rows - np.floor(rows) - 0.5) < _NEAR_PX
    along = on_centres[1:] & on_centres[:-1] & (np.abs(np.diff(rows)) < _NEAR_PX) & (owners[1:] == owners[:-1])
    found = np.zeros(len(shapes), bool)
    found[owners[1:][along]] = True
    return found


def _candidates(
    overlap_bits: npt.NDArray[np.uint8], windows: npt.NDArray[np.int64], on_centres: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Mask of polygons that may cover an overlap, or a pixel near a polygon with edges on pixel centres.

    Further polygons do no harm, so whole bytes are compared.
    """
    undecided = overlap_bits.copy() if on_centres.any() else overlap_bits
    in_bytes = windows // (1, 1, 8, 8) + (0, 0, 0, 1)
    for top, bottom, left, right in in_bytes[on_centres]:
        undecided[top:bottom, left:right] = 255
    if not undecided.any():
        return np.zeros(len(windows), bool)
    return np.array([undecided[top:bottom, left:right].any() for top, bottom, left, right in in_bytes])


def overlap_column(overlap_bits: npt.NDArray[np.uint8], grid: PatchGrid) -> pd.Series[int]:
    """Count the pixels of each patch that several polygons cover; int32, in name order.

    ``overlap_bits`` are those of :class:`RasterizedMap`.
    """
    start, side, (rows, columns) = grid.offset_px(MAP_RESOLUTION_M), grid.patch_px(MAP_RESOLUTION_M), grid.shape_yx
    counts = np.zeros((rows, columns), np.int32)
    for row in range(rows):
        top = start + row * side
        pixels = np.unpackbits(overlap_bits[top : top + side], axis=1)[:, start : start + columns * side]
        counts[row] = np.count_nonzero(pixels.reshape(side, columns, side), axis=(0, 2))
    return pd.Series(grid.in_name_order(counts), dtype=np.int32, name=OVERLAP_PX)
