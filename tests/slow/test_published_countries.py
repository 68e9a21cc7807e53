"""Country of all published patches: the squares follow from their names, the countries from Natural Earth."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import oracle
import pandas as pd
import pyproj
import pytest
import shapely
from numpy.typing import NDArray

from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.countries import nearest_country
from reben_dask.sources.vector_layers import open_countries, read_countries

FILES = ("metadata.parquet", "metadata_for_patches_with_snow_cloud_or_shadow.parquet")
SIDE_M = 109_800
PATCHES, TILES, TIES = 549_488, 54, 170


def corner_of_tile(mgrs: str) -> tuple[int, int, int]:
    """EPSG code and upper-left corner of the tile ``33UUP`` (northern hemisphere).

    The letter of a column repeats every three zones, the letter of a row every 2,000 km, shifted by five letters in
    even zones; the letter of the latitude band tells which of the repetitions is meant. A tile begins on the grid of
    60 m at or before the western, and at or beyond the northern edge of its square of 100 km.
    """
    zone, band, column, row = int(mgrs[:2]), *mgrs[2:]
    east = 100_000 * (1 + ("STUVWXYZ", "ABCDEFGH", "JKLMNPQR")[zone % 3].index(column))
    rows = "ABCDEFGHJKLMNPQRSTUV" if zone % 2 else "FGHJKLMNPQRSTUVABCDE"
    latitude = 8 * "CDEFGHJKLMNPQRSTUVWX".index(band) - 80
    to_metres = pyproj.Transformer.from_crs(4326, 32_600 + zone, always_xy=True)
    lowest = to_metres.transform(6 * zone - 183, latitude)[1] - 100_000
    north = 100_000 * (1 + rows.index(row))
    north += 2_000_000 * math.ceil((lowest - north + 100_000) / 2_000_000)
    return 32_600 + zone, east // 60 * 60, -(-north // 60) * 60


@pytest.fixture(scope="module")
def published(data_dir: Path) -> pd.DataFrame:
    """One row per published patch: MGRS tile, column, row, country."""
    columns = ["patch_id", "country"]
    table = pd.concat([pd.read_parquet(data_dir / "bigearthnet" / name, columns=columns) for name in FILES])
    ids = table["patch_id"].str
    x, y = ids[-5:-3].astype(int), ids[-2:].astype(int)
    return pd.DataFrame({"mgrs": ids[-11:-6], "x": x, "y": y, "country": table["country"]})


@pytest.fixture(scope="module")
def origins(data_dir: Path) -> pd.DataFrame:
    return pd.read_csv(data_dir / "bigearthnet" / "tile_origins.csv", index_col="mgrs").rename(
        index=lambda name: name[1:]
    )


@pytest.fixture(scope="module")
def named(published: pd.DataFrame, data_dir: Path) -> pd.DataFrame:
    """The published patches with the country that the package finds, and the countries that each patch touches."""
    path = data_dir / "countries" / "ne_110m_admin_0_ten_countries.gpkg"
    countries = read_countries(open_countries(str(path), oracle.TEN_COUNTRIES))
    parts = []
    for mgrs, rows in published.groupby("mgrs"):
        epsg, ulx, uly = corner_of_tile(str(mgrs))
        names = nearest_country(PatchGrid(epsg, ulx, uly, ShapeYX(SIDE_M, SIDE_M)), countries).reshape(91, 91)
        west, north = ulx + 1200 * rows["x"].to_numpy(), uly - 1200 * rows["y"].to_numpy()
        squares = shapely.box(west, north - 1200, west + 1200, north)
        touched = _touched(squares, oracle.read_polygons(path, "name", epsg))
        parts.append(rows.assign(found=names[rows["x"], rows["y"]], touched=touched))
    return pd.concat(parts)


def _touched(squares: NDArray[np.object_], nations: oracle.Polygons) -> list[frozenset[str]]:
    """For each square the countries at distance 0."""
    whole = shapely.box(*shapely.total_bounds(squares))
    shapes = zip(nations.values, nations.geometries, strict=True)
    near = [(name, shapely.distance(squares, shape) == 0) for name, shape in shapes if shape.intersects(whole)]
    return [frozenset(name for name, hits in near if hits[place]) for place in range(len(squares))]


def test_the_rule_gives_the_known_corners(data_dir: Path) -> None:
    known = pd.read_csv(data_dir / "bigearthnet" / "tile_origins.csv")
    assert len(known) == 22
    for mgrs, ulx, uly, epsg in known.itertuples(index=False):
        assert corner_of_tile(mgrs.removeprefix("T")) == (epsg, ulx, uly), mgrs


def test_every_patch_has_its_published_country_or_touches_both(named: pd.DataFrame) -> None:
    assert (named["mgrs"].nunique(), len(named)) == (TILES, PATCHES)
    different = named[named["country"] != named["found"]]
    assert 0 < len(different) < TIES
    for _, row in different.iterrows():
        assert row["touched"] == {row["country"], row["found"]}, row


def test_as_many_patches_touch_two_countries_as_are_known(named: pd.DataFrame) -> None:
    ties = named[named["touched"].map(len) > 1]
    assert len(ties) == TIES
    for name in ("country", "found"):
        assert all(name in touched for name, touched in zip(ties[name], ties["touched"], strict=True))


def test_the_published_country_of_every_patch_whose_place_is_known(
    published: pd.DataFrame, origins: pd.DataFrame, data_dir: Path
) -> None:
    """No difference at all: none of the 170 patches that touch two countries lies in these tiles."""
    path = data_dir / "countries" / "ne_110m_admin_0_ten_countries.gpkg"
    countries = read_countries(open_countries(str(path), oracle.TEN_COUNTRIES))
    known = published[published["mgrs"].isin(origins.index)]
    assert (known["mgrs"].nunique(), len(known)) == (22, 208_536)
    for mgrs, rows in known.groupby("mgrs"):
        ulx, uly, epsg = (int(value) for value in origins.loc[mgrs])
        names = nearest_country(PatchGrid(epsg, ulx, uly, ShapeYX(SIDE_M, SIDE_M)), countries)
        assert (names.reshape(91, 91)[rows["x"], rows["y"]] == rows["country"].to_numpy()).all(), mgrs
