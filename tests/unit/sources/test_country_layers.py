"""Country polygons as they are downloaded: the layer, the column of names, and the countries that count."""

from __future__ import annotations

import zipfile
from pathlib import Path

import geopandas as gpd
import pyogrio
import pytest
import shapely

from reben_dask.errors import InputError
from reben_dask.sources.vector_layers import open_countries, polygons_digest, read_countries, read_outlines

LISTED = ("Austria", "Serbia")
BOXES = [shapely.box(10 * number, 40, 10 * number + 5, 45) for number in range(3)]


def _countries(column: str = "NAME", names: list[str] | None = None, **more: list[str]) -> gpd.GeoDataFrame:
    names = ["Poland", "Austria", "Serbia"] if names is None else names
    return gpd.GeoDataFrame({**more, column: names}, geometry=BOXES[: len(names)], crs=4326)


def _write(path: Path, table: gpd.GeoDataFrame, layer: str) -> str:
    pyogrio.write_dataframe(table, path, layer=layer, append=path.exists())
    return str(path)


@pytest.mark.parametrize("listed", [None, LISTED])
@pytest.mark.parametrize("column", ["NAME", "name", "NAME_ENGL", "shapeName", "COUNTRY", "NAME_0"])
def test_the_column_of_names(tmp_path: Path, column: str, listed: tuple[str, ...] | None) -> None:
    """Natural Earth, GISCO, geoBoundaries and GADM."""
    path = _write(tmp_path / "a.gpkg", _countries(column, CODE=["POL", "AUT", "SRB"]), "l")
    layer = open_countries(path, listed)
    assert (layer.column, layer.found) == (column, ("Austria", "Poland", "Serbia"))
    assert read_countries(layer)["country"].tolist() == ["Poland", "Austria", "Serbia"]


def test_english_names_among_others(tmp_path: Path) -> None:
    """Natural Earth writes Serbia in NAME and Republic of Serbia in ADMIN."""
    official = ["Poland", "Austria", "Republic of Serbia"]
    path = _write(tmp_path / "a.gpkg", _countries(ADMIN=official, NAME_DE=["Polen", "Österreich", "Serbien"]), "l")
    assert open_countries(path).column == open_countries(path, LISTED).column == "NAME"


@pytest.mark.parametrize(
    ("names", "is_published", "applies", "counted"),
    [
        (["Poland", "Austria", "Serbia"], False, False, ["Poland", "Austria", "Serbia"]),
        (["Poland", "Austria", "Serbia"], True, True, ["Austria", "Serbia"]),
        (["Austria"], False, True, ["Austria"]),
        (["Polska", "Niemcy"], False, False, ["Polska", "Niemcy"]),
    ],
)
def test_the_countries_that_count(
    tmp_path: Path, names: list[str], is_published: object, applies: object, counted: list[str]
) -> None:
    """All of a file of one's own, the recipe's list in a reproduction or if the file has no other country."""
    path = _write(tmp_path / "a.gpkg", _countries(names=names), "l")
    layer = open_countries(path, LISTED, only_listed=bool(is_published))
    assert layer.names == (LISTED if applies else None)
    assert read_countries(layer)["country"].tolist() == counted
    assert layer.found == tuple(sorted(counted))


def test_a_reproduction_needs_the_listed_names(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.gpkg", _countries(names=["Polska", "Niemcy"]), "l")
    with pytest.raises(InputError, match="no column that names Austria, Serbia; give a file"):
        open_countries(path, LISTED, only_listed=True)


def _package(folder: Path) -> Path:
    """Layers as in the package of Natural Earth, the first of them without polygons."""
    path = folder / "natural_earth_vector.gpkg"
    line = gpd.GeoDataFrame({"name": ["x"]}, geometry=[shapely.LineString([(0, 0), (1, 1)])], crs=4326)
    _write(path, line, "ne_10m_admin_0_antarctic_claim_limit_lines")
    _write(path, _countries(names=["lake"]), "ne_110m_lakes")
    _write(path, _countries(), "ne_110m_admin_0_countries")
    return path


def test_the_layer_of_countries_in_a_package(tmp_path: Path) -> None:
    path = _package(tmp_path)
    for listed in (None, LISTED):
        assert open_countries(str(path), listed).layer == "ne_110m_admin_0_countries"
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as archive:
        archive.write(path, f"packages/{path.name}")
    zipped = open_countries(str(tmp_path / "package.zip"), LISTED)
    assert read_countries(zipped)["country"].tolist() == ["Poland", "Austria", "Serbia"]


def test_equal_layers_are_refused_by_name(tmp_path: Path) -> None:
    path = _package(tmp_path)
    _write(path, _countries(), "ne_10m_admin_0_countries")
    with pytest.raises(InputError) as caught:
        open_countries(str(path), LISTED)
    assert str(caught.value) == (
        f"The countries file {path} has several layers of countries: ne_110m_admin_0_countries, "
        f"ne_10m_admin_0_countries. Name one of them: {path}:ne_110m_admin_0_countries."
    )
    chosen = open_countries(f"{path}:ne_10m_admin_0_countries", LISTED)
    assert (chosen.path, chosen.layer) == (f"{path}:ne_10m_admin_0_countries", "ne_10m_admin_0_countries")
    assert len(read_outlines(f"{path}:ne_110m_lakes")) == 1


@pytest.mark.parametrize("name", ["a.shp.zip", "a.parquet", "a.fgb", "a.geojson"])
def test_forms(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.shp.zip":
        _write(tmp_path / "a.shp", _countries(), "a")
        with zipfile.ZipFile(path, "w") as archive:
            for file in tmp_path.glob("a.???"):
                archive.write(file, file.name)
    elif name == "a.parquet":
        _countries().to_parquet(path)
    else:
        pyogrio.write_dataframe(_countries(), path)
    found = read_countries(open_countries(str(path), LISTED))
    assert sorted(found["country"]) == ["Austria", "Poland", "Serbia"]
    assert found.crs == 4326
    assert len(read_outlines(str(path))) == 3


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    """Another file, format or time makes no difference, another name or border does."""
    paths = [_write(tmp_path / "a.gpkg", _countries(), "l"), str(tmp_path / "a.parquet")]
    _countries().to_parquet(paths[1])
    same = {polygons_digest(read_countries(open_countries(path))) for path in paths}
    assert len(same) == 1
    moved = _countries().translate(1e-6)
    others = [_countries(names=["Poland", "Austria", "Servia"]), _countries().set_geometry(moved)]
    for number, table in enumerate(others):
        path = _write(tmp_path / f"other{number}.gpkg", table, "l")
        assert polygons_digest(read_countries(open_countries(path))) not in same
