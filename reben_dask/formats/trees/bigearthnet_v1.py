"""The trees of BigEarthNet v1: patches side by side, each with a JSON file of its labels.

``BigEarthNet-v1.0/<patch>/<patch>_B02.tif`` and ``BigEarthNet-S1-v1.0/<s1_name>/<s1_name>_VV.tif``, with the tags of
the published files (no NODATA tag). Version 1 had no reference maps; ours lie in the same way in
``Reference_Maps-v1.0``, as those of reBEN in all but their place. Lists of pairs by set, ``bigearthnet-train.csv`` and
so on, are those that readers of version 1 ask for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyproj

from reben_dask.formats.trees.classes import class_numbers
from reben_dask.formats.trees.layout import (
    CODES,
    RADAR_FILES,
    Contents,
    Row,
    Tree,
    TreeLayout,
    one_each,
    radar_scene_and_place,
    reference_map,
    side_by_side,
    tile_of,
)
from reben_dask.formats.trees.tables import SETS, kept_rows, new_tables
from reben_dask.stores.patch_reader import PatchReader

S2_TREE, S1_TREE, MAP_TREE = "BigEarthNet-v1.0", "BigEarthNet-S1-v1.0", "Reference_Maps-v1.0"
DOCUMENT = "labels_metadata.json"

LISTS = {name: f"bigearthnet-{short}.csv" for name, short in SETS.items()}
"""Lists of pairs, by set."""

_TIME = re.compile(r"_(\d{8}T\d{6})_")
_PARTS_IN_NAMES = 5
"""So many of them are in the names of patches."""

_PARTS_OF_SCENE = 9
"""A Sentinel-1 product's own name has so many; those of processed scenes go on."""


def bigearthnet_v1(contents: Contents) -> TreeLayout:
    """The layout; the tree of Sentinel-1 is there if the dataset has Sentinel-1."""
    numbers = class_numbers(contents.nomenclature)
    columns = ("patch_id", "labels", "miny", "sensing_time")
    s2 = Tree(
        S2_TREE,
        PatchReader.bands,
        side_by_side,
        tile_of,
        columns=columns,
        files=one_each(contents.bands),
        documents=partial(_of_sentinel2, numbers),
        document_names=(DOCUMENT,),
    )
    maps = Tree(MAP_TREE, reference_map, side_by_side, tile_of, files=one_each([CODES]), nodata=0, compress="deflate")
    s1 = Tree(
        S1_TREE,
        PatchReader.sentinel1,
        side_by_side,
        radar_scene_and_place,
        order=("s1_name",),
        name_column="s1_name",
        columns=columns,
        files=RADAR_FILES,
        documents=partial(_of_sentinel1, numbers),
        document_names=(DOCUMENT,),
        is_shared=True,
    )
    return TreeLayout((s2, maps, *((s1,) if contents.has_sentinel1 else ())), tuple(LISTS.values()), write_lists)


def write_lists(parts: Sequence[Path], root: Path) -> None:
    """Write ``bigearthnet-{train,val,test}.csv``: a line ``<patch>,<s1_name>`` for each clear patch of the set.

    Patches that are listed apart for snow, cloud or shadow are in none of them, as in the published lists.
    """
    columns = ("patch_id", "s1_name", "split", "contains_seasonal_snow", "contains_cloud_or_shadow")
    with new_tables(root, LISTS) as files:
        for row in kept_rows(parts, columns):
            is_clear = not (row["contains_seasonal_snow"] or row["contains_cloud_or_shadow"])
            if row["split"] in files and is_clear:
                files[row["split"]].write(f"{row['patch_id']},{row['s1_name'] or ''}\n")


def _of_sentinel2(numbers: Mapping[str, int], row: Row, attributes: Mapping[str, Any]) -> dict[str, bytes]:
    # Version 1 names the L1C product that its authors made the L2A product from; here it is that of the pixels.
    product = attributes.get("product", row["tile"])
    return _document(
        numbers,
        row,
        "lry",
        tile_source=f"{product}.SAFE",
        acquisition_date=f"{row['sensing_time'].astimezone(UTC):%Y-%m-%d %H:%M:%S}",
    )


def _of_sentinel1(numbers: Mapping[str, int], row: Row, attributes: Mapping[str, Any]) -> dict[str, bytes]:
    # "lly" for the lower edge is a slip of the published files, and what their readers look for.
    return _document(
        numbers,
        row,
        "lly",
        corresponding_s2_patch=row["patch_id"],
        scene_source=_scene(row, attributes.get("sentinel1_scenes", ())),
        acquisition_time=_time(row["s1_name"]),
    )


def _document(numbers: Mapping[str, int], row: Row, lower: str, **more: str | None) -> dict[str, bytes]:
    """The JSON file, with its keys in the order of the published ones."""
    edges = {"ulx": row["minx"], "uly": row["maxy"], "lrx": row["maxx"], lower: row["miny"]}
    labels = sorted(row["labels"], key=numbers.__getitem__)
    content = {"labels": labels, "coordinates": edges, "projection": _projection(row["epsg"]), **more}
    return {DOCUMENT: json.dumps(content).encode()}


@lru_cache
def _projection(epsg: int) -> str:
    """Well-known text in GDAL's old dialect, with the axes of the geographic system, as GDAL wrote it at that time."""
    geographic = pyproj.CRS.from_epsg(4326)
    bare, with_axes = (str(geographic.to_wkt("WKT1_GDAL", output_axis_rule=rule)) for rule in (False, True))
    return str(pyproj.CRS.from_epsg(epsg).to_wkt("WKT1_GDAL")).replace(bare, with_axes)


def _scene(row: Row, scenes: Sequence[str]) -> str:
    """The name of the scene's product where the dataset was made from scenes, or what a patch's name has of it."""
    short = "_".join(row["s1_name"].split("_")[:_PARTS_IN_NAMES])
    found = next((scene for scene in scenes if scene.startswith(f"{short}_")), short)
    return "_".join(found.split("_")[:_PARTS_OF_SCENE])


def _time(s1_name: str) -> str | None:
    match = _TIME.search(s1_name)
    return match and datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%S")
