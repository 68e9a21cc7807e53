"""Trees of BigEarthNet v1: patches side by side, each with a JSON file of its labels.

``BigEarthNet-v1.0/<patch>/<patch>_B02.tif`` and ``BigEarthNet-S1-v1.0/<s1_name>/<s1_name>_VV.tif``, with the tags of
the published files (no NODATA tag). Version 1 had no reference maps; ours are in ``Reference_Maps-v1.0``, with the
files of reBEN. ``bigearthnet-train.csv`` and so on list the pairs by split, as readers of version 1 expect.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyproj
from pyproj.exceptions import CRSError

from reben_dask.errors import InputError
from reben_dask.formats.bands import REFERENCE_MAP
from reben_dask.formats.columns import (
    BOUNDS,
    EPSG,
    FLAGS,
    LABELS,
    MAXX,
    MAXY,
    MINX,
    MINY,
    PATCH_ID,
    S1_NAME,
    SENSING_TIME,
    SPLIT,
    TILE,
    flagged,
)
from reben_dask.formats.trees.layout import (
    BY_TILE,
    S1_FILES,
    SHORT_SPLITS,
    Contents,
    Group,
    Row,
    TableRow,
    Tree,
    TreeLayout,
    class_numbers,
    lines_of,
    map_images,
    one_band_each,
    s1_images,
    s1_scene_and_mgrs,
    s2_images,
)

LAYOUT = "bigearthnet-v1"
S2_TREE, S1_TREE, MAP_TREE = "BigEarthNet-v1.0", "BigEarthNet-S1-v1.0", "Reference_Maps-v1.0"
DOCUMENT, PARTNER = "labels_metadata.json", "corresponding_s2_patch"

LISTS = {name: f"bigearthnet-{short}.csv" for name, short in SHORT_SPLITS.items()}

_TIME = re.compile(r"_(\d{8}T\d{6})_")
_PARTS_IN_NAMES = 5

_PARTS_OF_SCENE = 9
"""Words of a Sentinel-1 product's name; those of processed scenes have more."""


def layout(contents: Contents) -> TreeLayout:
    """Trees of Sentinel-2 and reference maps, and of Sentinel-1 if the dataset has it; lists of pairs."""
    numbers = class_numbers(contents.nomenclature)
    columns = (PATCH_ID, LABELS, EPSG, *BOUNDS, SENSING_TIME)
    s2 = Tree(
        S2_TREE,
        s2_images,
        one_band_each(contents.bands),
        (),
        BY_TILE,
        columns=(*columns, TILE),
        documents=partial(_document_of_sentinel2, numbers),
        document_names=(DOCUMENT,),
        read_document=partial(_read_document, "lry", None),
    )
    maps = Tree(MAP_TREE, map_images, one_band_each([REFERENCE_MAP.name]), (), BY_TILE, nodata=0, compress="deflate")
    s1 = Tree(
        S1_TREE,
        s1_images,
        S1_FILES,
        (),
        Group(S1_NAME, s1_scene_and_mgrs),
        order=(S1_NAME,),
        name_column=S1_NAME,
        columns=columns,
        documents=partial(_document_of_sentinel1, numbers),
        document_names=(DOCUMENT,),
        read_document=partial(_read_document, "lly", PARTNER),
        is_shared=True,
    )
    return TreeLayout(
        (s2, maps, *((s1,) if contents.has_sentinel1 else ())),
        tuple(LISTS.values()),
        (PATCH_ID, S1_NAME, SPLIT, *FLAGS),
        _list_lines,
        _read_lists,
        _is_listed,
    )


def _is_listed(row: Row) -> bool:
    """Test for patches in a split that are not flagged, as in the published lists."""
    return row[SPLIT] in LISTS and not flagged(row)


def _list_lines(rows: Iterable[Row]) -> Iterator[tuple[str, str]]:
    """Lines ``<patch>,<s1_name>`` of each split."""
    for row in filter(_is_listed, rows):
        yield LISTS[row[SPLIT]], f"{row[PATCH_ID]},{row[S1_NAME] or ''}\n"


def _read_lists(folder: Path) -> Iterator[TableRow]:
    for split, file in LISTS.items():
        for number, cells in enumerate(csv.reader(lines_of(folder / file)), start=1):
            where = f"{file}, line {number:,},"
            if len(cells) == 2:
                yield TableRow(where, {PATCH_ID: cells[0], S1_NAME: cells[1] or None, SPLIT: split})
            else:
                yield TableRow(where, {}, [f"is {','.join(cells)!r}, which is not a pair of patches"])


def _document_of_sentinel2(numbers: Mapping[str, int], row: Row, attributes: Mapping[str, Any]) -> dict[str, bytes]:
    # Version 1 names the L1C product of which its authors made the L2A product; here it is the source of the pixels.
    product = attributes.get("product", row[TILE])
    return _document(
        numbers,
        row,
        "lry",
        tile_source=f"{product}.SAFE",
        acquisition_date=f"{row[SENSING_TIME].astimezone(UTC):%Y-%m-%d %H:%M:%S}",
    )


def _document_of_sentinel1(numbers: Mapping[str, int], row: Row, attributes: Mapping[str, Any]) -> dict[str, bytes]:
    # The published files use "lly" for the lower edge by mistake; readers expect it.
    return _document(
        numbers,
        row,
        "lly",
        **{PARTNER: row[PATCH_ID]},
        scene_source=_scene(row, attributes.get("sentinel1_scenes", ())),
        acquisition_time=_time(row[S1_NAME]),
    )


def _document(numbers: Mapping[str, int], row: Row, lower: str, **more: str | None) -> dict[str, bytes]:
    """Encode the JSON file, with its keys in the published order."""
    edges = {"ulx": row[MINX], "uly": row[MAXY], "lrx": row[MAXX], lower: row[MINY]}
    labels = sorted(row[LABELS], key=numbers.__getitem__)
    content = {"labels": labels, "coordinates": edges, "projection": _projection(row[EPSG]), **more}
    return {DOCUMENT: json.dumps(content).encode()}


def _read_document(lower: str, partner: str | None, content: bytes) -> Row:
    """Columns that a JSON file states; ``lower`` is the key of its lower edge, ``partner`` of the Sentinel-2 patch."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not a JSON document ({error})") from None
    if not isinstance(document, dict):
        raise InputError("is not a JSON object")
    labels, edges, system = (document.get(key) for key in ("labels", "coordinates", "projection"))
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise InputError(f"has the labels {labels}, not a list of names")
    if not isinstance(edges, dict) or not edges.keys() >= {"ulx", "uly", "lrx", lower}:
        raise InputError(f"has the coordinates {edges}, without ulx, uly, lrx or {lower}")
    row: dict[str, Any] = {LABELS: labels, EPSG: _epsg(str(system)) or system}
    row |= {PATCH_ID: document.get(partner)} if partner else {}
    return row | dict(zip(BOUNDS, (edges[name] for name in ("ulx", lower, "lrx", "uly")), strict=True))


@lru_cache
def _epsg(text: str) -> int | None:
    try:
        return pyproj.CRS.from_wkt(text).to_epsg()
    except CRSError:
        return None


@lru_cache
def _projection(epsg: int) -> str:
    """Well-known text in GDAL's old dialect, with the axes of the geographic system, as GDAL wrote it then."""
    geographic = pyproj.CRS.from_epsg(4326)
    bare, with_axes = (str(geographic.to_wkt("WKT1_GDAL", output_axis_rule=rule)) for rule in (False, True))
    return str(pyproj.CRS.from_epsg(epsg).to_wkt("WKT1_GDAL")).replace(bare, with_axes)


def _scene(row: Row, scenes: Sequence[str]) -> str:
    """Name of the scene's product, or the part of it in the patch's name if the dataset was not made from scenes."""
    short = "_".join(row[S1_NAME].split("_")[:_PARTS_IN_NAMES])
    found = next((scene for scene in scenes if scene.startswith(f"{short}_")), short)
    return "_".join(found.split("_")[:_PARTS_OF_SCENE])


def _time(s1_name: str) -> str | None:
    match = _TIME.search(s1_name)
    return match and datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%S")
