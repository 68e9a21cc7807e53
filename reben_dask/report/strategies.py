"""Split strategies of a dataset side by side: those in its record, and others computed for comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from reben_dask.analysis.patch_set import PatchSet
from reben_dask.formats.columns import EPSG, EXTRA_SPLITS, KEPT, MAXY, MINX, PATCH_ID, SPLIT, STATUS, TILE
from reben_dask.formats.dataset import RunRecord
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.splits import split_of_tile
from reben_dask.recipes.model import GeographicSplit, GridSplit, RandomSplit, Split

USUAL: Mapping[str, Split] = {
    "geographic": GeographicSplit(strategy="geographic", validation=0.25, test=0.25),
    "grid": GridSplit(strategy="grid", block=1),
    "random": RandomSplit(strategy="random", validation=0.25, test=0.25, seed=42),
}
"""Rules of computed strategies; all with shares 2:1:1, so that only the strategy differs."""

_RULE: TypeAdapter[Split] = TypeAdapter(Split)
_COMPUTED = " (computed)"
_Names = npt.NDArray[np.object_]


class TileSplits(NamedTuple):
    """Splits of one tile under each strategy."""

    tile: str
    patch_m: int
    kept: npt.NDArray[np.bool_]
    """Mask of kept patches, shape ``(y, x)``."""
    splits: dict[str, _Names]
    """Split of each patch, shape ``(y, x)``, by the title of the strategy; None without a patch or split."""


def recorded_strategies(record: RunRecord | None) -> dict[str, str]:
    """Map each strategy in the recipe of a dataset to its column."""
    return {rule["strategy"]: column for column, rule in reversed(_recorded_rules(record).items())}


def tile_splits(tile: str, rows: pd.DataFrame, record: RunRecord | None) -> TileSplits:
    """Split each patch of a tile's first grid under each strategy; ``rows`` include ``side`` in metres."""
    grid, placed = next(_grids(rows, record.tile_size_m(tile) if record else None))
    own = {name: column for name, column in recorded_strategies(record).items() if column in rows}
    splits: dict[str, _Names] = {}
    for name in dict.fromkeys((*USUAL, *own)):
        if name in own:
            mark = " (this dataset)" if own[name] == SPLIT else ""
            splits[f"{name}{mark}"] = _image(grid, placed, placed[own[name]])
        else:
            splits[f"{name}{_COMPUTED}"] = _image(grid, placed, _computed(USUAL[name], grid, placed))
    kept = _image(grid, placed, placed[STATUS] == KEPT) == True  # noqa: E712 - None where there is no patch
    return TileSplits(tile, grid.patch_m, kept, splits)


def with_strategies(dataset: PatchSet, record: RunRecord | None) -> PatchSet:
    """Add a column ``split_<strategy> (computed)`` for each strategy that a dataset lacks.

    The strategy of the column ``split`` gets a column ``split_<strategy>`` too, if there is none.
    """
    recorded = {name: column for name, column in recorded_strategies(record).items() if column in dataset.splits}
    own = recorded.keys() | {column.removeprefix(EXTRA_SPLITS) for column in dataset.splits}
    rules = {f"{EXTRA_SPLITS}{name}{_COMPUTED}": rule for name, rule in USUAL.items() if name not in own}
    patches = dataset.patches.reset_index(drop=True)
    columns = {name: np.full(len(dataset), None, object) for name in rules}
    named = {f"{EXTRA_SPLITS}{name}": patches[column] for name, column in recorded.items() if column == SPLIT}
    for tile, rows in patches.groupby(TILE, observed=True):
        for grid, placed in _grids(rows, record.tile_size_m(str(tile)) if record else None):
            for name, rule in rules.items():
                columns[name][placed.index] = _computed(rule, grid, placed)
    more: dict[str, Any] = {name: column for name, column in {**named, **columns}.items() if name not in dataset.splits}
    return PatchSet(dataset.path, patches.assign(**more), dataset.labels, (*dataset.splits, *more))


def describe_rules(tile: TileSplits, record: RunRecord | None) -> str:
    """Describe the parameters of each strategy of a tile, from the recipe or :data:`USUAL`, in one line."""
    recorded = {rule["strategy"]: rule for rule in reversed(_recorded_rules(record).values())}
    texts = []
    for title in tile.splits:
        name = title.split(" ")[0]
        try:
            rule = _RULE.validate_python(recorded[name]) if name in recorded else USUAL[name]
        except (ValidationError, KeyError):
            continue
        values = rule.model_dump(exclude={"strategy"}).items()
        texts.append(f"{title}: " + ", ".join(f"{key} {value:g}" for key, value in values))
    return "; ".join(texts)


def _recorded_rules(record: RunRecord | None) -> dict[str, dict[str, Any]]:
    """Rule of each split column, the dataset's own first."""
    recipe = record.recipe if record else {}
    more = {f"{EXTRA_SPLITS}{name}": rule for name, rule in (recipe.get("more_splits") or {}).items()}
    rules = {str(SPLIT): recipe.get("split") or {}, **more}
    return {column: rule for column, rule in rules.items() if "strategy" in rule}


def _grids(rows: pd.DataFrame, tile_size_m: tuple[int, int] | None) -> Iterator[tuple[PatchGrid, pd.DataFrame]]:
    """Patches of a tile by grid, with their columns ``x`` and rows ``y``.

    Without a recorded tile size, the extent of the patches is used.
    """
    side, ulx, uly = int(rows["side"].iloc[0]), int(rows[MINX].min()), int(rows[MAXY].max())
    east, south = rows[MINX] - ulx, uly - rows[MAXY]
    covered = ShapeYX(int(south.max()) + side, int(east.max()) + side)
    size = ShapeYX(*map(max, covered, tile_size_m or covered))
    placed = rows.assign(x=east // side, y=south // side, offset=east % side)
    for offset, of_grid in placed.groupby("offset"):
        yield PatchGrid(int(rows[EPSG].iloc[0]), ulx, uly, size, side, int(str(offset))), of_grid


def _computed(rule: Split, grid: PatchGrid, placed: pd.DataFrame) -> _Names:
    if isinstance(rule, RandomSplit):
        found = split_of_tile(rule, grid, placed[PATCH_ID].tolist())
    else:
        in_name_order = split_of_tile(rule, grid, ())
        found = None if in_name_order is None else in_name_order[placed["x"] * grid.shape_yx.y + placed["y"]]
    return np.full(len(placed), None, object) if found is None else found.astype(object)


def _image(grid: PatchGrid, placed: pd.DataFrame, values: Any) -> _Names:
    image = np.full(grid.shape_yx, None, object)
    found = np.array(values, object)
    found[pd.isna(found)] = None
    image[placed["y"], placed["x"]] = found
    return image
