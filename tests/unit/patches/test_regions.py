"""The largest regions, against a flood fill and against scipy's labels of each class of each patch."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.nomenclature import Nomenclature, load_nomenclature
from reben_dask.patches.labels import class_counts, largest_regions

MINE = Nomenclature("mine", {1: "zebra", 2: "aardvark", 3: None, 4: "mole", 5: "mole"})
SIDE = 6


def _grid(rows: int, columns: int, patch_m: int = 10 * SIDE) -> PatchGrid:
    return PatchGrid(32633, 0, 0, ShapeYX(rows * patch_m + 10, columns * patch_m + 20), patch_m)


def _flood(patch: list[list[str | None]], name: str) -> int:
    """Pixels of the largest region, by walking it."""
    left = {(y, x) for y, row in enumerate(patch) for x, value in enumerate(row) if value == name}
    largest = 0
    while left:
        edge, region = [left.pop()], 1
        while edge:
            y, x = edge.pop()
            for neighbour in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if neighbour in left:
                    left.remove(neighbour)
                    edge.append(neighbour)
                    region += 1
        largest = max(largest, region)
    return largest


def _regions_of(picture: str, nomenclature: Nomenclature = MINE) -> dict[str, int]:
    codes = np.array([[int(code) for code in line] for line in picture.split()], np.uint16)
    grid = PatchGrid(32633, 0, 0, ShapeYX(10 * len(codes), 10 * len(codes)), 10 * len(codes))
    (found,) = largest_regions(codes, grid, nomenclature).tolist()
    return {name: count for name, count in zip(nomenclature.classes, found, strict=True) if count}


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        ("111111 111111 111111 111111 111111 111111", {"zebra": 36}),
        ("333333 333333 333333 333333 333333 333333", {}),
        ("121212 212121 121212 212121 121212 212121", {"zebra": 1, "aardvark": 1}),  # corners do not join
        ("444555 555444 333333 333333 333333 455555", {"mole": 12}),  # codes of one class do
        ("122221 122221 122221 122221 122221 111111", {"zebra": 16, "aardvark": 20}),  # joined far below
        ("211112 222212 211112 212222 211112 222222", {"zebra": 14, "aardvark": 22}),
        ("133333 313333 331333 333133 333313 333331", {"zebra": 1}),
        ("100000 300000 300000 300000 300000 099911", {"zebra": 2}),  # codes that the nomenclature lacks
    ],
)
def test_pictures(picture: str, expected: dict[str, int]) -> None:
    assert _regions_of(picture) == expected


@pytest.mark.parametrize("classes", [1, 800])
def test_many_classes(classes: int) -> None:
    """Numbers of classes in a row of patches may exceed 16 bits."""
    many = Nomenclature("many", {code: f"{code:03d}" for code in range(1, classes + 1)})
    codes = np.full((SIDE, 91 * SIDE), classes, np.uint16)
    grid = PatchGrid(32633, 0, 0, ShapeYX(10 * SIDE, 910 * SIDE), 10 * SIDE)
    assert largest_regions(codes, grid, many).tolist() == [[0] * (classes - 1) + [SIDE**2]] * 91


def test_a_region_ends_at_the_border_of_its_patch() -> None:
    codes = np.full((2 * SIDE + 1, 3 * SIDE + 2), 1, np.uint16)
    assert largest_regions(codes, _grid(2, 3), MINE).tolist() == [[0, 0, SIDE**2]] * 6


@given(
    hnp.arrays(
        np.uint16,
        st.tuples(st.integers(0, 3), st.integers(0, 3)).map(lambda n: (SIDE * n[0] + 1, SIDE * n[1] + 2)),
        elements=st.sampled_from([1, 1, 1, 2, 3, 4, 5, 999]),
    )
)
def test_regions_are_those_of_a_flood_fill(codes: np.ndarray) -> None:
    rows, columns = (length // SIDE for length in codes.shape)
    expected = []
    for x, y in product(range(columns), range(rows)):
        part = codes[SIDE * y : SIDE * (y + 1), SIDE * x : SIDE * (x + 1)].tolist()
        patch = [[MINE.class_of.get(code) for code in row] for row in part]
        expected.append([_flood(patch, name) for name in MINE.classes])
    found = largest_regions(codes, _grid(rows, columns), MINE)
    assert found.tolist() == expected
    assert found.shape == (rows * columns, 3)


@pytest.mark.parametrize("scale_px", [0, 2, 12])
def test_regions_are_those_of_scipy(scale_px: float) -> None:
    nomenclature = load_nomenclature("bigearthnet19")
    codes = _random_map(360, 480, scale_px, sorted(nomenclature.known_values))
    grid = PatchGrid(32633, 0, 0, ShapeYX(3700, 4850))
    index = nomenclature.class_index()[codes]
    found = largest_regions(codes, grid, nomenclature)
    for place, (x, y) in enumerate(product(range(4), range(3))):
        patch = index[120 * y : 120 * (y + 1), 120 * x : 120 * (x + 1)]
        for number in range(len(nomenclature.classes)):
            labels, _ = ndimage.label(patch == number + 1)
            sizes = np.bincount(labels.ravel())[1:]
            assert found[place, number] == max(sizes, default=0)
    assert ((found > 0) == (class_counts(codes, grid, nomenclature)[:, 1:] > 0)).all()


@pytest.mark.parametrize("shape", [ShapeYX(0, 0), ShapeYX(1200, 600), ShapeYX(600, 1200)])
def test_no_patches(shape: ShapeYX) -> None:
    codes = np.zeros((shape.y // 10, shape.x // 10), np.uint16)
    found = largest_regions(codes, PatchGrid(32633, 0, 0, shape), MINE)
    assert found.shape == (0, 3)
    assert found.dtype == np.int64


def _random_map(height: int, width: int, scale_px: float, codes: list[int]) -> np.ndarray:
    """Blobs of the given size; noise if it is 0."""
    rng = np.random.default_rng(int(scale_px))
    chosen = rng.permutation(codes)[:12]
    fields = [ndimage.gaussian_filter(rng.standard_normal((height, width)), scale_px) for _ in chosen]
    return chosen[np.argmax(fields, axis=0)].astype(np.uint16)
