"""Nomenclatures, labels and the decision, against the class list of the paper written down once more."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reben_dask.errors import RecipeError
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.nomenclature import Nomenclature, load_nomenclature, shipped_nomenclatures
from reben_dask.patches.decision import REASONS, decide
from reben_dask.patches.labels import class_counts, label_columns

NINETEEN = {
    "Urban fabric": "111 112",
    "Industrial or commercial units": "121",
    "Arable land": "211 212 213",
    "Permanent crops": "221 222 223 241",
    "Pastures": "231",
    "Complex cultivation patterns": "242",
    "Land principally occupied by agriculture, with significant areas of natural vegetation": "243",
    "Agro-forestry areas": "244",
    "Broad-leaved forest": "311",
    "Coniferous forest": "312",
    "Mixed forest": "313",
    "Natural grassland and sparsely vegetated areas": "321 333",
    "Moors, heathland and sclerophyllous vegetation": "322 323",
    "Transitional woodland, shrub": "324",
    "Beaches, dunes, sands": "331",
    "Inland wetlands": "411 412",
    "Coastal wetlands": "421 422",
    "Inland waters": "511 512",
    "Marine waters": "521 522 523",
}
UNLABELED = "122 123 124 131 132 133 141 142 332 334 335 423"
LEVEL_3 = {
    111: "Continuous urban fabric",
    112: "Discontinuous urban fabric",
    121: "Industrial or commercial units",
    122: "Road and rail networks and associated land",
    123: "Port areas",
    124: "Airports",
    131: "Mineral extraction sites",
    132: "Dump sites",
    133: "Construction sites",
    141: "Green urban areas",
    142: "Sport and leisure facilities",
    211: "Non-irrigated arable land",
    212: "Permanently irrigated land",
    213: "Rice fields",
    221: "Vineyards",
    222: "Fruit trees and berry plantations",
    223: "Olive groves",
    231: "Pastures",
    241: "Annual crops associated with permanent crops",
    242: "Complex cultivation patterns",
    243: "Land principally occupied by agriculture, with significant areas of natural vegetation",
    244: "Agro-forestry areas",
    311: "Broad-leaved forest",
    312: "Coniferous forest",
    313: "Mixed forest",
    321: "Natural grassland",
    322: "Moors and heathland",
    323: "Sclerophyllous vegetation",
    324: "Transitional woodland/shrub",
    331: "Beaches, dunes, sands",
    332: "Bare rock",
    333: "Sparsely vegetated areas",
    334: "Burnt areas",
    335: "Glaciers and perpetual snow",
    411: "Inland marshes",
    412: "Peatbogs",
    421: "Salt marshes",
    422: "Salines",
    423: "Intertidal flats",
    511: "Water courses",
    512: "Water bodies",
    521: "Coastal lagoons",
    522: "Estuaries",
    523: "Sea and ocean",
}
PUBLISHED_MAP = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57"


def _codes(text: str) -> list[int]:
    return [int(code) for code in text.split()]


CLASS_OF_CODE = {code: name for name, codes in NINETEEN.items() for code in _codes(codes)}
ONE_PATCH = PatchGrid(32633, 300_000, 5_400_000, ShapeYX(1200, 1200))


def test_the_nineteen_classes() -> None:
    nomenclature = load_nomenclature("bigearthnet19")
    assert nomenclature.class_of == {**CLASS_OF_CODE, **dict.fromkeys(_codes(UNLABELED))}
    assert list(nomenclature.classes) == sorted(NINETEEN)
    assert nomenclature.known_values == set(LEVEL_3) | {999}


def test_level_3_has_44_codes() -> None:
    nomenclature = load_nomenclature("clc44")
    assert nomenclature.class_of.keys() == LEVEL_3.keys()
    assert len(nomenclature.classes) == 44
    assert None not in nomenclature.class_of.values()


def test_bigearthnet43_is_level_3_without_glaciers() -> None:
    nomenclature = load_nomenclature("bigearthnet43")
    assert nomenclature.class_of == {**LEVEL_3, 335: None}
    assert len(nomenclature.classes) == 43
    assert list(nomenclature.classes) == sorted(set(LEVEL_3.values()) - {LEVEL_3[335]})


@pytest.mark.slow
def test_43_and_19_classes_of_the_same_published_patches_agree(data_dir: Path) -> None:
    published = pd.read_parquet(data_dir / "bigearthnet" / "metadata.parquet").set_index("s2v1_name")["labels"]
    fine, coarse = load_nomenclature("bigearthnet43"), load_nomenclature("bigearthnet19")
    code_of = {name: code for code, name in fine.class_of.items() if name}
    files = list((data_dir / "bigearthnet-v1").glob("BigEarthNet-S2-Example/*/*_labels_metadata.json"))
    compared = 0
    for file in files:
        old = json.loads(file.read_text())["labels"]
        assert set(old) <= set(fine.classes)
        if file.parent.name in published.index:
            new = {coarse.class_of[code_of[name]] for name in old} - {None}
            # The same classes of the same map, unless a later CLC release changed the patch.
            assert sorted(new) == published[file.parent.name].tolist()
            compared += 1
    assert len(files) == 6
    assert compared


def test_unlabelled_codes_have_index_zero() -> None:
    nomenclature = load_nomenclature("bigearthnet19")
    index = nomenclature.class_index()
    assert len(index) == 65_536
    labelled = {code: nomenclature.classes[place - 1] for code, place in enumerate(index.tolist()) if place}
    assert labelled == CLASS_OF_CODE


@pytest.mark.parametrize("name", ["clc44", "bigearthnet43", "bigearthnet19"])
def test_shipped_nomenclatures_load(name: str) -> None:
    assert name in shipped_nomenclatures()
    assert load_nomenclature(name).name == name


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("kode,class\n111,a\n", r"the columns \['kode', 'class'\]; it needs code and class\."),
        ("", "it needs code and class"),
        ("code,class\n,a\n", "no code in row 1"),
        *[
            (f"code,class\n{code},a\n", f"the code {code}; values of reference maps are 1 to 998; .+ column value")
            for code in (999, 0, -111, 11_100)
        ],
        ("code,class,value\nW,a,999\n", r"the value 999; values of reference maps are 1 to 998\."),
        ("code,class,value\nW,a,water\n", "the value 'water', which is not a whole number"),
        ("code,class,color\nW,a,blue\n", r"the color 'blue' in row 1; write it as #rrggbb"),
        ("code,class\n2,a\nW,b\n", "gives the codes 2 and W the value 2, but not one class"),
        ("code,class,value,color\nV,a,7,#000000\nW,a,7,#ffffff\n", "gives the codes V and W the value 7, but not one"),
        ("class,code\na\n", "code"),  # a row that is cut short
    ],
)
def test_a_bad_nomenclature_file(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(text)
    with pytest.raises(RecipeError, match=sentence):
        load_nomenclature(str(file))


def test_a_nomenclature_that_is_not_text(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_bytes("code,class\n111,Forêt\n".encode("latin-1"))
    with pytest.raises(RecipeError, match="mine"):
        load_nomenclature(str(file))


def test_a_nomenclature_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no nomenclature 'bigearthnet20'; use one of .*bigearthnet19"):
        load_nomenclature("bigearthnet20")
    with pytest.raises(RecipeError, match="does not exist"):
        load_nomenclature(str(tmp_path / "none.csv"))


def test_labels_of_the_published_map(data_dir: Path) -> None:
    folder = data_dir / "bigearthnet"
    with rasterio.open(next(folder.glob(f"Reference_Maps/*/{PUBLISHED_MAP}/*.tif"))) as dataset:
        codes = dataset.read(1)
    published = pd.read_parquet(folder / "metadata.parquet", filters=[("patch_id", "==", PUBLISHED_MAP)])
    columns = label_columns(codes, ONE_PATCH, load_nomenclature("bigearthnet19"))
    assert columns["labels"][0] == published["labels"][0].tolist()
    assert columns["labels"][0] == ["Arable land", "Broad-leaved forest", "Mixed forest", "Pastures"]
    assert columns["labeled_fraction"][0] == 1.0


@given(
    hnp.arrays(
        np.uint16,
        st.tuples(st.integers(0, 3), st.integers(0, 3)).map(lambda shape: (6 * shape[0] + 1, 6 * shape[1] + 2)),
        elements=st.sampled_from([*LEVEL_3, 999, 0, 65_535]),
    )
)
def test_labels_are_those_of_a_loop_over_patches(codes: np.ndarray) -> None:
    height, width = codes.shape
    grid = PatchGrid(32633, 0, 0, ShapeYX(10 * height, 10 * width), 60)
    nomenclature = load_nomenclature("bigearthnet19")
    columns = label_columns(codes, grid, nomenclature)
    counts = class_counts(codes, grid, nomenclature)
    labels, labeled = [], []
    for x, y in product(range(width // 6), range(height // 6)):
        patch = codes[6 * y : 6 * y + 6, 6 * x : 6 * x + 6].ravel().tolist()
        names = [CLASS_OF_CODE[code] for code in patch if code in CLASS_OF_CODE]
        labels.append(sorted(set(names)))
        labeled.append(len(names))
        assert counts[len(labels) - 1].tolist() == [36 - len(names), *map(names.count, nomenclature.classes)]
    assert columns["labels"].tolist() == labels
    assert columns["labeled_fraction"].tolist() == [count / 36 for count in labeled]
    assert list(columns) == ["labels", "labeled_fraction"]


def test_the_left_over_strip_gives_no_label() -> None:
    codes = np.full((130, 150), 311, np.uint16)
    codes[:120, :120] = 112
    grid = PatchGrid(32633, 0, 0, ShapeYX(1300, 1500))
    assert label_columns(codes, grid, load_nomenclature("bigearthnet19"))["labels"].tolist() == [["Urban fabric"]]


def test_labels_are_sorted_whatever_the_order_of_the_codes() -> None:
    nomenclature = Nomenclature("mine", {1: "zebra", 2: "aardvark", 3: None, 4: "mole", 5: "mole"})
    codes = np.repeat(np.array([1, 5, 4, 2, 3, 999], np.uint16), 6).reshape(6, 6)
    columns = label_columns(codes, PatchGrid(32633, 0, 0, ShapeYX(60, 60), 60), nomenclature)
    assert columns["labels"].tolist() == [["aardvark", "mole", "zebra"]]
    assert columns["labeled_fraction"].tolist() == [24 / 36]


def test_a_nomenclature_of_three_hundred_classes() -> None:
    nomenclature = Nomenclature("many", {code: f"class {code}" for code in range(100, 400)})
    codes = np.full((6, 6), 399, np.uint16)
    codes[0, 0] = 100
    columns = label_columns(codes, PatchGrid(32633, 0, 0, ShapeYX(60, 60), 60), nomenclature)
    assert columns["labels"].tolist() == [["class 100", "class 399"]]
    assert columns["labeled_fraction"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("unlabelled", "comparison", "status"),
    [
        (3_599, "at_least", "kept"),
        (3_599, "more_than", "kept"),
        (3_600, "at_least", "kept"),
        (3_600, "more_than", "rejected"),
        (3_601, "at_least", "rejected"),
        (3_601, "more_than", "rejected"),
        (0, "at_least", "kept"),
        (14_400, "more_than", "rejected"),
    ],
)
def test_exactly_three_quarters(unlabelled: int, comparison: str, status: str) -> None:
    codes = np.full(14_400, 312, np.uint16)
    codes[:unlabelled] = np.resize([999, *_codes(UNLABELED)], unlabelled)
    columns = label_columns(codes.reshape(120, 120), ONE_PATCH, load_nomenclature("bigearthnet19"))
    patches = columns.assign(failed_quality=None, nodata=False)
    decided = decide(patches, labeled_fraction=0.75, comparison=comparison)
    assert decided["status"].tolist() == [status]
    assert decided["reason"].notna().tolist() == [status == "rejected"]


@pytest.mark.parametrize("comparison", ["at_least", "more_than"])
def test_every_whole_percent_can_be_met_exactly(comparison: str) -> None:
    wrong = []
    for percent in range(1, 100):
        pixels = np.array([144 * percent - 1, 144 * percent, 144 * percent + 1])
        patches = pd.DataFrame({"failed_quality": None, "nodata": False, "labeled_fraction": pixels / 14_400})
        decided = decide(patches, labeled_fraction=percent / 100, comparison=comparison)
        if (decided["status"] == "kept").tolist() != [False, comparison == "at_least", True]:
            wrong.append(percent)
    assert wrong == []


def test_reasons_come_in_the_order_of_the_rules() -> None:
    asked = ["tile_quality", "nodata", "too_little_labeled"]
    assert [reason for reason in REASONS if reason in asked] == asked
    cases = list(product([None, "GEOMETRIC"], [False, True], [1.0, 0.5]))
    patches = pd.DataFrame(cases, columns=["failed_quality", "nodata", "labeled_fraction"], index=range(5, 13))
    decided = decide(patches, labeled_fraction=0.75, comparison="at_least")
    expected = [None, "too_little_labeled", "nodata", "nodata", *["tile_quality"] * 4]
    assert [None if pd.isna(reason) else reason for reason in decided["reason"]] == expected
    assert decided["status"].tolist() == ["rejected" if reason else "kept" for reason in expected]
    assert decided.index.tolist() == patches.index.tolist()
    pd.testing.assert_frame_equal(decided[list(patches)], patches)


def test_patches_whose_pixels_were_not_looked_at_have_the_reason_of_their_tile() -> None:
    patches = pd.DataFrame(
        {"failed_quality": ["SENSOR"] * 2, "nodata": [None] * 2, "labeled_fraction": [None] * 2}, dtype=object
    )
    decided = decide(patches, labeled_fraction=0.75, comparison="at_least")
    assert decided["status"].tolist() == ["rejected"] * 2
    assert decided["reason"].tolist() == ["tile_quality"] * 2


def test_no_patches() -> None:
    columns = label_columns(
        np.zeros((0, 0), np.uint16), PatchGrid(32633, 0, 0, ShapeYX(0, 0)), load_nomenclature("clc44")
    )
    decided = decide(columns.assign(failed_quality=None, nodata=False), labeled_fraction=0.75, comparison="at_least")
    assert decided.empty
    assert decided["status"].dtype == decided["reason"].dtype == "str"
