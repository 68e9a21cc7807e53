"""The card of a dataset and its Croissant metadata, against the dataset itself."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import duckdb
import pytest

from reben_dask.formats.columns import METADATA
from reben_dask.formats.dataset import RecordedInputs, RecordedMap, RecordedTile, RunRecord
from reben_dask.stores.terms import attributions, years_of


@pytest.fixture(scope="module")
def croissant(small_run: Path) -> dict:
    return json.loads((small_run / "croissant.json").read_text(encoding="utf-8"))


def test_the_card_has_the_counts_of_the_dataset(small_run: Path) -> None:
    card = (small_run / "dataset_card.md").read_text(encoding="utf-8")
    both = f"read_parquet('{small_run}/metadata*.parquet')"
    for split, count in duckdb.sql(f"SELECT split, count(*) FROM {both} GROUP BY split").fetchall():  # noqa: S608
        assert f"| {split} | {count:,} |" in card
    ((kept,),) = duckdb.sql(f"SELECT count(*) FROM {both}").fetchall()  # noqa: S608
    assert f" {kept:,} patches of 1,200 m from 5 Sentinel-2 L2A tiles (2018 to 2019)" in card
    assert card.startswith("# reBEN (refined BigEarthNet)\n\n**Synthetic data, ")


def test_invented_data_are_not_called_those_of_copernicus(small_run: Path, croissant: dict) -> None:
    card = (small_run / "dataset_card.md").read_text(encoding="utf-8")
    said = "Synthetic data: nothing in it is an observation of the Earth."
    assert f"\n> {said}\n" in card
    assert croissant["creditText"] == said
    for text in (card, json.dumps(croissant)):
        assert not {"Copernicus", "copernicus"} & {*text.replace("/", " ").replace(".", " ").split()}


@pytest.mark.slow
def test_real_data_are_called_what_they_are(mini_run: Path) -> None:
    card = (mini_run / "dataset_card.md").read_text(encoding="utf-8")
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
