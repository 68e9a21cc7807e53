"""Global grid of spatial blocks for leakage-free splits: blocks, not patches, are split.

SeasoNet has images of a location in several seasons, in two grids shifted by half a patch, and in overlapping tiles,
even of different UTM zones; all of these must be in one split. The globe is divided into nearly square blocks: bands of
equal height in latitude, each divided into equal columns in longitude from 180° W to 180° E. The date line is a border
like any other; at a pole a band still has three blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import shapely

from reben_dask.errors import InputError, RecipeError
from reben_dask.formats.footprints import square_corners
from reben_dask.recipes.model import MAX_BLOCK_M, MIN_BLOCK_PATCHES

if TYPE_CHECKING:
    import geopandas

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius of the Earth (IUGG)."""

FARTHEST_LATITUDE = 85.0
"""UTM ends at 84° N and 80° S; nearer to a pole, blocks become narrower than high."""

_FULL_CIRCLE = 360.0
_STEPS = 100

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Footprints: TypeAlias = "geopandas.GeoSeries | Floats"


class _Boxes(NamedTuple):
    """Bounds in degrees, each of shape ``(patch,)``; ``west`` and ``east`` may lie beyond the date line."""

    west: Floats
    south: Floats
    east: Floats
    north: Floats


def blocks_of(lonlat: Floats, block_m: float) -> Integers:
    """Find the number of the block of each point; a block owns its western and southern border.

    Parameters
    ----------
    lonlat : ndarray of float64, shape (n, 2)
        Longitude and latitude in degrees. Longitudes may exceed 180°.
    block_m : float
        Height of a block in metres, and about its width.

    Returns
    -------
    ndarray of int64, shape (n,)
        Counted eastwards, then northwards, from the date line at the South Pole.

    Raises
    ------
    InputError, RecipeError
        If a point is not on the globe; if blocks are too large, or not larger than 0, respectively.
    """
    off = ~(np.isfinite(lonlat).all(axis=1) & (np.abs(lonlat[:, 1]) <= 90))
    if off.any():
        longitude, latitude = lonlat[off][0]
        raise InputError(f"Longitude {longitude}, latitude {latitude} is not on the globe; is it in degrees?")
    columns = _columns(block_m)
    band = np.floor((lonlat[:, 1] + 90) / 180 * len(columns)).astype(np.int64)
    band = np.minimum(band, len(columns) - 1)
    column = np.floor((lonlat[:, 0] + 180) % _FULL_CIRCLE / _FULL_CIRCLE * columns[band]).astype(np.int64)
    # Just west of the date line, the remainder may be rounded up to the full circle.
    column = np.minimum(column, columns[band] - 1)
    first_of_band = np.cumsum(columns) - columns
    return np.asarray(first_of_band[band] + column, np.int64)


def patch_blocks(footprints: Footprints, block_m: float) -> Integers:
    """Numbers of all blocks that patches touch.

    These are the blocks of the corners of a longitude/latitude box around each patch. The corners of the patch itself
    do not suffice: a square turned against the meridians can reach into a block between two corners, and its edges,
    straight in UTM, bend across the parallel through their ends.

    Parameters
    ----------
    footprints : GeoSeries or ndarray of float64, shape (patch, 4, 2)
        Squares in EPSG:4326, or the longitude and latitude of their corners, in order around the square.
    block_m : float
        Side of a block in metres.

    Returns
    -------
    ndarray of int64, shape (patch, 4)
        The same block up to four times.

    Raises
    ------
    InputError, RecipeError
        If a footprint is not a square in EPSG:4326, or outside the latitudes of UTM; if a block is shorter than four
        patch sides, respectively.

    Notes
    -----
    Two patches of different splits do not overlap, because

    - a patch lies in its box. An edge of ``e`` metres bulges across the parallel through its ends by
      ``e² tan(latitude) / 8R`` (0.05 m of 1200 m at 60°), and bends far less otherwise; the box is widened by more than
      twice that;
    - the corners of a box lie in all blocks that it touches, as it is smaller than any block there: at most √2 patch
      sides, with blocks of at least four, which are as narrow as half of that only near the poles;
    - whole blocks are split, and blocks do not overlap.
    """
    boxes = _boxes(_corners(footprints), block_m)
    corners = [(x, y) for y in (boxes.south, boxes.north) for x in (boxes.west, boxes.east)]
    return np.column_stack([blocks_of(np.column_stack(corner), block_m) for corner in corners])


def splits_of_patches(blocks: Integers, split_of_block: Mapping[int, str]) -> npt.NDArray[np.object_]:
    """Split of each patch, shape ``(patch,)``: that of the blocks it touches, if they all have the same.

    ``blocks`` is from :func:`patch_blocks`. ``split_of_block`` needs each touched block, ``numpy.unique(blocks)``: a
    patch that touches a block without a split is in no split (None).
    """
    touched, place = np.unique(blocks, return_inverse=True)
    names = sorted(set(split_of_block.values()))
    number = {name: position for position, name in enumerate(names)}
    codes = np.array([number.get(split_of_block.get(block, ""), -1) for block in touched.tolist()], np.int64)
    of_patch = codes[place.reshape(blocks.shape)] if len(touched) else np.empty(blocks.shape, np.int64)
    agreed = (of_patch == of_patch[:, :1]).all(axis=1)
    # The last name is that of the code -1.
    named: npt.NDArray[np.object_] = np.array([*names, None], object)[np.where(agreed, of_patch[:, 0], -1)]
    return named


def blocks_per_patch(blocks: Integers) -> Integers:
    """Count the patches that touch one, two, three and four blocks: int64, shape ``(4,)``, to be summed over tiles."""
    distinct = 1 + np.count_nonzero(np.diff(np.sort(blocks, axis=1), axis=1), axis=1)
    return np.bincount(distinct, minlength=5)[1:]


def adjusted_split_fractions(touched: Integers, *, validation: float, test: float) -> tuple[float, float]:
    """Fractions of blocks, to four decimals, that leave patches with the wanted fractions of validation and test.

    A patch that spans two blocks is kept if both have the same split, which is likely for a large split and unlikely
    for a small one: blocks divided 70:10:20 leave patches 75:8:17 if every third patch spans two of them. ``touched``
    is the sum of :func:`blocks_per_patch`. The fractions hold where neighbours have independent splits.
    """
    touching = touched / max(touched.sum(), 1)
    wanted = np.array([1 - validation - test, validation, test])
    asked = wanted
    for _ in range(_STEPS):
        # A block of a split keeps those of its patches whose other blocks happen to have that split, too.
        kept = np.polynomial.polynomial.polyval(asked, touching) if touched.any() else np.ones(3)
        # Halfway only: a full step overshoots where most patches touch several blocks.
        asked = np.sqrt(asked * wanted / kept)
        asked /= asked.sum()
    return round(float(asked[1]), 4), round(float(asked[2]), 4)


def _columns(block_m: float) -> Integers:
    if not 0 < block_m <= MAX_BLOCK_M:
        raise RecipeError(f"Blocks of {block_m:,.0f} m are not possible; a side is up to {MAX_BLOCK_M:,} m.")
    bands = round(np.pi * EARTH_RADIUS_M / block_m)
    middle = (np.arange(bands) + 0.5) / bands * np.pi - np.pi / 2
    around = 2 * np.pi * EARTH_RADIUS_M * np.cos(middle)
    return np.maximum(np.rint(around / block_m), 1).astype(np.int64)


def _corners(footprints: Footprints) -> Floats:
    """Corners of squares, shape ``(patch, 4, 2)``."""
    if isinstance(footprints, np.ndarray):
        return footprints
    if footprints.crs is None or footprints.crs.to_epsg() != 4326:
        raise InputError(f"Footprints are in {footprints.crs}, not in EPSG:4326; use to_crs first.")
    polygons = footprints.to_numpy()
    is_split = shapely.get_type_id(polygons) == shapely.GeometryType.MULTIPOLYGON
    rings = shapely.get_exterior_ring(polygons)
    if (wrong := np.flatnonzero((shapely.get_num_points(rings) != 5) & ~is_split)).size:
        raise InputError(f"Footprint number {wrong[0]} is not a square: {footprints.iloc[wrong[0]]}.")
    corners = np.empty((len(polygons), 4, 2))
    corners[~is_split] = shapely.get_coordinates(rings[~is_split]).reshape(-1, 5, 2)[:, :4]
    for number in np.flatnonzero(is_split):
        corners[number] = square_corners(polygons[number])
    return corners


def _boxes(corners: Floats, block_m: float) -> _Boxes:
    """Longitude/latitude boxes that certainly cover the patches."""
    first, latitude = corners[:, :1, 0], corners[..., 1]
    # From the first corner at most half around the globe: then a patch on the date line is no different.
    longitude = first + (corners[..., 0] - first + 180) % _FULL_CIRCLE - 180
    farthest = np.abs(latitude).max(axis=1, initial=0)
    if (farthest > FARTHEST_LATITUDE).any():
        raise InputError(f"A patch at latitude {farthest.max():.3f} lies outside UTM, which ends at 84° N and 80° S.")
    side = _longest_side(longitude, latitude)
    if (side * MIN_BLOCK_PATCHES > block_m * 1.01).any():
        raise RecipeError(
            f"Blocks of {block_m:,.0f} m are too small for patches of {side.max():,.0f} m; "
            f"make them at least {MIN_BLOCK_PATCHES * side.max():,.0f} m."
        )
    margin_m = side**2 * (1 + np.tan(np.radians(farthest))) / (4 * EARTH_RADIUS_M)
    up = np.degrees(margin_m / EARTH_RADIUS_M)
    aside = up / np.cos(np.radians(farthest + up))
    return _Boxes(
        longitude.min(axis=1) - aside,
        latitude.min(axis=1) - up,
        longitude.max(axis=1) + aside,
        latitude.max(axis=1) + up,
    )


def _longest_side(longitude: Floats, latitude: Floats) -> Floats:
    """Metres, shape ``(patch,)``."""
    north = np.radians(np.roll(latitude, -1, axis=1) - latitude)
    east = np.radians(np.roll(longitude, -1, axis=1) - longitude) * np.cos(np.radians(latitude))
    longest: Floats = EARTH_RADIUS_M * np.hypot(north, east).max(axis=1, initial=0)
    return longest
