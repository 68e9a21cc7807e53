"""What the values of a dataset must be: bands, types, sizes and classes, as its run record or the format says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from reben_dask.errors import InputError, RecipeError
from reben_dask.formats.bands import (
    BAND_RESOLUTION_M,
    MAP_RESOLUTION_M,
    POLARISATIONS,
    REFERENCE_MAP,
    S1_RESOLUTION_M,
    by_resolution,
)
from reben_dask.formats.columns import SPLITS, patch_table_schema
from reben_dask.formats.cube import CubeLayout
from reben_dask.formats.names import V2
from reben_dask.formats.trees import LAYOUTS, Contents, TreeLayout
from reben_dask.formats.trees.layout import CLASS_NUMBERS
from reben_dask.grid import PatchGrid
from reben_dask.nomenclature import Nomenclature, load_nomenclature
from reben_dask.recipes import Recipe, load_recipe, shipped_recipes
from reben_dask.recipes.model import EVERY_PIXEL
from reben_dask.verify.findings import Check, collect
from reben_dask.verify.names import NamePattern

RECORD = Path("run") / "record.json"
DEFAULT_TREE = "bigearthnet-v2"
"""Layout of the dataset that data without any record are taken for, if nothing tells of another."""

MAP_TENSOR = "Data"
"""What the image of a reference map is called in an LMDB."""


class Kind(Enum):
    """What a patch consists of."""

    S2 = "Sentinel-2"
    S1 = "Sentinel-1"
    MAP = "reference maps"


@dataclass(frozen=True)
class Layer:
    """One image of a patch: its type, and its side in pixels of ``resolution_m`` metres."""

    dtype: str
    side_px: int
    resolution_m: int

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.side_px, self.side_px)


@dataclass(frozen=True)
class Expected:
    """What each patch of a dataset must consist of.

    Parameters
    ----------
    bands : tuple of str
        Sentinel-2 bands.
    patch_m : int
        Side of a patch in metres.
    nomenclature : Nomenclature
        How labels are read off a reference map.
    labels_may_be_empty : bool
        Whether patches without any label are kept.
    grid_offsets_m : tuple of int
        How far the grids of a tile lie from its corner.
    patch_name : str
        How patches are named; see :func:`reben_dask.formats.names.patch_ids`.
    thresholds_px : mapping of str to int
        Pixels from which on a region counts towards labels; see :func:`reben_dask.patches.labels.label_columns`.
    extra_columns : tuple of str
        Columns that the patch table has beyond those of every one.
    split_may_be_null : bool
        Whether a patch may be in no set.
    tree : str
        Layout of exported trees.
    seasons : tuple of str
        Every season that a patch may have.
    attributes : mapping of str to str
        Columns of the patch table that come from other layers, with what they are called there.
    """

    bands: tuple[str, ...]
    patch_m: int
    nomenclature: Nomenclature
    labels_may_be_empty: bool = False
    grid_offsets_m: tuple[int, ...] = (0,)
    patch_name: str = V2.template
    thresholds_px: Mapping[str, int] = field(default_factory=lambda: EVERY_PIXEL)
    extra_columns: tuple[str, ...] = ()
    split_may_be_null: bool = False
    tree: str = DEFAULT_TREE
    seasons: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def names(self) -> NamePattern:
        """How patches are named."""
        return NamePattern(self.patch_name)

    @cached_property
    def table_schema(self) -> pa.Schema:
        """Columns of the patch table."""
        return patch_table_schema(self.extra_columns)

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Columns of the patch table that hold labels."""
        return ("labels", *(f"labels_{name}" for name in list(self.thresholds_px)[1:]))

    @property
    def splits_of(self) -> dict[str, tuple[str | None, ...]]:
        """What each column of splits may say of a patch; in a further split, every patch is in a set."""
        first = (*SPLITS, *([None] if self.split_may_be_null else []))
        return {"split": first, **{name: SPLITS for name in self.extra_columns if name.startswith("split_")}}

    @cached_property
    def layers(self) -> dict[Kind, dict[str, Layer]]:
        """Images of each kind by name; that of a reference map is named ``Data``, as in an LMDB."""
        return {
            Kind.S2: {band: self._layer("uint16", BAND_RESOLUTION_M[band]) for band in sorted(self.bands)},
            Kind.S1: {name: self._layer("float32", S1_RESOLUTION_M) for name in POLARISATIONS},
            Kind.MAP: {MAP_TENSOR: self._layer("uint16", MAP_RESOLUTION_M)},
        }

    def layer(self, band: str) -> tuple[Kind, Layer]:
        """What a band of an image in a tree must be, by the name that the layout gives it."""
        if band == CLASS_NUMBERS.name:
            return Kind.MAP, self._layer("uint8", MAP_RESOLUTION_M)
        name = MAP_TENSOR if band == REFERENCE_MAP.name else band
        return next((kind, layers[name]) for kind, layers in self.layers.items() if name in layers)

    @cached_property
    def tree_layout(self) -> TreeLayout:
        """Folders and files of a dataset like this in the layout :attr:`tree`; none if it cannot be laid out so.

        Sentinel-1 has its place in it, whether there is any or not.
        """
        contents = Contents(
            nomenclature=self.nomenclature,
            bands=self.bands,
            seasons=self.seasons,
            labels=self.label_columns,
            attributes=self.attributes,
            has_sentinel1=True,
        )
        try:
            return LAYOUTS[self.tree](contents)
        except RecipeError:
            return TreeLayout(())

    def layout(self, group: str, grid: PatchGrid) -> CubeLayout:
        """What a group of a Zarr store must look like, with everything that it may hold."""
        return CubeLayout(group, grid, by_resolution(self.bands), {}, POLARISATIONS)

    def _layer(self, dtype: str, resolution_m: int) -> Layer:
        return Layer(dtype, self.patch_m // resolution_m, resolution_m)


@cache
def published(tree: str = DEFAULT_TREE) -> Expected:
    """What the dataset consists of that was published in a layout, as its recipe says."""
    recipe = next(recipe for recipe in map(load_recipe, shipped_recipes()) if recipe.tree == tree)
    return _expected_as(recipe, load_nomenclature(recipe.nomenclature))


def every_published() -> list[Expected]:
    """The same for all layouts; the one that data are taken for, if nothing tells of another, comes first."""
    return [published(tree) for tree in sorted(LAYOUTS, key=lambda tree: (tree != DEFAULT_TREE, tree))]


def find_expected(folders: Sequence[Path], check: Check) -> tuple[dict[str, Any] | None, Expected]:
    """What patches must consist of: as the run record says in the first folder that has one, or as was published.

    Parameters
    ----------
    folders : sequence of Path
        Where to look.
    check : Check
        Told of a record that does not say it.

    Returns
    -------
    record : dict or None
        The record, where it can be read.
    expected : Expected
        What patches must consist of.
    """
    path = next((folder / RECORD for folder in folders if (folder / RECORD).exists()), None)
    if path is not None:
        with collect(check, RECORD):
            record = json.loads(path.read_text(encoding="utf-8"))
            return record, _expected_of(record)
    return None, published()


def _expected_of(record: dict[str, Any]) -> Expected:
    try:
        # A record that is older than a key has what the key's absence means in a recipe.
        recipe = Recipe.model_validate(record["recipe"])
        class_of = {int(code): None if name is None else str(name) for code, name in record["class_of_code"].items()}
        expected = _expected_as(recipe, Nomenclature(recipe.nomenclature, class_of))
        smallest_px = min(layer.side_px for layer in expected.layers[Kind.S2].values())
    except (AttributeError, KeyError, TypeError, ValueError):
        smallest_px = 0
    if smallest_px < 1:
        raise InputError("does not tell bands, patch size, labelled fraction and classes")
    return expected


def _expected_as(recipe: Recipe, nomenclature: Nomenclature) -> Expected:
    rule, smallest_region = recipe.labeled_fraction, next(iter(recipe.region_thresholds_px.values()))
    return Expected(
        bands=recipe.bands,
        patch_m=recipe.patch_size_m,
        nomenclature=nomenclature,
        labels_may_be_empty=(rule.threshold == 0 and rule.comparison == "at_least") or smallest_region > 1,
        grid_offsets_m=recipe.grid_offsets_m,
        patch_name=recipe.patch_name,
        thresholds_px=recipe.region_thresholds_px,
        extra_columns=recipe.extra_columns,
        split_may_be_null=recipe.split_of_all_tiles is not None,
        tree=recipe.tree,
        seasons=recipe.all_seasons,
        attributes={name: attribute.column for name, attribute in recipe.attributes.items()},
    )
