"""From published trees to a Zarr store: every patch at its place, fill elsewhere, whole shards only."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr
from click.testing import CliRunner
from digest import contents_of_store
from published_trees import EPSG, MAPS, PATCH_M, S2, TILE, ULX, ULY, pixels_of, write_patch, write_tree

from reben_dask.cli.convert import convert as command
from reben_dask.errors import InputError, OutputError
from reben_dask.formats.cube import CubeLayout
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.job import convert, convert_cubes
from reben_dask.job.convert import task_runner
from reben_dask.job.convert_cubes import convert_to_cubes, divide, plan_cubes
from reben_dask.sources.published.trees import PublishedTree, find_patches
from reben_dask.stores.cubes import create_cube, create_store, write_block
from reben_dask.workspace import Workspace

BANDS = {10: ("B02", "B03", "B04", "B08"), 20: ("B05", "B06", "B07", "B8A", "B11", "B12"), 60: ("B01", "B09")}
V1 = "S2A_MSIL2A_20170613T101031"


def _pixel_files(store: Path) -> list[str]:
    names = [str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()]
    return [name for name in names if "/c/" in name and name.split("/c/")[0].endswith(("dn", "reference_map"))]


def _convert(trees: Sequence[PublishedTree], store: Path, *advance: Callable[[int], None]) -> int:
    with task_runner(sum(len(tree.patches) for tree in trees), 2) as run:
        return convert_to_cubes(plan_cubes(trees, run), store, run, *advance)


def _maps(root: Path, cells: list[tuple[int, int]]) -> PublishedTree:
    return find_patches(write_tree(root, MAPS, cells), MAPS)


def _file(tree: PublishedTree, number: int) -> Path:
    return Path(tree.patches[number].path("reference_map"))


# Stores


def test_published_trees(data_dir: Path, tmp_path: Path) -> None:
    trees = data_dir / "bigearthnet"
    options = ["--s2", trees / "BigEarthNet-S2", "--maps", trees / "Reference_Maps", "--zarr", tmp_path / "c.zarr"]
    result = CliRunner().invoke(command, [*map(str, options), "--workers", "2"])
    assert result.exit_code == 0, result.output
    tile = xr.open_datatree(tmp_path / "c.zarr", engine="zarr")[TILE]
    assert set(tile) == {"r10m", "r20m", "r60m", "reference_map"}
    for resolution, bands in BANDS.items():
        node = tile[f"r{resolution}m"]
        assert tuple(node["band"].to_numpy()) == bands
        assert node["dn"].shape == (len(bands), *2 * [109_200 // resolution])
        for band in bands:
            path = next(trees.rglob(f"{TILE}_75_43_{band}.tif"))
            with rasterio.open(path) as file:
                expected, place, epsg = file.read(1), file.transform, file.crs.to_epsg()
            side = PATCH_M // resolution
            image = node["dn"].sel(band=band)[43 * side : 44 * side, 75 * side : 76 * side]
            assert (image.to_numpy() == expected).all()
            assert float(image.x[0]) == place.c + resolution / 2
            assert float(image.y[0]) == place.f - resolution / 2
            assert node["dn"].rio.crs.to_epsg() == epsg
        assert int((node["dn"].isel(band=0) != 0).sum()) <= side * side
    with rasterio.open(next((trees / "Reference_Maps").rglob("*.tif"))) as file:
        codes = file.read(1)
    found = tile["reference_map"]["reference_map"].to_numpy()
    assert (found[57 * 120 : 58 * 120, 26 * 120 : 27 * 120] == codes).all()
    assert int((found != 999).sum()) == int((codes != 999).sum())
    # Shards without a patch are not written.
    assert len(_pixel_files(tmp_path / "c.zarr")) == 13


@pytest.mark.slow
def test_names_of_version_1_do_not_tell_tiles_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One product of version 1 may stand for several tiles; where a patch lies tells which."""
    monkeypatch.setattr(convert, "SMALL", 0)
    monkeypatch.setattr(convert_cubes, "PLACES_PER_TASK", 1)
    for y, origin, epsg in ((3, (ULX, ULY), EPSG), (4, (ULX, ULY), EPSG), (5, (499_980, 4_200_000), 32634)):
        write_patch(tmp_path / "v1", S2, f"{V1}_7_{y}", origin=origin, epsg=epsg)
    assert _convert([find_patches(tmp_path / "v1", S2)], tmp_path / "c.zarr") == 2
    store = zarr.open_group(tmp_path / "c.zarr", mode="r")
    assert sorted(store.group_keys()) == [f"{V1}_32633_300000_5400000", f"{V1}_32634_499980_4200000"]
    for group, rows in ((f"{V1}_32633_300000_5400000", (3, 4)), (f"{V1}_32634_499980_4200000", (5,))):
        image = store[group]["r60m"]["dn"][0]
        for y in rows:
            assert (image[y * 20 : (y + 1) * 20, 140:160] == pixels_of(S2, f"{V1}_7_{y}", "B01")).all()
        assert int((image != 0).sum()) == 400 * len(rows)


def test_version_1_lies_in_the_published_tiles(data_dir: Path, tmp_path: Path) -> None:
    tree = find_patches(data_dir / "bigearthnet-v1", S2)
    assert _convert([tree], tmp_path / "c.zarr") == 5
    with (data_dir / "bigearthnet" / "tile_origins.csv").open() as file:
        origins = {row["mgrs"]: "_".join((row["epsg"], row["ox"], row["oy"])) for row in csv.DictReader(file)}
    # The list has no T35VPK; its corner follows from the rule for every tile.
    origins["T35VPK"] = "32635_600000_7000020"
    assert sorted(path.name for path in (tmp_path / "c.zarr").iterdir() if path.is_dir()) == [
        f"S2A_MSIL2A_20170613T101031_{origins['T33UUP']}",
        f"S2A_MSIL2A_20170617T113321_{origins['T29UPU']}",
        f"S2A_MSIL2A_20171221T112501_{origins['T29SND']}",
        f"S2B_MSIL2A_20170924T93020_{origins['T35VPK']}",
        f"S2B_MSIL2A_20180204T94161_{origins['T35VPK']}",
    ]


def test_maps_alone(tmp_path: Path) -> None:
    _convert([_maps(tmp_path / "maps", [(0, 0), (90, 90)])], tmp_path / "c.zarr")
    tile = zarr.open_group(tmp_path / "c.zarr", mode="r")[TILE]
    assert sorted(tile.group_keys()) == ["reference_map"]
    codes = tile["reference_map"]["reference_map"]
    assert (codes[:120, :120] == pixels_of(MAPS, f"{TILE}_00_00", "reference_map")).all()
    assert (codes[-120:, -120:] == pixels_of(MAPS, f"{TILE}_90_90", "reference_map")).all()
    assert (codes[120:240, :] == 999).all()
    assert len(_pixel_files(tmp_path / "c.zarr")) == 2


# Interruptions

KILLED_AT = """
import os, signal, sys
from pathlib import Path
from reben_dask.formats.bands import ImageKind
from reben_dask.job.convert import task_runner
from reben_dask.job.convert_cubes import convert_to_cubes, plan_cubes
from reben_dask.sources.published.trees import find_patches

if __name__ == "__main__":
    steps = []

    def advance(more):
        steps.append(more)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    with task_runner(1) as run:
        plan = plan_cubes([find_patches(Path(sys.argv[1]), ImageKind.MAP)], run)
        convert_to_cubes(plan, Path(sys.argv[2]), run, advance)
"""


@pytest.mark.slow
def test_a_killed_conversion_goes_on_where_it_stopped(tmp_path: Path) -> None:
    tree = _maps(tmp_path / "maps", [(0, 0), (14, 0), (14, 12), (0, 13), (90, 90)])
    _convert([tree], tmp_path / "whole.zarr")
    (tmp_path / "killed.py").write_text(KILLED_AT)
    command = [sys.executable, tmp_path / "killed.py", tree.root, tmp_path / "c.zarr"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "c.zarr").exists()
    steps: list[int] = []
    _convert([tree], tmp_path / "c.zarr", steps.append)
    # Two blocks, of one and two patches in the order of their corners, were written before.
    assert steps == [3, 1, 1]
    assert contents_of_store(tmp_path / "c.zarr") == contents_of_store(tmp_path / "whole.zarr")
    assert not Workspace(tmp_path / "c.zarr").building.exists()


def test_a_damaged_file_costs_its_block_alone(tmp_path: Path) -> None:
    tree = _maps(tmp_path / "maps", [(0, 0), (1, 1), (40, 40)])
    path = _file(tree, 1)
    intact = path.read_bytes()
    path.write_bytes(intact[:-40])
    with pytest.raises(InputError, match=f"^{path} cannot be decoded .+ 1 of 2 blocks of patches could not be written"):
        _convert([tree], tmp_path / "c.zarr")
    path.write_bytes(intact)
    # What is written already is not asked for again.
    kept = _file(tree, 2)
    kept.write_bytes(kept.read_bytes()[:-40])
    steps: list[int] = []
    _convert([tree], tmp_path / "c.zarr", steps.append)
    assert steps == [1, 2]


def test_a_tree_that_has_changed_since(tmp_path: Path) -> None:
    tree = _maps(tmp_path / "maps", [(0, 0), (40, 40), (80, 80)])
    path = _file(tree, 2)
    intact = path.read_bytes()
    path.write_bytes(intact[:-40])
    with pytest.raises(InputError, match="cannot be decoded"):
        _convert([tree], tmp_path / "c.zarr")
    path.write_bytes(intact)
    with pytest.raises(OutputError, match="holds patches that are no longer in the inputs"):
        _convert([PublishedTree(MAPS, tree.root, tree.patches[1:])], tmp_path / "c.zarr")
    with pytest.raises(OutputError, match="unfinished conversion of other inputs"):
        _convert([_maps(tmp_path / "other", [(0, 0)])], tmp_path / "c.zarr")
    grown = _maps(tmp_path / "maps", [(1, 1)])
    steps: list[int] = []
    _convert([grown], tmp_path / "c.zarr", steps.append)
    assert sorted(steps) == [1, 1, 2]
    _convert([grown], tmp_path / "whole.zarr")
    assert contents_of_store(tmp_path / "c.zarr") == contents_of_store(tmp_path / "whole.zarr")


# Patches that are not where they should be


def _cells(tree: Path, names: dict[str, tuple[int, int]]) -> PublishedTree:
    for name, origin in names.items():
        write_patch(tree, MAPS, name, origin=origin)
    return find_patches(tree, MAPS)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({f"{TILE}_1_1": (ULX, ULY), f"{TILE}_1_2": (ULX + 10, ULY)}, "name the same tile, but do not lie in one"),
        ({f"{TILE}_01_01": (ULX, ULY), f"{TILE}_1_1": (ULX, ULY)}, "are the same patch of the same tile"),
        ({f"{TILE}_91_01": (ULX, ULY)}, f"{TILE}_91_01 is not in a tile, which has 91 x 91 patches"),
        ({f"{TILE}_1_1": (ULX + 0.5, ULY)}, "_reference_map.tif is not positioned as patches of its kind"),
        ({f"{TILE}_001_1": (ULX, ULY)}, "its indices 001 and 1 are padded differently"),
    ],
)
def test_names_and_places_have_to_agree(tmp_path: Path, names: dict[str, tuple[int, int]], message: str) -> None:
    tree = _cells(tmp_path / "maps", names)
    with pytest.raises(InputError, match=message):
        _convert([tree], tmp_path / "c.zarr")
    assert not (tmp_path / "c.zarr").exists()


def test_a_map_of_another_place_than_its_bands(tmp_path: Path) -> None:
    write_patch(tmp_path / "s2", S2, f"{TILE}_01_01")
    write_patch(tmp_path / "maps", MAPS, f"{TILE}_01_01", epsg=32634)
    trees = [find_patches(tmp_path / "s2", S2), find_patches(tmp_path / "maps", MAPS)]
    with pytest.raises(InputError, match="do not lie in one; their files are mixed up"):
        _convert(trees, tmp_path / "c.zarr")


# Blocks


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
