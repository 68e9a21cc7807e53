"""Items of patches and tiles that a demo region has none of: partners, further columns, and the 180th meridian."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import pyarrow.parquet as pq
import pytest
import shapely

from reben_dask.formats.names import tile_names
from reben_dask.formats.stac import CatalogueContents
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.nomenclature import load_nomenclature
from reben_dask.patches.candidates import Scene, candidate_patches
from reben_dask.recipes import load_recipe
from reben_dask.stores.patch_table import part_files, write_part
from reben_dask.stores.stac import write_catalogue

RECIPE = load_recipe("seasonet")
CONTENTS = RECIPE.catalogue(load_nomenclature(RECIPE.nomenclature), has_sentinel1=True)
WEST_OF_180 = "S2B_MSIL2A_20180725T223031_N0211_R072_T60WWV"
TIME = datetime(2018, 7, 25, 22, 30, 31, tzinfo=UTC)


def _grids(tile: str) -> tuple[PatchGrid, ...]:
    """Patches beside the 180th meridian at 67 degrees north, some of them across it."""
    ulx = 627_000 if tile == WEST_OF_180 else 400_000
    return tuple(PatchGrid(32660, ulx, 7_500_000, ShapeYX(6_000, 6_000), 1200, offset) for offset in (0, 600))


def _write(folder: Path, tile: str, contents: CatalogueContents = CONTENTS, **columns: Any) -> dict[str, Any]:
    """Write a part of a patch table, and a catalogue of it; gives the tables of both collections."""
    patches = candidate_patches(Scene(tile_names([tile])[tile], TIME, _grids(tile), None), RECIPE)
    names = [f"S1_{row}" if row % 2 else None for row in range(len(patches))]
    made = {
        **dict.fromkeys(("status", "reason", "country"), "kept"),
        **dict.fromkeys(("nodata", "contains_seasonal_snow", "contains_cloud_or_shadow"), False),
        **dict.fromkeys(("snow_fraction", "cloud_fraction", "shadow_fraction", "labeled_fraction"), 0.25),
        **dict.fromkeys(RECIPE.attributes, "city"),
        "s1_name": names,
    }
    patches = patches.assign(**{**made, **columns})
    for name in ("labels", *RECIPE.extra_labels):
        patches[name] = [["Pastures"]] * len(patches)
    write_part(patches, folder / "table", contents.classes, RECIPE.extra_columns)
    write_catalogue(part_files(folder / "table"), {tile: _grids(tile)[0]}, folder / "stac", contents)
    return {name: pq.read_table(folder / "stac" / f"{name}.parquet") for name in ("patches", "tiles")}


def test_partners_and_columns_of_the_recipe(tmp_path: Path) -> None:
    items = _write(tmp_path, WEST_OF_180)["patches"].to_pylist()
    assert {item["reben:grid"] for item in items} == {1, 2}
    for item in items:
        assert (item["assets"]["sentinel1"] is None) == (item["reben:s1_name"] is None)
        group = item["assets"]["cubes"]["href"]
        assert group == f"../cubes.zarr/{WEST_OF_180}{'/grid2' * (item['reben:grid'] == 2)}"
        assert all(item[f"reben:{name}"] == ["Pastures"] for name in RECIPE.extra_labels)
        assert all(item[f"reben:{name}"] == "city" for name in RECIPE.attributes)
        assert item["assets"]["cubes"]["raster:offset"] is None


def test_without_a_scene_classification_cover_is_unknown(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("snow_fraction", "cloud_fraction", "shadow_fraction"))
    found = _write(tmp_path, WEST_OF_180, **nothing)
    for table in found.values():
        assert {(item["eo:cloud_cover"], item["eo:snow_cover"]) for item in table.to_pylist()} == {(None, None)}


@pytest.mark.parametrize(("tile", "is_split"), [(WEST_OF_180, True), (WEST_OF_180.replace("60WWV", "60WVV"), False)])
def test_footprints_at_the_180th_meridian(tmp_path: Path, tile: str, *, is_split: bool) -> None:
    found = _write(tmp_path, tile)
    (whole,) = found["tiles"].to_pylist()
    split = [item for item in found["patches"].to_pylist() if item["bbox"]["xmin"] > item["bbox"]["xmax"]]
    assert bool(split) == (whole["bbox"]["xmin"] > whole["bbox"]["xmax"]) == is_split
    for item in (*split, *([whole] if is_split else [])):
        shape = shapely.from_wkb(item["geometry"])
        assert shape.geom_type == "MultiPolygon"
        assert (shape.bounds[0], shape.bounds[2]) == (-180, 180)
    assert set(gpd.read_parquet(tmp_path / "stac" / "patches.parquet").geom_type) == (
        {"Polygon", "MultiPolygon"} if is_split else {"Polygon"}
    )


def test_no_kept_patch_is_a_catalogue_without_items(tmp_path: Path) -> None:
    empty = _write(tmp_path / "empty", WEST_OF_180, status="rejected", reason="nodata")
    full = _write(tmp_path / "full", WEST_OF_180)
    assert (len(empty["patches"]), len(empty["tiles"])) == (0, 1)
    assert empty["patches"].schema.equals(full["patches"].schema)
