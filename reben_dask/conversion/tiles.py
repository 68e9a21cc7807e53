"""Which tile each published patch is in, and where it is there.

Published patches do not say where their tile is, and the names of version 1 do not even say which tile it is: there,
24 of the 116 product names stand for two or more tiles. Both follow from where the patches lie.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from reben_dask.conversion.processes import in_processes
from reben_dask.conversion.reading import Entry, Source
from reben_dask.errors import InputError
from reben_dask.formats.names import PatchName, parse_patch_name
from reben_dask.grid import PATCH_SIDE_M, ShapeYX
from reben_dask.sources.published.tiff import read_corner
from reben_dask.sources.published.trees import band_files

TILE_M = ShapeYX(109_800, 109_800)
"""Side of a Sentinel-2 tile."""

PATCHES_PER_LOOK = 512
"""So many are looked at sooner than a process is started."""

_WITH_TILE = re.compile(r".+_T?\d{2}[A-Z]{3}")

Patch = tuple[Entry, ...]
"""What there is of one patch: bands, reference map, Sentinel-1."""


class Place(NamedTuple):
    """Upper-left corner of a tile or a patch, in metres."""

    epsg: int
    ulx: int
    uly: int

    def moved(self, columns: int, rows: int) -> Place:
        """The place so many patches to the east and to the south."""
        return Place(self.epsg, self.ulx + columns * PATCH_SIDE_M, self.uly - rows * PATCH_SIDE_M)


@dataclass(frozen=True)
class Tile:
    """The patches of a tile.

    Parameters
    ----------
    name : str
        Name of its group.
    place : Place
        Where it begins.
    patches : dict of (int, int) to Patch
        By column and row.
    """

    name: str
    place: Place
    patches: Mapping[tuple[int, int], Patch]


def divide_into_tiles(sources: Sequence[Source], entries: Sequence[Entry], workers: int) -> list[Tile]:
    """Find the tile of each patch.

    Parameters
    ----------
    sources : sequence of Source
        Where the patches are read from.
    entries : sequence of Entry
        Patches. Those of one product, or of one scene of Sentinel-1, that lie in one tile come together.
    workers : int
        Processes that look where patches lie, if there are many.

    Returns
    -------
    list of Tile
        In the order of their names.

    Raises
    ------
    InputError
        If a patch cannot be placed, does not lie where its name says, or is there twice.
    """
    scenes: dict[str, dict[Place, dict[tuple[int, int], Patch]]] = {}
    for entry, place in zip(entries, find_places(sources, entries, workers), strict=True):
        name = _parse(entry)
        tile = scenes.setdefault(name.scene, {}).setdefault(place.moved(-name.x, -name.y), {})
        others = tile.get((name.x, name.y), ())
        for other in others:
            if other.source == entry.source:
                raise InputError(f"{other.patch.name} and {name} are the same patch of the same tile; remove one.")
        tile[name.x, name.y] = (*others, entry)
    return [
        Tile(_group(scene, place, places), place, patches)
        for scene, places in sorted(scenes.items())
        for place, patches in sorted(places.items())
    ]


def find_places(sources: Sequence[Source], entries: Sequence[Entry], workers: int) -> list[Place]:
    """Find where patches lie.

    Raises
    ------
    InputError
        If a patch cannot be placed.
    """
    if len(entries) <= PATCHES_PER_LOOK:
        return _look(sources, (0, entries))[1]
    tasks = ((start, entries[start : start + PATCHES_PER_LOOK]) for start in range(0, len(entries), PATCHES_PER_LOOK))
    with closing(in_processes(partial(_look, sources), tasks, workers)) as results:
        found = dict(results)
    return [place for start in sorted(found) for place in found[start]]


def _look(sources: Sequence[Source], task: tuple[int, Sequence[Entry]]) -> tuple[int, list[Place]]:
    start, entries = task
    return start, [_place(sources[entry.source], entry) for entry in entries]


def _place(source: Source, entry: Entry) -> Place:
    resolutions = source.kind.resolution_m
    coarsest = max(resolutions, key=lambda band: resolutions[band])
    path = band_files(source.kind, source.root, entry.patch)[coarsest]
    corner = read_corner(path)
    if corner.pixel_m != resolutions[coarsest] or not (corner.left.is_integer() and corner.top.is_integer()):
        raise InputError(
            f"{path} does not lie as patches of its kind do: its upper-left corner is ({corner.left}, {corner.top}) "
            f"and its pixels have {corner.pixel_m} m, where whole metres and {resolutions[coarsest]} m are expected."
        )
    return Place(corner.epsg, int(corner.left), int(corner.top))


def _parse(entry: Entry) -> PatchName:
    name = parse_patch_name(entry.patch.name)
    rows, columns = (side // PATCH_SIDE_M for side in TILE_M)
    if name.x >= columns or name.y >= rows:
        raise InputError(f"{name} is not in a tile, which has {columns} x {rows} patches, counted from 0.")
    return name


def _group(scene: str, place: Place, places: Mapping[Place, Mapping[tuple[int, int], Patch]]) -> str:
    """Name of the group of a tile."""
    if not _WITH_TILE.fullmatch(scene):
        return "_".join(map(str, (scene, *place)))
    if len(places) > 1:
        first, second = (next(iter(patches.values()))[0].patch.name for patches in list(places.values())[:2])
        raise InputError(f"{first} and {second} name the same tile, but do not lie in one; their files are mixed up.")
    return scene
