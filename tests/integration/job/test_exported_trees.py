"""The trees of BigEarthNet v1 and SeasoNet as a job writes them, read as their readers do, against cubes and table."""

from __future__ import annotations

import csv
import io
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import shapely
import tree_readers
import xarray as xr
from building import build
from conftest import ROOT
from distributed import Client
from tree_readers import V1_MAPS, V1_S1, V1_S2, File

from reben_dask.demo import DemoRegion
from reben_dask.errors import RecipeError
from reben_dask.job.plan import Plan, make_plan
from reben_dask.job.published import Published
from reben_dask.job.sentinel1 import Sentinel1Inputs
from reben_dask.job.tasks import export_tile_archive, export_tile_tree, join_archives
from reben_dask.recipes import load_recipe
from reben_dask.stores.trees import write_tables

SUMMER, WINTER = "S2A_MSIL2A_20180725T100031_N0500_R122_T33UVP", "S2B_MSIL2A_20190116T100359_N9999_R122_T33UVP"
FORMATS = ("geotiff", "geotiff-archives")
SEASONS = ("spring", "summer", "fall", "winter", "snow")
SETS = {"train": "train", "validation": "val", "test": "test"}
RESOLUTION_M = {
    **dict.fromkeys(("B02", "B03", "B04", "B08"), 10),
    **dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12"), 20),
    **dict.fromkeys(("B01", "B09"), 60),
}
EVERY = 6
"""Of so many patches the pixels of one are compared."""


@dataclass(frozen=True)
class _Made:
    """A dataset of a job, and its plan."""

    root: Path
    plan: Plan

    @property
    def kept(self) -> pd.DataFrame:
        table = pd.read_parquet(self.root / "patches.parquet", filters=[("status", "=", "kept")])
        return table.sort_values(["tile", "grid", "x", "y"], ignore_index=True)

    def pixels(self, row: Any, node: str) -> xr.DataArray:
        """Pixels of a patch in the cubes."""
        group = row.tile if row.grid == 1 else f"{row.tile}/grid{row.grid}"
        data = xr.open_zarr(self.root / "cubes.zarr", group=f"{group}/{node}", consolidated=False, chunks=None)
        (name,) = data.data_vars
        side = {"r20m": 60, "r60m": 20}.get(node, 120)
        return data[name].isel(x=slice(row.x * side, row.x * side + side), y=slice(row.y * side, row.y * side + side))


def _product(region: DemoRegion, tile: str) -> str:
    (path,) = region.s2.glob(f"{tile}_*")
    return str(path)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
        yield client


@pytest.fixture(scope="module")
def v1(client: Client, small_region: DemoRegion, tmp_path_factory: pytest.TempPathFactory) -> _Made:
    recipe = load_recipe("bigearthnet-v1")
    plan = make_plan(
        s2=[_product(small_region, WINTER)],
        landcover=str(small_region.landcover),
        recipe=recipe.model_copy(update={"sky": recipe.sky.model_copy(update={"flag_from": 0.1})}),
        sentinel1=Sentinel1Inputs(patches=str(small_region.s1)),
        published=Published(pairs=small_region.s1_pairs),
        exports=FORMATS,
    )
    return _Made(build(client, plan, tmp_path_factory.mktemp("v1") / "out"), plan)


@pytest.fixture(scope="module")
def seasonet(client: Client, small_region: DemoRegion, tmp_path_factory: pytest.TempPathFactory) -> _Made:
    folder = tmp_path_factory.mktemp("seasonet")
    towns = [shapely.box(490_000, 5_395_000, 492_500, 5_400_000), shapely.box(493_700, 5_395_000, 495_000, 5_398_000)]
    gpd.GeoDataFrame({"RTYP3": [1, 3]}, geometry=towns, crs=32633).to_file(folder / "towns.gpkg")
    recipe = load_recipe("seasonet")
    plan = make_plan(
        s2=[_product(small_region, SUMMER), _product(small_region, WINTER)],
        landcover=str(small_region.landcover),
        recipe=recipe.model_copy(update={"split": recipe.split.model_copy(update={"block_m": 4_800})}),
        layers={"urbanisation": str(folder / "towns.gpkg")},
        exports=FORMATS,
    )
    return _Made(build(client, plan, folder / "out"), plan)


def _members(archive: Path) -> dict[str, bytes]:
    with pa.input_stream(str(archive), compression="zstd") as stream:
        content = io.BytesIO(stream.read())
    with tarfile.open(fileobj=content) as file:
        return {info.name: file.extractfile(info).read() for info in file if info.isreg()}


def _bytes(path: Path) -> dict[str, bytes]:
    """Files below a folder, or the one that it is."""
    files = path.rglob("*") if path.is_dir() else [path]
    return {str(file.relative_to(path.parent)): file.read_bytes() for file in files if file.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "trees"), [("v1", (V1_S2, V1_S1, V1_MAPS)), ("seasonet", SEASONS)])
def test_archives_hold_the_same_bytes(request: pytest.FixtureRequest, name: str, trees: Sequence[str]) -> None:
    made = request.getfixturevalue(name)
    assert {path.name for path in made.root.glob("*.tar.zst")} == {f"{tree}.tar.zst" for tree in trees}
    for tree in trees:
        assert _members(made.root / f"{tree}.tar.zst") == _bytes(made.root / tree)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v1", "seasonet"])
def test_tasks_may_be_repeated_in_any_order(
    request: pytest.FixtureRequest, client: Client, tmp_path: Path, name: str
) -> None:
    made = request.getfixturevalue(name)
    layout, store, root = made.plan.layout, made.root / "cubes.zarr", tmp_path / "again"
    root.mkdir()
    parts = sorted((made.root / "patches.parquet").glob("*.parquet"))
    tree = (export_tile_tree, root, tmp_path / "drafts")
    for export, *folders in (tree, (export_tile_archive, root / "parts")):
        topic = f"{name}-{export.__name__}"
        tasks = [client.submit(export, *folders, layout.trees, part, store, topic, pure=False) for part in parts[::-1]]
        client.gather(tasks)
        told = sum(steps for _, steps in client.get_events(topic))
        assert told == len(made.kept) * layout.folders_per_patch
    client.submit(*tree, layout.trees, parts[0], store, "twice", pure=False).result()
    client.submit(join_archives, root, layout.trees, root / "parts", pure=False).result()
    for _ in range(2):
        write_tables(layout, parts, root)
    shutil.rmtree(root / "parts")
    for exported in made.plan.export_names:
        assert _bytes(root / exported) == _bytes(made.root / exported)
    assert {path.name for path in root.iterdir()} == set(made.plan.export_names)


# BigEarthNet v1


@pytest.mark.parametrize(("tree", "column", "count"), [(V1_S2, "patch_id", 12), (V1_S1, "s1_name", 2)])
def test_v1_patches_lie_side_by_side(v1: _Made, tree: str, column: str, count: int) -> None:
    patches = tree_readers.read_v1(v1.root, tree)
    assert sorted(patches) == sorted(v1.kept[column])
    assert len(patches) > 10
    for patch in patches.values():
        assert len(patch.images) == count
        assert not patch.others


def test_v1_pixels_are_those_of_the_cubes_and_have_no_nodata_tag(v1: _Made) -> None:
    trees = {tree: tree_readers.read_v1(v1.root, tree) for tree in (V1_S2, V1_S1)}
    for row in v1.kept.iloc[::EVERY].itertuples():
        place = (row.epsg, (row.minx, row.miny, row.maxx, row.maxy), None)
        images = trees[V1_S2][row.patch_id].images
        assert images.keys() == RESOLUTION_M.keys()
        for band, image in images.items():
            expected = v1.pixels(row, f"r{RESOLUTION_M[band]}m").sel(band=band)
            np.testing.assert_array_equal(image.pixels[0], expected)
            assert (image.epsg, image.bounds, image.nodata, image.dtype, image.compression) == (*place, "uint16", None)
        for band, image in trees[V1_S1][row.s1_name].images.items():
            np.testing.assert_array_equal(image.pixels[0], v1.pixels(row, "s1").sel(polarisation=band))
            assert (image.epsg, image.bounds, image.nodata, image.dtype, image.compression) == (*place, "float32", None)
        image = File.read(v1.root / V1_MAPS / row.patch_id / f"{row.patch_id}_reference_map.tif")
        np.testing.assert_array_equal(image.pixels[0], v1.pixels(row, "reference_map"))
        assert (image.epsg, image.bounds) == place[:2]


def test_v1_documents_follow_from_the_patch_table(v1: _Made, small_region: DemoRegion) -> None:
    trees = {tree: tree_readers.read_v1(v1.root, tree) for tree in (V1_S2, V1_S1)}
    for row in v1.kept.itertuples():
        s2, s1 = trees[V1_S2][row.patch_id], trees[V1_S1][row.s1_name]
        for patch in (s2, s1):
            assert sorted(patch.document["labels"]) == sorted(row.labels)
            assert patch.bounds == (row.minx, row.miny, row.maxx, row.maxy)
            assert patch.epsg == row.epsg
        assert s1.document["labels"] == s2.document["labels"]
        assert s2.document["tile_source"] == Path(_product(small_region, WINTER)).name
        assert s2.time == row.sensing_time.floor("s")
        assert s1.document["corresponding_s2_patch"] == row.patch_id
        assert s1.document["scene_source"] == row.s1_name.rsplit("_", 3)[0]
        assert s1.time == pd.Timestamp(row.s1_name.split("_")[4], tz="UTC")


def test_v1_labels_are_in_the_order_of_codes(v1: _Made) -> None:
    with (ROOT / "reben_dask" / "nomenclatures" / "bigearthnet43.csv").open(encoding="utf-8") as file:
        class_of = {int(row["code"]): row["class"] for row in csv.DictReader(file)}
    not_alphabetical = 0
    for patch in tree_readers.read_v1(v1.root, V1_S2).values():
        codes = np.unique(File.read(v1.root / V1_MAPS / patch.name / f"{patch.name}_reference_map.tif").pixels)
        labels = patch.document["labels"]
        assert labels == [class_of[code] for code in codes.tolist() if class_of.get(code)]
        not_alphabetical += labels != sorted(labels)
    assert not_alphabetical > 3


def test_v1_lists_have_the_clear_pairs_of_each_set(v1: _Made) -> None:
    kept = v1.kept
    flagged = kept["contains_seasonal_snow"].eq(True) | kept["contains_cloud_or_shadow"].eq(True)
    assert 0 < flagged.sum() < len(kept)
    for split, name in SETS.items():
        rows = kept[(kept["split"] == split) & ~flagged]
        assert tree_readers.read_v1_list(v1.root, name) == list(zip(rows["patch_id"], rows["s1_name"], strict=True))


# SeasoNet


def test_seasonet_has_a_folder_for_each_season_and_patch(seasonet: _Made) -> None:
    kept = seasonet.kept
    assert set(kept["season"]) == {"summer", "winter", "snow"}
    assert all((seasonet.root / season).is_dir() for season in SEASONS)
    found = {
        str(path.relative_to(seasonet.root)) for season in SEASONS for path in (seasonet.root / season).glob("*/*")
    }
    rows = zip(kept["season"], kept["grid"], kept["patch_id"], strict=True)
    assert found == {f"{season}/grid{grid}/{name}" for season, grid, name in rows}
    files = {f"{name}.tif" for name in (*tree_readers.SEASONET_BANDS, "labels")}
    for folder in found:
        path = seasonet.root / folder
        assert {file.name.removeprefix(f"{path.name}_") for file in path.iterdir()} == files


def test_seasonet_pixels_are_those_of_the_cubes(seasonet: _Made) -> None:
    rows = {row.patch_id: row for row in seasonet.kept.itertuples()}
    number = np.zeros(1_000, np.uint8)
    number[list(tree_readers.CLC_OF_SEASONET)] = np.arange(1, 34)
    for _, patch in list(tree_readers.SeasoNet(seasonet.root).patches())[::EVERY]:
        row = rows[patch.folder.name]
        place = (row.epsg, (row.minx, row.miny, row.maxx, row.maxy), None)
        for name, image in patch.bands.items():
            node = f"r{name.split('_')[0]}"
            expected = seasonet.pixels(row, node).sel(band=list(tree_readers.SEASONET_BANDS[name]))
            np.testing.assert_array_equal(image.pixels, expected)
            assert (image.epsg, image.bounds, image.nodata, image.dtype) == (*place, "uint16")
        codes = seasonet.pixels(row, "reference_map").to_numpy()
        np.testing.assert_array_equal(patch.classes.pixels[0], number[codes])
        assert (patch.classes.epsg, patch.classes.bounds, patch.classes.nodata, patch.classes.dtype) == (
            *place,
            "uint8",
        )


def test_seasonet_meta_has_a_row_for_each_kept_patch(seasonet: _Made) -> None:
    meta, kept = tree_readers.SeasoNet(seasonet.root).meta, seasonet.kept
    assert meta["Index"].tolist() == [str(number) for number in range(len(kept))]
    assert [path.split("/")[-1] for path in meta["Path"]] == kept["patch_id"].tolist()
    for row, patch in zip(meta.itertuples(), kept.itertuples(), strict=True):
        assert (row.Season, row.Grid) == (patch.season.capitalize(), str(patch.grid))
        assert row.Path == f"{patch.season}/grid{patch.grid}/{patch.patch_id}"
        time = f"{row.Year}{row.Month}{row.Day}T{row.Hour}{row.Minute}{row.Second}"
        place = "_".join(text.replace(".", "_") for text in (row.Latitude, row.Longitude))
        assert f"33UVP_{time}_{place}" == patch.patch_id
        assert row.Satellite == patch.tile[2]
        assert (float(row.Clouds), float(row.Snow)) == (patch.cloud_fraction, patch.snow_fraction)
        assert ("" if pd.isna(patch.urbanisation) else patch.urbanisation) == row.RTYP3
    assert set(meta["RTYP3"]) == {"1", "3", ""}


@pytest.mark.parametrize(
    ("column", "labels"),
    [("Classes", "labels"), ("Classes_medium", "labels_medium"), ("Classes_easy", "labels_easy")],
)
def test_seasonet_meta_has_the_classes_of_each_threshold(seasonet: _Made, column: str, labels: str) -> None:
    meta = tree_readers.SeasoNet(seasonet.root).meta
    for numbers, names in zip(meta[column], seasonet.kept[labels], strict=True):
        found = [int(number) for number in numbers.split(",") if number]
        assert found == sorted(found)
        assert {tree_readers.SEASONET_CLASSES[number - 1] for number in found} == set(names)


def test_seasonet_classes_are_those_of_the_maps(seasonet: _Made) -> None:
    for row, patch in list(tree_readers.SeasoNet(seasonet.root).patches())[::EVERY]:
        found = np.unique(patch.classes.pixels)
        assert row["Classes"] == ",".join(map(str, found[found > 0]))


def test_seasonet_splits_are_rows_of_meta(seasonet: _Made) -> None:
    tree, kept = tree_readers.SeasoNet(seasonet.root), seasonet.kept
    for split, name in SETS.items():
        assert tree.split(name) == kept.index[kept["split"] == split].tolist()
    assert kept["split"].isna().sum() > 0
    assert len(tree.split("train")) > 20


def test_seasonet_images_of_a_place_have_its_coordinates(seasonet: _Made) -> None:
    """By which readers put the seasons of a place together."""
    meta, kept = tree_readers.SeasoNet(seasonet.root).meta, seasonet.kept
    by_name = meta.groupby([meta["Latitude"], meta["Longitude"]])["Path"].size()
    by_cell = kept.groupby(["grid", "x", "y"]).size()
    assert sorted(by_name) == sorted(by_cell)
    assert by_name.max() == 2


# Before anything is computed


def _plan_of(region: DemoRegion, **changes: Any) -> Plan:
    recipe = load_recipe("seasonet").model_copy(update=changes)
    products = [_product(region, SUMMER)]
    return make_plan(s2=products, landcover=str(region.landcover), recipe=recipe, exports=("geotiff",))


def test_a_recipe_that_does_not_fit_the_tree_is_refused_before_the_job(small_region: DemoRegion) -> None:
    with pytest.raises(RecipeError, match=r"has files of the bands B01, B03, B04, .*, which the recipe lacks"):
        _plan_of(small_region, bands=("B02", "B08"))


def test_patches_without_a_season_are_announced(small_region: DemoRegion) -> None:
    plan = _plan_of(small_region, images=None, seasons={"spring": (4, 5)})
    assert any(f"Patches of {SUMMER} are in no folder of the tree seasonet" in warning for warning in plan.warnings)
    assert not any("no folder" in warning for warning in _plan_of(small_region).warnings)


def test_sentinel_1_without_a_place_is_announced(small_region: DemoRegion) -> None:
    plan = make_plan(
        s2=[_product(small_region, SUMMER)],
        landcover=str(small_region.landcover),
        recipe=load_recipe("seasonet"),
        sentinel1=Sentinel1Inputs(patches=str(small_region.s1)),
        published=Published(pairs=small_region.s1_pairs),
        exports=("geotiff",),
    )
    assert any("no place for Sentinel-1" in warning for warning in plan.warnings)
