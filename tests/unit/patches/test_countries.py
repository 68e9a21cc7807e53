"""Country of a patch, against the published column."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import pytest
import shapely
from oracle import TEN_COUNTRIES

from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.countries import country_column, nearest_country
from reben_dask.sources.vector_layers import open_countries, read_countries

GRID = PatchGrid(32633, 500_000, 5_400_000, ShapeYX(2400, 2400))


@pytest.fixture(scope="module")
def countries_file(data_dir: Path) -> str:
    return str(data_dir / "countries" / "ne_110m_admin_0_ten_countries.gpkg")


def test_the_ten_countries_are_found(countries_file: str) -> None:
    countries = read_countries(open_countries(countries_file, TEN_COUNTRIES))
    assert sorted(countries["country"]) == sorted(TEN_COUNTRIES)
    names = (*TEN_COUNTRIES, "Atlantis")
    assert set(names) - set(open_countries(countries_file, names, only_listed=True).found) == {"Atlantis"}


def _squares(*places: tuple[str, float, float]) -> gpd.GeoDataFrame:
    """Countries of 1 km side with their lower-left corner at ``(x, y)`` metres from the grid's corner."""
    boxes = [shapely.box(500_000 + x, 5_400_000 + y, 501_000 + x, 5_401_000 + y) for _, x, y in places]
    return gpd.GeoDataFrame({"country": [name for name, *_ in places]}, geometry=boxes, crs=32633)


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([("A", -5000, -1000)], "A A A A"),
        ([("A", -5000, -1200), ("B", 6400, -1200)], "A A B B"),
        ([("A", 0, 5000), ("B", 0, -8400)], "A B A B"),
        # Before the corner of the first patch, and before the middle of its side: B is nearer to its centre.
        ([("A", -1001, 1), ("B", -1100, -1100)], "A B A B"),
        ([("A", -1001, 1), ("B", 10, -1010)], "B B B B"),
    ],
)
def test_the_distance_is_that_of_the_square(places: list[tuple[str, float, float]], expected: str) -> None:
    assert nearest_country(GRID, _squares(*places)).tolist() == expected.split()


@pytest.mark.parametrize("names", [["A", "B"], ["B", "A"]])
def test_of_equal_distances_the_first_name_wins_whatever_the_order_of_the_rows(names: list[str]) -> None:
    both = _squares((names[0], 100, -1100), (names[1], 100, -1100))
    assert nearest_country(GRID, both).tolist() == ["A"] * 4


def test_any_system_of_coordinates(countries_file: str) -> None:
    countries = read_countries(open_countries(countries_file, TEN_COUNTRIES))
    expected = nearest_country(GRID, countries).tolist()
    assert set(expected) == {"Austria"}
    assert nearest_country(GRID, countries.to_crs(32633)).tolist() == expected


def test_a_country_of_many_rows() -> None:
    assert nearest_country(GRID, _squares(("A", -9000, 0), ("B", -5000, 0), ("A", 100, -1100))).tolist() == ["A"] * 4


def test_without_polygons_the_column_is_null() -> None:
    column = country_column(GRID, None)
    assert column["country"].isna().tolist() == [True] * 4
    assert column["country"].dtype == country_column(GRID, _squares(("A", 0, 0)))["country"].dtype == "str"
