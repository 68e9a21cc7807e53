"""Ground that patches of several products share: geometry in one zone and across zones, conflicts and duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from itertools import product

import numpy as np
import pyproj
import pytest
import shapely

from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.overlaps import (
    CONFLICTING,
    DROPPED,
    Grids,
    conflict_note,
    find_conflicts,
    find_duplicates,
    find_places,
    neighbours_of,
    period_of,
    shared_ground,
    split_codes,
)
from reben_dask.recipes import load_recipe

UTM_SCALE = 0.9996
SIDE = 1200


def _square(epsg: int, ulx: int, uly: int, patches: int = 1, offsets: Sequence[int] = (0,)) -> Grids:
    side = patches * SIDE
    return tuple(PatchGrid(epsg, ulx, uly, ShapeYX(side, side), offset_m=offset) for offset in offsets)


def _name(mgrs: str, day: int = 1) -> str:
    return f"S2A_MSIL2A_201806{day:02}T101031_N9999_R022_T{mgrs}"


# Geometry


@pytest.mark.parametrize(
    ("east", "south", "is_shared"),
    [
        (0, 0, True),
        (1188, 0, False),  # 12 m x 1200 m is exactly 1 % of 1.44 km²
        (1187, 0, True),
        (1080, 1080, False),  # 120 m x 120 m is exactly 1 %
        (-1079, 1080, True),
        (1200, 0, False),
        (5000, 0, False),
    ],
)
def test_more_than_one_percent_of_a_patch_is_shared_ground(east: int, south: int, is_shared: bool) -> None:  # noqa: FBT001
    one, other = _square(32633, 500_000, 5_400_000), _square(32633, 500_000 + east, 5_400_000 - south)
    assert shared_ground(one, other).tolist() == [[0, 0]] * is_shared
    assert shared_ground(other, one).tolist() == [[0, 0]] * is_shared


def test_pairs_are_numbered_as_in_the_patch_table() -> None:
    """Column before row: 2 x 2 patches against the lower right of them, and the grid that is shifted by 600 m."""
    one = _square(32633, 500_000, 5_400_000, 2, (0, 600))
    corner = _square(32633, 501_200, 5_398_800)
    # Number 3 is x = 1, y = 1; number 4 is the only patch of the second grid, of which a quarter is common.
    assert shared_ground(one, corner).tolist() == [[3, 0], [4, 0]]
    own = {tuple(pair) for pair in shared_ground(one, one).tolist()}
    assert own == {(n, n) for n in range(5)} | {(n, 4) for n in range(4)} | {(4, n) for n in range(4)}


def _at(longitude: float, latitude: float, epsg: int, shift: int = 0) -> Grids:
    """Six by six patches around a point."""
    east, north = pyproj.Transformer.from_crs(4326, epsg, always_xy=True).transform(longitude, latitude)
    return _square(epsg, round(east / 20) * 20 - 3 * SIDE + shift, round(north / 20) * 20 + 3 * SIDE, 6)


def _equal_area(grids: Grids, longitude: float, latitude: float) -> np.ndarray:
    """Squares with many vertices in an equal-area projection around a point."""
    projection = f"+proj=laea +lon_0={longitude} +lat_0={latitude} +ellps=WGS84"
    transform = pyproj.Transformer.from_crs(grids[0].epsg, projection, always_xy=True).transform
    squares = shapely.segmentize(shapely.box(*grids[0].bounds().T), 100)
    return shapely.transform(squares, transform, interleaved=False)


@pytest.mark.parametrize(
    ("longitude", "latitude", "zones"),
    [(12, 52, (32632, 32633)), (12, 74, (32632, 32633)), (24, 0, (32634, 32734)), (180, 66, (32660, 32601))],
)
@pytest.mark.parametrize("shift", [0, 340])
def test_squares_of_two_zones(longitude: float, latitude: float, zones: tuple[int, int], shift: int) -> None:
    """As an equal-area projection has them, in which a shared area is none of the two zones'."""
    one, other = _at(longitude, latitude, zones[0]), _at(longitude, latitude, zones[1], shift)
    squares, others = (_equal_area(grids, longitude, latitude) for grids in (one, other))
    shares = shapely.area(shapely.intersection(squares[:, None], others[None])) / (SIDE / UTM_SCALE) ** 2
    found = shared_ground(one, other)
    # The scale of a zone is within 0.2 % of that of its meridian, and no share lies so near to the limit.
    assert not (np.abs(shares - 0.01) < 0.0001).any()
    assert {tuple(pair) for pair in found.tolist()} == set(zip(*map(np.ndarray.tolist, np.nonzero(shares > 0.01)), strict=True))  # noqa: E501  # fmt: skip
    assert len(found) >= 25
    assert {(i, j) for j, i in shared_ground(other, one).tolist()} == {tuple(pair) for pair in found.tolist()}


def test_only_places_that_may_share_ground_are_compared() -> None:
    side = 109_800
    squares = {
        "33UUP": (32633, 300_000, 5_800_020),
        "33UVP": (32633, 399_960, 5_800_020),
        "33UXP": (32633, 600_000, 5_800_020),
        "32UQD": (32632, 699_960, 5_800_020),
    }
    grids = {_name(mgrs): (PatchGrid(*at, ShapeYX(side, side)),) for mgrs, at in squares.items()}
    places = find_places(grids)
    assert [place.mgrs for place in places] == sorted(squares)
    near = {place.mgrs: {other.mgrs for other in others} for place, others in zip(places, neighbours_of(places), strict=True)}  # noqa: E501  # fmt: skip
    assert near["33UUP"] == {"33UVP", "32UQD"}
    assert "33UUP" in near["32UQD"]
    assert near["33UXP"] == set()


def test_tiles_on_both_sides_of_the_180th_meridian_are_neighbours() -> None:
    grids = {_name("60WWU"): _at(180, 66, 32660), _name("01WCN"): _at(180, 66, 32601)}
    places = find_places(grids)
    assert [[other.mgrs for other in near] for near in neighbours_of(places)] == [["60WWU"], ["01WCN"]]


def test_no_places() -> None:
    assert neighbours_of(find_places({})) == []


# Conflicts

SPLITS = ("train", "validation", "test", None)
CONFLICTS = {("validation", "train"), ("validation", "test"), ("test", "train"), ("test", "validation")}
GIVES_WAY = {("validation", "train"), ("validation", "test"), ("test", "train")}


@pytest.mark.parametrize(("own", "other"), list(product(SPLITS, SPLITS)))
def test_two_patches_on_one_ground(own: str | None, other: str | None) -> None:
    """Of two MGRS tiles, and of two dates of one tile."""
    west, east = _square(32633, 500_000, 5_400_000), _square(32633, 500_600, 5_400_000)
    splits = {_name("33UVP"): split_codes([own]), _name("33UWP"): split_codes([other])}
    place, neighbour = find_places({_name("33UVP"): west, _name("33UWP"): east})
    wanted = split_codes([own if (own, other) in CONFLICTS else None]).tolist()
    found = find_conflicts(place, [place, neighbour], splits.__getitem__, CONFLICTING)
    assert found[_name("33UVP")].tolist() == wanted
    dropped = find_conflicts(place, [neighbour], splits.__getitem__, DROPPED)
    assert dropped[_name("33UVP")].tolist() == split_codes([own if (own, other) in GIVES_WAY else None]).tolist()
    dates = {_name("33UVP", 1): split_codes([own]), _name("33UVP", 2): split_codes([other])}
    (both,) = find_places(dict.fromkeys(dates, west))
    found = find_conflicts(both, [both], dates.__getitem__, CONFLICTING)
    assert found[_name("33UVP", 1)].tolist() == wanted


def test_patches_of_one_product_do_not_conflict() -> None:
    """Its two grids overlap; those of another date count."""
    grids = _square(32633, 500_000, 5_400_000, 2, (0, 600))
    splits = {_name("33UVP", 1): split_codes(["train"] * 4 + ["test"])}
    (place,) = find_places({_name("33UVP", 1): grids})
    assert find_conflicts(place, [place], splits.__getitem__, CONFLICTING)[_name("33UVP", 1)].tolist() == [-1] * 5
    splits[_name("33UVP", 2)] = split_codes([None, None, None, "train", "test"])
    (place,) = find_places(dict.fromkeys(splits, grids))
    found = find_conflicts(place, [place], splits.__getitem__, CONFLICTING)
    # Each test patch meets a training patch of the other date; training patches do not count.
    assert {tile: codes.tolist() for tile, codes in found.items()} == {tile: [-1, -1, -1, -1, 2] for tile in splits}


def test_the_order_of_tiles_makes_no_difference() -> None:
    random = np.random.default_rng(5)
    starts = {"33UVP": 500_000, "33UWP": 503_000, "33UXP": 505_400}
    grids = {_name(mgrs, day): _square(32633, east, 5_400_000, 4) for mgrs, east in starts.items() for day in (1, 9)}
    splits = {tile: random.integers(-1, 3, 16).astype(np.int8) for tile in grids}

    def conflicts(order: list[str]) -> dict[str, list[int]]:
        places = find_places({tile: grids[tile] for tile in order})
        near = [list(reversed(others)) if order != sorted(order) else others for others in neighbours_of(places)]
        found = [find_conflicts(*each, splits.__getitem__, CONFLICTING) for each in zip(places, near, strict=True)]
        return {tile: codes.tolist() for each in found for tile, codes in each.items()}

    assert conflicts(sorted(grids)) == conflicts(sorted(grids, reverse=True))


# Duplicates


def test_ground_is_kept_from_the_first_mgrs_tile_in_each_period() -> None:
    """33UVP before 33UWP, whatever the dates; not within one MGRS tile, and not in another period."""
    west, east = _square(32633, 500_000, 5_400_000, 2), _square(32633, 501_200, 5_400_000, 2)
    grids = {_name("33UVP", 5): west, _name("33UWP", 1): east, _name("33UWP", 2): east, _name("33UWP", 3): east}
    periods = {
        _name("33UVP", 5): "summer",
        _name("33UWP", 1): "summer",
        _name("33UWP", 2): "winter",
        _name("33UWP", 3): "summer",
    }
    first, second = find_places(grids)
    assert not find_duplicates(first, [second], periods)[_name("33UVP", 5)].any()
    found = find_duplicates(second, [first], periods)
    # The right column of the first tile (x = 1) is the left one of the second (x = 0): numbers 0 and 1.
    assert {tile: mask.tolist() for tile, mask in found.items()} == {
        _name("33UWP", 1): [True, True, False, False],
        _name("33UWP", 2): [False] * 4,
        _name("33UWP", 3): [True, True, False, False],
    }


@pytest.mark.parametrize(
    ("recipe", "time", "period"),
    [
        ("reben", datetime(2018, 7, 25, 10, tzinfo=UTC), "summer"),
        ("seasonet", datetime(2018, 7, 25, 10, tzinfo=UTC), "summer"),
        ("seasonet", datetime(2018, 6, 25, 10, tzinfo=UTC), "2018-06-25"),
        ("seasonet", datetime(2018, 6, 25, 1, tzinfo=timezone(timedelta(hours=2))), "2018-06-24"),
    ],
)
def test_a_period_is_a_season_or_else_a_date(recipe: str, time: datetime, period: str) -> None:
    assert period_of(time, load_recipe(recipe).seasons) == period


# Words


@pytest.mark.parametrize(
    ("validation", "test", "conflicts", "sentence"),
    [
        (600, 400, (0, 0), "None of the 1,000 validation or test patches shares more than 1 % of its area with a"),
        (600, 400, (9, 3), "12 of 1,000 validation or test patches (1.2%) share more than 1 % of their area with a"),
        (1, 1, (1, 0), "1 of 2 validation or test patches (50.0%) shares more than 1 % of its area with a"),
        (0, 0, (0, 0), None),
    ],
)
def test_the_share_in_words(validation: int, test: int, conflicts: tuple[int, int], sentence: str | None) -> None:
    splits = {"train": 5, "validation": validation, "test": test}
    counts = {"split": splits, "conflict": dict(zip(("validation", "test"), conflicts, strict=True))}
    assert conflict_note(counts) == (sentence and f"{sentence} patch of another split from another product.")
    assert conflict_note({"split": splits}) is None
