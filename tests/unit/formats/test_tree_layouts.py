"""Layouts of folders: the published JSON files to the byte, numbers of classes, tables, and what does not fit."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import tree_readers
from patch_tables import with_nulls

from reben_dask.errors import RecipeError
from reben_dask.formats.bands import Band, ImageKind
from reben_dask.formats.trees import LAYOUTS, Contents, Tree, TreeLayout, make_layout
from reben_dask.formats.trees.layout import BY_TILE, class_numbers, number_of_code, s2_images
from reben_dask.nomenclature import Nomenclature, load_nomenclature, shipped_nomenclatures
from reben_dask.recipes.model import TreeName
from reben_dask.stores.patch_table import write_part
from reben_dask.stores.trees import write_tables

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
SEASONS = ("spring", "summer", "fall", "winter", "snow")


def _layout(name: str, **changes: Any) -> TreeLayout:
    nomenclature = {"seasonet": "seasonet33", "bigearthnet-v1": "bigearthnet43"}.get(name, "bigearthnet19")
    contents = {"nomenclature": load_nomenclature(nomenclature), "bands": BANDS, "seasons": SEASONS, **changes}
    return make_layout(name, Contents(**contents))


def test_every_tree_of_a_recipe_has_a_layout() -> None:
    assert set(LAYOUTS) == set(get_args(TreeName))


@pytest.mark.parametrize(
    ("name", "has_sentinel1", "trees", "folders"),
    [
        ("bigearthnet-v2", False, ["BigEarthNet-S2", "Reference_Maps"], 2),
        ("bigearthnet-v2", True, ["BigEarthNet-S2", "Reference_Maps", "BigEarthNet-S1"], 3),
        ("bigearthnet-v1", False, ["BigEarthNet-v1.0", "Reference_Maps-v1.0"], 2),
        ("bigearthnet-v1", True, ["BigEarthNet-v1.0", "Reference_Maps-v1.0", "BigEarthNet-S1-v1.0"], 3),
        ("seasonet", False, list(SEASONS), 1),
        ("seasonet", True, list(SEASONS), 1),
    ],
)
def test_trees_and_folders_of_a_patch(name: str, has_sentinel1: bool, trees: list[str], folders: int) -> None:  # noqa: FBT001
    layout = _layout(name, has_sentinel1=has_sentinel1)
    assert [tree.name for tree in layout.trees] == trees
    assert layout.folders_per_patch == folders
    assert layout.has_sentinel1 == (has_sentinel1 and name != "seasonet")
    assert layout.is_by_season == (name == "seasonet")


# Classes


def test_seasonet_numbers_are_the_published_ones() -> None:
    assert tuple(class_numbers(load_nomenclature("seasonet33"))) == tree_readers.SEASONET_CLASSES
    numbers = number_of_code(load_nomenclature("seasonet33"))
    assert numbers[list(tree_readers.CLC_OF_SEASONET)].tolist() == list(range(1, 34))
    assert np.count_nonzero(numbers) == 33


@pytest.mark.parametrize("name", shipped_nomenclatures())
def test_numbers_follow_the_codes(name: str) -> None:
    nomenclature = load_nomenclature(name)
    numbers = class_numbers(nomenclature)
    assert sorted(numbers) == list(nomenclature.classes)
    assert list(numbers.values()) == list(range(1, len(numbers) + 1))
    first = {label: min(code for code, of in nomenclature.class_of.items() if of == label) for label in numbers}
    assert sorted(first, key=first.__getitem__) == list(numbers)
    table = number_of_code(nomenclature)
    assert {code: table[code] for code in nomenclature.class_of} == {
        code: 0 if label is None else numbers[label] for code, label in nomenclature.class_of.items()
    }


# The JSON files of version 1


def _documents(data_dir: Path, tree: str) -> dict[str, bytes]:
    paths = sorted((data_dir / "bigearthnet-v1" / tree).glob("*/*_labels_metadata.json"))
    assert len(paths) == 6
    return {path.parent.name: path.read_bytes() for path in paths}


def _row(document: Mapping[str, Any], lower: str, **more: Any) -> dict[str, Any]:
    """A row of the patch table; labels are in alphabetical order there."""
    edges = document["coordinates"]
    return {
        "tile": "T33UUP",
        "labels": sorted(document["labels"]),
        "minx": edges["ulx"],
        "miny": edges[lower],
        "maxx": edges["lrx"],
        "maxy": edges["uly"],
        "epsg": int(document["projection"].rsplit('"EPSG","', 1)[1][:5]),
        **more,
    }


def test_documents_of_sentinel_2_are_the_published_ones_to_the_byte(data_dir: Path) -> None:
    tree = _layout("bigearthnet-v1").trees[0]
    for name, published in _documents(data_dir, "BigEarthNet-S2-Example").items():
        document = json.loads(published)
        time = datetime.fromisoformat(document["acquisition_date"]).replace(tzinfo=UTC, microsecond=26_000)
        attributes = {"product": document["tile_source"].removesuffix(".SAFE")}
        made = tree.documents(_row(document, "lry", patch_id=name, sensing_time=time), attributes)
        assert made == {"labels_metadata.json": published}


@pytest.mark.parametrize("suffix", ["", "_Orb_Cal_TC"])
def test_documents_of_sentinel_1_are_the_published_ones_to_the_byte(data_dir: Path, suffix: str) -> None:
    tree = _layout("bigearthnet-v1", has_sentinel1=True).trees[2]
    documents = {
        name: (json.loads(text), text) for name, text in _documents(data_dir, "BigEarthNet-S1-Example").items()
    }
    scenes = sorted({f"{document['scene_source']}{suffix}" for document, _ in documents.values()})
    for name, (document, published) in documents.items():
        row = _row(document, "lly", patch_id=document["corresponding_s2_patch"], s1_name=name)
        assert tree.documents(row, {"sentinel1_scenes": scenes}) == {"labels_metadata.json": published}


def test_what_is_not_known_of_a_scene_is_its_short_name(data_dir: Path) -> None:
    tree = _layout("bigearthnet-v1", has_sentinel1=True).trees[2]
    (name, text), *_ = _documents(data_dir, "BigEarthNet-S1-Example").items()
    row = _row(json.loads(text), "lly", patch_id="p", s1_name=name)
    for scenes in ([], ["S1B_IW_GRDH_1SDV_20180204T043253_20180204T043318_020452_022F7E_8893"]):
        (content,) = tree.documents(row, {"sentinel1_scenes": scenes}).values()
        assert json.loads(content)["scene_source"] == name.rsplit("_", 3)[0]


# Tables


def _table(folder: Path, tiles: Mapping[str, pd.DataFrame], extra: Sequence[str] = ()) -> list[Path]:
    parts = []
    for tile, given in tiles.items():
        count = len(given)
        columns = {
            "tile": tile,
            "grid": 1,
            "x": range(count),
            "y": 0,
            "status": "kept",
            "labels": [["Vineyards", "Airports"]] * count,
            "sensing_time": pd.Timestamp("2018-04-18T10:40:21.024Z"),
            "epsg": 32632,
            "minx": [399_960 + 1200 * number for number in range(count)],
            "maxy": 5_900_040,
        }
        rows = given.assign(**{name: value for name, value in columns.items() if name not in given})
        footprints = gpd.GeoDataFrame(rows, geometry=[shapely.box(7, 53, 8, 54)] * count, crs=4326)
        parts.append(write_part(with_nulls(footprints, extra), folder / "patches.parquet", [], extra))
    return parts


def _meta(root: Path) -> list[dict[str, str]]:
    with (root / "meta.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_positions_go_on_over_all_tiles_and_skip_what_is_not_in_the_tree(tmp_path: Path) -> None:
    first = pd.DataFrame(
        {
            "patch_id": ["a", "b", "c", "d"],
            "season": ["spring", None, "snow", "spring"],
            "split": ["train", "train", None, "validation"],
            "status": ["kept", "kept", "kept", "rejected"],
        }
    )
    second = pd.DataFrame({"patch_id": ["e", "f"], "season": ["fall", "fall"], "split": ["test", "train"], "x": [5, 3]})
    tiles = {"S2A_MSIL2A_20180418T104021_N1_R1_T32UME": first, "S2B_MSIL2A_20180418T104021_N1_R1_T32UMF": second}
    layout = _layout("seasonet")
    for _ in range(2):
        write_tables(layout, _table(tmp_path, tiles), tmp_path)
    rows = _meta(tmp_path)
    assert [(row["Index"], row["Path"]) for row in rows] == [
        ("0", "spring/grid1/a"),
        ("1", "snow/grid1/c"),
        ("2", "fall/grid1/f"),
        ("3", "fall/grid1/e"),
    ]
    assert [row["Satellite"] for row in rows] == ["A", "A", "B", "B"]
    assert rows[0]["Classes"] == "6,13"
    assert rows[0]["Clouds"] == rows[0]["Snow"] == ""
    splits = {path.name: path.read_text() for path in (tmp_path / "splits").iterdir()}
    assert splits == {"train.csv": "0\n2\n", "val.csv": "Index\n", "test.csv": "3\n"}
    assert pd.read_csv(tmp_path / "splits" / "val.csv").empty
    assert {path.name for path in tmp_path.iterdir()} == {"patches.parquet", "meta.csv", "splits"}


@pytest.mark.parametrize(
    ("attributes", "headers"),
    [
        ({"urbanisation": "RTYP3", "region": "SLRAUM"}, ["RTYP3", "SLRAUM"]),
        ({"urbanisation": "Grid", "region": "SLRAUM"}, ["urbanisation", "region"]),
        ({"urbanisation": "Classes_easy", "region": "SLRAUM"}, ["urbanisation", "region"]),
        ({"urbanisation": "VALUE", "region": "VALUE"}, ["urbanisation", "region"]),
    ],
    ids=["as published", "taken", "of labels", "twice"],
)
def test_attributes_have_the_names_of_their_layers_unless_these_are_taken(
    tmp_path: Path, attributes: dict[str, str], headers: list[str]
) -> None:
    rows = pd.DataFrame({"patch_id": ["a"], "season": ["fall"], "urbanisation": ["town"], "region": ["1, 2"]})
    parts = _table(tmp_path, {"S2A_MSIL2A_20180418T104021_N1_R1_T32UME": rows}, list(attributes))
    write_tables(_layout("seasonet", attributes=attributes), parts, tmp_path)
    (row,) = _meta(tmp_path)
    assert [row[name] for name in headers] == ["town", "1, 2"]
    assert len(row) == len(tree_readers.SEASONET_HEADER.split(",")) + 3


@pytest.mark.parametrize(
    ("name", "minx", "maxy"),
    [
        ("32UME_20180418T104021_53_928425_7_503876", 399_960 + 1_800, 6_000_000 - 23_400),
        ("32TMT_20190214T103129_47_793488_7_808487", 399_960 + 10_800, 5_300_040 - 6_000),
    ],
)
def test_coordinates_are_those_of_published_names(tmp_path: Path, name: str, minx: int, maxy: int) -> None:
    rows = pd.DataFrame({"patch_id": [name], "season": ["fall"], "minx": [minx], "maxy": [maxy]})
    parts = _table(tmp_path, {"S2A_MSIL2A_20180418T104021_N1_R1_T32UME": rows})
    write_tables(_layout("seasonet"), parts, tmp_path)
    (row,) = _meta(tmp_path)
    assert name.split("_", 2)[2] == f"{row['Latitude']}_{row['Longitude']}".replace(".", "_")


# What does not fit


@pytest.mark.parametrize("season", ["splits", "../other", "a/b", ".hidden", "", "Spring time"])
def test_seasons_must_be_names_of_folders(season: str) -> None:
    with pytest.raises(RecipeError, match="a folder for each season"):
        _layout("seasonet", seasons=(*SEASONS, season))


def test_a_map_of_bytes_has_room_for_so_many_classes() -> None:
    many = {code: f"class {code}" for code in range(1, 257)}
    with pytest.raises(RecipeError, match="hold at most 255 classes, but the nomenclature mine has 256"):
        _layout("seasonet", nomenclature=Nomenclature("mine", many))
    assert _layout("seasonet", nomenclature=Nomenclature("mine", dict(list(many.items())[:255])))


def test_images_of_several_bands_need_them_all() -> None:
    with pytest.raises(RecipeError, match="the bands B8A, B12, which the recipe lacks"):
        _layout("seasonet", bands=tuple(band for band in BANDS if band not in ("B8A", "B12")))


def test_bands_of_derived_images_are_required_too(monkeypatch: pytest.MonkeyPatch) -> None:
    index = Tree("index", s2_images, {"ndvi": (Band("ndvi", ImageKind.S2, 10, "float32", None),)}, (), BY_TILE)
    monkeypatch.setitem(LAYOUTS, "mine", lambda _: TreeLayout((replace(index, needs=("B04", "B08")),)))
    made = _layout("mine")
    assert [(spec.dtype, spec.resolution_m) for spec in made.trees[0].specs.values()] == [("float32", 10)]
    with pytest.raises(RecipeError, match="mine has files of the bands B08, which"):
        _layout("mine", bands=("B04",))
