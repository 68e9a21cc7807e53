"""Sorting a land-cover map: whatever it holds and however it is cut, nothing is lost, added or changed on the way."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import tempfile
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from threading import Barrier

import geopandas as gpd
import numpy as np
import psutil
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from results import error_of

from reben_dask.errors import InputError, OutputError
from reben_dask.sources.landcover import LandcoverMap, SortedMap, open_landcover, sort_landcover, sorting, vector_map

POZNAN, LANJARON = "clc2018_poznan_3035.gpkg", "clc2018_lanjaron_3035.gpkg"
ROWS = 5000
Cut = tuple[int, int, int]
"""Rows at once, polygons per part, polygons per row group."""


@pytest.fixture(scope="module")
def folder(data_dir: Path) -> Path:
    return data_dir / "landcover"


@pytest.fixture(scope="module")
def table() -> gpd.GeoDataFrame:
    """Some thousand discs, many of which overlap, some with a hole, in two pieces, or at the same place."""
    random = np.random.default_rng(1)
    x, y = random.uniform(0, 1_000_000, (2, ROWS))
    discs = shapely.buffer(shapely.points(x, y), random.uniform(50, 20_000, ROWS), quad_segs=3)
    discs[::7] = shapely.difference(discs[::7], shapely.buffer(shapely.points(x, y)[::7], 20))
    discs[::11] = shapely.union(discs[::11], shapely.box(-10, -10, 0, 0))
    discs[::13] = discs[5]
    return gpd.GeoDataFrame({"Code_18": random.integers(1, 1000, ROWS)}, geometry=discs, crs=3035)


@pytest.fixture(scope="module")
def large(table: gpd.GeoDataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(table, tmp_path_factory.mktemp("large") / "map.gpkg", geometry_type="Unknown", promote_to_multi=False)


def _squares(codes: Sequence[object]) -> gpd.GeoDataFrame:
    boxes = [shapely.box(10 * i, 0, 10 * i + 10, 10) for i in range(len(codes))]
    return gpd.GeoDataFrame({"Code_18": codes}, geometry=boxes, crs=3035)


def _write(table: gpd.GeoDataFrame, path: Path, **options: object) -> Path:
    pyogrio.write_dataframe(table, path, **options)
    return path


def _sort(path: Path, destination: Path, cut: Cut = (16_384, 8_000, 1_000)) -> SortedMap:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_map, "ROWS_AT_ONCE", cut[0])
        patch.setattr(sorting, "POLYGONS_PER_PART", cut[1])
        patch.setattr(sorting, "POLYGONS_PER_ROW_GROUP", cut[2])
        return sort_landcover(open_landcover(str(path)), destination)


def _rows(table: gpd.GeoDataFrame, column: str = "Code_18") -> list[tuple[int, int, bytes]]:
    """Position, code and geometry of those rows of a map that have an area."""
    codes = table[column].astype(int)
    encoded = enumerate(zip(codes, table.geometry, strict=True))
    return [(order, code, shape.wkb) for order, (code, shape) in encoded if shape is not None and shape.area]


def _sorted_rows(made: SortedMap) -> list[tuple[int, int, bytes]]:
    """The same of a sorted map, in the order of the source."""
    found = gpd.read_parquet(made.folder)
    return sorted(zip(found["order"], found["code"], found.geometry.to_wkb(), strict=True))


def _files(folder: Path) -> dict[Path, bytes | None]:
    """All that is in a folder, hidden or not."""
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def _refused(action: Callable[[], object], kind: type[Exception] = InputError) -> str:
    message = error_of(action, kind)
    assert message.endswith(".")
    return message


# Nothing is lost


@pytest.mark.parametrize(
    "cut", [(64, 500, 100), (999, 1000, 300), (4999, 4999, 5000), (5000, 5001, 50), (16_384, 2500, 2500)]
)
def test_a_map_of_many_batches_stretches_and_parts(
    table: gpd.GeoDataFrame, large: Path, tmp_path: Path, cut: Cut
) -> None:
    """Nothing is lost; all parts but the last are full, and their rows lie along one curve."""
    made = _sort(large, tmp_path / "sorted", cut)
    assert _sorted_rows(made) == _rows(table)
    assert made.polygons == ROWS
    parts = [pq.read_metadata(part) for part in made.parts]
    full, rest = divmod(ROWS, cut[1])
    assert [part.num_rows for part in parts] == [cut[1]] * full + [rest] * bool(rest)
    assert [part.num_row_groups for part in parts] == [-(-part.num_rows // cut[2]) for part in parts]
    curve = table.hilbert_distance(total_bounds=table.total_bounds).to_numpy()
    assert len(np.unique(curve >> 22)) > 500
    order = np.concatenate([pq.read_table(part, columns=["order"])["order"].to_numpy() for part in made.parts])
    assert order.tolist() == np.lexsort([np.arange(ROWS), curve]).tolist()


@pytest.mark.parametrize("cut", [(100, 50, 20), (16_384, 8_000, 1_000)])
@pytest.mark.parametrize(
    ("name", "column"), [(POZNAN, "Code_18"), (LANJARON, "Code_18"), ("clc_lanjaron_original_25830.gpkg", "CODE_18")]
)
def test_real_maps(folder: Path, tmp_path: Path, name: str, column: str, cut: Cut) -> None:
    made = _sort(folder / name, tmp_path / "sorted", cut)
    source = gpd.read_file(folder / name, layer=0)
    assert _sorted_rows(made) == _rows(source, column)
    assert gpd.read_parquet(made.folder).crs == source.crs


@pytest.mark.parametrize("rows_at_once", [1, 100, 1521])
def test_the_same_map_gives_the_same_bytes(folder: Path, tmp_path: Path, rows_at_once: int) -> None:
    first = _sort(folder / LANJARON, tmp_path / "first", (16_384, 50, 20))
    again = _sort(folder / LANJARON, tmp_path / "again", (rows_at_once, 50, 20))
    assert _files(first.folder) == _files(again.folder)
    assert len(_files(first.folder)) == 4


@st.composite
def _maps(draw: st.DrawFn) -> gpd.GeoDataFrame:
    """Up to thirty boxes, in any places and sizes, and rows without geometry."""
    corner = st.tuples(st.integers(-50, 50), st.integers(-50, 50))
    size = st.tuples(st.integers(1, 100), st.integers(1, 100))
    box = st.tuples(corner, size).map(lambda b: shapely.box(*b[0], b[0][0] + b[1][0], b[0][1] + b[1][1]))
    rows = draw(st.lists(st.tuples(st.integers(1, 65_535), st.none() | box), min_size=1, max_size=30))
    return gpd.GeoDataFrame({"Code_18": [code for code, _ in rows]}, geometry=[shape for _, shape in rows], crs=3035)


@pytest.mark.slow
@given(_maps(), st.tuples(st.integers(1, 31), st.integers(1, 31), st.integers(1, 31)))
def test_any_small_map(table: gpd.GeoDataFrame, cut: Cut) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path = _write(table, Path(scratch) / "map.gpkg", geometry_type="Polygon", SPATIAL_INDEX="NO")
        made = _sort(path, Path(scratch) / "sorted", cut)
        assert _sorted_rows(made) == _rows(table)
        assert made.polygons + made.left_out == len(table)
        assert len(made.parts) == max(1, -(-made.polygons // cut[1]))


# Geometries

GOOD = ["POLYGON ((0 0,10 0,10 10,0 10,0 0),(1 1,2 1,2 2,1 1))", "MULTIPOLYGON (((50 0,60 0,60 10,50 0)))"]
WITHOUT_AREA = [
    *("", "POLYGON EMPTY", "MULTIPOLYGON EMPTY", "CURVEPOLYGON EMPTY", "MULTISURFACE EMPTY", "POINT EMPTY"),
    *("POINT (1 1)", "POINT Z (1 1 1)", "MULTIPOINT ((1 1),(2 2))", "LINESTRING (0 0,1 1)"),
    *("MULTILINESTRING ((0 0,1 1))", "CIRCULARSTRING (0 0,5 5,10 0)", "MULTICURVE ((0 0,1 1))"),
    "COMPOUNDCURVE (CIRCULARSTRING (0 0,5 5,10 0),(10 0,0 0))",
    "GEOMETRYCOLLECTION (POLYGON ((0 0,10 0,10 10,0 0)))",
    "GEOMETRYCOLLECTION (CURVEPOLYGON (CIRCULARSTRING (20 0,30 10,40 0,30 -10,20 0)))",
    *("TIN (((0 0,10 0,10 10,0 0)))", "POLYHEDRALSURFACE (((0 0,10 0,10 10,0 0)))", "TRIANGLE ((0 0,10 0,10 10,0 0))"),
]


def _write_wkt(shapes: Sequence[str], path: Path) -> Path:
    """A map of any geometries that GDAL knows, with codes from 100; those that shapely lacks too."""
    text = path.with_suffix(".csv")
    text.write_text("Code_18;WKT\n" + "".join(f"{100 + row};{shape}\n" for row, shape in enumerate(shapes)))
    with pyogrio.open_arrow(text, use_pyarrow=True) as (_, reader), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # TIN and the like are an extension of GeoPackage
        columns = reader.read_all().select(["Code_18", "wkb_geometry"])
        options = {"geometry_type": "Unknown", "crs": "EPSG:3035", "SPATIAL_INDEX": "NO"}
        pyogrio.write_arrow(columns, path, geometry_name="wkb_geometry", **options)
    return path


@pytest.mark.parametrize("rows_at_once", [4, 100])
def test_rows_without_an_area_are_left_out(tmp_path: Path, rows_at_once: int) -> None:
    """They stand between polygons, which survive unchanged."""
    shapes = [shape for without in WITHOUT_AREA for shape in (GOOD[0], without, GOOD[1])]
    made = _sort(_write_wkt(shapes, tmp_path / "map.gpkg"), tmp_path / "sorted", (rows_at_once, 10, 5))
    kept = [(row, shapely.from_wkt(shape)) for row, shape in enumerate(shapes) if shape in GOOD]
    assert _sorted_rows(made) == [(row, 100 + row, shape.wkb) for row, shape in kept]
    assert (made.polygons, made.left_out) == (len(kept), len(WITHOUT_AREA))


@pytest.mark.parametrize("shapes", [[""], ["", "POINT (1 1)"], ["", "", *GOOD], [*GOOD, "", "TIN EMPTY"]])
def test_a_batch_or_map_without_any_area(tmp_path: Path, shapes: list[str]) -> None:
    made = _sort(_write_wkt(shapes, tmp_path / "map.gpkg"), tmp_path / "sorted", (2, 10, 5))
    kept = [row for row, shape in enumerate(shapes) if shape in GOOD]
    assert [order for order, _, _ in _sorted_rows(made)] == kept
    assert (made.polygons, made.left_out) == (len(kept), len(shapes) - len(kept))


@pytest.mark.parametrize("axes", ["Z", "M", "ZM"])
def test_heights_and_measures_are_dropped(tmp_path: Path, axes: str) -> None:
    extra = " 7" * len(axes)
    flat = [[(0, 0), (30, 0), (30, 30), (0, 0)], [(5, 1), (9, 1), (9, 4), (5, 1)]]
    rings = ",".join("(" + ",".join(f"{x} {y}{extra}" for x, y in ring) + ")" for ring in flat)
    shapes = [f"POLYGON {axes} ({rings})", GOOD[0], f"MULTIPOLYGON {axes} (({rings}))"]
    made = _sort(_write_wkt(shapes, tmp_path / "map.gpkg"), tmp_path / "sorted")
    polygon = shapely.Polygon(flat[0], [flat[1]])
    expected = [polygon, shapely.from_wkt(GOOD[0]), shapely.MultiPolygon([polygon])]
    assert [shape for _, _, shape in _sorted_rows(made)] == [shape.wkb for shape in expected]


@pytest.mark.parametrize("rows_at_once", [2, 100])
def test_polygons_with_arcs_become_straight_ones(tmp_path: Path, rows_at_once: int) -> None:
    """Circles of radius 10 around (30, 0) and (130, 0): vertices lie on them, and the area is nearly theirs."""
    arc = "CIRCULARSTRING{0} ({1}20 0{2},{1}30 10{2},{1}40 0{2},{1}30 -10{2},{1}20 0{2})"
    circle, high = arc.format("", "", ""), arc.format(" Z", "", " 5")
    shapes = [
        *(GOOD[0], f"CURVEPOLYGON ({circle})", "POINT (1 1)", GOOD[1], f"CURVEPOLYGON Z ({high})", GOOD[0], ""),
        f"MULTISURFACE (CURVEPOLYGON ({arc.format('', '1', '')}),((0 0,10 0,10 10,0 0)))",
    ]
    path = _write_wkt(shapes, tmp_path / "map.gpkg")
    with sqlite3.connect(path) as database:  # numbers of rows are not their positions
        database.execute("UPDATE map SET fid = fid * 10 WHERE fid > 2")
    made = _sort(path, tmp_path / "sorted", (rows_at_once, 10, 5))
    found = {order: (code, shapely.from_wkb(shape)) for order, code, shape in _sorted_rows(made)}
    assert {order: code for order, (code, _) in found.items()} == {row: 100 + row for row in (0, 1, 3, 4, 5, 7)}
    assert all(found[row][1].wkb == shapely.from_wkt(shapes[row]).wkb for row in (0, 3, 5))
    for row, x, pieces in ((1, 30, 1), (4, 30, 1), (7, 130, 2)):
        discs = shapely.get_parts(found[row][1])
        assert len(discs) == pieces
        assert np.allclose(np.hypot(*(shapely.get_coordinates(discs[0]) - [x, 0]).T), 10)
        assert 0.998 < discs[0].area / (100 * np.pi) < 1
        assert not found[row][1].has_z
    assert shapely.get_parts(found[7][1])[1].area == 50


# Codes and damages


@pytest.mark.parametrize("codes", [["1", "65535"], [1, 65_535], [1.0, 65_535.0], [" 1", "65535.0"]])
def test_codes_of_any_type(tmp_path: Path, codes: list[object]) -> None:
    made = _sort(_write(_squares(codes), tmp_path / "map.gpkg"), tmp_path / "sorted")
    assert [code for _, code, _ in _sorted_rows(made)] == [1, 65_535]


@pytest.mark.parametrize("rows_at_once", [2, 100])
@pytest.mark.parametrize(
    ("good", "bad", "shown"),
    [
        *[("111", text, repr(text)) for text in ("", "  ")],
        *[(good, None, "(nan|None)") for good in ("111", 111.0)],
    ],
)
def test_a_missing_code(tmp_path: Path, good: object, bad: object, shown: str, rows_at_once: int) -> None:
    path = _write(_squares([good, good, good, bad, good, bad]), tmp_path / "map.gpkg")
    before = _files(tmp_path)
    with pytest.raises(InputError, match=rf" has the code {shown} \(column Code_18, row 3\), ") as caught:
        _sort(path, tmp_path / "sorted", (rows_at_once, 10, 5))
    assert str(caught.value).startswith(f"The land-cover map {path} has the code ")
    assert _files(tmp_path) == before


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda content: content[: len(content) // 2],
    "emptied": lambda content: content[: len(content) // 2].ljust(len(content), b"\0"),
    "scratched": lambda content: content[: len(content) // 2] + b"\xff" * 5000 + content[len(content) // 2 + 5000 :],
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["map.gpkg", "map.fgb"])
def test_a_damaged_file(table: gpd.GeoDataFrame, tmp_path: Path, name: str, damage: str) -> None:
    path = _write(table, tmp_path / name, SPATIAL_INDEX="NO")
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    before = _files(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # GDAL says what it thinks of the file
        assert str(path) in _refused(lambda: _sort(path, tmp_path / "sorted", (100, 1000, 100)))
    assert _files(tmp_path) == before


# The destination


def test_a_map_that_is_sorted_already_is_left_alone(folder: Path, tmp_path: Path) -> None:
    first = _sort(folder / LANJARON, tmp_path / "a" / "b" / "sorted")
    before = {path: path.stat() for path in [first.folder, *first.folder.iterdir()]}
    again = _sort(folder / LANJARON, first.folder, (10, 10, 10))
    assert again == first
    assert {path: path.stat() for path in before} == before
    assert list(first.folder.parent.iterdir()) == [first.folder]


@pytest.mark.parametrize("other", ["another map", "a later version", "a folder", "an empty folder", "a file"])
def test_what_is_not_this_map_is_not_replaced(folder: Path, tmp_path: Path, other: str) -> None:
    path, destination = _write(_squares([111]), tmp_path / "map.gpkg"), tmp_path / "there" / "sorted"
    destination.parent.mkdir()
    if other == "a file":
        destination.write_text("mine")
    elif other in {"a folder", "an empty folder"}:
        destination.mkdir()
        if other == "a folder":
            (destination / "part-00000.parquet").write_text("mine")
    else:
        _sort(path if other == "a later version" else folder / LANJARON, destination)
        os.utime(path, ns=(0, 0))
    before = _files(tmp_path)
    message = _refused(lambda: _sort(path, destination), OutputError)
    assert message == f"{destination} exists, and is not a sorted copy of {path}; give another name."
    assert _files(tmp_path) == before


@pytest.mark.parametrize("rows_at_once", [7, 100])
def test_each_row_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int) -> None:
    monkeypatch.setattr(vector_map, "ROWS_AT_ONCE", rows_at_once)
    monkeypatch.setattr(sorting, "POLYGONS_PER_PART", 5)
    path = _write_wkt([*GOOD, *WITHOUT_AREA[:3], *GOOD] * 5, tmp_path / "map.gpkg")
    seen: list[int] = []
    made = sort_landcover(open_landcover(str(path)), tmp_path / "sorted", seen.append)
    assert made.left_out == 15
    assert sum(seen) == 35
    assert all(rows >= 0 for rows in seen)


def _sort_when_both_are_ready(source: LandcoverMap, destination: Path, ready: Barrier) -> None:
    describe = sorting.write_description

    def describe_and_wait(*arguments: object) -> None:
        describe(*arguments)
        ready.wait(60)

    sorting.write_description = describe_and_wait
    assert sort_landcover(source, destination) == SortedMap(destination)


@pytest.mark.slow
def test_two_processes_sort_the_same_map_at_once(folder: Path, tmp_path: Path) -> None:
    """Both have a complete copy when they come to put it in place."""
    context, path, destination = multiprocessing.get_context("spawn"), folder / POZNAN, tmp_path / "sorted"
    arguments = (open_landcover(str(path)), destination, context.Barrier(2))
    jobs = [context.Process(target=_sort_when_both_are_ready, args=arguments) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0]
    assert _sorted_rows(SortedMap(destination)) == _rows(gpd.read_file(path))
    assert list(tmp_path.iterdir()) == [destination]


def _growth_while_sorting(path: Path, destination: Path) -> int:
    process = psutil.Process()
    seen = [process.memory_info().rss]
    vector_map.ROWS_AT_ONCE = sorting.POLYGONS_PER_PART = 1000
    sort_landcover(open_landcover(str(path)), destination, lambda _: seen.append(process.memory_info().rss))
    return max(seen) - seen[0]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_map() -> None:
    """A map of four times the size, 100 MB of coordinates, needs no more of what a cluster counts as memory."""
    x, y = np.random.default_rng(1).uniform(0, 1_000_000, (2, 60_000))
    discs = shapely.buffer(shapely.points(x, y), 300, quad_segs=25)
    large = gpd.GeoDataFrame({"Code_18": np.full(len(discs), 111)}, geometry=discs, crs=3035)
    each_on_its_own = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1)
    with tempfile.TemporaryDirectory() as scratch, each_on_its_own as pool:
        paths = [Path(scratch) / "small.gpkg", Path(scratch) / "large.gpkg"]
        for path, part in zip(paths, (large[:15_000], large), strict=True):
            _write(part, path, SPATIAL_INDEX="NO")
        small, grown = (pool.submit(_growth_while_sorting, path, path.with_suffix("")).result() for path in paths)
    coordinates = 16 * 3 * shapely.get_num_coordinates(discs[:15_000]).sum()
    assert grown - small < coordinates / 3
