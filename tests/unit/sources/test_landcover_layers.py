"""The layer of a land-cover map: in whatever form it is downloaded, and of whatever years it holds."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely

from reben_dask.errors import InputError
from reben_dask.sources.landcover import LandcoverMap, open_any_landcover, open_landcover, sort_landcover

OFFICIAL = "U2018_CLC2018_V2020_20u1"
TOP = "u2018_clc2018_v2020_20u1_geoPackage"
CODES = ["111", "211", "312"]


def _map(column: str = "Code_18", codes: list[str] = CODES) -> gpd.GeoDataFrame:
    boxes = [shapely.box(4_600_000 + 100 * i, 3_300_000, 4_600_100 + 100 * i, 3_300_100) for i in range(len(codes))]
    return gpd.GeoDataFrame({column: codes}, geometry=boxes, crs=3035)


def _write(path: Path, table: gpd.GeoDataFrame, layer: str = OFFICIAL) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    drivers = {".gdb": "OpenFileGDB"}
    pyogrio.write_dataframe(table, path, layer=layer, driver=drivers.get(path.suffix), append=path.exists())
    return path


def _zip(path: Path, **content: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in content.items():
            archive.write(file, name)
    return path


def _refused(action: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    return message


def _file(folder: Path) -> Path:
    return _write(folder / f"{OFFICIAL}.gpkg", _map())


def _package(folder: Path) -> dict[str, Path]:
    """Content of the official download, where maps of overseas areas lie a folder deeper."""
    overseas = _write(folder / "overseas.gpkg", _map(codes=["999"]), f"{OFFICIAL}_FR_GLP")
    (folder / "legend.pdf").write_bytes(b"%PDF")
    return {
        f"{TOP}/DATA/{OFFICIAL}.gpkg": _file(folder),
        f"{TOP}/DATA/French_DOMs/{OFFICIAL}_FR_GLP.gpkg": overseas,
        f"{TOP}/Documents/legend.pdf": folder / "legend.pdf",
    }


def _unpacked(folder: Path) -> Path:
    for name, file in _package(folder / "made").items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / name)
    (folder / TOP / "DATA" / ".DS_Store").write_bytes(b"\0")
    return folder / TOP


def _geodatabase(folder: Path) -> Path:
    return _write(folder / f"{OFFICIAL}.gdb", _map())


def _zipped_geodatabase(folder: Path) -> Path:
    database = _geodatabase(folder)
    return _zip(folder / "clc.zip", **{f"clc/DATA/{database.name}/{file.name}": file for file in database.iterdir()})


def _parquet(path: Path, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    _map().to_parquet(path, **options)
    return path


def _parquet_folder(folder: Path) -> Path:
    for number in range(3):
        part = folder / "clc.parquet" / f"part.{number}.parquet"
        part.parent.mkdir(exist_ok=True)
        _map().iloc[number : number + 1].to_parquet(part)
    (folder / "clc.parquet" / "_metadata.lock").touch()
    return folder / "clc.parquet"


FORMS: dict[str, Callable[[Path], object]] = {
    "GeoPackage": _file,
    "GeoPackage, zipped": lambda folder: _zip(folder / f"{OFFICIAL}.gpkg.zip", **{f"{OFFICIAL}.gpkg": _file(folder)}),
    "official download": lambda folder: _zip(folder / f"{TOP}.zip", **_package(folder)),
    "official download, unpacked": _unpacked,
    "archive in an archive": lambda folder: _zip(
        folder / "Results.zip", **{f"Results/{TOP}.zip": _zip(folder / f"{TOP}.zip", **_package(folder))}
    ),
    "path of GDAL": lambda folder: f"/vsizip/{_zip(folder / 'a.zip', **_package(folder))}/{TOP}/DATA/{OFFICIAL}.gpkg",
    "archive as a path of GDAL": lambda folder: f"/vsizip/{_zip(folder / 'a.zip', **_package(folder))}",
    "geodatabase": _geodatabase,
    "geodatabase, zipped in a folder": _zipped_geodatabase,
    "FlatGeobuf": lambda folder: _write(folder / f"{OFFICIAL}.fgb", _map()),
    "shapefile, zipped": lambda folder: _zip(
        folder / "shp.zip", **{f.name: f for f in _write(folder / "shp" / f"{OFFICIAL}.shp", _map()).parent.iterdir()}
    ),
    "GeoParquet": lambda folder: _parquet(folder / f"{OFFICIAL}.parquet"),
    "GeoParquet, GeoArrow": lambda folder: _parquet(folder / f"{OFFICIAL}.geoparquet", geometry_encoding="geoarrow"),
    "GeoParquet, zipped": lambda folder: _zip(
        folder / "p.zip", **{f"data/{OFFICIAL}.parquet": _parquet(folder / "x.parquet")}
    ),
    "GeoParquet in parts": _parquet_folder,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_map_is_read_in_the_form_in_which_it_is_downloaded(tmp_path: Path, form: str) -> None:
    path = str(FORMS[form](tmp_path))
    source = open_landcover(path)
    assert (source.code_column, source.crs, source.polygons, source.year) == ("Code_18", "EPSG:3035", 3, 2018)
    made = sort_landcover(source, tmp_path / "sorted")
    found = gpd.read_parquet(made.folder).sort_values("order")
    # FlatGeobuf has an order of its own.
    places = dict(zip(found["code"], found.geometry.bounds["minx"], strict=True))
    assert places == {111: 4_600_000, 211: 4_600_100, 312: 4_600_200}
    assert made.bounds == (4_600_000, 3_300_000, 4_600_300, 3_300_100)


@pytest.mark.parametrize("column", ["CLC18", "code_2018", "Code_18", "clc_18"])
def test_the_year_is_in_the_name_of_the_column(tmp_path: Path, column: str) -> None:
    found = open_landcover(str(_write(tmp_path / "clc5.gpkg", _map(column), "clc5")))
    assert (found.code_column, found.year) == (column, 2018)


def _years(path: Path, *layers: tuple[str, str]) -> Path:
    for year, layer in layers:
        _write(path, _map(f"Code_{year}", [f"1{year[0]}1", "211"] if year != "18" else CODES), layer)
    return path


ALL = [("90", "CLC1990"), ("00", "CLC2000"), ("18", "CLC2018"), ("12", "CLC2012")]


@pytest.mark.parametrize(
    ("name", "layers", "wanted", "chosen"),
    [
        ("all.gpkg", ALL, None, ("CLC2018", "Code_18")),
        ("all.gpkg", ALL[:2], None, ("CLC2000", "Code_00")),
        ("CLC2012.gpkg", ALL, None, ("CLC2012", "Code_12")),
        ("all.gpkg", ALL, "CLC1990", ("CLC1990", "Code_90")),
        ("CLC2012.gpkg", ALL, "CLC2000", ("CLC2000", "Code_00")),
        # A file is not named after a layer whose name begins its own.
        ("CLC2000_to_2018.gpkg", ALL, None, ("CLC2018", "Code_18")),
    ],
)
def test_the_layer_named_as_the_file_then_the_newest_year(
    tmp_path: Path, name: str, layers: list[tuple[str, str]], wanted: str | None, chosen: tuple[str, str]
) -> None:
    path = str(_years(tmp_path / name, *layers))
    ways = [open_landcover(path, layer=wanted), open_landcover(f"{path}:{wanted}" if wanted else path)]
    for found in ways:
        assert (found.path, found.layer, found.code_column) == (path, *chosen)
        assert found.others == (() if wanted else tuple(layer for _, layer in layers if layer != chosen[0]))


def test_years_in_several_files_of_a_folder(tmp_path: Path) -> None:
    for year in ("00", "18", "12"):
        _write(tmp_path / "maps" / f"CLC20{year}.gpkg", _map(f"Code_{year}"), f"CLC20{year}")
    found = open_landcover(str(tmp_path / "maps"))
    assert (found.layer, found.others) == ("CLC2018", ("CLC2000", "CLC2012"))
    assert open_landcover(f"{tmp_path / 'maps'}:CLC2000").file.location == str(tmp_path / "maps" / "CLC2000.gpkg")


def test_a_colon_in_the_name_of_a_file(tmp_path: Path) -> None:
    path = _write(tmp_path / "map:a.gpkg", _map(), "map")
    (tmp_path / "map").touch()
    assert open_landcover(str(path)).path == str(path)
    assert open_landcover(f"{path}:map").layer == "map"
    missing = str(tmp_path / "none.gpkg:layer")
    assert _refused(lambda: open_landcover(missing)).startswith(f"The land-cover map {missing} does not exist")


def test_a_layer_that_does_not_exist(tmp_path: Path) -> None:
    path = str(_years(tmp_path / "all.gpkg", *ALL))
    message = f"The land-cover map {path} has no layer CLC2019 of polygons; did you mean CLC2018?"
    assert _refused(lambda: open_landcover(f"{path}:CLC2019")) == message


def test_equal_candidates_are_refused_by_name(tmp_path: Path) -> None:
    path = _years(tmp_path / "all.gpkg", ("18", "north"), ("18", "south"), ("12", "old"))
    assert _refused(lambda: open_landcover(str(path))) == (
        f"The land-cover map {path} holds several maps, and none is newer than the others: north, south. Name one of "
        f"them: {path}:north, or give its file."
    )
    assert open_landcover(f"{path}:south").layer == "south"


def test_a_layer_of_changes_is_no_map(tmp_path: Path) -> None:
    name = "U2018_CHA1218_V2020_20u1"
    changes = _map().assign(Code_12="211")
    path = _write(tmp_path / f"{name}.gpkg", changes, name)
    assert _refused(lambda: open_landcover(str(path))) == (
        f"The land-cover map {path} holds changes, not a map: the layer {name} has the codes of several years "
        "(Code_18, Code_12). Give the map of one year, or --code-column if the layer covers the whole area."
    )
    _write(path, _map("Code_12"), "CLC2012")
    assert open_landcover(str(path)).layer == "CLC2012"
    assert open_landcover(f"{path}:{name}", code_column="code_12").code_column == "Code_12"


def _raster(path: Path) -> Path:
    profile = {"driver": "GTiff", "width": 30, "height": 20, "count": 1, "dtype": "int8", "crs": "EPSG:3035"}
    with rasterio.open(path, "w", **profile, transform=rasterio.Affine(100, 0, 0, 0, -100, 0)) as image:
        image.write(np.full((1, 20, 30), 12, "int8"))
    return path


@pytest.mark.parametrize("form", ["file", "archive"])
def test_a_raster_is_named_as_one(tmp_path: Path, form: str) -> None:
    path = _raster(tmp_path / f"{OFFICIAL}.tif")
    found = "is a raster of 30 x 20 cells"
    if form == "archive":
        path, found = _zip(tmp_path / "raster.zip", **{f"DATA/{path.name}": path}), f"holds the raster {path.name}"
    assert _refused(lambda: open_landcover(str(path))) == (
        f"The land-cover map {path} {found}; raster maps are not read yet. Give the vector map (polygons) of the same "
        f"release, such as the GeoPackage {OFFICIAL}.gpkg."
    )


def test_parquet_without_geometry_is_named(tmp_path: Path) -> None:
    path = tmp_path / "map.parquet"
    _map().drop(columns="geometry").to_parquet(path)
    assert "not GeoParquet" in _refused(lambda: open_landcover(str(path)))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"<html>404</html>"])
@pytest.mark.parametrize("suffix", [".zip", ".parquet", ".fgb"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"map{suffix}"
    path.write_bytes(content)
    assert _refused(lambda: open_landcover(str(path))).startswith(f"The land-cover map {path} cannot be read (")


def test_an_archive_without_a_map(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").touch()
    path = _zip(tmp_path / "a.zip", **{"a.pdf": tmp_path / "a.pdf"})
    assert "holds no vector file" in _refused(lambda: open_landcover(str(path)))


def test_a_sorted_map_has_one_layer(tmp_path: Path) -> None:
    source = open_landcover(str(_file(tmp_path)))
    folder = sort_landcover(source, tmp_path / "sorted.parquet").folder
    found = open_any_landcover(f"{folder}:{OFFICIAL}")
    assert not isinstance(found, LandcoverMap)
    assert (found.layer, found.code_column) == (OFFICIAL, "Code_18")
    assert f"holds the layer {OFFICIAL}, not CLC2012" in _refused(lambda: open_any_landcover(f"{folder}:CLC2012"))
