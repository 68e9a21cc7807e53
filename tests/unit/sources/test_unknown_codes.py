"""Codes of a map that the nomenclature does not know: all of them at once, before anything is sorted."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import pyogrio
import pytest
import shapely

from reben_dask.errors import InputError
from reben_dask.nomenclature import load_nomenclature
from reben_dask.sources.landcover import count_codes, open_landcover, require_known_codes, sort_landcover

CODES = ["111", "211", "888", "777", "111", "888"]
COUNTS = {
    "111": {"rows": 2, "first_row": 0},
    "211": {"rows": 1, "first_row": 1},
    "777": {"rows": 1, "first_row": 3},
    "888": {"rows": 2, "first_row": 2},
}


def _map(path: Path, codes: list[str] = CODES) -> str:
    boxes = [shapely.box(10 * i, 0, 10 * i + 10, 10) for i in range(len(codes))]
    table = gpd.GeoDataFrame({"Code_18": codes}, geometry=boxes, crs=3035)
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        pyogrio.write_dataframe(table, path)
    return str(path)


@pytest.mark.parametrize("rows_at_once", [1, 2, 100])
@pytest.mark.parametrize("name", ["map.gpkg", "map.parquet"])
def test_codes_are_counted_without_polygons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, rows_at_once: int
) -> None:
    monkeypatch.setattr("reben_dask.sources.landcover.vector_map.ROWS_AT_ONCE", rows_at_once)
    source = open_landcover(_map(tmp_path / name))
    assert count_codes(source) == COUNTS
    assert sort_landcover(source, tmp_path / "sorted").codes == COUNTS


def test_all_unknown_codes_are_named_with_the_lines_to_add(tmp_path: Path) -> None:
    source = open_landcover(_map(tmp_path / "map.gpkg"))
    shipped = load_nomenclature("bigearthnet19")
    with pytest.raises(InputError) as caught:
        require_known_codes(source, count_codes(source), shipped, "bigearthnet19")
    begin, _, path = str(caught.value).partition(" to a copy of ")
    assert begin == (
        "The land-cover map map.gpkg has codes (column Code_18) that the nomenclature bigearthnet19 does not know: "
        '777 (1 row, first 3), 888 (2 rows, first 2). Add the lines "777,", "888,", each with its class after the '
        "comma, or without one where a code has no label,"
    )
    copied = Path(path.partition(", and give")[0])
    own = tmp_path / "own.csv"
    own.write_text(copied.read_text(encoding="utf-8").rstrip("\n") + "\n777,Glacier\n", encoding="utf-8")
    with pytest.raises(InputError, match=rf'know: 888 \(2 rows, first 2\). Add the lines "888,", .+, to {own}\.'):
        require_known_codes(source, count_codes(source), load_nomenclature(str(own)), str(own))
    own.write_text(own.read_text(encoding="utf-8") + "888,\n", encoding="utf-8")
    require_known_codes(source, count_codes(source), load_nomenclature(str(own)), str(own))


def test_a_missing_code_is_named_with_its_row(tmp_path: Path) -> None:
    source = open_landcover(_map(tmp_path / "map.gpkg", ["111", " "]))
    with pytest.raises(InputError, match=r"has the code ' ' \(column Code_18, row 1\), which is not a code"):
        count_codes(source)


def test_numbers_come_before_texts(tmp_path: Path) -> None:
    source = open_landcover(_map(tmp_path / "map.gpkg", ["water", "1000", "Forest", "99"]))
    with pytest.raises(InputError, match=r'Add the lines "99,", "1000,", "Forest,", "water,", each'):
        require_known_codes(source, count_codes(source), load_nomenclature("clc44"), "clc44")


def test_names_of_places_are_no_codes(tmp_path: Path) -> None:
    source = open_landcover(_map(tmp_path / "map.parquet", [f"place {number}" for number in range(65_537)]))
    with pytest.raises(InputError, match=r"column Code_18 .+ more than 65,536 different values.+ set --code-column"):
        count_codes(source)
