"""The patch grid against plain loops over indices, metres and slices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st

from reben_dask.formats.names import V2, TileName
from reben_dask.grid import PATCH_SIDE_M, PatchGrid, ShapeYX, extent_px_yx

FULL = PatchGrid(32633, 300_000, 5_800_020, ShapeYX(109_800, 109_800))


def _grid(height: int, width: int, patch_m: int = PATCH_SIDE_M, offset_m: int = 0) -> PatchGrid:
    return PatchGrid(32633, 300_000, 5_800_020, ShapeYX(height, width), patch_m, offset_m)


@st.composite
def grids(draw: st.DrawFn) -> PatchGrid:
    """Tiles of up to six by six patches, with any left-over strip and any shift of whole 60 m pixels."""
    patch_m = draw(st.sampled_from([60, 120, 600, 1200]))
    height, width = (60 * draw(st.integers(0, 6 * patch_m // 60)) for _ in range(2))
    ulx, uly = (draw(st.integers(-1_000_000, 10_000_000)) for _ in range(2))
    offset = 60 * draw(st.integers(0, patch_m // 60 - 1))
    return PatchGrid(32633, ulx, uly, ShapeYX(height, width), patch_m, offset)


def _columns_rows(grid: PatchGrid) -> list[tuple[int, int]]:
    """Column and row of each patch, found by trying which lie inside the tile."""
    far = range(8)
    fits = [[grid.offset_m + (number + 1) * grid.patch_m <= side for number in far] for side in grid.tile_m]
    return [(x, y) for x in far for y in far if fits[1][x] and fits[0][y]]


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [
        (109_800, 109_800, 91, 91),
        (109_200, 109_200, 91, 91),  # not a metre left over
        (109_199, 110_400, 90, 92),
        (10_680, 10_680, 8, 8),  # the small product
        (1200, 1200, 1, 1),
        (1199, 1200, 0, 1),
        (1200, 3600, 1, 3),
        (3600, 1200, 3, 1),
        (4799, 2399, 3, 1),
        (0, 0, 0, 0),
    ],
)
def test_only_complete_patches_count(height: int, width: int, rows: int, columns: int) -> None:
    grid = _grid(height, width)
    assert grid.shape_yx == (rows, columns)
    assert (grid.shape_yx.y, grid.shape_yx.x) == (rows, columns)
    assert grid.size == rows * columns
    assert len(grid.bounds()) == len(grid.border_distance()) == rows * columns


def test_a_full_tile_has_8281_patches_numbered_0_to_90() -> None:
    x, y = FULL.indices_xy()
    assert FULL.size == 8281
    assert set(zip(x.tolist(), y.tolist(), strict=True)) == {(a, b) for a in range(91) for b in range(91)}
    assert FULL.digits == 2


@pytest.mark.parametrize(
    ("side", "offset", "patches"),
    [
        (109_800, 0, 91),
        (109_800, 600, 91),  # not a metre left over
        (109_800, 660, 90),
        (10_200, 0, 8),  # a tile of the demo region
        (10_200, 600, 8),
        (10_680, 600, 8),  # the small product
        (10_140, 600, 7),
        (1800, 600, 1),
        (1799, 600, 0),
        (600, 600, 0),
        (300, 600, 0),
        (0, 600, 0),
    ],
)
def test_a_shifted_grid_has_fewer_patches_where_they_do_not_fit(side: int, offset: int, patches: int) -> None:
    grid = _grid(side, side, offset_m=offset)
    assert grid.shape_yx == (patches, patches)
    assert len(grid.bounds()) == len(grid.border_distance()) == patches**2


@pytest.mark.parametrize(
    ("rows", "columns", "digits"),
    [(0, 0, 1), (1, 1, 1), (10, 10, 1), (11, 1, 2), (1, 11, 2), (91, 91, 2), (100, 100, 2), (101, 5, 3), (5, 1001, 4)],
)
def test_digits_are_those_of_the_largest_index(rows: int, columns: int, digits: int) -> None:
    assert _grid(rows * 1200, columns * 1200).digits == digits


@pytest.mark.parametrize(
    ("patch_m", "resolution", "pixels"),
    [(1200, 10, 120), (1200, 20, 60), (1200, 60, 20), (600, 60, 10), (60, 60, 1), (240, 20, 12)],
)
def test_patch_side_in_pixels(patch_m: int, resolution: int, pixels: int) -> None:
    assert _grid(1200, 1200, patch_m).patch_px(resolution) == pixels


@pytest.mark.parametrize("resolution", [7, 1000, 2400])
def test_a_patch_is_a_whole_number_of_pixels(resolution: int) -> None:
    with pytest.raises(ValueError, match=f"1200 m is not a whole number of {resolution} m pixels"):
        FULL.patch_px(resolution)


@given(grids())
def test_indices_go_down_each_column(grid: PatchGrid) -> None:
    expected = _columns_rows(grid)
    assert grid.size == len(expected)
    assert list(zip(*(axis.tolist() for axis in grid.indices_xy()), strict=True)) == expected


@given(grids())
def test_index_order_is_the_order_of_the_names(grid: PatchGrid) -> None:
    ids = V2.names(TileName("S2A_MSIL2A_20170613T101031_T33UUP", ""), grid)
    assert ids == sorted(ids)
    assert len(set(ids)) == grid.size
    assert len({len(name) for name in ids}) <= 1


@given(grids())
def test_bounds_are_counted_from_the_upper_left_corner(grid: PatchGrid) -> None:
    side, left, top = grid.patch_m, grid.ulx + grid.offset_m, grid.uly - grid.offset_m
    expected = [
        [left + x * side, top - (y + 1) * side, left + (x + 1) * side, top - y * side] for x, y in _columns_rows(grid)
    ]
    assert grid.bounds().tolist() == expected
    assert grid.bounds().dtype == np.int64


@given(grids())
def test_covered_bounds_enclose_all_patches(grid: PatchGrid) -> None:
    left, bottom, right, top = grid.covered_bounds()
    assert (left, top) == (grid.ulx + grid.offset_m, grid.uly - grid.offset_m)
    assert (right - left, top - bottom) == (grid.shape_yx.x * grid.patch_m, grid.shape_yx.y * grid.patch_m)
    if grid.size:
        boxes = grid.bounds()
        assert (*boxes.min(axis=0)[:2], *boxes.max(axis=0)[2:]) == (left, bottom, right, top)
        west, south, east, north = grid.tile_bounds()
        assert west <= left < right <= east
        assert south <= bottom < top <= north


@given(grids())
def test_border_distance_counts_the_left_over_strip(grid: PatchGrid) -> None:
    side, (height, width) = grid.patch_m, grid.tile_m
    expected = []
    for x, y in _columns_rows(grid):
        east, south = (grid.offset_m + place * side + side // 2 for place in (x, y))
        expected.append(min(east, south, width - east, height - south))
    assert grid.border_distance().tolist() == expected


@given(grids(), st.sampled_from([20, 60]), st.booleans())
def test_blocks_are_plain_slices(grid: PatchGrid, resolution: int, with_strip: bool) -> None:  # noqa: FBT001
    side, start = grid.patch_m // resolution, grid.offset_m // resolution
    shape = [edge // resolution for edge in grid.tile_m] if with_strip else extent_px_yx([grid], resolution)
    image = np.arange(int(np.prod(shape)), dtype=np.uint32).reshape(shape)
    blocks = grid.blocks(image, resolution)
    assert blocks.shape == (*grid.shape_yx, side, side)
    for x, y in _columns_rows(grid):
        down, right = start + y * side, start + x * side
        assert (blocks[y, x] == image[down : down + side, right : right + side]).all()
    rows, columns = grid.shape_yx
    whole = image[start : start + rows * side, start : start + columns * side]
    cut = grid.cut(image, resolution)
    assert cut.shape == grid.shape_px_yx(resolution)
    assert (cut == whole).all()


@given(grids(), st.lists(st.integers(0, 19), min_size=1, max_size=4), st.sampled_from([20, 60]))
def test_the_extent_of_several_grids_reaches_the_end_of_each(
    grid: PatchGrid, shifts: list[int], resolution: int
) -> None:
    several = [replace(grid, offset_m=60 * (shift % (grid.patch_m // 60))) for shift in shifts]
    several = [one for one in several if one.size]
    assume(several)
    ends = np.array([one.covered_bounds() for one in several])
    expected = ((grid.uly - ends[:, 1].min()) // resolution, (ends[:, 2].max() - grid.ulx) // resolution)
    assert extent_px_yx(several, resolution) == expected
    assert all(reach * resolution <= side for reach, side in zip(expected, grid.tile_m, strict=True))


def test_a_shift_is_a_whole_number_of_pixels() -> None:
    with pytest.raises(ValueError, match="30 m is not a whole number of 20 m pixels"):
        _grid(2400, 2400, offset_m=30).blocks(np.zeros((120, 120)), 20)


def test_half_a_patch_of_shift_as_seasonet_has_it() -> None:
    """Patches of one grid do not overlap; one of the second grid takes a quarter of each of four of the first."""
    first, second = (shapely.box(*_grid(4200, 4200, offset_m=offset).bounds().T) for offset in (0, 600))
    assert (len(first), len(second)) == (9, 9)
    for grid in (first, second):
        assert shapely.union_all(grid).area == shapely.area(grid).sum()
    inside = shapely.union_all(first)
    for patch in second[shapely.within(second, inside)]:
        assert sorted(area for area in shapely.area(shapely.intersection(patch, first)) if area) == [360_000.0] * 4


@pytest.mark.parametrize("resolution", [10, 20, 60])
def test_blocks_of_a_full_tile_are_a_view(resolution: int) -> None:
    image = np.zeros((109_800 // resolution,) * 2, np.uint8)
    blocks = FULL.blocks(image, resolution)
    assert np.shares_memory(blocks, image)
    assert blocks.shape == (91, 91, 1200 // resolution, 1200 // resolution)


@given(grids(), st.sampled_from([(), (3,), (2, 2)]))
def test_name_order_of_values_by_row_and_column(grid: PatchGrid, inner: tuple[int, ...]) -> None:
    values = np.arange(grid.size * int(np.prod(inner))).reshape(*grid.shape_yx, *inner)
    expected = [values[y, x] for x in range(grid.shape_yx.x) for y in range(grid.shape_yx.y)]
    ordered = grid.in_name_order(values)
    assert ordered.shape == (grid.size, *inner)
    assert ordered.tolist() == [value.tolist() for value in expected]


def test_values_indices_and_bounds_share_their_order() -> None:
    grid = _grid(2 * 1200 + 300, 3 * 1200 + 60)
    x, y = grid.indices_xy()
    image = np.add.outer(1000 * np.arange(grid.tile_m.y // 60), np.arange(grid.tile_m.x // 60))
    upper_left = grid.in_name_order(grid.blocks(image, 60)[:, :, 0, 0])
    assert upper_left.tolist() == (1000 * 20 * y + 20 * x).tolist()
    assert (grid.bounds()[:, 0] - grid.ulx).tolist() == (1200 * x).tolist()
    assert (grid.uly - grid.bounds()[:, 3]).tolist() == (1200 * y).tolist()


def test_grids_are_values() -> None:
    assert _grid(2400, 1200) == _grid(2400, 1200)
    assert _grid(2400, 1200) != _grid(1200, 2400)
    assert len({_grid(2400, 1200), _grid(2400, 1200)}) == 1
