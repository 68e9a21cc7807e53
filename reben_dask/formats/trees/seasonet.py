"""Trees of SeasoNet: a folder for each season and grid, multi-band images, and maps of class numbers.

``spring/grid1/<patch>/<patch>_10m_RGB.tif`` with ``10m_IR``, ``20m``, ``60m`` and ``labels``, ``meta.csv``, and
``splits/{train,val,test}.csv`` of row numbers; no Sentinel-1. ``meta.csv`` has the columns of the published file in
their order, as far as the dataset has them, then the classes of further region thresholds:

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
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj

from reben_dask.errors import RecipeError
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
    Images,
    PatchPixels,
    Row,
    Tree,
    TreeLayout,
    class_numbers,
    number_of_code,
)

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
_TAKEN = frozenset((*_OF_IMAGE, *_OF_TIME, *_FRACTIONS, "Path"))
_COLUMNS = (PATCH_ID, TILE, SEASON, SENSING_TIME, SPLIT, EPSG, MINX, MAXY, GRID)
_AT_ONCE = 4_096
"""Patches whose coordinates are transformed together."""


def layout(contents: Contents) -> TreeLayout:
    """Trees of the seasons, and the tables.

    :class:`RecipeError` if a band is missing, there are too many classes for uint8, or a season's name cannot be a
    folder's.
    """
    _require_bands(contents.bands)
    _require_seasons(contents.seasons)
    classes = len(class_numbers(contents.nomenclature))
    if classes > _MOST_CLASSES:
        raise RecipeError(
            f"The tree {LAYOUT} has maps of bytes, which can tell {_MOST_CLASSES} classes apart, but the nomenclature "
            f"{contents.nomenclature.name} has {classes}; choose another tree."
        )
    images = partial(_images, number_of_code(contents.nomenclature))
    files = {**BANDS, "labels": (CLASS_NUMBERS.name,)}
    trees = [Tree(season, images, files, _grid, _grid, only={SEASON: season}) for season in contents.seasons]
    columns = (*_COLUMNS, *_FRACTIONS.values(), *contents.labels, *contents.attributes)
    return TreeLayout(tuple(trees), (META, *SPLIT_FILES.values()), columns, partial(_table_lines, contents))


def _images(numbers: npt.NDArray[np.uint8], pixels: PatchPixels) -> Images:
    if pixels.reference_map is None:
        return {}
    stacks = {name: np.stack([pixels.s2[band] for band in stacked]) for name, stacked in BANDS.items()}
    return {**stacks, "labels": numbers[pixels.reference_map]}


def _grid(row: Row) -> str:
    return f"grid{row[GRID]}"


def _require_bands(bands: tuple[str, ...]) -> None:
    needed = [band for stacked in BANDS.values() for band in stacked]
    if missing := [band for band in needed if band not in bands]:
        raise RecipeError(
            f"The tree {LAYOUT} needs all bands, but the recipe has no {', '.join(missing)}; "
            "add them to bands, or choose another tree."
        )


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
    placed = _with_place(row for row in rows if row[SEASON])
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
            yield SPLIT_FILES[row[SPLIT]], f"{index}\n"


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
