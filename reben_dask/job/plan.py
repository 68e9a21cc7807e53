"""What the job is going to do, worked out before anything is computed or written."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import shapely

from reben_dask.errors import InputError
from reben_dask.patches.candidates import Scene
from reben_dask.patches.grid import PatchGrid, ShapeYX
from reben_dask.patches.join import search_area
from reben_dask.patches.nomenclature import Nomenclature, load_nomenclature
from reben_dask.recipes import Recipe
from reben_dask.sources.countries import missing_countries
from reben_dask.sources.landcover import LandcoverMap, open_landcover
from reben_dask.sources.sentinel2 import BAND_RESOLUTION_M, SCENE_CLASSIFICATION, Tile, find_products, open_tile
from reben_dask.stores.cubes import CubeLayout
from reben_dask.stores.lmdb_values import value_size

CUBE_RATIO = 0.65
"""Size of compressed DN relative to raw ones: measured on real Sentinel-2 pixels with the codec of the cubes."""

TABLE_BYTES_PER_PATCH = 250
BASE_WORKER_BYTES = 450 * 2**20
"""What a worker process holds before its first task: the libraries and GDAL's block cache, measured."""

TASK_COPIES = 4
"""Copies of the largest array that fit a task at its peak. Measured on a full tile: 2.7, for a 10 m band (the array,
its masks, compressed shards); the rest is headroom below the limit at which Dask ends a worker."""

TASKS_PER_TILE = 14
"""Tasks of a tile besides one per band: cube, validity, sky, labels, country and the steps of the patch frame."""


@dataclass(frozen=True)
class Plan:
    """Inputs, resolved and checked, and what follows from them.

    Parameters
    ----------
    recipe : Recipe
        What to build.
    nomenclature : Nomenclature
        Classes of the recipe.
    tiles : tuple of Tile
        Products, in the order of their names.
    landcover : LandcoverMap
        The map.
    countries : str or None
        File of country polygons.
    lmdb_shards : int or None
        Number of LMDB environments; ``None`` for a single one.
    warnings : tuple of str
        What the user should know, but need not change.
    """

    recipe: Recipe
    nomenclature: Nomenclature
    tiles: tuple[Tile, ...]
    landcover: LandcoverMap
    countries: str | None
    lmdb_shards: int | None
    warnings: tuple[str, ...] = ()

    def grid(self, tile: Tile) -> PatchGrid:
        """Patch grid of a tile."""
        height, width = (pixels * 10 for pixels in tile.shape_yx[10])
        return PatchGrid(tile.epsg, tile.ulx, tile.uly, ShapeYX(height, width), self.recipe.patch_size_m)

    def scene(self, tile: Tile) -> Scene:
        """What the patches of a tile inherit from it."""
        failed = tile.failed_quality(self.recipe.quality_indicators)
        return Scene(tile.name, tile.sensing_time, self.grid(tile), ", ".join(failed) or None)

    def layout(self, tile: Tile) -> CubeLayout:
        """What the tile's group of the Zarr store holds."""
        bands: dict[int, tuple[str, ...]] = {}
        for band in sorted(self.recipe.bands):
            resolution = BAND_RESOLUTION_M[band]
            bands[resolution] = (*bands.get(resolution, ()), band)
        attributes = {
            "mgrs": tile.mgrs,
            "sensing_time": tile.sensing_time.isoformat(),
            "processing_baseline": tile.baseline,
            "boa_add_offset": tile.offsets,
            "quality_indicators": tile.quality,
            "harmonized": self.recipe.harmonize,
        }
        return CubeLayout(tile.name, self.grid(tile), dict(sorted(bands.items())), attributes)

    @property
    def usable(self) -> tuple[Tile, ...]:
        """Tiles that passed their quality indicators; only their pixels are read."""
        return tuple(tile for tile in self.tiles if self.is_usable(tile))

    def is_usable(self, tile: Tile) -> bool:
        """Whether a tile passed the quality indicators that the recipe looks at."""
        return not tile.failed_quality(self.recipe.quality_indicators)

    @property
    def area(self) -> shapely.Geometry:
        """Area of the usable tiles in the system of the map, with a margin; no polygon outside it is needed."""
        areas = [search_area(self.grid(tile), self.landcover.crs) for tile in self.usable]
        return shapely.union_all([area for area in areas if area.is_valid])

    @property
    def candidates(self) -> int:
        """Patches of all tiles."""
        return sum(self.grid(tile).size for tile in self.tiles)

    @property
    def tasks(self) -> int:
        """Tasks of the whole job, give or take a few; they grow with tiles and bands, never with patches."""
        return len(self.usable) * (len(self.recipe.bands) + TASKS_PER_TILE) + 2 + (self.lmdb_shards or 1)

    @property
    def cube_bytes(self) -> int:
        """Expected size of the Zarr store."""
        return int(CUBE_RATIO * sum(self.grid(tile).size for tile in self.usable) * self._pixels * 2)

    @property
    def lmdb_bytes(self) -> int:
        """Size of the LMDB if every patch is kept."""
        size = value_size(self._pixels, len(self.recipe.bands)) + value_size(self._map_pixels, 1)
        return sum(self.grid(tile).size for tile in self.usable) * size

    @property
    def table_bytes(self) -> int:
        """Expected size of the patch table and the metadata files."""
        return self.candidates * TABLE_BYTES_PER_PATCH

    @property
    def task_bytes(self) -> int:
        """Memory of the largest task: one 10 m band of the largest tile and its compressed copy, or its map."""
        pixels = max((tile.shape_yx[10][0] * tile.shape_yx[10][1] for tile in self.usable), default=0)
        return TASK_COPIES * pixels * 2

    def worker_bytes(self, threads: int) -> int:
        """Memory that a worker needs, with a task on each of its threads."""
        return BASE_WORKER_BYTES + threads * self.task_bytes

    @property
    def _pixels(self) -> int:
        """Pixels of one patch in all bands of the recipe."""
        sides = (self.recipe.patch_size_m // BAND_RESOLUTION_M[band] for band in self.recipe.bands)
        return sum(side * side for side in sides)

    @property
    def _map_pixels(self) -> int:
        return (self.recipe.patch_size_m // 10) ** 2


def make_plan(
    *,
    s2: Sequence[str],
    landcover: str,
    recipe: Recipe,
    countries: str | None = None,
    code_column: str | None = None,
    lmdb_shards: int | None = None,
) -> Plan:
    """Look at all inputs, reading metadata only.

    Parameters
    ----------
    s2 : sequence of str
        Products, or folders of products.
    landcover : str
        Vector map with class codes.
    recipe : Recipe
        What to build.
    countries : str, optional
        Vector file of country polygons.
    code_column : str, optional
        Column of the map with the class codes.
    lmdb_shards : int, optional
        Number of LMDB environments.

    Raises
    ------
    RebenError
        If an input is missing or cannot be used.
    """
    tiles = tuple(sorted((open_tile(path) for path in find_products(s2)), key=lambda tile: tile.name))
    _require_distinct(tiles)
    plan = Plan(
        recipe=recipe,
        nomenclature=load_nomenclature(recipe.nomenclature),
        tiles=tiles,
        landcover=open_landcover(_absolute(landcover), code_column=code_column),
        countries=_absolute(countries) if countries else None,
        lmdb_shards=lmdb_shards,
    )
    for tile in plan.tiles:
        if not plan.grid(tile).size:
            raise InputError(f"The tile {tile.name} is smaller than one patch of {recipe.patch_size_m} m.")
    for tile in plan.usable:
        tile.require(recipe.bands)
    return replace(plan, warnings=tuple(_warnings(plan)))


def _absolute(path: str) -> str:
    """Path that a worker with another working directory understands; links stay as they are."""
    return os.path.abspath(path)  # noqa: PTH100


def _require_distinct(tiles: Sequence[Tile]) -> None:
    twice = [name for name, count in Counter(tile.name for tile in tiles).items() if count > 1]
    if twice:
        paths = ", ".join(str(tile.path) for tile in tiles if tile.name == twice[0])
        raise InputError(f"The tile {twice[0]} is given more than once, which would name patches twice: {paths}.")


def _warnings(plan: Plan) -> list[str]:
    found = [
        f"{tile.name} is left out: {', '.join(failed)} quality did not pass."
        for tile in plan.tiles
        if (failed := tile.failed_quality(plan.recipe.quality_indicators))
    ]
    found += [
        f"{tile.name} has no scene classification (SCL); its snow and cloud fractions stay empty."
        for tile in plan.usable
        if SCENE_CLASSIFICATION not in tile.images
    ]
    reach = shapely.box(*plan.landcover.bounds) if plan.landcover.bounds else None
    found += [
        f"{tile.name} lies outside the land-cover map; its patches will have no labels."
        for tile in plan.usable
        if reach is not None and not reach.intersects(search_area(plan.grid(tile), plan.landcover.crs))
    ]
    if plan.countries and (missing := missing_countries(plan.countries, plan.recipe.countries)):
        found.append(f"{Path(plan.countries).name} has no {', '.join(missing)}; no patch can be given to them.")
    return found
