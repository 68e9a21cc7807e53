"""What the job is going to do, worked out before anything is computed or written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from reben_dask.formats.bands import BAND_RESOLUTION_M, POLARISATIONS, ImageKind, by_resolution
from reben_dask.formats.cube import CubeLayout, group_of
from reben_dask.formats.lmdb import value_bytes
from reben_dask.formats.names import TileName, tile_names
from reben_dask.formats.trees import LAYOUTS, Contents, TreeLayout
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.job.published import Published
from reben_dask.job.sentinel1 import Partners
from reben_dask.nomenclature import Nomenclature
from reben_dask.patches.candidates import Scene
from reben_dask.recipes import Recipe
from reben_dask.sources.landcover import LandcoverMap, SortedMap
from reben_dask.sources.sentinel2 import Tile
from reben_dask.stores.trees import ARCHIVE_SUFFIX

CUBE_RATIO = 0.67
"""Size of compressed DN relative to raw ones: measured on real Sentinel-2 pixels with the codec of the cubes."""

TIFF_BYTES_PER_PATCH = 20_000
"""Headers, the map, documents and folders of a patch: 8,000 measured where the map is compressed, 18,000 where not."""

ARCHIVE_RATIO = 0.8
"""Size of the archives relative to loose files, measured."""

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
    landcover : LandcoverMap or SortedMap
        The map, as published or sorted already.
    countries : str or None
        File of country polygons.
    layers : mapping of str to str
        Files of polygons by attribute.
    lmdb_shards : int or None
        Number of LMDB environments; ``None`` for a single one.
    published : Published
        What was published about the patches.
    partners : Partners or None
        Where Sentinel-1 patches come from.
    exports : tuple of str
        Further formats: ``geotiff``, ``geotiff-archives``.
    warnings : tuple of str
        What the user should know, but need not change.
    """

    recipe: Recipe
    nomenclature: Nomenclature
    tiles: tuple[Tile, ...]
    landcover: LandcoverMap | SortedMap
    countries: str | None
    layers: Mapping[str, str]
    lmdb_shards: int | None
    published: Published = field(default_factory=Published)
    partners: Partners | None = None
    exports: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def grids(self, tile: Tile) -> tuple[PatchGrid, ...]:
        """Patch grids of a tile."""
        height, width = (pixels * 10 for pixels in tile.shape_yx[10])
        place = (tile.epsg, tile.ulx, tile.uly, ShapeYX(height, width), self.recipe.patch_size_m)
        return tuple(PatchGrid(*place, offset) for offset in self.recipe.grid_offsets_m)

    def size(self, tile: Tile) -> int:
        """Patches of a tile."""
        return sum(grid.size for grid in self.grids(tile))

    @cached_property
    def tile_names(self) -> dict[str, TileName]:
        """What each tile gives to the names of its patches."""
        return tile_names([tile.name for tile in self.tiles])

    def scene(self, tile: Tile) -> Scene:
        """What the patches of a tile inherit from it."""
        failed = tile.failed_quality(self.recipe.quality_indicators)
        return Scene(self.tile_names[tile.name], tile.sensing_time, self.grids(tile), ", ".join(failed) or None)

    def layouts(self, tile: Tile) -> tuple[CubeLayout, ...]:
        """What the tile's group of the Zarr store holds, and those of its further grids."""
        attributes: dict[str, Any] = {
            "product": tile.product,
            "mgrs": tile.mgrs,
            "sensing_time": tile.sensing_time.isoformat(),
            "processing_baseline": tile.baseline,
            "boa_add_offset": tile.offsets,
            "quality_indicators": tile.quality,
            "harmonized": self.recipe.harmonize,
        }
        if self.partners and (scenes := self.partners_near[tile.name].scene_names):
            attributes["sentinel1_scenes"] = scenes
        polarisations = POLARISATIONS if self.partners else ()
        shared = (by_resolution(self.recipe.bands), attributes, polarisations)
        return tuple(
            CubeLayout(group_of(tile.name, number), grid, *shared)
            for number, grid in enumerate(self.grids(tile), start=1)
        )

    @property
    def looks_again(self) -> bool:
        """Whether something is decided about the patches that no tile can decide alone."""
        return self.recipe.images is not None or self.recipe.split_of_all_tiles is not None

    @cached_property
    def layout(self) -> TreeLayout:
        """Folders and files of an export to GeoTIFF.

        Raises
        ------
        RecipeError
            If the recipe's dataset cannot be laid out so.
        """
        recipe = self.recipe
        contents = Contents(
            nomenclature=self.nomenclature,
            bands=recipe.bands,
            seasons=recipe.all_seasons,
            labels=("labels", *recipe.extra_labels),
            attributes={name: attribute.column for name, attribute in recipe.attributes.items()},
            has_sentinel1=self.partners is not None,
        )
        return LAYOUTS[recipe.tree](contents)

    @property
    def export_names(self) -> tuple[str, ...]:
        """Names of the exported files and folders in the dataset's folder."""
        suffixes = {"geotiff": "", "geotiff-archives": ARCHIVE_SUFFIX}
        trees = [f"{tree.name}{suffixes[form]}" for form in self.exports for tree in self.layout.trees]
        return (*trees, *self.layout.tables) if self.exports else ()

    @cached_property
    def partners_near(self) -> dict[str, Partners]:
        """Where the partners of each usable tile come from, by its name; empty without Sentinel-1."""
        if self.partners is None:
            return {}
        return {tile.name: self.partners.near(tile, self.grids(tile)[0]) for tile in self.usable}

    @property
    def pairs_only(self) -> bool:
        """Whether a patch without a Sentinel-1 partner is rejected; not asked where there is no Sentinel-1 at all."""
        return self.partners is not None and self.recipe.sentinel1.required

    @cached_property
    def usable(self) -> tuple[Tile, ...]:
        """Tiles that passed their quality indicators; only their pixels are read."""
        return tuple(tile for tile in self.tiles if self.is_usable(tile))

    def is_usable(self, tile: Tile) -> bool:
        """Whether a tile passed the quality indicators that the recipe looks at."""
        return not tile.failed_quality(self.recipe.quality_indicators)

    @cached_property
    def candidates(self) -> int:
        """Patches of all tiles."""
        return sum(self.size(tile) for tile in self.tiles)

    @property
    def tasks(self) -> int:
        """Tasks of the whole job, give or take a few; they grow with tiles and bands, never with patches."""
        each = len(self.recipe.bands) + TASKS_PER_TILE + len(self.exports) + bool(self.partners) + bool(self.published)
        return len(self.usable) * each + 2 + (self.lmdb_shards or 1)

    @property
    def cube_bytes(self) -> int:
        """Expected size of the Zarr store; backscatter hardly compresses."""
        patches = sum(self.size(tile) for tile in self.usable)
        return int(patches * (CUBE_RATIO * self._pixels * 2 + self._radar_bytes))

    @property
    def lmdb_bytes(self) -> int:
        """Size of the LMDB if every patch is kept."""
        patch = self.recipe.patch_size_m
        kinds = [kind for kind in ImageKind if kind is not ImageKind.S1 or self.partners]
        size = sum(value_bytes(kind, self.recipe.bands, patch) for kind in kinds)
        return sum(self.size(tile) for tile in self.usable) * size

    @property
    def export_bytes(self) -> int:
        """Size of the exported files if every patch is kept; an archive is on disk twice while it is joined."""
        loose = 2 * self._pixels + TIFF_BYTES_PER_PATCH + self._radar_bytes
        archived = int(2 * ARCHIVE_RATIO * loose)
        sizes = {"geotiff": loose, "geotiff-archives": archived}
        return sum(self.size(tile) for tile in self.usable) * sum(sizes[name] for name in self.exports)

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
    def _radar_bytes(self) -> int:
        """Bytes of one Sentinel-1 patch."""
        return 4 * self._map_pixels * len(POLARISATIONS) if self.partners else 0

    @property
    def _map_pixels(self) -> int:
        return (self.recipe.patch_size_m // 10) ** 2
