"""Tiles of published patches, from the positions of the patches.

Names of version 1 do not contain the tile: 24 of the 116 product names denote two or more tiles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from reben_dask.errors import InputError
from reben_dask.formats.bands import ImageKind
from reben_dask.formats.columns import S1_NAME
from reben_dask.formats.names import PatchName, parse_patch_name
from reben_dask.grid import PATCH_SIDE_M, ShapeYX
from reben_dask.sources.published.pairs import Pairs, match_names
from reben_dask.sources.published.tiff import Corner, read_corner
from reben_dask.sources.published.trees import IMAGES, PublishedPatch

TILE_M = ShapeYX(109_800, 109_800)
"""Sides of a Sentinel-2 tile."""

_WITH_TILE = re.compile(r".+_T?\d{2}[A-Z]{3}")

Images = tuple[PublishedPatch, ...]
"""Images of one patch: bands, reference map and Sentinel-1, as far as they exist."""


class Place(NamedTuple):
    """Upper-left corner of a tile or a patch, in metres."""

    epsg: int
    ulx: int
    uly: int

    def moved(self, columns: int, rows: int) -> Place:
        """Move by a number of patches eastwards and southwards."""
        return Place(self.epsg, self.ulx + columns * PATCH_SIDE_M, self.uly - rows * PATCH_SIDE_M)

    def __str__(self) -> str:
        return f"({self.ulx}, {self.uly}) of EPSG:{self.epsg}"


@dataclass(frozen=True)
class Tile:
    """Patches of a tile, by column and row."""

    name: str
    place: Place
    patches: dict[tuple[int, int], Images]


@dataclass(frozen=True)
class LeftOut:
    """Names of patches without their partners."""

    unnamed: tuple[str, ...] = ()
    """Sentinel-1 patches that no pair names."""
    alone: tuple[str, ...] = ()
    """Sentinel-1 patches with missing partners."""
    unpaired: tuple[str, ...] = ()
    """Other patches without a Sentinel-1 partner."""


FindPlaces = Callable[[Sequence[PublishedPatch]], Mapping[PublishedPatch, Place]]
"""Finds the positions of patches; see :func:`read_place`."""


def read_place(patch: PublishedPatch) -> Place:
    """Read the position of a patch from its image of the coarsest resolution.

    Raises
    ------
    InputError
        If the file cannot be read, or its corner is not at whole metres of a known system.
    """
    path = patch.path(placing_image(patch.kind))
    return place_of(patch.kind, read_corner(path), path)


def placing_image(kind: ImageKind) -> str:
    """Image that patches of a kind are placed by: that of the coarsest resolution."""
    return max(IMAGES[kind].items(), key=lambda item: item[1].resolution_m)[0]


def place_of(kind: ImageKind, corner: Corner, path: str) -> Place:
    """Place a patch by the corner of its :func:`placing_image`, a file named ``path`` in the message of an error."""
    band = IMAGES[kind][placing_image(kind)]
    if corner.pixel_m != band.resolution_m or not (corner.left.is_integer() and corner.top.is_integer()):
        raise InputError(
            f"{path} is not positioned as patches of its kind: its upper-left corner is ({corner.left}, {corner.top}) "
            f"and its pixel size {corner.pixel_m} m; expected are whole metres and {band.resolution_m} m."
        )
    return Place(corner.epsg, int(corner.left), int(corner.top))


def divide_into_tiles(patches: Sequence[PublishedPatch], find_places: FindPlaces) -> list[Tile]:
    """Divide patches into tiles: those of one product, or one Sentinel-1 scene, that lie in one tile.

    Returns
    -------
    list of Tile
        In the order of their names.

    Raises
    ------
    InputError
        If a patch cannot be placed, is not at the position in its name, or occurs twice.
    """
    scenes: dict[str, dict[Place, dict[tuple[int, int], Images]]] = {}
    places = find_places(patches)
    for patch in patches:
        name = _parse(patch)
        tile = scenes.setdefault(name.scene, {}).setdefault(places[patch].moved(-name.x, -name.y), {})
        others = tile.get((name.x, name.y), ())
        for other in others:
            if other.kind is patch.kind:
                raise InputError(f"{other.name} and {name} are the same patch of the same tile; remove one.")
        tile[name.x, name.y] = (*others, patch)
    return [
        Tile(_tile_name(scene, place, tiles), place, patches)
        for scene, tiles in sorted(scenes.items())
        for place, patches in sorted(tiles.items())
    ]


def add_partners(
    tiles: Sequence[Tile], sentinel1: Sequence[PublishedPatch], pairs: Pairs, find_places: FindPlaces
) -> LeftOut:
    """Add Sentinel-1 patches to the patches of their partners, in place.

    Parameters
    ----------
    tiles : sequence of Tile
        Patches of Sentinel-2, reference maps, or both.
    sentinel1 : sequence of PublishedPatch
        Patches of Sentinel-1.
    pairs : Pairs
        Published pairs.
    find_places : callable
        Finds the positions of the Sentinel-1 patches that have candidates.

    Raises
    ------
    InputError
        If a patch is not at the position of its partner, cannot be placed, or has several partners.
    """
    cells = [(tile, xy, tile.patches[xy][0].name) for tile in tiles for xy in tile.patches]
    matches = match_names([name for _, _, name in cells], [patch.name for patch in sentinel1], pairs.table)
    places = find_places([sentinel1[number] for number in matches["s1"].unique()])
    partners: dict[int, PublishedPatch] = {}
    for number, s1, is_sure in matches.itertuples(index=False):
        (tile, xy, name), patch = cells[number], sentinel1[s1]
        place = tile.place.moved(*xy)
        if places[patch] == place and partners.setdefault(number, patch) != patch:
            two = f"{partners[number].name} and {patch.name}"
            raise InputError(f"The pairs name two Sentinel-1 patches for {name}, {two}; remove one.")
        if places[patch] != place and is_sure:
            raise InputError(
                f"{patch.name} does not lie where its partner {name} lies: its upper-left corner is {places[patch]}, "
                f"not {place}; the pairs are wrong, or the files are mixed up."
            )
    for number, patch in partners.items():
        tile, xy, _ = cells[number]
        tile.patches[xy] = (*tile.patches[xy], patch)
    named, paired = frozenset(pairs.table[S1_NAME]), {patch.name for patch in partners.values()}
    lonely = [patch.name for patch in sentinel1 if patch.name not in paired]
    return LeftOut(
        unnamed=tuple(name for name in lonely if name not in named),
        alone=tuple(name for name in lonely if name in named),
        unpaired=tuple(name for number, (_, _, name) in enumerate(cells) if number not in partners),
    )


def _parse(patch: PublishedPatch) -> PatchName:
    name = parse_patch_name(patch.name)
    rows, columns = (side // PATCH_SIDE_M for side in TILE_M)
    if name.x >= columns or name.y >= rows:
        raise InputError(f"{name} is not in a tile, which has {columns} x {rows} patches, counted from 0.")
    return name


def _tile_name(scene: str, place: Place, tiles: Mapping[Place, Mapping[tuple[int, int], Images]]) -> str:
    """Name of a tile: its scene, with its position if the scene does not contain the tile."""
    if not _WITH_TILE.fullmatch(scene):
        return "_".join(map(str, (scene, *place)))
    if len(tiles) > 1:
        first, second = (next(iter(patches.values()))[0].name for patches in list(tiles.values())[:2])
        raise InputError(f"{first} and {second} name the same tile, but do not lie in one; their files are mixed up.")
    return scene
