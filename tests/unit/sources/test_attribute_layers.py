"""Polygon layers of attributes: whatever a person has, or one sentence about what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import pytest
import shapely

from reben_dask.errors import InputError
from reben_dask.sources.vector_layers import read_attribute, require_attribute

SQUARES = [shapely.box(number, 50, number + 1, 51) for number in range(4)]
SUFFIX = {"GPKG": "gpkg", "GeoJSON": "geojson", "ESRI Shapefile": "shp"}


def _write(folder: Path, table: gpd.GeoDataFrame, driver: str = "GPKG") -> str:
    path = folder / f"layer.{SUFFIX[driver]}"
    table.to_file(path, driver=driver)
    return str(path)


def _layer(
    geometry: list[shapely.Geometry | None] = SQUARES, crs: object = 4326, **columns: object
) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(columns, geometry=geometry, crs=crs)


def _refused(path: str, column: str = "RTYP3") -> str:
    """Both doors refuse it with the same sentence."""
    messages = []
    for door in (require_attribute, read_attribute):
        with pytest.raises(InputError) as caught:
            door(path, column)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert path in messages[0]
    assert messages[0].endswith(".")
    assert "\n" not in messages[0]
    return messages[0]


@pytest.mark.parametrize("driver", SUFFIX)
def test_values_are_text_whatever_they_are(tmp_path: Path, driver: str) -> None:
    table = _layer(
        text=["a", "", "ü", "a b"],
        whole=[1, 2, 3, 4],
        gaps=[1, None, 3, None],
        share=[0.5, 1.0, 1e3, None],
    )
    path = _write(tmp_path, table, driver)
    values = {name: read_attribute(path, name)["value"].tolist() for name in ("whole", "gaps", "share")}
    assert values == {"whole": ["1", "2", "3", "4"], "gaps": ["1", "3"], "share": ["0.5", "1", "1000"]}
    assert set(read_attribute(path, "text")["value"]) >= {"a", "ü", "a b"}
    found = read_attribute(path, "gaps")
    assert list(found) == ["value", "geometry"]
    assert found["value"].dtype == "str"
    assert found.index.tolist() == [0, 1]
    assert found.geometry.bounds["minx"].tolist() == [0, 2]
    assert found.crs.to_epsg() == 4326


def test_the_system_of_the_layer_stays(tmp_path: Path) -> None:
    path = _write(tmp_path, _layer(crs=25832, a=list("abcd")))
    assert read_attribute(path, "a").crs.to_epsg() == 25832


@pytest.mark.parametrize("asked", ["RTYP3", "rtyp3", "Rtyp3"])
def test_case_of_a_column_does_not_matter(tmp_path: Path, asked: str) -> None:
    path = _write(tmp_path, _layer(rTyP3=list("abcd"), other=[1, 2, 3, 4]))
    assert read_attribute(path, asked)["value"].tolist() == list("abcd")


def test_a_column_of_exactly_that_name_comes_first(tmp_path: Path) -> None:
    path = _write(tmp_path, _layer(kind=list("abcd"), KIND=list("efgh")), "GeoJSON")
    assert read_attribute(path, "KIND")["value"].tolist() == list("efgh")
    assert read_attribute(path, "kind")["value"].tolist() == list("abcd")


@pytest.mark.parametrize("column", ["value", "kind"])
def test_a_layer_with_a_column_called_value(tmp_path: Path, column: str) -> None:
    path = _write(tmp_path, _layer(value=list("abcd"), kind=list("efgh")))
    found = read_attribute(path, column)
    assert list(found) == ["value", "geometry"]
    assert found["value"].tolist() == list("abcd" if column == "value" else "efgh")


def test_rows_without_a_geometry_or_a_value_are_left_out(tmp_path: Path) -> None:
    geometry = [SQUARES[0], None, shapely.Polygon(), SQUARES[3]]
    path = _write(tmp_path, _layer(geometry, a=["a", "b", "c", None]))
    assert read_attribute(path, "a")["value"].tolist() == ["a"]


def test_a_layer_without_rows(tmp_path: Path) -> None:
    path = _write(tmp_path, _layer(a=list("abcd")).iloc[:0])
    assert read_attribute(path, "a").empty


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    message = _refused(_write(tmp_path, _layer(NAME=list("abcd"), TYPE=[1, 2, 3, 4])))
    assert "has no column RTYP3; it has NAME, TYPE. Name one of them in the recipe (attributes)." in message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "does not exist" in _refused(str(tmp_path / "none.gpkg"))


def test_a_file_that_is_no_vector_file(tmp_path: Path) -> None:
    path = tmp_path / "layer.gpkg"
    path.write_text("nothing")
    assert "cannot be read" in _refused(str(path))


def test_a_table_without_geometry(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("RTYP3,b\n1,2\n")
    assert "has no polygons with a coordinate reference system." in _refused(str(path))


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_a_layer_without_a_system(tmp_path: Path) -> None:
    path = _write(tmp_path, _layer(crs=None, RTYP3=list("abcd")), "ESRI Shapefile")
    assert "has no polygons with a coordinate reference system." in _refused(path)


@pytest.mark.parametrize("part", ["centroid", "boundary"])
def test_a_layer_of_points_or_lines(tmp_path: Path, part: str) -> None:
    """Nothing of it covers any ground, and the column would stay empty without a word."""
    path = _write(tmp_path, _layer([getattr(square, part) for square in SQUARES], RTYP3=list("abcd")))
    assert "has no polygons with a coordinate reference system." in _refused(path)


def test_polygons_of_several_kinds(tmp_path: Path) -> None:
    several = shapely.MultiPolygon([SQUARES[1], SQUARES[3]])
    solid = shapely.Polygon([(0, 50, 1), (1, 50, 1), (1, 51, 1)])
    path = _write(tmp_path, _layer([SQUARES[0], several, solid, several], 25832, RTYP3=list("abcd")))
    assert read_attribute(path, "RTYP3").geometry.area.round(9).tolist() == [1, 2, 0.5, 2]
