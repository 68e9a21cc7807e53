"""Maps and nomenclatures whose codes are texts, or numbers that do not fit into a reference map."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely

from reben_dask.errors import InputError
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.nomenclature import Nomenclature, load_nomenclature
from reben_dask.patches.labels import label_columns
from reben_dask.patches.reference_map import rasterize_map
from reben_dask.sources.landcover import open_landcover, read_polygons, require_known_codes, sort_landcover

OWN = """code,class,value,color
Wälder,Forest,,#00AA00
 W ,Water,900,#0000ff
11100,Built-up,,
7,,,
"""


def _load(folder: Path, text: str) -> Nomenclature:
    (folder / "own.csv").write_text(text, encoding="utf-8")
    return load_nomenclature(str(folder / "own.csv"))


def test_values_and_colours(tmp_path: Path) -> None:
    own = _load(tmp_path, OWN.replace("11100,Built-up,,", "11100,Built-up,3,"))
    assert own.value_of == {"Wälder": 1, "W": 900, "11100": 3, "7": 7}
    assert own.class_of == {1: "Forest", 900: "Water", 3: "Built-up", 7: None}
    assert own.color_of == {1: "#00aa00", 900: "#0000ff"}
    assert own.known_values == {1, 3, 7, 900, 999}


def test_codes_of_one_class_may_share_a_value(tmp_path: Path) -> None:
    own = _load(tmp_path, "code,class,value\nA1,Fields,5\nA2,Fields,5\nB,Woods,6\n")
    assert own.map_values(pd.Series(["A2", "B", "A1"])).tolist() == [5, 6, 5]
    assert own.class_of == {5: "Fields", 6: "Woods"}


@pytest.mark.parametrize("codes", [[111, 999, 523], ["111", " 999", "523.0"], [111.0, 999.0, 523.0]])
def test_values_of_numbers_are_the_numbers(codes: list[object]) -> None:
    values = load_nomenclature("clc44").map_values(pd.Series(codes))
    assert values.dtype == np.uint16
    assert values.tolist() == [111, 999, 523]


def test_a_code_that_the_nomenclature_does_not_know() -> None:
    with pytest.raises(InputError, match="The nomenclature clc44 does not know the code water of the land-cover map"):
        load_nomenclature("clc44").map_values(pd.Series(["111", "water"]))


@pytest.mark.parametrize("codes", [["W", "Wälder", "11100"], [11_100, 7, 11_100], [1.5, 70_000.0, 1.5]])
def test_codes_are_kept_as_they_are(tmp_path: Path, codes: list[object]) -> None:
    boxes = [shapely.box(10 * i, 0, 10 * i + 10, 10) for i in range(3)]
    gpd.GeoDataFrame({"code": codes}, geometry=boxes, crs=3035).to_parquet(tmp_path / "map.parquet")
    sorted_map = sort_landcover(open_landcover(str(tmp_path / "map.parquet")), tmp_path / "sorted")
    table = pq.read_table(sorted_map.parts[0]).to_pandas().sort_values("order")
    wanted = ["70000" if code == 70_000 else code if codes == [11_100, 7, 11_100] else str(code) for code in codes]
    assert table["code"].tolist() == wanted
    assert sorted_map.codes == {
        str(code): {"rows": wanted.count(code), "first_row": wanted.index(code)} for code in set(wanted)
    }


def test_labels_of_a_map_with_texts(tmp_path: Path) -> None:
    """One patch of 60 m: the upper half is forest, the lower left quarter water, and the rest has no polygon."""
    own = _load(tmp_path, OWN.replace("11100,Built-up,,", "11100,Built-up,3,"))
    boxes = [shapely.box(0, 30, 60, 60), shapely.box(0, 0, 30, 30)]
    gpd.GeoDataFrame({"kind": ["Wälder", "W"]}, geometry=boxes, crs=32633).to_file(tmp_path / "map.gpkg")
    source = open_landcover(str(tmp_path / "map.gpkg"), code_column="kind")
    sorted_map = sort_landcover(source, tmp_path / "sorted")
    require_known_codes(source, sorted_map.codes, own, "own.csv")
    polygons = read_polygons(sorted_map.parts, (0, 0, 60, 60))
    grid = PatchGrid(32633, 0, 60, ShapeYX(60, 60), 60)
    codes = rasterize_map(polygons.assign(code=own.map_values(polygons["code"])), grid).codes
    assert codes.tolist() == [[1] * 6] * 3 + [[900] * 3 + [999] * 3] * 3
    columns = label_columns(codes, grid, own)
    assert columns["labels"].tolist() == [["Forest", "Water"]]
    assert columns["labeled_fraction"].tolist() == [0.75]
