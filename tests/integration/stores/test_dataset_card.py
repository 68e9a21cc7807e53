"""The card of a dataset and its Croissant metadata, against the dataset itself."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from reben_dask.demo import DemoRegion
from reben_dask.formats.columns import METADATA, METADATA_SCHEMA
from reben_dask.formats.dataset import (
    FLAGGED_METADATA_FILE,
    FORMAT,
    METADATA_FILE,
    RecordedInputs,
    RecordedMap,
    RecordedTile,
    RunRecord,
    is_card,
)
from reben_dask.job.run import plan_of
from reben_dask.options import JobOptions
from reben_dask.stores.cards import write_card, write_croissant
from reben_dask.stores.terms import attributions, years_of

FILES = (METADATA_FILE, FLAGGED_METADATA_FILE)


@pytest.fixture(scope="module")
def croissant(small_run: Path) -> dict:
    return json.loads((small_run / "croissant.json").read_text(encoding="utf-8"))


def test_the_card_has_the_counts_of_the_metadata(small_run: Path) -> None:
    """And the tiles without the one that failed its quality indicators."""
    card = (small_run / "README.md").read_text(encoding="utf-8")
    files = [f"'{small_run / name}'" for name in FILES]
    for split, clear, flagged in duckdb.sql(
        f"SELECT split, count(*) FILTER (clear), count(*) FILTER (NOT clear) FROM (SELECT split, true AS clear FROM {files[0]} "  # noqa: E501, S608
        f"UNION ALL SELECT split, false FROM {files[1]}) GROUP BY split"
    ).fetchall():
        assert f"| {split} | {clear:,} | {flagged:,} | {clear + flagged:,} |" in card
    ((kept,),) = duckdb.sql(f"SELECT count(*) FROM read_parquet([{', '.join(files)}])").fetchall()  # noqa: S608
    assert f" {kept:,} patches of 1,200 m from 4 Sentinel-2 L2A tiles (2018 to 2019)" in card
    assert "_T33UVP is rejected: GEOMETRIC quality did not pass." in card
    assert "\n# out\n\n**Synthetic data, " in card
    assert "Built with the recipe reBEN (refined BigEarthNet) (`reben`) by reben_dask" in card


def test_the_front_matter_is_that_of_hugging_face(small_run: Path) -> None:
    _, front, _ = (small_run / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    content = yaml.safe_load(front)
    assert content["pretty_name"] == "out"
    assert content["license"] == "mit"
    assert content["size_categories"] == ["n<1K"]
    assert content["reben_dask"]["recipe"] == "reben"
    configs = {config["config_name"]: config["data_files"] for config in content["configs"]}
    assert [config.get("default") for config in content["configs"]] == [True, None]
    assert list(configs) == ["patches", "candidates"]
    assert {entry["path"] for entry in configs["patches"]} == set(FILES)
    assert all(any(small_run.glob(entry["path"])) for files in configs.values() for entry in files)
    assert is_card(small_run / "README.md")


def test_croissant_names_the_dataset(small_run: Path, croissant: dict) -> None:
    assert croissant["name"] == "out"
    assert croissant["description"].startswith("out: ")
    assert croissant["description"].endswith("classes, built with the recipe reBEN (refined BigEarthNet).")
    assert croissant["citeAs"].startswith("out, built with the recipe reBEN (refined BigEarthNet) of reben_dask. ")
    for name, entry in zip(FILES, croissant["distribution"], strict=False):
        ((rows,),) = duckdb.sql(f"SELECT count(*) FROM '{small_run / name}'").fetchall()  # noqa: S608
        assert f"({rows:,}), one row each" in entry["description"]


@pytest.mark.parametrize(("given", "title"), [({}, "mine"), ({"title": "Peat: bogs"}, "Peat: bogs")])
def test_the_title_is_that_of_the_user_or_the_folder(
    small_region: DemoRegion, tmp_path: Path, given: dict[str, str], title: str
) -> None:
    (product,) = small_region.s2.glob("*20180725*UVP*")
    options = JobOptions.of(s2=product, landcover=small_region.landcover, out=tmp_path / "mine", **given)
    assert plan_of(options).title == title


ROWS = {
    METADATA_FILE: ["train"] * 1_200 + ["test", None],
    FLAGGED_METADATA_FILE: [],
}


def _documents(folder: Path, **content: Any) -> tuple[str, dict]:
    """Card and Croissant metadata of a dataset without its pixels: no flagged patch, none in validation."""
    for name, splits in ROWS.items():
        rows = [{"patch_id": f"p{row}", "labels": ["a"], "split": split} for row, split in enumerate(splits)]
        pq.write_table(pa.Table.from_pylist(rows, METADATA_SCHEMA), folder / name)
    recipe = {"name": "mine", "title": "Mine", "patch_size_m": 1200, "nomenclature": "x", "tree": "seasonet"}
    given = {
        "format": FORMAT,
        "finished": "2026-01-01T00:00:00+00:00",
        "title": "Peat: bogs | moors",
        "recipe": recipe,
        "classes": ("a",),
        "class_of_code": {},
        "inputs": RecordedInputs(tiles=(), landcover=RecordedMap(source={"name": "mine.gpkg"})),
        "versions": {"reben_dask": "0"},
    }
    record = RunRecord(**{**given, **content})
    return (
        write_card(folder, record).read_text(encoding="utf-8"),
        json.loads(write_croissant(folder, record).read_text(encoding="utf-8")),
    )


def test_patches_in_no_split_have_a_row_and_empty_ones_none(tmp_path: Path) -> None:
    card, _ = _documents(tmp_path)
    table = [line for line in card.splitlines() if line.startswith("| ")]
    assert table == [
        "| split | clear | all |",
        "| --- | ---: | ---: |",
        "| train | 1,200 | 1,200 |",
        "| test | 1 | 1 |",
        "| no split | 1 | 1 |",
        "| all | 1,202 | 1,202 |",
    ]
    front = yaml.safe_load(card.split("---\n", 2)[1])
    assert (front["pretty_name"], front["size_categories"]) == ("Peat: bogs | moors", ["1K<n<10K"])
    # load_dataset fails for a split without rows.
    assert front["configs"][0]["data_files"] == [{"split": "clear", "path": METADATA_FILE}]
    assert "nan" not in card.lower().split()


def test_reasons_are_in_the_order_of_the_rules(tmp_path: Path) -> None:
    reasons = {"too_little_labeled": 3, "nodata": 2, "no_sentinel1": 0, "tile_quality": 1}
    card, _ = _documents(tmp_path, counts={"reason": reasons})
    found = re.findall(r"^- (\d) candidates? rejected: (.*)$", card, re.MULTILINE)
    assert [count for count, _ in found] == ["1", "2", "3"]


def test_exported_trees_are_listed(tmp_path: Path) -> None:
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "train.csv").touch()
    exports = ("spring", "BigEarthNet-v1.0", "spring.tar.zst", "meta.csv", "splits")
    card, croissant = _documents(tmp_path, exports=exports)
    found = {entry["@id"]: entry["includes"] for entry in croissant["distribution"] if entry["@type"] == "cr:FileSet"}
    assert {name: found[name] for name in exports} == {
        "spring": "spring/**",
        "BigEarthNet-v1.0": "BigEarthNet-v1.0/**",
        "spring.tar.zst": "spring.tar.zst",
        "meta.csv": "meta.csv",
        "splits": "splits/**",
    }
    kinds = {"spring": "GeoTIFFs", "spring.tar.zst": "Archive", "meta.csv": "Table", "splits": "Tables"}
    for name, kind in kinds.items():
        assert f"- `{name}`: {kind} of the tree seasonet\n" in card


@pytest.mark.parametrize(
    ("name", "words"),
    [("U2018_CLC2018_V2020_20u1.gpkg", ["25 ha", "CORINE Land Cover 2018, https://doi.org/"]),
     ("U2018_CLC2012_V2020_20u1.gpkg", ["25 ha", "(CORINE Land Cover 2012)"]),
     ("mine.gpkg", ["the land-cover map has its own terms", "Labels come from mine.gpkg; its own terms apply."])],
)  # fmt: skip
def test_only_corine_is_called_corine(tmp_path: Path, name: str, words: list[str]) -> None:
    inputs = RecordedInputs(tiles=(), landcover=RecordedMap(source={"name": name}))
    card, croissant = _documents(tmp_path, inputs=inputs)
    assert all(text in card for text in words)
    is_corine = name.startswith("U2018")
    assert ("CORINE" in card) == ("CORINE" in json.dumps(croissant)) == is_corine


def test_invented_data_are_not_called_those_of_copernicus(small_run: Path, croissant: dict) -> None:
    card = (small_run / "README.md").read_text(encoding="utf-8")
    said = "Synthetic data: nothing in it is an observation of the Earth."
    assert f"\n> {said}\n" in card
    assert croissant["creditText"] == said
    for text in (card, json.dumps(croissant)):
        assert not {"Copernicus", "copernicus"} & {*text.replace("/", " ").replace(".", " ").split()}


@pytest.mark.slow
def test_real_data_are_called_what_they_are(mini_run: Path) -> None:
    card = (mini_run / "README.md").read_text(encoding="utf-8")
    assert "\n> Contains modified Copernicus Sentinel data 20" in card
    assert "ynthetic" not in card


def test_files_have_their_digests(small_run: Path, croissant: dict) -> None:
    files = {entry["@id"]: entry for entry in croissant["distribution"] if entry["@type"] == "cr:FileObject"}
    for name, entry in files.items():
        content = (small_run / name).read_bytes()
        assert (entry["sha256"], entry["contentSize"]) == (hashlib.sha256(content).hexdigest(), f"{len(content)} B")
    assert len(files) == 2


def test_sets_of_files_are_there(small_run: Path, croissant: dict) -> None:
    patterns = [entry["includes"] for entry in croissant["distribution"] if entry["@type"] == "cr:FileSet"]
    assert all(any(small_run.glob(pattern)) for pattern in patterns)


CROISSANT_TYPES = {
    "VARCHAR": ("sc:Text", False),
    "VARCHAR[]": ("sc:Text", True),
    "BOOLEAN": ("sc:Boolean", False),
    **dict.fromkeys(("SMALLINT", "INTEGER", "BIGINT"), ("sc:Integer", False)),
    **dict.fromkeys(("FLOAT", "DOUBLE"), ("sc:Float", False)),
    "TIMESTAMP WITH TIME ZONE": ("sc:DateTime", False),
}
"""Type of a field, and whether it is repeated, by the type that DuckDB reads."""


def test_fields_are_the_columns(small_run: Path, croissant: dict) -> None:
    for records in croissant["recordSet"]:
        (file,) = {field["source"]["fileObject"]["@id"] for field in records["field"]}
        columns = duckdb.sql(f"SELECT * FROM '{small_run / file}' LIMIT 1").columns  # noqa: S608
        assert [field["source"]["extract"]["column"] for field in records["field"]] == columns
        assert [field["description"] for field in records["field"]] == [column.description for column in METADATA]
        kinds = {field["name"]: (field["dataType"], field.get("repeated", False)) for field in records["field"]}
        stored = dict(duckdb.sql(f"SELECT column_name, column_type FROM (DESCRIBE '{small_run / file}')").fetchall())  # noqa: S608
        assert kinds == {name: CROISSANT_TYPES[kind] for name, kind in stored.items()}
        assert records["key"] == {"@id": f"{records['@id']}/patch_id"}


def _record(source: str, *tiles: str, **landcover: str) -> RunRecord:
    products = [RecordedTile(tile=tile, path="", metadata_sha256="") for tile in tiles]
    inputs = RecordedInputs(tiles=products, landcover=RecordedMap(source={"name": source}, **landcover))
    return RunRecord.model_construct(inputs=inputs)


@pytest.mark.parametrize(
    ("record", "years", "map_is_official"),
    [
        (_record("U2018_CLC2018_V2020_20u1.gpkg", "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"), ["2017"], True),
        (_record("mine.gpkg", "S2A_x_20180101T101031_y", "S2B_x_20170101T101031_y", "odd"), ["2017", "2018"], False),
        (_record("mine.gpkg"), [], False),
        (_record("u2018_clc2018_v2020.gpkg", about="Synthetic aperture radar was used."), [], True),
    ],
)
def test_attributions(record: RunRecord, years: list[str], map_is_official: bool) -> None:  # noqa: FBT001
    assert years_of(record) == years
    sentinel, landcover = attributions(record)
    assert sentinel == f"Contains modified Copernicus Sentinel data {', '.join(years)}".rstrip() + "."
    assert ("Copernicus Land Monitoring Service" in landcover) == map_is_official
