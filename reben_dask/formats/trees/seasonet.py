"""Trees of SeasoNet: a folder for each season and grid, multi-band images, and maps of class numbers.

``spring/grid1/<patch>/<patch>_10m_RGB.tif`` with ``10m_IR``, ``20m``, ``60m`` and ``labels``, ``meta.csv``, and
``splits/{train,val,test}.csv`` of row numbers; no Sentinel-1. ``meta.csv`` has the columns of the published file in
their order, if the dataset has them, then the classes of further region thresholds. A split without patches has
the line ``Index`` alone, as pandas refuses an empty file:

=====================================  ===============================================================================
column                                 content
=====================================  ===============================================================================
``Index``                              row, counted from 0; the numbers of the splits
``Season``, ``Grid``                   ``Spring``, …; 1 or 2
``Latitude``, ``Longitude``            of the centre of the patch's first pixel of 10 m, in degrees, as in the name
``Satellite``                          ``A`` or ``B``
``Year``, ``Month``, … ``Second``      sensing time in UTC, two digits each but the year
``Clouds``, ``Snow``                   share of the patch, 0 to 1; empty where it is unknown
``Classes``                            numbers of the classes, such as ``2,3,12``, in the order of CORINE codes from 1
columns of layers, such as ``RTYP3``   attributes of the recipe; empty where there is none
``Path``                               folder of the patch
``Classes_medium``, ``Classes_easy``   classes with a region of at least the size of that threshold
=====================================  ===============================================================================
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj

from reben_dask.errors import InputError, RecipeError
from reben_dask.formats.bands import Band
from reben_dask.formats.columns import (
    CLOUD_FRACTION,
    EPSG,
    GRID,
    LABELS,
    MAXY,
    MINX,
    PATCH_ID,
    SEASON,
    SENSING_TIME,
    SNOW_FRACTION,
    SPLIT,
    TILE,
)
from reben_dask.formats.names import FIRST_PIXEL_M
from reben_dask.formats.trees.layout import (
    CLASS_NUMBERS,
    SHORT_SPLITS,
    Contents,
    Group,
    Images,
    PatchPixels,
    Row,
    TableRow,
    Tree,
    TreeLayout,
    class_numbers,
    lines_of,
    number_of_code,
)
from reben_dask.nomenclature import Nomenclature

LAYOUT = "seasonet"
BANDS = {
    "10m_RGB": ("B04", "B03", "B02"),
    "10m_IR": ("B08",),
    "20m": ("B05", "B06", "B07", "B8A", "B11", "B12"),
    "60m": ("B01", "B09"),
}

META = "meta.csv"
SPLITS_FOLDER = "splits"
SPLIT_FILES = {name: f"{SPLITS_FOLDER}/{short}.csv" for name, short in SHORT_SPLITS.items()}

_MOST_CLASSES = np.iinfo(np.uint8).max
_FOLDER = re.compile(r"[a-z0-9][a-z0-9_-]*")
_OF_IMAGE = ("Index", "Season", "Grid", "Latitude", "Longitude", "Satellite")
_OF_TIME = {"Year": "%Y", "Month": "%m", "Day": "%d", "Hour": "%H", "Minute": "%M", "Second": "%S"}
_FRACTIONS = {"Clouds": CLOUD_FRACTION, "Snow": SNOW_FRACTION}
_CLASSES = "Classes"
_READ = ("Index", "Season", "Grid", "Latitude", "Longitude", _CLASSES, "Path")
_PATH = re.compile(r"(?P<season>[a-z0-9][a-z0-9_-]*)/grid(?P<grid>\d+)/(?P<name>[^/]+)")
_TAKEN = frozenset((*_OF_IMAGE, *_OF_TIME, *_FRACTIONS, "Path"))
_COLUMNS = (PATCH_ID, TILE, SEASON, SENSING_TIME, SPLIT, EPSG, MINX, MAXY, GRID)
_AT_ONCE = 4_096
"""Patches whose coordinates are transformed together."""


def layout(contents: Contents) -> TreeLayout:
    """Trees of the seasons, and the tables.

    :class:`RecipeError` if there are too many classes for uint8, or a season's name cannot be a folder's.
    """
    _require_seasons(contents.seasons)
    classes = len(class_numbers(contents.nomenclature))
    if classes > _MOST_CLASSES:
        raise RecipeError(
            f"The tree {LAYOUT} has uint8 maps, which hold at most {_MOST_CLASSES} classes, but the nomenclature "
            f"{contents.nomenclature.name} has {classes}; choose another tree."
        )
    images = partial(_images, number_of_code(contents.nomenclature))
    files: dict[str, tuple[str | Band, ...]] = {**BANDS, "labels": (CLASS_NUMBERS,)}
    grid = Group(GRID, _grid)
    trees = [Tree(season, images, files, (grid,), grid, only={SEASON: season}) for season in contents.seasons]
    columns = (*_COLUMNS, *_FRACTIONS.values(), *contents.labels, *contents.attributes)
    tables = (META, *SPLIT_FILES.values())
    return TreeLayout(
        tuple(trees), tables, columns, partial(_table_lines, contents), partial(_read_tables, contents.nomenclature)
    )


def _images(numbers: npt.NDArray[np.uint8], pixels: PatchPixels) -> Images:
    if pixels.reference_map is None:
        return {}
    stacks = {name: np.stack([pixels.s2[band] for band in stacked]) for name, stacked in BANDS.items()}
    return {**stacks, "labels": numbers[pixels.reference_map]}


def _grid(number: int) -> str:
    return f"grid{number}"


def _require_seasons(seasons: tuple[str, ...]) -> None:
    for season in seasons:
        if season == SPLITS_FOLDER or not _FOLDER.fullmatch(season):
            raise RecipeError(
                f"The tree {LAYOUT} has a folder for each season, and {season!r} cannot be one; "
                f"use small letters, digits, - and _, and not {SPLITS_FOLDER!r}."
            )


def _table_lines(contents: Contents, rows: Iterable[Row]) -> Iterator[tuple[str, str]]:
    numbers, attributes = class_numbers(contents.nomenclature), attribute_headers(contents.attributes)
    labels = {column.replace(LABELS, _CLASSES, 1): column for column in contents.labels}
    yield META, _csv_line([*_OF_IMAGE, *_OF_TIME, *_FRACTIONS, _CLASSES, *attributes, "Path", *list(labels)[1:]])
    placed, empty = _with_place(row for row in rows if row[SEASON]), set(SPLIT_FILES)
    for index, (row, (longitude, latitude)) in enumerate(placed):
        time = row[SENSING_TIME].astimezone(UTC)
        classes = [_numbers(row[column], numbers) for column in labels.values()]
        satellite = row[TILE].partition("_")[0].removeprefix("S2")
        values = [index, row[SEASON].capitalize(), row[GRID], f"{latitude:.6f}", f"{longitude:.6f}", satellite]
        values += [time.strftime(part) for part in _OF_TIME.values()]
        values += [row[column] for column in _FRACTIONS.values()]
        values += [classes[0], *(row[column] for column in attributes.values())]
        yield META, _csv_line([*values, f"{row[SEASON]}/grid{row[GRID]}/{row[PATCH_ID]}", *classes[1:]])
        if row[SPLIT] in SPLIT_FILES:
            empty.discard(row[SPLIT])
            yield SPLIT_FILES[row[SPLIT]], f"{index}\n"
    yield from ((file, f"{_OF_IMAGE[0]}\n") for split, file in SPLIT_FILES.items() if split in empty)


def _read_tables(nomenclature: Nomenclature, folder: Path) -> Iterator[TableRow]:
    """Rows of ``meta.csv`` with their splits, then lines of the splits that belong to no row."""
    classes = list(class_numbers(nomenclature))
    listed = dict[str, tuple[str, int]]()
    for split, file in SPLIT_FILES.items():
        for number, text in enumerate(map(str.strip, lines_of(folder / file)), start=1):
            if number == 1 and text == _OF_IMAGE[0]:
                continue  # of a split without patches
            if text in listed:
                fault = f"has row {text} again, after {SPLIT_FILES[listed[text][0]]}"
                yield TableRow(f"{file}, line {number:,},", {}, [fault])
            else:
                listed[text] = split, number
    reader = csv.DictReader(lines_of(folder / META))
    if missing := [name for name in _READ if name not in (reader.fieldnames or _READ)]:
        raise InputError(f"{META} has no column {', '.join(missing)}")
    for position, cells in enumerate(reader):
        of_split = listed.pop(str(position), None)
        yield _read_row(position, cells, of_split and of_split[0], classes)
    for text, (split, number) in listed.items():
        fault = f"is {text!r}, and {META} has no such row"
        yield TableRow(f"{SPLIT_FILES[split]}, line {number:,},", {}, [fault])


def _read_row(position: int, cells: Mapping[str, str], split: str | None, classes: Sequence[str]) -> TableRow:
    where = f"{META}, row {position:,},"
    path = _PATH.fullmatch(cells["Path"] or "")
    if path is None:
        return TableRow(where, {}, [f"has the path {cells['Path']!r}, which is that of no patch"])
    words = {int(word) for word in (cells["Classes"] or "").split(",") if word.isascii() and word.isdigit()}
    numbers = sorted(words.intersection(range(1, len(classes) + 1)))
    wanted = {"Index": position, "Season": path["season"].capitalize(), "Grid": path["grid"]}
    wanted["Classes"] = ",".join(map(str, numbers))
    faults = [
        f"has the {key} {cells[key]!r}, not {str(text)!r}" for key, text in wanted.items() if cells[key] != str(text)
    ]
    labels = sorted(classes[number - 1] for number in numbers)
    row: Row = {PATCH_ID: path["name"], LABELS: labels, SEASON: path["season"], GRID: int(path["grid"]), SPLIT: split}
    parts = {"lat": cells["Latitude"], "lon": cells["Longitude"]}
    if all(cells.get(key) for key in _OF_TIME):
        year, *rest = (cells[key].zfill(2) for key in _OF_TIME)
        parts["time"] = f"{year}{''.join(rest[:2])}T{''.join(rest[2:])}"
    return TableRow(where, row, faults, {field: str(text).replace(".", "_") for field, text in parts.items()})


def attribute_headers(attributes: Mapping[str, str]) -> dict[str, str]:
    """Columns of the patch table by their name in the layer, or by their own where that is ambiguous."""
    layers = {column: name for name, column in attributes.items()}
    is_taken = any(column in _TAKEN or column.startswith(_CLASSES) for column in layers)
    return {name: name for name in attributes} if is_taken or len(layers) < len(attributes) else layers


def _csv_line(values: Sequence[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue()


def _numbers(labels: Sequence[str] | None, numbers: Mapping[str, int]) -> str:
    return ",".join(str(number) for number in sorted(numbers[label] for label in labels or ()))


def _with_place(rows: Iterator[Row]) -> Iterator[tuple[Row, tuple[float, float]]]:
    for epsg, together in groupby(rows, lambda row: row[EPSG]):
        to_degrees = pyproj.Transformer.from_crs(epsg, 4326, always_xy=True)
        while batch := list(islice(together, _AT_ONCE)):
            east = [row[MINX] + FIRST_PIXEL_M for row in batch]
            north = [row[MAXY] - FIRST_PIXEL_M for row in batch]
            yield from zip(batch, zip(*to_degrees.transform(east, north), strict=True), strict=True)
