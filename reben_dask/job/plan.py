"""Plan of a job: checked inputs, and expected sizes, before anything is computed or written."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import geopandas as gpd
import shapely

from reben_dask import __version__
from reben_dask.environment import require_libraries
from reben_dask.errors import InputError, RecipeError
from reben_dask.formats.bands import BANDS, POLARISATIONS, SCENE_CLASSIFICATION, ImageKind, by_resolution
from reben_dask.formats.columns import EXTRA_LABELS, EXTRA_SPLITS, INTERMEDIATE, PATCH_ID, PATCH_TABLE_SCHEMA
from reben_dask.formats.cube import CubeLayout, group_of
from reben_dask.formats.lmdb import value_bytes
from reben_dask.formats.names import V2, TileName, tile_names
from reben_dask.formats.sample_shards import PARQUET, SHARD_FORMS, WEBDATASET, SampleContents, ShardForm
from reben_dask.formats.trees import TreeLayout
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.job.published import Published, require_published
from reben_dask.job.sentinel1 import Partners, Sentinel1Inputs, open_partners
from reben_dask.nomenclature import Nomenclature, load_nomenclature
from reben_dask.patches.candidates import Scene, season_of
from reben_dask.patches.join import search_areas
from reben_dask.recipes import Recipe
from reben_dask.sources.landcover import (
    LandcoverMap,
    SortedMap,
    cache_name,
    content_digest,
    count_codes,
    is_sorted_landcover,
    open_any_landcover,
    require_known_codes,
)
from reben_dask.sources.published.metadata import read_metadata
from reben_dask.sources.remote import without_secrets
from reben_dask.sources.sentinel2 import (
    DamagedProduct,
    Form,
    Search,
    Tile,
    acquisition_of,
    choose_products,
    read_tiles,
    search_products,
    stem_of,
    tile_identity,
)
from reben_dask.sources.vector_files import absolute_path, without_locks
from reben_dask.sources.vector_layers import (
    CountryLayer,
    open_countries,
    polygons_digest,
    read_attribute,
    read_countries,
    require_attribute,
)
from reben_dask.stores.trees import ARCHIVE_SUFFIX
from reben_dask.wording import counted
from reben_dask.workspace import TILES, Origin, digest_of, file_identity

LANDCOVER = "land-cover map"
"""Aspect of an origin: identity of the map."""

NO_SENTINEL1, NOTHING_PUBLISHED = Sentinel1Inputs(), Published()

CUBE_RATIO = 0.67
"""Size of compressed DN relative to raw ones: measured on real Sentinel-2 pixels with the codec of the cubes."""

TIFF_BYTES_PER_PATCH = 20_000
"""Headers, map, documents and folders of a patch: measured 8,000 with a compressed map, 18,000 without."""

TREE_SUFFIXES = {"geotiff": "", "geotiff-archives": ARCHIVE_SUFFIX}
"""Ends of the names of trees, by export."""

ARCHIVE_RATIO = 0.8
"""Size of the archives relative to loose files, measured."""

SAMPLE_BYTES = 1_000
"""Header and padding of an image in a shard of samples."""

SAMPLE_TABLE_RATIO = 0.8
"""Size of samples in Parquet relative to those in tar files, measured on published patches."""

TABLE_BYTES_PER_PATCH = 250
BASE_WORKER_BYTES = 450 * 2**20
"""Memory of a worker process before its first task, measured: the libraries and GDAL's block cache."""

TASK_COPIES = 4
"""Copies of a task's largest array: 2.7 measured at its peak (10 m band, full tile), and headroom to Dask's limit."""

TASKS_PER_TILE = 4
"""Tasks of a tile besides one per band: scene classification, reference map, part of the patch table, LMDB."""


@dataclass(frozen=True)
class Plan:
    """Checked inputs of a job, and values derived from them."""

    recipe: Recipe
    nomenclature: Nomenclature
    tiles: tuple[Tile, ...]
    """Products, sorted by name; each acquisition once."""
    landcover: LandcoverMap | SortedMap
    """The map, as published or sorted."""
    countries: CountryLayer | None
    layers: Mapping[str, str]
    """Polygon files by attribute."""
    lmdb_shards: int | None
    """Number of LMDB environments; ``None`` for a single one."""
    published: Published = NOTHING_PUBLISHED
    partners: Partners | None = None
    exports: tuple[str, ...] = ()
    damaged: tuple[DamagedProduct, ...] = ()
    """Products that cannot be built, as tiles that failed."""
    warnings: tuple[str, ...] = ()
    title: str = ""
    """Title of the dataset, for its documents."""

    def grids(self, tile: Tile) -> tuple[PatchGrid, ...]:
        """Return the patch grids of a tile."""
        return grids_of(tile, self.recipe)

    def size(self, tile: Tile) -> int:
        """Return the number of patches of a tile."""
        return sum(grid.size for grid in self.grids(tile))

    @cached_property
    def tile_names(self) -> dict[str, TileName]:
        """Parts of patch names by tile."""
        return tile_names([tile.name for tile in self.tiles])

    def scene(self, tile: Tile) -> Scene:
        """Return the facts that the patches of a tile inherit."""
        return scene_of(tile, self.tile_names[tile.name], self.recipe)

    def earlier_strips(self, tile: Tile) -> tuple[Tile, ...]:
        """Return the usable tiles of earlier data strips of the same acquisition."""
        others = self._strips[acquisition_of(tile)]
        return tuple(other for other in others if other.strip < tile.strip and self.is_usable(other))

    @cached_property
    def _strips(self) -> dict[str, list[Tile]]:
        strips: dict[str, list[Tile]] = defaultdict(list)
        for tile in self.tiles:
            strips[acquisition_of(tile)].append(tile)
        return strips

    def layouts(self, tile: Tile) -> tuple[CubeLayout, ...]:
        """Return the layouts of a tile's groups in the Zarr store, one per grid."""
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
    def needs_global_steps(self) -> bool:
        """True if the recipe has steps that need all tiles; see :mod:`~reben_dask.job.global_steps`."""
        recipe = self.recipe
        return recipe.images is not None or recipe.split_of_all_tiles is not None or recipe.overlaps != "keep"

    @cached_property
    def layout(self) -> TreeLayout:
        """Layout of an export to GeoTIFF; :class:`RecipeError` if the recipe's dataset does not fit it."""
        return self.recipe.tree_layout(self.nomenclature, has_sentinel1=self.partners is not None)

    @property
    def tree_exports(self) -> tuple[str, ...]:
        """Exports to trees of GeoTIFFs."""
        return tuple(name for name in self.exports if name in TREE_SUFFIXES)

    @property
    def shard_forms(self) -> tuple[ShardForm, ...]:
        """Exports to shards of samples."""
        return tuple(SHARD_FORMS[name] for name in self.exports if name in SHARD_FORMS)

    @cached_property
    def sample_contents(self) -> SampleContents:
        """Contents of exported samples; :class:`RecipeError` if columns of the recipe do not fit them."""
        return self.recipe.sample_contents(self.nomenclature, has_sentinel1=self.partners is not None)

    @property
    def export_names(self) -> tuple[str, ...]:
        """Names of the exported files and folders in the output folder."""
        trees = [f"{tree.name}{TREE_SUFFIXES[form]}" for form in self.tree_exports for tree in self.layout.trees]
        tables = self.layout.tables if trees else ()
        return (*trees, *tables, *(form.name for form in self.shard_forms))

    @cached_property
    def partners_near(self) -> dict[str, Partners]:
        """Sentinel-1 sources of each usable tile by name; empty without Sentinel-1."""
        if self.partners is None:
            return {}
        return {tile.name: self.partners.near(tile, self.grids(tile)[0]) for tile in self.usable}

    @property
    def pairs_only(self) -> bool:
        """True if patches without a Sentinel-1 partner are rejected."""
        return self.partners is not None and self.recipe.sentinel1.required

    @cached_property
    def usable(self) -> tuple[Tile, ...]:
        """Tiles that passed their quality indicators; only their pixels are read."""
        return tuple(tile for tile in self.tiles if self.is_usable(tile))

    def is_usable(self, tile: Tile) -> bool:
        """Check whether a tile passed the quality indicators of the recipe."""
        return not tile.failed_quality(self.recipe.quality_indicators)

    @cached_property
    def country_polygons(self) -> gpd.GeoDataFrame:
        """Polygons of the countries used; empty without a file."""
        return read_countries(self.countries) if self.countries else gpd.GeoDataFrame({"country": [], "geometry": []})

    @cached_property
    def candidates(self) -> int:
        """Number of patches of all tiles."""
        return sum(self.size(tile) for tile in self.tiles)

    @property
    def tasks(self) -> int:
        """Approximate number of tasks, which is independent of the number of patches."""
        each = len(self.recipe.bands) + TASKS_PER_TILE + len(self.exports) + bool(self.partners)
        return len(self.usable) * each + 2 + (self.lmdb_shards or 1)

    @property
    def cube_bytes(self) -> int:
        """Expected size of the Zarr store; backscatter hardly compresses."""
        patches = sum(self.size(tile) for tile in self.usable)
        return int(patches * (CUBE_RATIO * self._band_bytes + self._radar_bytes))

    @property
    def lmdb_bytes(self) -> int:
        """Size of the LMDB if every patch is kept."""
        patch = self.recipe.patch_size_m
        kinds = [kind for kind in ImageKind if kind is not ImageKind.S1 or self.partners]
        size = sum(value_bytes(kind, self.recipe.bands, patch) for kind in kinds)
        return sum(self.size(tile) for tile in self.usable) * size

    @property
    def export_bytes(self) -> int:
        """Size of the export if every patch is kept; an archive is on disk twice while it is joined."""
        loose = self._band_bytes + TIFF_BYTES_PER_PATCH + self._radar_bytes
        images = self.sample_contents.images.values() if self.shard_forms else ()
        sample = sum(band.nbytes(self.recipe.patch_size_m) + SAMPLE_BYTES for band in images)
        sizes = {
            "geotiff": loose,
            "geotiff-archives": int(2 * ARCHIVE_RATIO * loose),
            WEBDATASET.name: sample,
            PARQUET.name: int(SAMPLE_TABLE_RATIO * sample),
        }
        return sum(self.size(tile) for tile in self.usable) * sum(sizes[name] for name in self.exports)

    @property
    def table_bytes(self) -> int:
        """Expected size of the patch table and the metadata files."""
        return self.candidates * TABLE_BYTES_PER_PATCH

    @property
    def task_bytes(self) -> int:
        """Memory of the largest task: a 10 m band of the largest tile and its compressed copy, or its map."""
        pixels = max((tile.shape_yx[10][0] * tile.shape_yx[10][1] for tile in self.usable), default=0)
        return TASK_COPIES * pixels * 2

    def worker_bytes(self, threads: int) -> int:
        """Return the memory that a worker needs, with a task on each of its threads."""
        return BASE_WORKER_BYTES + threads * self.task_bytes

    @property
    def _band_bytes(self) -> int:
        return sum(BANDS[band].nbytes(self.recipe.patch_size_m) for band in self.recipe.bands)

    @property
    def _radar_bytes(self) -> int:
        return 4 * self._map_pixels * len(POLARISATIONS) if self.partners else 0

    @property
    def _map_pixels(self) -> int:
        return (self.recipe.patch_size_m // 10) ** 2


def grids_of(tile: Tile, recipe: Recipe) -> tuple[PatchGrid, ...]:
    """Return the patch grids of a tile."""
    height, width = (pixels * 10 for pixels in tile.shape_yx[10])
    place = (tile.epsg, tile.ulx, tile.uly, ShapeYX(height, width), recipe.patch_size_m)
    return tuple(PatchGrid(*place, offset) for offset in recipe.grid_offsets_m)


def scene_of(tile: Tile, name: TileName, recipe: Recipe) -> Scene:
    """Return the facts that the patches of a tile inherit."""
    failed = tile.failed_quality(recipe.quality_indicators)
    offset = tile.boa_offset(recipe.bands)
    carried = 0 if recipe.harmonize and offset is not None else offset
    reason, source = ", ".join(failed) or None, tile.offset_source
    return Scene(name, tile.sensing_time, grids_of(tile, recipe), reason, carried, source)


def make_plan(  # noqa: PLR0913 - these are the inputs of a job
    *,
    s2: Sequence[str] = (),
    s2_stac: Sequence[str] = (),
    landcover: str,
    recipe: Recipe,
    countries: str | None = None,
    layers: Mapping[str, str] = MappingProxyType({}),
    code_column: str | None = None,
    lmdb_shards: int | None = None,
    sentinel1: Sentinel1Inputs = NO_SENTINEL1,
    published: Published = NOTHING_PUBLISHED,
    exports: Sequence[str] = (),
    keep_reprocessed: bool = False,
    failed: Sequence[DamagedProduct] = (),
    notes: Iterable[str] = (),
) -> Plan:
    """Check all inputs, reading metadata only.

    Parameters
    ----------
    s2, s2_stac : sequence of str
        Products, or folders of products; and STAC items, collections or folders of them, or URLs.
    landcover : str
        Vector map with class codes in ``code_column`` (detected if ``None``), or a sorted copy of it;
        ``FILE:LAYER`` names a layer.
    countries, layers : str, mapping of str to str
        Polygon files of countries, and of the recipe's attributes.
    exports : sequence of str
        Further formats: ``geotiff``, ``geotiff-archives``, ``webdataset``, ``parquet``.
    keep_reprocessed : bool
        Keep all baselines of an acquisition.
    failed : sequence of DamagedProduct
        Further products that cannot be built, as tiles that failed.
    notes : iterable of str
        Further warnings of the plan.

    Raises
    ------
    RebenError
        If an input is missing or cannot be used.
    """
    require_libraries(jpeg2000=False)
    search = search_products(s2, items=s2_stac, level=recipe.level)
    products = _read_products(search, recipe, published, failed, keep_reprocessed=keep_reprocessed)
    require_libraries(jpeg2000=needs_jpeg2000(products.tiles))
    plan = Plan(
        recipe=recipe,
        nomenclature=load_nomenclature(recipe.nomenclature),
        tiles=products.tiles,
        damaged=products.damaged,
        landcover=open_any_landcover(absolute_path(landcover), code_column=code_column),
        countries=_open_countries(countries, recipe, published) if countries else None,
        layers={name: absolute_path(path) for name, path in layers.items()},
        lmdb_shards=lmdb_shards,
        published=require_published(published),
        exports=tuple(dict.fromkeys(exports)),
        partners=open_partners(sentinel1, published, recipe.sentinel1.max_days, recipe.sentinel1.scale),
    )
    _require_layers(plan)
    _require_own_columns(recipe)
    _require_distinct_names(plan)
    if published.metadata:
        _require_published_patches(recipe)
    for tile in plan.tiles:
        for grid in plan.grids(tile):
            if not grid.size:
                shift = f", {grid.offset_m} m from its corner" * bool(grid.offset_m)
                raise InputError(f"The tile {tile.name} is smaller than one patch of {recipe.patch_size_m} m{shift}.")
    _require_sample_names(plan)
    exported = _export_warnings(plan) if plan.tree_exports else []
    return replace(plan, warnings=(*notes, *products.notes, *_warnings(plan), *exported))


def needs_jpeg2000(tiles: Iterable[Tile]) -> bool:
    """Test if images of products are in JPEG 2000, and not GeoTIFFs."""
    return any(image.location.endswith(".jp2") for tile in tiles for image in tile.images.values())


class _Products(NamedTuple):
    tiles: tuple[Tile, ...]
    damaged: tuple[DamagedProduct, ...]
    notes: tuple[str, ...]


def _read_products(
    search: Search,
    recipe: Recipe,
    published: Published,
    failed_before: Sequence[DamagedProduct],
    *,
    keep_reprocessed: bool,
) -> _Products:
    """Read and choose the products; damaged ones become failed tiles."""

    def is_published(tile: str) -> bool:
        return bool(published.metadata) and not read_metadata(published.metadata, [PATCH_ID], tile).empty

    tiles, damaged = read_tiles(search.products)
    damaged += failed_before
    for tile in list(tiles):
        try:
            _require_usable(tile, recipe)
        except InputError as error:
            tiles.remove(tile)
            damaged.append(DamagedProduct(tile.name, tile.location, error))
    if not tiles:
        raise _no_product_error(damaged)
    choice = choose_products(tiles, is_published=is_published, keep_reprocessed=keep_reprocessed)
    notes = [*filter(None, [search.note]), *choice.notes]
    read, names, failed = {tile.product for tile in tiles}, {tile.name for tile in choice.tiles}, []
    for product in damaged:
        if stem_of(product.location) in read:
            notes.append(f"A damaged copy of a product is ignored: {product.error}")
            continue
        notes.append(f"{product.name} cannot be built: {product.error}")
        failed.append(product._replace(name=without_secrets(product.location)) if product.name in names else product)
        names.add(failed[-1].name)
    return _Products(choice.tiles, tuple(failed), tuple(notes))


def _require_usable(tile: Tile, recipe: Recipe) -> None:
    if tile.level != recipe.level:
        where, reads = without_secrets(tile.location), recipe.level
        raise InputError(
            f"The product {where} is of level {tile.level}, and the recipe {recipe.name} reads {reads}; leave it "
            "out, or change level in the recipe."
        )
    tile.require(() if tile.failed_quality(recipe.quality_indicators) else recipe.bands)


def _no_product_error(damaged: Sequence[DamagedProduct]) -> InputError:
    if not damaged:
        return InputError("No Sentinel-2 product is given (--s2, --s2-stac).")
    if len(damaged) == 1:
        return damaged[0].error
    errors = " ".join(str(product.error) for product in damaged)
    return InputError(f"None of the {len(damaged):,} products can be read. {errors}")


def _open_countries(path: str, recipe: Recipe, published: Published) -> CountryLayer:
    return open_countries(absolute_path(path), recipe.countries, only_listed=bool(published.metadata))


def _require_layers(plan: Plan) -> None:
    known = plan.recipe.attributes
    for name, path in plan.layers.items():
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise InputError(f"The recipe {plan.recipe.name} has no attribute {name!r} for the layer {path}; {has}.")
        require_attribute(path, known[name].column)


def _require_distinct_names(plan: Plan) -> None:
    """Refuse an acquisition that was processed twice if the template of patch names does not distinguish its tiles."""
    template = plan.recipe.patch_name
    fields = [field for field in ("product", "mgrs", "time") if f"{{{field}}}" in template]
    if "{tile}" in template:
        return
    tiles: dict[tuple[str, ...], str] = {}
    for tile, name in plan.tile_names.items():
        other = tiles.setdefault(tuple(getattr(name, field) for field in fields), tile)
        if other != tile:
            raise InputError(
                f"The tiles {other} and {tile} have the same location and time, so patch names would not be unique; "
                f"leave one of them out, or start the recipe's patch_name ({template!r}) with {{tile}}."
            )


def _require_published_patches(recipe: Recipe) -> None:
    if recipe.level != "L2A":
        raise InputError(
            f"The recipe {recipe.name} reads {recipe.level} products, and published metadata name L2A patches; leave "
            "--published out, or change level."
        )
    if recipe.patch_name != V2.template:
        raise InputError(
            f"The recipe {recipe.name} names patches {recipe.patch_name!r}, and published metadata {V2.template!r}; "
            "leave --published out, or change patch_name."
        )
    if offset := recipe.grid_offsets_m[0]:
        raise InputError(
            f"The recipe {recipe.name} shifts its grid by {offset} m, and that of published metadata is not shifted; "
            "leave --published out, or change grid_offsets_m."
        )


def _require_own_columns(recipe: Recipe) -> None:
    taken = {*PATCH_TABLE_SCHEMA.names, *INTERMEDIATE}
    for name in recipe.attributes:
        if name in taken or name.startswith((EXTRA_LABELS, EXTRA_SPLITS)):
            raise RecipeError(
                f"The recipe {recipe.name} has an attribute {name!r}, which is a column of the patch table already; "
                "choose another name."
            )


def _require_sample_names(plan: Plan) -> None:
    if WEBDATASET in plan.shard_forms and "." in plan.recipe.patch_name:
        raise RecipeError(
            f"The recipe {plan.recipe.name} names patches {plan.recipe.patch_name!r}, and the name of a sample of "
            "WebDataset ends at its first dot; change patch_name, or export parquet."
        )


def _warnings(plan: Plan) -> list[str]:
    found = [
        f"{tile.name} is rejected: {', '.join(failed)} quality did not pass."
        for tile in plan.tiles
        if (failed := tile.failed_quality(plan.recipe.quality_indicators))
    ]
    found += [note for tile in plan.tiles for note in tile.notes]
    found += [*_quality_notes(plan), *_sky_notes(plan)]
    found += [
        f"{tile.name} lies outside the land-cover map; its patches will have no labels." for tile in _beyond_map(plan)
    ]
    found += [
        f"Patches of {name.name} are named {name.product}…: another tile has its product's name and time."
        for name in plan.tile_names.values()
        if "{product}" in plan.recipe.patch_name and f"_T{name.mgrs}" in name.product
    ]
    found += [
        f"The attribute {name} stays empty: no layer is given (--join {name}=FILE)."
        for name in plan.recipe.attributes
        if name not in plan.layers
    ]
    if isinstance(plan.landcover, LandcoverMap) and (others := plan.landcover.others):
        file, layer = Path(plan.landcover.path).name, plan.landcover.layer
        found.append(
            f"{file} holds {counted(1 + len(others), 'map')}; the layer {layer} is read, not {', '.join(others)} "
            "(--landcover FILE:LAYER chooses)."
        )
    found += [
        f"The disk of {path} supports no locks. The file is read without locks; do not change it while the job runs."
        for path in _vector_paths(plan)
        if without_locks(path)
    ]
    return found + _offset_warnings(plan) + _country_warnings(plan)


def _vector_paths(plan: Plan) -> list[str]:
    maps = [plan.landcover.file.location] if isinstance(plan.landcover, LandcoverMap) else []
    return [*maps, *([plan.countries.file.location] if plan.countries else []), *plan.layers.values()]


def _quality_notes(plan: Plan) -> list[str]:
    """Note the indicators of the recipe that are unknown, as most forms of products lack them."""
    indicators = plan.recipe.quality_indicators
    unknown = [tile for tile in plan.usable if tile.form > Form.ZIP and tile.quality.keys().isdisjoint(indicators)]
    if not unknown or not indicators:
        return []
    which = f"{_named(unknown)} {'has' if len(unknown) == 1 else 'have'} no quality indicators"
    return [f"{which} ({', '.join(indicators)}) in this form of the product; they count as passed."]


def _sky_notes(plan: Plan) -> list[str]:
    recipe = plan.recipe
    if recipe.level == "L1C":
        stays = "no patch is flagged, and the fractions of snow, cloud and shadow stay empty"
        return [f"The recipe {recipe.name} reads L1C products, which have no scene classification (SCL): {stays}."]
    unknown = "its patches are rejected" if recipe.images else "its snow and cloud fractions stay empty"
    lacking = [tile for tile in plan.usable if SCENE_CLASSIFICATION not in tile.images]
    return [f"{tile.name} has no scene classification (SCL); {unknown}." for tile in lacking]


def _offset_warnings(plan: Plan) -> list[str]:
    """Note that digital numbers of tiles are on different scales."""
    offsets = [(tile.boa_offset(plan.recipe.bands) or 0, tile.baseline) for tile in plan.usable]
    counts = Counter(offset for offset, _ in offsets)
    if plan.recipe.harmonize or len(counts) < 2:
        return []
    kinds = [
        f"{counted(count, 'tile')} with {f'{offset} DN' if offset else 'none'} "
        f"(baseline {', '.join(sorted({baseline for other, baseline in offsets if other == offset}))})"
        for offset, count in sorted(counts.items())
    ]
    note = (
        f"The tiles differ in BOA_ADD_OFFSET: {', '.join(kinds)}. As the recipe does not harmonize, equal digital "
        "numbers stand for different reflectances: set harmonize: true, or add the column boa_add_offset of the patch "
        "table to the numbers."
    )
    return [note]


def _country_warnings(plan: Plan) -> list[str]:
    if not plan.countries:
        return []
    file, names, found = Path(plan.countries.path).name, plan.countries.names, []
    if absent := sorted(set(names or ()) - set(plan.countries.found)):
        found.append(f"{file} has no {', '.join(absent)}; no patch can be assigned to them.")
    if abroad := _abroad(plan, plan.country_polygons):
        limit, of_list = plan.recipe.country_max_distance_m, " of the recipe" * (names is not None)
        far = f"those farther than {limit / 1000:,g} km have none" if limit else "however far away"
        none = f"None of the countries{of_list} in {file} reaches into {_named(abroad)}"
        found.append(f"{none}; patches there are assigned the nearest, {far}.")
    return found


def _abroad(plan: Plan, countries: gpd.GeoDataFrame) -> list[Tile]:
    if not plan.usable:
        return []
    areas = search_areas([plan.grids(tile)[0] for tile in plan.usable], countries.crs)
    reached, _ = countries.sindex.query(areas, predicate="intersects")
    return [plan.usable[number] for number in sorted({*range(len(areas))} - {*reached.tolist()})]


def _named(tiles: Sequence[Tile]) -> str:
    return tiles[0].name if len(tiles) == 1 else f"{len(tiles):,} tiles, such as {tiles[0].name}"


def _export_warnings(plan: Plan) -> list[str]:
    tree, layout = plan.recipe.tree, plan.layout
    found = []
    if plan.partners and not layout.has_sentinel1:
        found.append(f"The tree {tree} has no place for Sentinel-1, which is in the cubes and in the LMDB only.")
    if layout.is_by_season and plan.recipe.images is None:
        found += [
            f"Patches of {tile.name} are in no folder of the tree {tree}: their month is in no season."
            for tile in plan.usable
            if season_of(tile.sensing_time, plan.recipe.seasons) is None
        ]
    return found


def _beyond_map(plan: Plan) -> list[Tile]:
    if plan.landcover.bounds is None or not plan.usable:
        return []
    areas = search_areas([plan.grids(tile)[0] for tile in plan.usable], plan.landcover.crs)
    beyond = ~shapely.intersects(areas, shapely.box(*plan.landcover.bounds))
    return [tile for tile, is_beyond in zip(plan.usable, beyond, strict=True) if is_beyond]


def with_known_landcover(plan: Plan, earlier: Origin, sorted_copy: Callable[[str], Path]) -> Plan:
    """Identify a map whose file changed as that of an earlier job, if its codes and polygons are the same.

    ``earlier`` is the origin of that job; ``sorted_copy`` returns the path of a sorted map by its name, whose
    description has the digest of the content.
    """
    given, copy = plan.landcover, changed_landcover(plan, earlier, sorted_copy)
    if copy is None or not isinstance(given, LandcoverMap) or copy.description["content"] != content_digest(given):
        return plan
    note = f"The file {given.path} has changed since the job began, but its codes and polygons are the same."
    return replace(plan, landcover=replace(given, known=earlier[LANDCOVER]), warnings=(*plan.warnings, note))


def changed_landcover(plan: Plan, earlier: Origin, sorted_copy: Callable[[str], Path]) -> SortedMap | None:
    """Find the sorted copy of an earlier job's map, if it is not that of a plan; see :func:`with_known_landcover`."""
    known = earlier.get(LANDCOVER)
    if not isinstance(known, dict) or plan.landcover.record["source"] == known:
        return None
    folder = sorted_copy(cache_name(known))
    return SortedMap(folder) if is_sorted_landcover(folder) else None


def require_known_codes_of(plan: Plan, sorted_copy: Callable[[str], Path]) -> None:
    """Raise :class:`InputError` if the map has codes that the nomenclature does not know.

    The codes are in the description of a sorted map; without one, the column is read.
    """
    given = plan.landcover
    if isinstance(given, LandcoverMap):
        copy = sorted_copy(given.cache_name)
        found = SortedMap(copy).codes if is_sorted_landcover(copy) else count_codes(given)
    else:
        found = given.codes
    require_known_codes(given, found, plan.nomenclature, plan.recipe.nomenclature)


def origin_of(plan: Plan) -> Origin:
    """Collect everything that decides the content of the dataset; no pixels are read."""
    published = plan.published
    codes = {code: [value, plan.nomenclature.class_of[value]] for code, value in plan.nomenclature.value_of.items()}
    return {
        "version of reben_dask": __version__,
        "recipe": digest_of([plan.recipe.model_dump(mode="json"), codes]),
        TILES: {
            **{tile.name: tile_identity(tile) for tile in plan.tiles},
            **{product.name: None for product in plan.damaged},
        },
        LANDCOVER: plan.landcover.record["source"],
        "country layer": {"names and borders": polygons_digest(plan.country_polygons)} if plan.countries else None,
        "choice of layers": {
            name: polygons_digest(read_attribute(path, plan.recipe.attributes[name].column))
            for name, path in plan.layers.items()
        },
        "Sentinel-1": digest_of(plan.partners.identity()) if plan.partners else None,
        "published metadata": _identity(published.metadata),
        "lists of names": _identity(filter(None, (published.pairs, published.snow_list, published.cloud_list))),
        "number of LMDB environments": plan.lmdb_shards,
        "choice of exports": sorted(plan.exports),
    }


def _identity(paths: Iterable[Path]) -> Any:
    """Digests of files by name."""
    digests: dict[str, list[str]] = {}
    for path in sorted(paths):
        identity = file_identity(path)
        digests.setdefault(identity["name"], []).append(identity["sha256"])
    return digests
