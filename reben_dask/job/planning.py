"""Looking at all inputs of a job, and working out its plan."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import geopandas as gpd
import shapely

from reben_dask.errors import InputError, RecipeError
from reben_dask.formats.bands import SCENE_CLASSIFICATION
from reben_dask.formats.columns import PATCH_TABLE_SCHEMA
from reben_dask.formats.names import V2
from reben_dask.job.plan import Plan
from reben_dask.job.published import Published, require_published
from reben_dask.job.sentinel1 import Sentinel1Inputs, open_partners
from reben_dask.nomenclature import load_nomenclature
from reben_dask.patches.candidates import season_of
from reben_dask.patches.countries import nearest_country
from reben_dask.patches.join import search_areas
from reben_dask.recipes import Recipe
from reben_dask.sources.landcover import LandcoverMap, SortedMap, is_sorted_landcover, open_landcover
from reben_dask.sources.sentinel2 import Tile, find_products, open_tile
from reben_dask.sources.vector_layers import missing_countries, read_countries, require_attribute

NO_SENTINEL1, NOTHING_PUBLISHED = Sentinel1Inputs(), Published()

_COLUMNS_ON_THE_WAY = ("is_published", "within_limits")
_NAMED_COLUMNS = ("labels_", "split_")
"""What columns of further thresholds and splits begin with."""


def make_plan(  # noqa: PLR0913 - these are the inputs of a job
    *,
    s2: Sequence[str],
    landcover: str,
    recipe: Recipe,
    countries: str | None = None,
    layers: Mapping[str, str] = MappingProxyType({}),
    code_column: str | None = None,
    lmdb_shards: int | None = None,
    sentinel1: Sentinel1Inputs = NO_SENTINEL1,
    published: Published = NOTHING_PUBLISHED,
    exports: Sequence[str] = (),
) -> Plan:
    """Look at all inputs, reading metadata only.

    Parameters
    ----------
    s2 : sequence of str
        Products, or folders of products.
    landcover : str
        Vector map with class codes, or a sorted copy of it.
    recipe : Recipe
        What to build.
    countries : str, optional
        Vector file of country polygons.
    layers : mapping of str to str, optional
        Files of polygons for the attributes of the recipe.
    code_column : str, optional
        Column of the map with the class codes.
    lmdb_shards : int, optional
        Number of LMDB environments.
    sentinel1 : Sentinel1Inputs
        Where Sentinel-1 comes from, if it is wanted.
    published : Published
        Files that say what was published about the patches.
    exports : sequence of str
        Further formats: ``geotiff``, ``geotiff-archives``.

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
        landcover=_open_landcover(_absolute(landcover), code_column),
        countries=_absolute(countries) if countries else None,
        layers={name: _absolute(path) for name, path in layers.items()},
        lmdb_shards=lmdb_shards,
        published=require_published(published),
        exports=tuple(dict.fromkeys(exports)),
        partners=open_partners(sentinel1, published, recipe.sentinel1.max_days),
    )
    _require_layers(plan)
    _require_own_columns(recipe)
    _require_distinct_names(plan)
    if published.metadata:
        _require_published_patches(recipe)
    if isinstance(plan.landcover, SortedMap):
        plan.landcover.require_known(plan.nomenclature.codes)
    for tile in plan.tiles:
        for grid in plan.grids(tile):
            if not grid.size:
                shift = f", {grid.offset_m} m from its corner" * bool(grid.offset_m)
                raise InputError(f"The tile {tile.name} is smaller than one patch of {recipe.patch_size_m} m{shift}.")
    for tile in plan.usable:
        tile.require(recipe.bands)
    exported = _export_warnings(plan) if plan.exports else []
    return replace(plan, warnings=(*_warnings(plan), *exported))


def _require_layers(plan: Plan) -> None:
    known = plan.recipe.attributes
    for name, path in plan.layers.items():
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise InputError(f"The recipe {plan.recipe.name} has no attribute {name!r} for the layer {path}; {has}.")
        require_attribute(path, known[name].column)


def _open_landcover(path: str, code_column: str | None) -> LandcoverMap | SortedMap:
    return SortedMap(Path(path)) if is_sorted_landcover(path) else open_landcover(path, code_column=code_column)


def _absolute(path: str) -> str:
    """Path that a worker with another working directory understands; links stay as they are."""
    return os.path.abspath(path)  # noqa: PTH100


def _require_distinct(tiles: Sequence[Tile]) -> None:
    twice = [name for name, count in Counter(tile.name for tile in tiles).items() if count > 1]
    if twice:
        paths = ", ".join(str(tile.path) for tile in tiles if tile.name == twice[0])
        raise InputError(f"The tile {twice[0]} is given more than once, which would name patches twice: {paths}.")


def _require_distinct_names(plan: Plan) -> None:
    """One acquisition that was processed twice is two tiles, which not every kind of name tells apart."""
    template = plan.recipe.patch_name
    fields = [field for field in ("product", "mgrs", "time") if f"{{{field}}}" in template]
    if "{tile}" in template:
        return
    tiles: dict[tuple[str, ...], str] = {}
    for tile, name in plan.tile_names.items():
        other = tiles.setdefault(tuple(getattr(name, field) for field in fields), tile)
        if other != tile:
            raise InputError(
                f"The tiles {other} and {tile} are of the same place and time, and would name patches twice; leave one "
                f"of them out, or begin the recipe's patch_name ({template!r}) with {{tile}}."
            )


def _require_published_patches(recipe: Recipe) -> None:
    """Patches are found in published metadata by their names, which tell places of a grid that is not shifted."""
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
    taken = {*PATCH_TABLE_SCHEMA.names, *_COLUMNS_ON_THE_WAY}
    for name in recipe.attributes:
        if name in taken or name.startswith(_NAMED_COLUMNS):
            raise RecipeError(
                f"The recipe {recipe.name} has an attribute {name!r}, which is a column of the patch table already; "
                "choose another name."
            )


def _warnings(plan: Plan) -> list[str]:
    found = [
        f"{tile.name} is left out: {', '.join(failed)} quality did not pass."
        for tile in plan.tiles
        if (failed := tile.failed_quality(plan.recipe.quality_indicators))
    ]
    unknown_sky = "its patches are rejected" if plan.recipe.images else "its snow and cloud fractions stay empty"
    found += [
        f"{tile.name} has no scene classification (SCL); {unknown_sky}."
        for tile in plan.usable
        if SCENE_CLASSIFICATION not in tile.images
    ]
    found += [
        f"{tile.name} lies outside the land-cover map; its patches will have no labels." for tile in _beyond_map(plan)
    ]
    found += [
        f"Patches of {name.name} are named {name.product}…: another tile has its product's name and time."
        for name in plan.tile_names.values()
        if "{product}" in plan.recipe.patch_name and name.product.endswith(f"_T{name.mgrs}")
    ]
    found += [
        f"The attribute {name} stays empty: no layer is given (--join {name}=FILE)."
        for name in plan.recipe.attributes
        if name not in plan.layers
    ]
    return found + _country_warnings(plan)


def _country_warnings(plan: Plan) -> list[str]:
    if not plan.countries:
        return []
    file, names, found = Path(plan.countries).name, plan.recipe.countries, []
    countries = read_countries(plan.countries, names)
    if missing := missing_countries(countries, names):
        found.append(f"{file} has no {', '.join(missing)}; no patch can be given to them.")
    if abroad := _abroad(plan, countries):
        nearest = nearest_country(plan.grids(abroad[0])[0], countries)[0]
        which = ", which are those of the recipe" if names else ""
        found.append(
            f"None of the countries of {file}{which} reaches into {_named(abroad)}; patches there are given the "
            f"nearest, such as {nearest}. A recipe with countries: null takes all countries of the file."
        )
    return found


def _abroad(plan: Plan, countries: gpd.GeoDataFrame) -> list[Tile]:
    """Tiles that no country reaches into."""
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
    """Tiles that no polygon can reach."""
    if plan.landcover.bounds is None or not plan.usable:
        return []
    areas = search_areas([plan.grids(tile)[0] for tile in plan.usable], plan.landcover.crs)
    beyond = ~shapely.intersects(areas, shapely.box(*plan.landcover.bounds))
    return [tile for tile, is_beyond in zip(plan.usable, beyond, strict=True) if is_beyond]
