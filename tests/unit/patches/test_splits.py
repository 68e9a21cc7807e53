"""Splits by place, against published patches, exact arithmetic and a count; and by lot, against their definition."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from oracle import geographic_split as split_in_whole_metres

from reben_dask.formats.columns import SPLITS
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.splits import geographic_split, grid_split, random_split, seeded_hashes

FILES = ("metadata.parquet", "metadata_for_patches_with_snow_cloud_or_shadow.parquet")
QUARTERS = {"validation": 0.25, "test": 0.25}
FIFTHS = {"validation": 0.2, "test": 0.2}
NAMES = [f"S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_{x:02}_{y:02}" for x in range(91) for y in range(91)]


def _grid(height: int, width: int, patch_m: int = 1200) -> PatchGrid:
    return PatchGrid(32633, 300_000, 5_400_000, ShapeYX(height, width), patch_m)


def _exact(grid: PatchGrid, validation: Fraction, test: Fraction) -> list[str]:
    """``d < s (1 - sqrt(a)) / 2`` without a root: ``(s - 2 d)^2 > a s^2``, as ``d`` never exceeds ``s / 2``."""
    side, patch = min(grid.tile_m), grid.patch_m
    splits = []
    for x in range(grid.tile_m.x // patch):
        for y in range(grid.tile_m.y // patch):
            east, south = Fraction(patch * (2 * x + 1), 2), Fraction(patch * (2 * y + 1), 2)
            distance = min(east, south, grid.tile_m.x - east, grid.tile_m.y - south)
            inside = (side - 2 * distance) ** 2
            is_train = inside > (validation + test) * side**2
            splits.append("train" if is_train else "validation" if inside > test * side**2 else "test")
    return splits


def _is_tie(grid: PatchGrid, area: Fraction) -> bool:
    """Test if a patch centre lies exactly on the border of the square with this share of the area."""
    side = min(grid.tile_m)
    return any((side - 2 * Fraction(float(d))) ** 2 == area * side**2 for d in np.unique(grid.border_distance()))


@pytest.mark.slow
def test_all_published_splits(data_dir: Path) -> None:
    columns = ["patch_id", "split"]
    published = pd.concat([pd.read_parquet(data_dir / "bigearthnet" / name, columns=columns) for name in FILES])
    x, y = (published["patch_id"].str[place].astype(int).to_numpy() for place in (slice(-5, -3), slice(-2, None)))
    grid = _grid(109_800, 109_800)
    by_index = geographic_split(grid, **QUARTERS).reshape(91, 91)
    assert len(published) == 549_488
    assert int((by_index[x, y] == published["split"].to_numpy()).sum()) == 549_488


def test_a_full_tile_in_whole_metres() -> None:
    grid = _grid(109_800, 109_800)
    expected = [split_in_whole_metres(x, y, 109_800) for x in range(91) for y in range(91)]
    assert geographic_split(grid, **QUARTERS).tolist() == expected


@pytest.mark.parametrize(
    ("validation", "test"), [(0.25, 0.25), (0.1, 0.2), (0.2, 0.1), (0.05, 0.05), (0.5, 0.4), (0.01, 0.98)]
)
def test_areas_have_the_shares_asked_for(validation: float, test: float) -> None:
    cells = 1000
    grid = _grid(60 * cells, 60 * cells, 60)
    splits = geographic_split(grid, validation=validation, test=test)
    shares = {name: np.count_nonzero(splits == name) / grid.size for name in SPLITS}
    wanted = {"train": 1 - validation - test, "validation": validation, "test": test}
    # A square's border is off by less than a cell on each of its four sides, and a ring has two borders.
    assert all(abs(shares[name] - wanted[name]) <= 8 / cells for name in SPLITS)


@pytest.mark.parametrize("cells", [2, 3, 4, 7, 8, 91, 100])
def test_squares_are_concentric(cells: int) -> None:
    splits = geographic_split(_grid(1200 * cells, 1200 * cells), **QUARTERS).reshape(cells, cells)
    for turned in (splits.T, splits[::-1], splits[:, ::-1]):
        assert (turned == splits).all()
    rank = {name: number for number, name in enumerate(SPLITS)}
    outwards = [rank[name] for name in splits[cells // 2, : (cells + 1) // 2]]
    assert outwards == sorted(outwards)


@given(
    st.integers(1, 97).flatmap(lambda test: st.tuples(st.just(test), st.integers(1, 98 - test))),
    st.integers(1, 24),
    st.integers(1, 24),
    st.sampled_from([0, 60, 600, 1140]),
)
def test_any_shares_and_sizes(percent: tuple[int, int], rows: int, columns: int, strip: int) -> None:
    grid = _grid(1200 * rows + strip, 1200 * columns + strip)
    test, validation = (Fraction(part, 100) for part in percent)
    assume(not _is_tie(grid, test))
    assume(not _is_tie(grid, test + validation))
    splits = geographic_split(grid, validation=float(validation), test=float(test))
    assert splits.tolist() == _exact(grid, validation, test)


@pytest.mark.parametrize(
    ("validation", "test", "side"),
    [
        ("0.25", "0.25", 2400),  # the outermost centre lies on the inner border
        ("0.25", "0.25", 12_000 - 4800),
        ("0.39", "0.25", 6000),
        ("0.39", "0.25", 12_000),
        ("0.2", "0.16", 9000),
        ("0.24", "0.25", 12_000),
        ("0.01", "0.49", 12_000),
        ("0.01", "0.64", 6000),
        ("0.16", "0.09", 84_000),
        ("0.75", "0.06", 12_000),
        ("0.31", "0.5", 12_000),
    ],
)
def test_a_centre_on_a_border_belongs_to_the_inner_square(validation: str, test: str, side: int) -> None:
    grid = _grid(side, side)
    shares = Fraction(validation), Fraction(test)
    assert _is_tie(grid, shares[1]) or _is_tie(grid, sum(shares)), "the case has no patch on a border"
    splits = geographic_split(grid, validation=float(validation), test=float(test))
    assert splits.tolist() == _exact(grid, *shares)


def test_no_patches() -> None:
    assert geographic_split(_grid(0, 0), **QUARTERS).tolist() == []


def _shares(splits: np.ndarray) -> dict[str, float]:
    return {name: np.count_nonzero(splits == name) / len(splits) for name in SPLITS}


def _hash(name: str) -> str:
    return hashlib.blake2b(f"42/{name}".encode(), digest_size=8).hexdigest()


def test_hashes_are_those_of_their_definition() -> None:
    names = ["a", "é", "", NAMES[0]]
    assert seeded_hashes(names, 42).tolist() == [int(_hash(name), 16) for name in names]
    assert seeded_hashes([], 0).tolist() == []


def test_the_random_split_is_that_of_its_definition() -> None:
    draws = [Fraction(int(hash_, 16) >> 11, 2**53) for hash_ in map(_hash, NAMES)]
    expected = ["test" if draw < 0.1 else "validation" if draw < 0.3 else "train" for draw in draws]
    assert random_split(NAMES, validation=0.2, test=0.1, seed=42).tolist() == expected


@pytest.mark.parametrize(("validation", "test"), [(0.2, 0.2), (0.25, 0.25), (0.1, 0.2), (0.01, 0.98)])
def test_the_random_split_has_the_shares_asked_for(validation: float, test: float) -> None:
    wanted = {"train": 1 - validation - test, "validation": validation, "test": test}
    found = _shares(random_split(NAMES, validation=validation, test=test, seed=1))
    # Four standard deviations; nothing is left to luck, as names and seed are fixed.
    assert all(abs(found[name] - p) <= 4 * np.sqrt(p * (1 - p) / len(NAMES)) for name, p in wanted.items())


@given(st.permutations(range(40)), st.integers(0, 40))
def test_the_random_split_knows_neither_order_nor_partitions(order: list[int], cut: int) -> None:
    whole = random_split(NAMES[:40], **FIFTHS, seed=0)
    names = [NAMES[number] for number in order]
    parts = [random_split(part, **FIFTHS, seed=0) for part in (names[:cut], pd.Series(names[cut:], dtype="str"))]
    assert np.concatenate(parts).tolist() == whole[order].tolist()


def test_another_seed_is_another_random_split() -> None:
    one, other = (random_split(NAMES, **FIFTHS, seed=seed) for seed in (1, 2))
    # Of two independent draws, 0.36 + 0.04 + 0.04 agree.
    assert abs(np.mean(one == other) - 0.44) < 0.03


def test_blocks_of_the_grid_split() -> None:
    splits = grid_split(_grid(1200 * 5, 1200 * 7), block=2).reshape(7, 5).T
    assert ["".join(name[1] for name in row) for row in splits] == [
        "rraarra",
        "rraarra",
        "eerreer",
        "eerreer",
        "rraarra",
    ]


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 12))
def test_neighbouring_blocks_are_in_different_sets(rows: int, columns: int, block: int) -> None:
    splits = grid_split(_grid(1200 * rows, 1200 * columns), block=block).reshape(columns, rows)
    for lines in (splits, splits.T):
        for number, (line, following) in enumerate(pairwise(lines), 1):
            assert ((line == following) == (number % block != 0)).all()


@pytest.mark.parametrize("block", [1, 5, 10])
def test_shares_of_the_grid_split(block: int) -> None:
    assert _shares(grid_split(_grid(120_000, 120_000), block=block)) == {"train": 0.5, "validation": 0.25, "test": 0.25}


def test_a_full_tile_comes_near_to_the_shares_of_the_grid_split() -> None:
    found = _shares(grid_split(_grid(109_800, 109_800), block=1))
    assert all(abs(found[name] - wanted) < 0.01 for name, wanted in zip(SPLITS, (0.5, 0.25, 0.25), strict=True))


def test_a_block_without_patches() -> None:
    with pytest.raises(ValueError, match="block of 0 x 0 patches"):
        grid_split(_grid(12_000, 12_000), block=0)


def test_nothing_to_split() -> None:
    assert random_split([], **FIFTHS, seed=0).tolist() == []
    assert grid_split(_grid(0, 0), block=3).tolist() == []
