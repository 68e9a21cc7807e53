"""Overlaps between patches of several products: conflicts between splits, and duplicates between MGRS tiles.

Two patches overlap if they have more than 1 % of a patch's area in common; they conflict if they are also of
different products and in different splits. Products on the same grids form a place, which is compared with the places
around it alone; geometry is computed once for a pair of places, however many products they have.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from reben_dask.formats.columns import KEPT, SPLIT, SPLITS, STATUS, TABLE_CRS
from reben_dask.formats.names import mgrs_of
from reben_dask.grid import PatchGrid
from reben_dask.patches.candidates import season_of
from reben_dask.patches.join import search_areas
from reben_dask.wording import counted

CONFLICT = "conflict"
"""Measure of the counts of conflicting patches, by split."""

HELD_OUT = SPLITS[1:]
"""Splits whose conflicts count: validation and test."""

SHARED_PERCENT = 1
"""Share of a patch's area up to which common area does not count as an overlap."""

Grids = tuple[PatchGrid, ...]
Codes = npt.NDArray[np.int8]
"""Splits of a tile's patches, grid after grid in name order, as positions in :data:`SPLITS`; -1 for none."""

Mask = npt.NDArray[np.bool_]
Against = npt.NDArray[np.bool_]
"""Splits that count against a patch, shape (split, other split); the last row is for patches in no split."""

CONFLICTING: Against = np.array([[0, 0, 0], [1, 0, 1], [1, 1, 0], [0, 0, 0]], bool)
"""Validation and test patches conflict with those of both other splits."""

DROPPED: Against = np.array([[0, 0, 0], [1, 0, 1], [1, 0, 0], [0, 0, 0]], bool)
"""A test patch gives way to training patches, a validation patch to these and test patches."""


class Place(NamedTuple):
    """Products of one MGRS tile on the same grids, by the names of their tiles."""

    mgrs: str
    grids: Grids
    tiles: tuple[str, ...]


def find_places(grids: Mapping[str, Grids]) -> list[Place]:
    """Group tiles, given with their grids, into places, in name order."""
    found: dict[tuple[str, Grids], list[str]] = defaultdict(list)
    for tile in sorted(grids):
        found[mgrs_of(tile), grids[tile]].append(tile)
    places = [Place(*key, tuple(tiles)) for key, tiles in found.items()]
    return sorted(places, key=lambda place: (place.mgrs, place.tiles))


def neighbours_of(places: Sequence[Place]) -> list[list[Place]]:
    """Find the other places around each place; no others can overlap it."""
    areas = search_areas([place.grids[0] for place in places], TABLE_CRS)
    found: list[list[Place]] = [[] for _ in places]
    for one, other in shapely.STRtree(areas).query(areas, predicate="intersects").T.tolist():
        if one != other:
            found[one].append(places[other])
    return found


def shared_ground(one: Grids, other: Grids) -> npt.NDArray[np.intp]:
    """Pairs of patches that overlap, by their numbers in two tiles.

    The squares of two UTM zones are compared in the zone with the smaller EPSG code, so that the order of the tiles
    makes no difference.

    Returns
    -------
    ndarray of int, shape (pair, 2)
        Numbers as in the patch table: grid after grid, in name order.
    """
    if one[0].epsg > other[0].epsg:
        return shared_ground(other, one)[:, ::-1]
    squares, others = (shapely.box(*np.vstack([grid.bounds() for grid in grids]).T) for grids in (one, other))
    is_turned = one[0].epsg != other[0].epsg
    if is_turned:
        others = gpd.GeoSeries(others, crs=other[0].epsg).to_crs(one[0].epsg).to_numpy()
    edges, other_edges = shapely.bounds(squares), shapely.bounds(others)
    near, near_other = _within(edges, other_edges), _within(other_edges, edges)
    here, there = shapely.STRtree(others[near_other]).query(squares[near])
    pairs: npt.NDArray[np.intp] = np.column_stack([near[here], near_other[there]])
    found, other_found = edges[pairs[:, 0]], other_edges[pairs[:, 1]]
    sides = np.minimum(found[:, 2:], other_found[:, 2:]) - np.maximum(found[:, :2], other_found[:, :2])
    least = one[0].patch_m ** 2 * SHARED_PERCENT
    pairs = pairs[100 * sides.prod(axis=1) > least]
    if is_turned:
        area = shapely.area(shapely.intersection(squares[pairs[:, 0]], others[pairs[:, 1]]))
        pairs = pairs[100 * area > least]
    return pairs


def _within(edges: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Numbers of the squares that reach into the bounds of all others."""
    low, high = others[:, :2].min(axis=0), others[:, 2:].max(axis=0)
    return np.flatnonzero(((edges[:, 2:] > low) & (edges[:, :2] < high)).all(axis=1))


def split_codes(splits: Iterable[str | None]) -> Codes:
    """Convert names of splits to codes."""
    return pd.Index(SPLITS).get_indexer(pd.Index(splits, dtype=object)).astype(np.int8)


def kept_codes(rows: pd.DataFrame) -> Codes:
    """Codes of the kept patches in rows with split and status; -1 for others."""
    return split_codes(rows[SPLIT].where(rows[STATUS] == KEPT))


def find_conflicts(
    place: Place, others: Iterable[Place], codes_of: Callable[[str], Codes], against: Against
) -> dict[str, Codes]:
    """Find the patches of a place that overlap a patch of another product in a conflicting split.

    Parameters
    ----------
    place : Place
        Place whose patches are examined.
    others : iterable of Place
        Places to compare with; for the place itself, products are compared with its other products.
    codes_of : callable
        Returns the codes of a tile by name. Patches with -1 are ignored.
    against : ndarray of bool, shape (split, other split)
        :data:`CONFLICTING` or :data:`DROPPED`.

    Returns
    -------
    dict of ndarray of int8
        Codes of each tile of the place; -1 for patches that do not conflict.
    """
    own = {tile: codes_of(tile) for tile in place.tiles}
    found = {tile: np.full_like(codes, -1) for tile, codes in own.items()}
    for other in others:
        here, there = shared_ground(place.grids, other.grids).T
        products = own.values() if other == place else map(codes_of, other.tiles)
        splits = np.sum([_by_split(codes) for codes in products], axis=0)
        for tile, codes in own.items():
            present = splits - _by_split(codes) if other == place else splits
            met = here[((present[there] > 0) & against[codes[here]]).any(axis=1)]
            found[tile][met] = codes[met]
    return found


def find_dropped(place: Place, neighbours: Iterable[Place], codes_of: Callable[[str], Codes]) -> dict[str, Mask]:
    """Find the validation and test patches of a place that give way to a patch of another MGRS tile.

    ``codes_of`` returns the codes of all candidates of a tile. Returns an array of bool, shape ``(patch,)``, for each
    tile.
    """
    others = [other for other in neighbours if other.mgrs != place.mgrs]
    found = find_conflicts(place, others, codes_of, DROPPED)
    return {tile: np.asarray(codes >= 0) for tile, codes in found.items()}


def _by_split(codes: Codes) -> npt.NDArray[np.int32]:
    return np.asarray(codes[:, None] == np.arange(len(SPLITS)), np.int32)


def period_of(sensing_time: datetime, seasons: Mapping[str, Sequence[int]]) -> str:
    """Period in which an area is kept once: the season of a sensing time, or the date (UTC) if it is in none."""
    return season_of(sensing_time, seasons) or sensing_time.astimezone(UTC).date().isoformat()


def find_duplicates(place: Place, neighbours: Iterable[Place], periods: Mapping[str, str]) -> dict[str, Mask]:
    """Find the patches of a place that an earlier MGRS tile (in name order) covers in the same period.

    ``periods`` has the period of each tile by name. Returns an array of bool, shape ``(patch,)``, for each tile.
    """
    found = {tile: np.zeros(sum(grid.size for grid in place.grids), bool) for tile in place.tiles}
    for other in neighbours:
        shared = {periods[tile] for tile in other.tiles}
        tiles = [tile for tile in place.tiles if periods[tile] in shared]
        if other.mgrs < place.mgrs and tiles:
            here = shared_ground(place.grids, other.grids)[:, 0]
            for tile in tiles:
                found[tile][here] = True
    return found


def conflict_note(counts: Mapping[str, Mapping[str, int]]) -> str | None:
    """Sentence about the share of conflicting patches, from counts by measure; ``None`` if they were not counted."""
    held_out = sum(counts.get(SPLIT, {}).get(split, 0) for split in HELD_OUT)
    if CONFLICT not in counts or not held_out:
        return None
    found = sum(counts[CONFLICT].values())
    ground = f"more than {SHARED_PERCENT} % of its area with a patch of another split from another product"
    if not found:
        return f"None of the {counted(held_out, 'validation or test patch')} shares {ground}."
    return (
        f"{found:,} of {counted(held_out, 'validation or test patch')} ({found / held_out:.1%}) "
        f"{'shares' if found == 1 else 'share'} {ground if found == 1 else ground.replace('its area', 'their area')}."
    )
