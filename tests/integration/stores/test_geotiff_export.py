"""The trees of GeoTIFFs of finished datasets: the source's pixels in their places, under the published names, and the
archives that unpack to them."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import geopandas as gpd
import lmdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
import xarray as xr
from distributed import Client
from patch_tables import with_nulls
from rasterio.windows import Window
from safetensors.numpy import load

from reben_dask.demo import DemoRegion
from reben_dask.formats.cube import CubeLayout
from reben_dask.formats.names import TileName
from reben_dask.formats.trees import LAYOUTS, Contents
from reben_dask.formats.trees.bigearthnet_v2 import MAP_TREE, S1_TREE, S2_TREE
from reben_dask.formats.trees.layout import Group
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.job.tasks import export_tile_archive, export_tile_tree, join_archives
from reben_dask.nomenclature import load_nomenclature
from reben_dask.patches.candidates import Scene, candidate_patches
from reben_dask.recipes import load_recipe
from reben_dask.stores import trees as geotiff_archive
from reben_dask.stores import trees as geotiff_export
from reben_dask.stores.cubes import create_cube, create_store, write_band, write_reference_map
from reben_dask.stores.patch_table import part_files, write_part
from reben_dask.stores.trees import PatchFolder, join_parts, patch_folders, write_parts, write_tree

RESOLUTION_M = {
    **dict.fromkeys(("B02", "B03", "B04", "B08"), 10),
    **dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12"), 20),
    **dict.fromkeys(("B01", "B09"), 60),
}
STRIP_ROWS = {10: 34, 20: 60, 60: 20}
LAYOUT = LAYOUTS["bigearthnet-v2"](
    Contents(load_nomenclature("bigearthnet19"), tuple(RESOLUTION_M), has_sentinel1=True)
)
TREE = {tree.name: tree for tree in LAYOUT.trees}
TREES = (S2_TREE, S1_TREE, MAP_TREE)
PUBLISHED_NAMES = {
    S2_TREE: r"BigEarthNet-S2/(S2[AB]_MSIL2A_\d{8}T\d{6}_N\d{4}_R\d{3}_T\w{5})/(\1_\d+_\d+)/\2_B(\d\d|8A)\.tif",
    S1_TREE: r"BigEarthNet-S1/(S1[AB]_IW_GRDH_1SDV_\d{8}T\d{6})/(\1_\w{5}_\d+_\d+)/\2_V[HV]\.tif",
    MAP_TREE: r"Reference_Maps/(S2[AB]_MSIL2A_\d{8}T\d{6}_N\d{4}_R\d{3}_T\w{5})/(\1_\d+_\d+)/\2_reference_map\.tif",
}


def _export(run: Path, root: Path, trees: Iterable[str] = TREES) -> Path:
    for part in part_files(run / "patches.parquet"):
        for tree in trees:
            write_tree(patch_folders(run / "cubes.zarr", part, TREE[tree]), root)
    return root


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _kept(run: Path) -> list[dict[str, Any]]:
    rows = pq.read_table(run / "patches.parquet", filters=[("status", "=", "kept")]).to_pylist()
    return sorted(rows, key=lambda row: row["patch_id"])


def _path(row: dict[str, Any], band: str = "") -> str:
    """Required path of a file of the trees of Sentinel-2 and of maps."""
    tree, suffix = (S2_TREE, band) if band else (MAP_TREE, "reference_map")
    return f"{tree}/{row['tile']}/{row['patch_id']}/{row['patch_id']}_{suffix}.tif"


@pytest.fixture(scope="module")
def trees(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _export(small_run, tmp_path_factory.mktemp("trees"))


# The published layout


def test_every_kept_patch_has_its_files_and_no_others(small_run: Path, trees: Path) -> None:
    kept = _kept(small_run)
    assert kept
    found = set(_files(trees))
    assert found == {_path(row, band) for row in kept for band in [*RESOLUTION_M, ""]}
    for path in found:
        assert re.fullmatch(PUBLISHED_NAMES[path.split("/", maxsplit=1)[0]], path), path


def test_patches_listed_apart_are_published_too(small_run: Path, trees: Path) -> None:
    apart = pq.read_table(small_run / "metadata_for_patches_with_snow_cloud_or_shadow.parquet").to_pylist()
    assert apart
    for patch in apart:
        assert len(list(trees.glob(f"*/*/{patch['patch_id']}/*.tif"))) == 13


def test_names_are_those_of_the_published_files(data_dir: Path) -> None:
    for tree, name in PUBLISHED_NAMES.items():
        published = [
            str(path.relative_to(data_dir / "bigearthnet"))
            for path in (data_dir / "bigearthnet" / tree).rglob("*")
            if path.is_file()
        ]
        assert published
        assert all(re.fullmatch(name, path) for path in published)


# Against the source


def test_bands_are_windows_of_the_source(small_region: DemoRegion, small_run: Path, trees: Path) -> None:
    kept = [
        row for row in _kept(small_run) if row["tile"].startswith("S2A_MSIL2A_20180725") and "T33UVP" in row["tile"]
    ]
    assert kept
    for band, resolution in RESOLUTION_M.items():
        (source,) = small_region.s2.glob(
            f"{kept[0]['tile']}_*/GRANULE/*/IMG_DATA/R{resolution}m/*_{band}_{resolution}m.jp2"
        )
        side = 1200 // resolution
        with rasterio.open(source) as product:
            whole = product.read(1)
            for row in kept:
                x, y = (int(number) for number in row["patch_id"].rsplit("_", 2)[1:])
                window = Window(x * side, y * side, side, side)
                with rasterio.open(trees / _path(row, band)) as image:
                    np.testing.assert_array_equal(image.read(1), whole[window.toslices()], err_msg=image.name)
                    assert image.crs == product.crs
                    assert image.transform == product.window_transform(window)
                    assert (image.nodata, image.dtypes) == (0, ("uint16",))
                    assert image.block_shapes == [(STRIP_ROWS[resolution], side)]
                    assert image.compression is None


def test_trees_hold_what_the_lmdb_holds(small_run: Path, trees: Path) -> None:
    kept = _kept(small_run)
    with (
        lmdb.open(str(small_run / "lmdb"), readonly=True, lock=False) as environment,
        environment.begin() as transaction,
    ):
        for row in kept:
            values = load(transaction.get(row["patch_id"].encode()))
            values[""] = load(transaction.get(f"{row['patch_id']}_reference_map".encode()))["Data"]
            assert len(values) == 13
            for band, expected in values.items():
                with rasterio.open(trees / _path(row, band)) as image:
                    np.testing.assert_array_equal(image.read(1), expected, err_msg=image.name)
                    assert image.crs.to_epsg() == row["epsg"]
                    assert image.bounds == (row["minx"], row["miny"], row["maxx"], row["maxy"])


def test_labels_follow_from_the_maps(small_run: Path, trees: Path) -> None:
    class_of = load_nomenclature("bigearthnet19").class_of
    for row in _kept(small_run):
        with rasterio.open(trees / _path(row)) as codes:
            assert (codes.nodata, codes.dtypes, codes.block_shapes) == (0, ("uint16",), [(34, 120)])
            assert codes.tags(ns="IMAGE_STRUCTURE")["COMPRESSION"] == "DEFLATE"
            assert codes.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "2"
            found = {class_of.get(code) for code in np.unique(codes.read(1)).tolist()}
        assert sorted(filter(None, found)) == row["labels"]


# Sentinel-1, and patches of several tiles


BANDS = {10: ("B02",), 60: ("B01",)}


class _Region:
    """Three tiles of 12 x 2 patches in a store and a patch table; two have Sentinel-1 pixels for most patches."""

    SCENES = ("S1A_IW_GRDH_1SDV_20170613T165043", "S1B_IW_GRDH_1SDV_20170612T165809")

    def __init__(self, folder: Path) -> None:
        self.store, self.table = folder / "cubes.zarr", folder / "patches.parquet"
        self.radar: dict[str, np.ndarray] = {}
        create_store(self.store, {})
        for number, mgrs in enumerate(("33UUP", "33UVP", "33UWP")):
            self._add(f"S2A_MSIL2A_2017061{number}T101031_N9999_R022_T{mgrs}", mgrs, number)
        self.parts = part_files(self.table)

    def _add(self, tile: str, mgrs: str, number: int) -> None:
        grid = PatchGrid(32633, 300_000 + 100_000 * number, 5_400_000, ShapeYX(2_400, 14_400))
        random = np.random.default_rng(number)
        layout = CubeLayout(tile, grid, BANDS, {})
        create_cube(self.store, layout)
        for resolution, (band,) in BANDS.items():
            write_band(self.store, layout, band, random.integers(1, 9_999, grid.shape_px_yx(resolution), np.uint16))
        write_reference_map(self.store, layout, random.integers(111, 523, grid.shape_px_yx(10), np.uint16))
        patches = candidate_patches(
            Scene(TileName(tile, ""), datetime(2017, 6, 13, tzinfo=UTC), (grid,), None), load_recipe("reben")
        ).assign(status="kept")
        if number < 2:
            # The western half is from one scene, the eastern from another; one patch has no partner.
            patches["s1_name"] = [
                f"{self.SCENES[x >= 6]}_{mgrs}_{x}_{y}" for x, y in zip(patches["x"], patches["y"], strict=True)
            ]
            patches.loc[3, "s1_name"] = None
            decibels = random.uniform(-30, 5, (2, *grid.shape_px_yx(10))).astype(np.float32)
            self._write_radar(tile, decibels)
            self._expect(patches, decibels)
        write_part(with_nulls(patches), self.table, [])

    def _write_radar(self, tile: str, decibels: np.ndarray) -> None:
        radar = xr.Dataset(
            {"db": (("polarisation", "y", "x"), decibels)},
            coords={"polarisation": np.array(["VH", "VV"], object)},
        )
        encoding = {"db": {"chunks": (1, 120, 120), "fill_value": np.nan}}
        radar.to_zarr(self.store, group=f"{tile}/s1", zarr_format=3, consolidated=False, encoding=encoding)

    def _expect(self, patches: pd.DataFrame, decibels: np.ndarray) -> None:
        for row in patches[patches["s1_name"].notna()].itertuples():
            cut = np.s_[row.y * 120 : (row.y + 1) * 120, row.x * 120 : (row.x + 1) * 120]
            for band, image in zip(("VH", "VV"), decibels, strict=True):
                scene = row.s1_name.rsplit("_", 3)[0]
                self.radar[f"{S1_TREE}/{scene}/{row.s1_name}/{row.s1_name}_{band}.tif"] = image[cut]

    def folders(self, tree: str, parts: Iterable[Path] | None = None) -> Iterator[PatchFolder]:
        for part in parts or self.parts:
            yield from patch_folders(self.store, part, TREE[tree])


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> _Region:
    return _Region(tmp_path_factory.mktemp("region"))


def test_sentinel_1_is_named_after_its_own_scenes(region: _Region, tmp_path: Path) -> None:
    write_tree(region.folders(S1_TREE), tmp_path)
    assert set(_files(tmp_path)) == set(region.radar)
    assert len(region.radar) == 2 * (24 - 1) * 2
    for path, expected in region.radar.items():
        assert re.fullmatch(PUBLISHED_NAMES[S1_TREE], path)
        mgrs, x, y = path.split("/")[2].rsplit("_", 3)[1:]
        left, top = {"33UUP": 300_000, "33UVP": 400_000}[mgrs] + 1200 * int(x), 5_400_000 - 1200 * int(y)
        with rasterio.open(tmp_path / path) as image:
            np.testing.assert_array_equal(image.read(1), expected, err_msg=path)
            assert (image.nodata, image.dtypes, image.compression) == (None, ("float32",), None)
            assert image.block_shapes == [(17, 120)]
            assert image.crs.to_epsg() == 32633
            assert tuple(image.transform)[:6] == (10, 0, left, 0, -10, top)


@pytest.mark.parametrize("tree", TREES)
def test_patches_and_files_come_in_the_order_of_their_names(region: _Region, tree: str) -> None:
    for part in region.parts:
        folders = list(patch_folders(region.store, part, TREE[tree]))
        paths = [f"{folder.path}/{name}" for folder in folders for name, _ in folder.files]
        assert paths == sorted(paths)
        assert [folder.run for folder in folders] == sorted(folder.run for folder in folders)


def test_a_partner_of_two_acquisitions_is_published_once(region: _Region, tmp_path: Path) -> None:
    """Sentinel-2 comes by more often than Sentinel-1, so one scene may be the closest to two dates."""
    first = region.parts[0]
    again = first.stem.replace("20170610", "20170615")
    shutil.copytree(region.store / first.stem, tmp_path / "cubes.zarr" / first.stem)
    shutil.copytree(region.store / first.stem, tmp_path / "cubes.zarr" / again)
    early = gpd.read_parquet(first)
    late = early.assign(
        tile=again, patch_id=early["patch_id"].str.replace(first.stem, again), status=["rejected"] * 2 + ["kept"] * 22
    )
    early["status"] = ["rejected"] + ["kept"] * 23
    parts = [write_part(patches, tmp_path / "patches.parquet", []) for patches in (late, early)]
    folders = {part: list(patch_folders(tmp_path / "cubes.zarr", part, TREE[S1_TREE])) for part in parts}
    assert len(folders[parts[1]]) == 22
    assert folders[parts[0]] == []
    late["status"], early["status"] = early["status"], late["status"]
    parts = [write_part(patches, tmp_path / "patches.parquet", []) for patches in (late, early)]
    folders = {part: list(patch_folders(tmp_path / "cubes.zarr", part, TREE[S1_TREE])) for part in parts}
    assert len(folders[parts[1]]) == 21
    assert [folder.name for folder in folders[parts[0]]] == [early["s1_name"][1]]
    for tree in (S2_TREE, MAP_TREE):
        assert [len(list(patch_folders(tmp_path / "cubes.zarr", part, TREE[tree]))) for part in parts] == [23, 22]


def test_a_tile_without_sentinel_1_has_no_such_files(region: _Region, small_run: Path) -> None:
    for part in part_files(small_run / "patches.parquet"):
        assert not list(patch_folders(small_run / "cubes.zarr", part, TREE[S1_TREE]))
    assert not list(region.folders(S1_TREE, region.parts[2:]))


def test_names_of_partners_without_their_pixels_give_no_files(region: _Region, tmp_path: Path) -> None:
    """A table that names partners, beside a store without Sentinel-1."""
    tile = region.parts[0].stem
    shutil.copytree(region.store / tile, tmp_path / tile, ignore=shutil.ignore_patterns("s1"))
    assert not list(patch_folders(tmp_path, region.parts[0], TREE[S1_TREE]))
    assert len(list(patch_folders(tmp_path, region.parts[0], TREE[S2_TREE]))) == 24


def test_a_tile_that_failed_has_no_files_and_needs_no_cube(small_run: Path) -> None:
    parts = part_files(small_run / "patches.parquet")
    missing = [part for part in parts if not (small_run / "cubes.zarr" / part.stem).exists()]
    assert missing
    for part in missing:
        for tree in TREES:
            assert not list(patch_folders(small_run / "cubes.zarr", part, TREE[tree]))


# Archives


def _members(archive: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Members of an archive as Python reads them; nothing comes after the end mark of two empty blocks."""
    with pa.CompressedInputStream(pa.OSFile(str(archive)), "zstd") as stream:
        unpacked = stream.read()
    with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as file:
        members = [(info, file.extractfile(info).read() if info.isreg() else b"") for info in file]
    end = max((info.offset_data + -(-info.size // 512) * 512 for info, _ in members), default=0)
    assert unpacked[end:] == bytes(1_024)
    return members


def _archives(region: _Region, root: Path, parts: Iterable[Path] | None = None) -> dict[str, Path]:
    for part in parts or region.parts:
        for tree in TREES:
            write_parts(patch_folders(region.store, part, TREE[tree]), root / "parts", part.stem)
    for tree in TREES:
        join_parts(root / "parts", tree, root / f"{tree}.tar.zst")
    return {tree: root / f"{tree}.tar.zst" for tree in TREES}


@pytest.fixture(scope="module")
def loose(region: _Region, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("loose")
    for tree in TREES:
        write_tree(region.folders(tree), root)
    return _files(root)


@pytest.fixture(scope="module")
def archives(region: _Region, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return _archives(region, tmp_path_factory.mktemp("archives"))


@pytest.mark.parametrize("tree", TREES)
def test_an_archive_has_the_files_of_its_tree_in_the_order_of_their_names(
    archives: dict[str, Path], loose: dict[str, bytes], tree: str
) -> None:
    members = _members(archives[tree])
    names = [info.name for info, _ in members]
    assert names == sorted(path for path in loose if path.startswith(f"{tree}/"))
    assert {info.name: content for info, content in members} == {name: loose[name] for name in names}


def test_members_have_a_fixed_owner_time_and_mode(archives: dict[str, Path]) -> None:
    for archive in archives.values():
        for info, _ in _members(archive):
            assert info.isreg()
            assert (info.uid, info.gid, info.uname, info.gname) == (0, 0, "", "")
            assert datetime.fromtimestamp(info.mtime, UTC) == datetime(2024, 1, 1, tzinfo=UTC)
            assert info.mode == 0o644
            assert not info.pax_headers
            assert len(info.name) > 100


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_flipped_bit_of_an_archive_is_noticed(archives: dict[str, Path], tmp_path: Path, share: float) -> None:
    """Frames of zstd with a checksum: pixels are stored nearly as they are, and any other pixel could be decoded."""
    content = bytearray(archives[S2_TREE].read_bytes())
    content[int(share * len(content))] ^= 1
    (tmp_path / "damaged.tar.zst").write_bytes(content)
    with pytest.raises(OSError, match=r"checksum|corruption"):
        _members(tmp_path / "damaged.tar.zst")


@pytest.mark.parametrize("tree", TREES)
def test_tar_unpacks_an_archive_to_the_published_layout(
    archives: dict[str, Path], loose: dict[str, bytes], tmp_path: Path, tree: str
) -> None:
    if not (shutil.which("tar") and shutil.which("zstd")):
        pytest.skip("tar and zstd are not installed")
    command = ["tar", "--zstd", "-xf", archives[tree], "-C", tmp_path]  # as the authors' site says
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not done.stderr
    assert _files(tmp_path) == {path: content for path, content in loose.items() if path.startswith(f"{tree}/")}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*.tif")} <= {0o644, 0o600, 0o640}


@pytest.mark.parametrize("order", [lambda parts: parts[::-1], lambda parts: [parts[1], parts[2], parts[0], parts[1]]])
def test_the_same_bytes_whatever_the_order_of_tiles(
    region: _Region, archives: dict[str, Path], tmp_path: Path, order: Callable[[list[Path]], list[Path]]
) -> None:
    again = _archives(region, tmp_path, order(region.parts))
    for tree, archive in archives.items():
        assert again[tree].read_bytes() == archive.read_bytes()


@pytest.mark.parametrize("frame_bytes", [1, 100_000, 10**9])
def test_the_size_of_frames_changes_nothing_but_their_number(
    region: _Region, archives: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frame_bytes: int
) -> None:
    monkeypatch.setattr(geotiff_archive, "FRAME_BYTES", frame_bytes)
    again = _archives(region, tmp_path)
    for tree, archive in archives.items():
        found = [(info.name, info.offset_data, content) for info, content in _members(again[tree])]
        assert found == [(info.name, info.offset_data, content) for info, content in _members(archive)]


def test_frames_are_no_larger_than_asked_for_and_one_patch(region: _Region, monkeypatch: pytest.MonkeyPatch) -> None:
    """So much memory is needed, whatever the size of a tile."""
    sizes = []
    monkeypatch.setattr(geotiff_archive, "FRAME_BYTES", 100_000)
    monkeypatch.setattr(geotiff_archive, "_compress", lambda members: sizes.append(len(members)) or b"")
    folders = list(region.folders(S2_TREE))
    assert not list(filter(None, geotiff_archive._frames(folders)))
    patch = max(sum(len(content) + 1_024 for _, content in folder.files) for folder in folders)
    assert len(sizes) > 5
    assert max(sizes) <= 100_000 + patch


def test_patches_of_one_scene_that_several_tiles_share_stand_together(region: _Region, tmp_path: Path) -> None:
    """A published Sentinel-1 scene has patches of up to three tiles; the order is that of scenes all the same."""
    for part in region.parts:
        write_parts(patch_folders(region.store, part, TREE[S1_TREE]), tmp_path, part.stem)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {
        f"{S1_TREE}/{scene}_{mgrs}/{part.stem}.tar.zst"
        for scene in region.SCENES
        for mgrs, part in zip(("33UUP", "33UVP"), region.parts, strict=False)
    }


def test_an_archive_without_patches_holds_the_folder_of_the_tree(tmp_path: Path) -> None:
    assert join_parts(tmp_path / "parts", S1_TREE, tmp_path / "empty.tar.zst") == 0
    _require_folder_alone(tmp_path / "empty.tar.zst", S1_TREE)


def _require_folder_alone(archive: Path, name: str) -> None:
    ((info, content),) = _members(archive)
    assert (info.name, info.isdir(), info.mode, content) == (name, True, 0o755, b"")


def test_what_was_interrupted_does_not_appear(region: _Region, tmp_path: Path) -> None:
    def folders() -> Iterator[PatchFolder]:
        yield from list(region.folders(S2_TREE, region.parts[:1]))[:5]
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_parts(folders(), tmp_path / "parts", "T1")
    assert join_parts(tmp_path / "parts", S2_TREE, tmp_path / "archive.tar.zst") == 0
    _require_folder_alone(tmp_path / "archive.tar.zst", S2_TREE)
    write_parts(region.folders(S2_TREE, region.parts[:1]), tmp_path / "parts", "T1")
    assert join_parts(tmp_path / "parts", S2_TREE, tmp_path / "archive.tar.zst") == 1
    assert len(_members(tmp_path / "archive.tar.zst")) == 24 * 2


def test_parts_cannot_replace_each_other(region: _Region, tmp_path: Path) -> None:
    first, second = (list(region.folders(S2_TREE, [part])) for part in region.parts[:2])
    with pytest.raises(ValueError, match="33UUP of BigEarthNet-S2 do not follow each other"):
        write_parts([*first[:2], *second, *first[2:]], tmp_path, "T1")


def test_a_layout_need_not_order_patches_by_their_runs(region: _Region) -> None:
    tree = replace(TREE[S2_TREE], run=Group("y", "row{}".format))
    folders = list(patch_folders(region.store, region.parts[0], tree))
    assert [folder.run for folder in folders] == sorted(folder.run for folder in folders)
    for _, run in groupby(folders, key=lambda folder: folder.run):
        columns = [int(folder.name.split("_")[-2]) for folder in run]
        assert columns == sorted(columns)
    assert len({folder.run for folder in folders}) == 2


@pytest.mark.parametrize("every", [1, 5, 24, 100])
def test_progress_counts_each_patch_once(
    region: _Region, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    monkeypatch.setattr(geotiff_export, "REPORT_EVERY", every)
    told: list[int] = []
    write_tree(region.folders(S2_TREE, region.parts[:1]), tmp_path, told.append)
    assert sum(told) == 24
    told_of_parts: list[int] = []
    write_parts(region.folders(S1_TREE), tmp_path, "T1", told_of_parts.append)
    assert sum(told_of_parts) == 2 * 23
    assert 0 not in told + told_of_parts


def test_a_tree_may_be_written_again(region: _Region, tmp_path: Path) -> None:
    """A scheduler repeats the task of a worker that was lost."""
    first, second = list(region.folders(MAP_TREE, region.parts[:1])), list(region.folders(MAP_TREE, region.parts[:1]))
    assert first == second
    write_tree(first[:7], tmp_path)
    write_tree(second, tmp_path)
    assert len(_files(tmp_path)) == 24


# Tasks of the job


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
        yield client


def _write_tree(root: Path, *arguments: object) -> None:
    """As the job does it: folders of patches that are not complete are elsewhere."""
    export_tile_tree(root, root.with_name("drafts"), *arguments)


def _on_cluster(client: Client, function: Callable[..., None], root: Path, region: _Region) -> int:
    """Run an export of each tile as the job does; returns the patches that the tasks have told of."""
    topic = f"{function.__name__}-{root.name}"
    futures = [
        client.submit(function, root, LAYOUT.trees, part, region.store, topic, key=f"{topic}-{part.stem}")
        for part in region.parts
    ]
    client.gather(futures)
    return sum(steps for _, steps in client.get_events(topic))


def test_the_job_writes_trees(client: Client, region: _Region, loose: dict[str, bytes], tmp_path: Path) -> None:
    told = _on_cluster(client, _write_tree, tmp_path / "out", region)
    assert _files(tmp_path / "out") == loose
    assert told == 24 * 3 + 23 * 2 + 24 * 3


def test_the_job_writes_archives(client: Client, region: _Region, archives: dict[str, Path], tmp_path: Path) -> None:
    _on_cluster(client, export_tile_archive, tmp_path / "parts", region)
    for _ in range(2):
        made = client.submit(join_archives, tmp_path, LAYOUT.trees, tmp_path / "parts", pure=False).result()
        assert made == [tmp_path / f"{tree.name}.tar.zst" for tree in LAYOUT.trees]
        assert {path.name: path.read_bytes() for path in made} == {
            archive.name: archive.read_bytes() for archive in archives.values()
        }
        assert not list((tmp_path / "parts").iterdir())


def test_trees_without_patches_are_there_too(client: Client, region: _Region, tmp_path: Path) -> None:
    """Readers look for the folder of each tree that a dataset is said to have."""
    lonely = region.parts[2]
    out = tmp_path / "out"
    client.submit(export_tile_tree, out, tmp_path, LAYOUT.trees, lonely, region.store, "lonely").result()
    assert [path.name for path in sorted(out.iterdir())] == [S1_TREE, S2_TREE, MAP_TREE]
    assert not list((out / S1_TREE).iterdir())


def test_names_of_parts_order_as_names_of_patches() -> None:
    """Sentinel-1 is in the order of names, its runs are names without indices; no index may tear a run apart."""
    names = [f"S1A_{mgrs}_{x}_{y}" for mgrs in ("33UUP", "33UVP") for x in (0, 9, 10, 90, 100) for y in (1, 11)]
    runs = [TREE[S1_TREE].run.of({"s1_name": name}) for name in sorted(names)]
    assert runs == sorted(runs)
    assert sum(first != second for first, second in pairwise(runs)) == 1
