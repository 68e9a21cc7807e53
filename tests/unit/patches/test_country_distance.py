"""Country of a patch: never one that is far away, and also one that reaches to the far side of the globe."""

from __future__ import annotations

import geopandas as gpd
import pytest
import shapely

from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.countries import nearest_country

GRID = PatchGrid(32633, 500_000, 5_400_000, ShapeYX(1200, 2400))


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, ["A", "A"]), (3_700, ["A", "A"]), (3_699, ["A", None]), (2_499, [None, None])]
)
def test_the_limit_of_the_distance(limit: float | None, expected: list[str | None]) -> None:
    """A lies 2,500 m west of the first patch, and 3,700 m of the second one."""
    country = gpd.GeoDataFrame({"country": ["A"]}, geometry=[shapely.box(490_000, 5_390_000, 497_500, 5_410_000)])
    assert nearest_country(GRID, country.set_crs(32633), limit).tolist() == expected


def test_a_country_across_the_globe_is_near_where_it_is_near() -> None:
    """Russia from 27° E to 180° has no finite place in the zone of Kaliningrad, and ends at its border all the same."""
    russia = shapely.MultiPolygon([shapely.box(27, 50, 180, 75), shapely.box(19.9, 54.3, 22.8, 55.3)])
    polygons = gpd.GeoDataFrame({"country": ["Russia", "Nauru"]}, geometry=[russia, shapely.box(166.9, -1, 167, 0)])
    # 54.84° N, 20.5° E in zone 34.
    kaliningrad = PatchGrid(32634, 467_000, 6_077_000, ShapeYX(1200, 1200))
    assert nearest_country(kaliningrad, polygons.set_crs(4326), 100_000).tolist() == ["Russia"]
    # Helsinki is 25° E: 2° at 60° N are 111 km, and 1,200 m less from the eastern patch.
    helsinki = PatchGrid(32635, 387_500, 6_653_000, ShapeYX(1200, 2400))
    assert nearest_country(helsinki, polygons.set_crs(4326), 200_000).tolist() == ["Russia", "Russia"]
    assert nearest_country(helsinki, polygons.set_crs(4326), 90_000).tolist() == [None, None]
