"""Expected contents of a dataset, by the recipe in its run record or that of a published dataset like it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from reben_dask.errors import RecipeError
from reben_dask.formats import columns
from reben_dask.formats.bands import FURTHER_BANDS, POLARISATIONS, by_resolution
from reben_dask.formats.columns import COUNTRY, EXTRA_SPLITS, GRID, PATCH_ID, SEASON, SPLIT, SPLITS
from reben_dask.formats.cube import CubeLayout
from reben_dask.formats.dataset import RECORD, RunRecord
from reben_dask.formats.names import NameTemplate
from reben_dask.formats.trees import DEFAULT_LAYOUT, TreeLayout
from reben_dask.grid import PatchGrid
from reben_dask.nomenclature import Nomenclature, load_nomenclature
from reben_dask.recipes import Recipe, load_recipe, shipped_recipes
from reben_dask.verify.findings import Check, collect

MOST_NAMES = 64
"""Names parsed to recognise a dataset; some of them may be damaged."""


@dataclass(frozen=True)
class Expected:
    """Expected contents of the patches of a dataset."""

    recipe: Recipe
    nomenclature: Nomenclature
    names: NameTemplate | None
    optional_bands: tuple[str, ...] = ()
    """Further bands that patches may have, where no run record names the recipe."""

    countries: tuple[str, ...] | None = None
    """Names of countries that patches may have; ``None`` for any."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands of Sentinel-2, optional ones included."""
        return (*self.recipe.bands, *self.optional_bands)

    @property
    def grids(self) -> range:
        """Numbers of the grids of a tile."""
        return range(1, len(self.recipe.grid_offsets_m) + 1)

    @property
    def smallest_region_px(self) -> int:
        """Smallest region that counts towards ``labels``."""
        return next(iter(self.recipe.region_thresholds_px.values()))

    @property
    def labels_may_be_empty(self) -> bool:
        """True if the rules keep patches without any label."""
        rule = self.recipe.labeled_fraction
        return (rule.threshold == 0 and rule.comparison == "at_least") or self.smallest_region_px > 1

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Columns of the patch table that hold labels."""
        return (columns.LABELS, *self.recipe.extra_labels)

    @property
    def splits_of(self) -> dict[str, tuple[str | None, ...]]:
        """Values of each column of splits, with null for a split over all tiles or an unknown one."""
        may_be_null = self.names is None or self.recipe.split_of_all_tiles is not None
        further = (name for name in self.recipe.extra_columns if name.startswith(EXTRA_SPLITS))
        return {SPLIT: (*SPLITS, *([None] if may_be_null else [])), **dict.fromkeys(further, SPLITS)}

    @cached_property
    def tree_layout(self) -> TreeLayout:
        """Trees and tables of an export with Sentinel-1; none if the dataset does not fit the layout."""
        try:
            recipe = self.recipe.model_copy(update={"bands": self.bands})
            return recipe.tree_layout(self.nomenclature, has_sentinel1=True)
        except RecipeError:
            return TreeLayout(())

    @cached_property
    def values(self) -> dict[str, Sequence[Any] | None]:
        """Values that columns may have, as far as the recipe names them."""
        return {GRID: self.grids, SEASON: self.recipe.all_seasons, SPLIT: SPLITS, COUNTRY: self.countries}

    def cube_layout(self, group: str, grid: PatchGrid, found: Collection[str]) -> CubeLayout:
        """Layout of a group of the Zarr store with all nodes that it may have; of ``found`` bands the optional ones."""
        optional = (band for band in self.optional_bands if band in found)
        return CubeLayout(group, grid, by_resolution([*self.recipe.bands, *optional]), {}, POLARISATIONS)


@cache
def every_published() -> tuple[Expected, ...]:
    """Contents of the published dataset of each tree, the default one first."""
    shipped = filter(lambda recipe: recipe.level == "L2A", map(load_recipe, reversed(shipped_recipes())))
    recipes = {recipe.tree: recipe for recipe in shipped}
    ordered = sorted(recipes, key=lambda tree: (tree != DEFAULT_LAYOUT, tree))
    found = [_of_recipe(recipes[tree], load_nomenclature(recipes[tree].nomenclature)) for tree in ordered]
    further = (tuple(band for band in FURTHER_BANDS if band not in expected.recipe.bands) for expected in found)
    return tuple(replace(expected, optional_bands=bands) for expected, bands in zip(found, further, strict=True))


def published(tree: str = DEFAULT_LAYOUT) -> Expected:
    """Contents of the dataset that was published in a layout."""
    return next(expected for expected in every_published() if expected.recipe.tree == tree)


def find_expected(folders: Iterable[Path], check: Check) -> tuple[RunRecord | None, Expected]:
    """Read the first run record in the folders; without a readable run record, expect the default dataset."""
    folder = next((folder for folder in folders if (folder / RECORD).exists()), None)
    if folder is not None:
        with collect(check, RECORD):
            record = RunRecord.read(folder)
            recipe = Recipe.model_validate(record.recipe)
            expected = _of_recipe(recipe, Nomenclature(recipe.nomenclature, record.class_of_code, record.value_of_code))
            return record, replace(expected, countries=record.inputs.country_list)
    return None, published()


def is_reproduction(record: RunRecord | None) -> bool:
    """Test for published data, or a run with published metadata."""
    return record is None or bool(record.inputs.published)


def _of_recipe(recipe: Recipe, nomenclature: Nomenclature) -> Expected:
    return Expected(recipe, nomenclature, NameTemplate(recipe.patch_name), countries=recipe.countries)


def recognise(names: Iterable[str], default: Expected) -> Expected | None:
    """Find the published dataset with such names; ``default`` for no names, ``None`` for unknown ones."""
    some = list(islice(names, MOST_NAMES))
    # The default comes last: its names may be those of v1, too.
    candidates = (*every_published()[1:], published()) if some else ()
    alike = (found for found in candidates if found.names and any(map(found.names.parse, some)))
    return next(alike, None if some else default)


def with_classes(expected: Expected, files: Sequence[Path]) -> Expected:
    """Take over the published nomenclature whose class list is in metadata files."""
    for file in files:
        with collect(Check("read again with the metadata")):
            classes = columns.decode_classes(pq.read_schema(file).metadata)
            for other in every_published():
                if classes == other.nomenclature.classes:
                    return replace(expected, nomenclature=other.nomenclature)
    return expected


def names_in_metadata(files: Sequence[Path]) -> list[str]:
    """First names of patches in metadata files."""
    names: list[str] = []
    for file in files:
        with collect(Check("read again with the metadata")), pq.ParquetFile(file) as table:
            batch = next(table.iter_batches(MOST_NAMES, columns=[PATCH_ID]), None)
            names += [] if batch is None else filter(None, batch[PATCH_ID].to_pylist())
    return names
