"""Blocks of patches on their way to a Zarr store: whole shards, and nothing is lost between them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from published_trees import EPSG, PATCH_M, ULX, ULY

from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.stores.cube_blocks import divide, write_block
from reben_dask.stores.cubes import CubeLayout, create_cube, create_store


def test_blocks_are_whole_shards() -> None:
    layout = CubeLayout("T", PatchGrid(EPSG, 0, 0, ShapeYX(109_800, 109_800)), {}, {})
    cells = {(x, y): f"{x} {y}" for x in range(0, 91, 7) for y in range(0, 91, 3)}
    blocks = divide(layout, cells)
    assert len({block.name for block in blocks}) == len(blocks) == 49
    found = {}
    for block in blocks:
        assert block.corner.x % 13 == block.corner.y % 13 == 0
        for x, y, patch in block.patches:
            assert 0 <= x - block.corner.x < 13
            assert 0 <= y - block.corner.y < 13
            found[x, y] = patch
    assert found == cells


@pytest.mark.parametrize("side", [1, 5, 13, 20, 27])
def test_blocks_of_any_grid_fill_it(tmp_path: Path, side: int) -> None:
    grid = PatchGrid(EPSG, ULX, ULY, ShapeYX(PATCH_M * side + 600, PATCH_M * (side + 1)))
    layout = CubeLayout("T", grid, {60: ("B01", "B09")}, {})
    create_store(tmp_path / "s.zarr", {})
    create_cube(tmp_path / "s.zarr", layout)
    expected = np.random.default_rng(side).integers(1, 9999, (2, *grid.shape_px_yx(60)), np.uint16)
    codes = np.random.default_rng(side).integers(100, 500, grid.shape_px_yx(10), np.uint16)
    for block in divide(layout, {(x, y): None for x in range(side + 1) for y in range(side)}):
        patches = []
        for x, y, _ in block.patches:
            here = np.s_[y * 20 : (y + 1) * 20, x * 20 : (x + 1) * 20]
            there = np.s_[y * 120 : (y + 1) * 120, x * 120 : (x + 1) * 120]
            images = {"B01": expected[0][here], "B09": expected[1][here], "reference_map": codes[there]}
            patches.append((x, y, images))
        write_block(tmp_path / "s.zarr", layout, block.corner, patches)
    assert (zarr.open_array(tmp_path / "s.zarr" / "T" / "r60m" / "dn")[:] == expected).all()
    assert (zarr.open_array(tmp_path / "s.zarr" / "T" / "reference_map" / "reference_map")[:] == codes).all()


def test_a_part_of_a_shard_is_refused(tmp_path: Path) -> None:
    layout = CubeLayout("T", PatchGrid(EPSG, 0, 0, ShapeYX(109_800, 109_800)), {}, {})
    with pytest.raises(ValueError, match="not a whole number of shards of 13 patches"):
        write_block(tmp_path, layout, ShapeYX(0, 12), [])
