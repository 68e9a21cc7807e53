"""``meta.csv`` and ``splits/{train,val,test}.csv`` of SeasoNet.

``meta.csv`` has the columns of the published file in their order, as far as the dataset has them, and behind ``Path``
the classes of further thresholds of region size:

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
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from itertools import groupby
from pathlib import Path
from typing import Any

import pyproj

from reben_dask.formats.names import FIRST_PIXEL_M
from reben_dask.formats.trees.classes import class_numbers
from reben_dask.formats.trees.layout import Contents
from reben_dask.formats.trees.tables import SETS, kept_rows, new_tables
from reben_dask.stores.batches import batched

META = "meta.csv"
SPLITS_FOLDER = "splits"

_OF_IMAGE = ("Index", "Season", "Grid", "Latitude", "Longitude", "Satellite")
_OF_TIME = {"Year": "%Y", "Month": "%m", "Day": "%d", "Hour": "%H", "Minute": "%M", "Second": "%S"}
_FRACTIONS = {"Clouds": "cloud_fraction", "Snow": "snow_fraction"}
_CLASSES = "Classes"
_TAKEN = frozenset((*_OF_IMAGE, *_OF_TIME, *_FRACTIONS, "Path"))
_COLUMNS = ("patch_id", "tile", "season", "sensing_time", "split", "epsg", "minx", "maxy")
_AT_ONCE = 4_096
"""Patches whose coordinates are transformed together."""


def write_tables(contents: Contents, parts: Sequence[Path], root: Path) -> None:
    """Write the tables of all kept patches with a season.

    Parameters
    ----------
    contents : Contents
        The dataset.
    parts : sequence of Path
        Part files of the patch table. Rows follow them, and in each the order of the cubes: grid, column, row.
    root : Path
        Folder of the dataset.
    """
    numbers, attributes = class_numbers(contents.nomenclature), _attribute_headers(contents.attributes)
    labels = {column.replace("labels", _CLASSES, 1): column for column in contents.labels}
    columns = (*_COLUMNS, *_FRACTIONS.values(), *contents.labels, *attributes.values())
    header = [*_OF_IMAGE, *_OF_TIME, *_FRACTIONS, _CLASSES, *attributes, "Path", *list(labels)[1:]]
    paths = {META: META, **{name: f"{SPLITS_FOLDER}/{short}.csv" for name, short in SETS.items()}}
    with new_tables(root, paths) as files:
        meta = csv.DictWriter(files[META], header, lineterminator="\n")
        meta.writeheader()
        rows = (row for row in kept_rows(parts, columns) if row["season"])
        for index, (row, (longitude, latitude)) in enumerate(_placed(rows)):
            classes = {name: _numbers(row[column], numbers) for name, column in labels.items()}
            of_layers = {name: row[column] for name, column in attributes.items()}
            place = {"Latitude": f"{latitude:.6f}", "Longitude": f"{longitude:.6f}"}
            meta.writerow({"Index": index, **_of_image(row), **place, **classes, **of_layers})
            if row["split"] in SETS:
                files[row["split"]].write(f"{index}\n")


def _attribute_headers(attributes: Mapping[str, str]) -> dict[str, str]:
    """Columns of the patch table by the names of their layers' columns, or by their own where those are no help."""
    layers = {column: name for name, column in attributes.items()}
    is_taken = any(column in _TAKEN or column.startswith(_CLASSES) for column in layers)
    return {name: name for name in attributes} if is_taken or len(layers) < len(attributes) else layers


def _of_image(row: Mapping[str, Any]) -> dict[str, Any]:
    time = row["sensing_time"].astimezone(UTC)
    return {
        "Season": row["season"].capitalize(),
        "Grid": row["grid"],
        "Satellite": row["tile"].partition("_")[0].removeprefix("S2"),
        **{name: time.strftime(part) for name, part in _OF_TIME.items()},
        **{name: row[column] for name, column in _FRACTIONS.items()},
        "Path": f"{row['season']}/grid{row['grid']}/{row['patch_id']}",
    }


def _numbers(labels: Sequence[str] | None, numbers: Mapping[str, int]) -> str:
    return ",".join(str(number) for number in sorted(numbers[label] for label in labels or ()))


def _placed(rows: Iterator[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], tuple[float, float]]]:
    """Patches with the longitude and latitude of their first pixel."""
    for epsg, together in groupby(rows, lambda row: row["epsg"]):
        to_degrees = pyproj.Transformer.from_crs(epsg, 4326, always_xy=True)
        for batch in batched(together, _AT_ONCE):
            east = [row["minx"] + FIRST_PIXEL_M for row in batch]
            north = [row["maxy"] - FIRST_PIXEL_M for row in batch]
            yield from zip(batch, zip(*to_degrees.transform(east, north), strict=True), strict=True)
