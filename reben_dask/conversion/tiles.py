"""Which tile each published patch is in, and where it is there.

Published patches do not say where their tile is, and the names of version 1 do not even say which tile it is: there,
24 of the 116 product names stand for two or more tiles. Both follow from where the patches lie.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import NamedTuple

from reben_dask.conversion.processes import in_processes
from reben_dask.conversion.reading import Entry, Source
from reben_dask.errors import InputError
from reben_dask.patches.grid import PATCH_SIDE_M, PatchGrid, ShapeYX
from reben_dask.patches.names import PatchName, parse_patch_name
from reben_dask.sources.published.corners import read_corner
from reben_dask.sources.published.trees import MAPS, band_files
from reben_dask.stores.cube_layout import CubeLayout

TILE_M = ShapeYX(109_800, 109_800)
"""Side of a Sentinel-2 tile."""

PATCHES_PER_LOOK = 512
"""So many are looked at sooner than a process is started."""

_WITH_TILE = re.compile(r".+_T\d{2}[A-Z]{3}")


class Origin(NamedTuple):
    """Upper-left corner of a tile."""

    epsg: int
    ulx: int
    uly: int


Patch = tuple[Entry, ...]
"""What there is of one patch: bands, reference map, or both."""


def divide_into_tiles(
    sources: Sequence[Source], entries: Sequence[Entry], workers: int
) -> list[tuple[CubeLayout, dict[tuple[int, int], Patch]]]:
    """Find the tile of each patch, in processes if there are many.

    Returns
    -------
    list of (CubeLayout, dict of (int, int) to Patch)
        Layout and patches, by column and row, of each tile, in the order of the names of their groups.

    Raises
    ------
    InputError
        If a patch cannot be placed, or does not lie where its name says.
    """
    return _tiles(sources, entries, _origins(sources, entries, workers))


def _origins(sources: Sequence[Source], entries: Sequence[Entry], workers: int) -> list[Origin]:
    """Where the tile of each patch begins."""
    if len(entries) <= PATCHES_PER_LOOK:
        return _look(sources, (0, entries))[1]
    tasks = ((start, entries[start : start + PATCHES_PER_LOOK]) for start in range(0, len(entries), PATCHES_PER_LOOK))
    with closing(in_processes(partial(_look, sources), tasks, workers)) as results:
        found = dict(results)
    return [origin for start in sorted(found) for origin in found[start]]


def _look(sources: Sequence[Source], task: tuple[int, Sequence[Entry]]) -> tuple[int, list[Origin]]:
    start, entries = task
    return start, [_origin(sources[entry.source], entry) for entry in entries]


def _origin(source: Source, entry: Entry) -> Origin:
    name = _parse(entry)
    resolutions = source.kind.resolution_m
    coarsest = max(resolutions, key=lambda band: resolutions[band])
    path = band_files(source.kind, source.root, entry.patch)[coarsest]
    corner = read_corner(path)
    ulx, uly = corner.left - name.x * PATCH_SIDE_M, corner.top + name.y * PATCH_SIDE_M
    if corner.pixel_m != resolutions[coarsest] or not (ulx.is_integer() and uly.is_integer()):
        raise InputError(
            f"{path} does not lie as patches of its kind do: its upper-left corner is ({corner.left}, {corner.top}) "
            f"and its pixels have {corner.pixel_m} m, where whole metres and {resolutions[coarsest]} m are expected."
        )
    return Origin(corner.epsg, int(ulx), int(uly))


def _parse(entry: Entry) -> PatchName:
    name = parse_patch_name(entry.patch.name)
    rows, columns = (side // PATCH_SIDE_M for side in TILE_M)
    if name.x >= columns or name.y >= rows:
        raise InputError(f"{name} is not in a tile, which has {columns} x {rows} patches, counted from 0.")
    return name


def _tiles(
    sources: Sequence[Source], entries: Sequence[Entry], origins: Sequence[Origin]
) -> list[tuple[CubeLayout, dict[tuple[int, int], Patch]]]:
    scenes: dict[str, dict[Origin, dict[tuple[int, int], Patch]]] = {}
    for entry, origin in zip(entries, origins, strict=True):
        name = _parse(entry)
        tile = scenes.setdefault(name.scene, {}).setdefault(origin, {})
        others = tile.get((name.x, name.y), ())
        for other in others:
            if other.source == entry.source:
                raise InputError(f"{other.patch.name} and {name} are the same patch of the same tile; remove one.")
        tile[name.x, name.y] = (*others, entry)
    bands = _bands(sources)
    tiles = []
    for scene, places in sorted(scenes.items()):
        for origin, patches in sorted(places.items()):
            grid = PatchGrid(*origin, TILE_M)
            tiles.append((CubeLayout(_group(scene, origin, places), grid, bands, {}), patches))
    return tiles


def _group(scene: str, origin: Origin, places: Mapping[Origin, Mapping[tuple[int, int], Patch]]) -> str:
    """Name of the group of a tile."""
    if not _WITH_TILE.fullmatch(scene):
        return "_".join(map(str, (scene, *origin)))
    if len(places) > 1:
        first, second = (next(iter(patches.values()))[0].patch.name for patches in list(places.values())[:2])
        raise InputError(f"{first} and {second} name the same tile, but do not lie in one; their files are mixed up.")
    return scene


def _bands(sources: Sequence[Source]) -> dict[int, tuple[str, ...]]:
    """Bands by resolution, as in the stores that a job makes."""
    found: dict[int, tuple[str, ...]] = {}
    for kind in (source.kind for source in sources if source.kind != MAPS):
        for band, resolution in sorted(kind.resolution_m.items()):
            found[resolution] = (*found.get(resolution, ()), band)
    return dict(sorted(found.items()))
