"""A dataset with a nomenclature and a map of one's own: its values, names and colours everywhere, and no CORINE."""

from __future__ import annotations

import csv
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import yaml
import zarr
from click.testing import CliRunner
from conftest import ROOT, run_here
from pages import read_page
from processes import Cluster

import reben_dask as rb
from reben_dask.cli import main
from reben_dask.demo import DemoRegion

TILE = "20180725*UVP"
OWN = """code,class,value,color
Wasser,Water,900,#0000ff
wood,Woodland,,#00aa00
agri,,,
rest,Other land,4,
"""
CODES = {900: "Wasser", 2: "wood", 3: "agri", 4: "rest"}
CLASSES = {900: "Water", 2: "Woodland", 4: "Other land"}


def _own_value(code: int) -> int:
    return 900 if code >= 511 else 2 if code in {311, 312, 313} else 3 if 211 <= code <= 244 else 4


@pytest.fixture(scope="module")
def own_run(small_region: DemoRegion, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    given = gpd.read_file(small_region.landcover)
    codes = [CODES[_own_value(int(code))] for code in given["Code_18"]]
    pyogrio.write_dataframe(gpd.GeoDataFrame({"kind": codes}, geometry=given.geometry), folder / "national.gpkg")
    (folder / "own.csv").write_text(OWN, encoding="utf-8")
    recipe = yaml.safe_load((ROOT / "reben_dask" / "recipes" / "reben.yaml").read_text(encoding="utf-8"))
    recipe |= {"name": "own", "title": "Own classes", "nomenclature": "own.csv"}
    (folder / "own.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    inputs = ["--s2", next(small_region.s2.glob(f"*{TILE}*")), "--landcover", folder / "national.gpkg"]
    choices = ["--code-column", "kind", "--recipe", folder / "own.yaml", "--out", folder / "out"]
    done = run_here(*inputs, *choices, *cluster.options)
    assert done.returncode == 0, done.stderr
    return folder / "out"


def test_maps_and_labels_have_the_own_classes(own_run: Path, small_run: Path) -> None:
    store = zarr.open_group(own_run / "cubes.zarr", mode="r")
    (tile,) = store.group_keys()
    codes = store[f"{tile}/reference_map/reference_map"][:]
    corine = zarr.open_array(small_run / "cubes.zarr" / tile / "reference_map" / "reference_map", mode="r")[:]
    expected = np.array([999 if code == 999 else _own_value(code) for code in corine.ravel()]).reshape(corine.shape)
    np.testing.assert_array_equal(codes, expected)
    patches = pd.read_parquet(own_run / "patches.parquet")
    assert set(patches["status"]) == {"kept", "rejected"}
    for row in patches.itertuples():
        patch = expected[120 * row.y : 120 * (row.y + 1), 120 * row.x : 120 * (row.x + 1)]
        assert list(row.labels) == sorted({CLASSES[code] for code in set(patch.flat) & CLASSES.keys()})
        assert row.labeled_fraction == np.isin(patch, list(CLASSES)).mean()
    assert set(patches["labels"].explode().dropna()) == set(CLASSES.values())


@pytest.mark.usefixtures("nothing_is_drawn")
def test_nothing_claims_corine(own_run: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(own_run)])
    assert result.exit_code == 0, result.output
    page = read_page(own_run / "report" / "index.html")
    assert "reference maps have the colours of the nomenclature" in page.text
    card = (own_run / "README.md").read_text(encoding="utf-8")
    for text in (page.text, card, (own_run / "croissant.json").read_text(encoding="utf-8")):
        assert not {"corine", "clc", "ha"} & set(text.lower().replace(",", " ").split())
    assert "Labels come from national.gpkg; its own terms apply." in card
    entries = {tag.text.rpartition(",")[0].strip() for tag in page.all("li") if "%" in tag.text}
    assert entries <= {"Wasser Water", "wood Woodland", "code agri (no label)", "rest Other land"}
    assert {"rest Other land", "code agri (no label)"} <= entries


def test_colours_are_those_of_the_nomenclature(own_run: Path) -> None:
    legend = rb.open_dataset(own_run).legend
    rows = {row["code"]: row["color"] for row in csv.DictReader(OWN.splitlines())}
    assert (legend.entry(900).colour, legend.entry(2).colour) == (rows["Wasser"], rows["wood"])
    others = {legend.entry(value).colour for value in (3, 4, 999)}
    assert len(others - set(rows.values())) == 3
    colours = rb.map_colours(np.array([[900, 2]], np.uint16), legend)
    assert colours.tolist() == [[[0, 0, 255], [0, 0xAA, 0]]]
