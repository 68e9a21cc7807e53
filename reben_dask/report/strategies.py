"""The split strategies beside each other: what a dataset has of them, and what the others would make of its tiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from reben_dask.analysis.patch_set import SPLIT, PatchSet
from reben_dask.formats.columns import KEPT
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.splits import split_of_tile
from reben_dask.recipes.model import GeographicSplit, GridSplit, RandomSplit, Split
from reben_dask.report.record import Record

USUAL: Mapping[str, Split] = {
    "geographic": GeographicSplit(strategy="geographic", validation=0.25, test=0.25),
    "grid": GridSplit(strategy="grid", block=1),
    "random": RandomSplit(strategy="random", validation=0.25, test=0.25, seed=42),
}
"""Rules for strategies that a dataset has not, with the same shares 2:1:1, so that only the strategy differs."""

_RULE: TypeAdapter[Split] = TypeAdapter(Split)
_Names = npt.NDArray[np.object_]


class TileSplits(NamedTuple):
    """One tile under each strategy.

    Parameters
    ----------
    tile : str
        Its name.
    patch_m : int
        Side of a patch in metres.
    kept : ndarray of bool, shape (y, x)
        Which of its patches are kept.
    splits : dict of str to ndarray of object, shape (y, x)
        Split of each patch by the title of the strategy; ``None`` where there is no patch, or it is in no set.
    """

    tile: str
    patch_m: int
    kept: npt.NDArray[np.bool_]
    splits: dict[str, _Names]


def recorded_strategies(record: Record) -> dict[str, str]:
    """Column of each strategy that a dataset has, as its recipe says."""
    rules = {SPLIT: record.part("recipe", "split")}
    rules |= {f"{SPLIT}_{name}": rule for name, rule in record.part("recipe", "more_splits").items()}
    found: dict[str, str] = {}
    for column, rule in rules.items():
        if strategy := rule.get("strategy"):
            found.setdefault(str(strategy), column)
    return found


def tile_splits(tile: str, rows: pd.DataFrame, record: Record) -> TileSplits:
    """Split of each patch of a tile's first grid under each strategy; those that the dataset has, as it has them.

    Parameters
    ----------
    tile : str
        Name of the tile.
    rows : DataFrame
        Its patches: ``patch_id``, ``status``, ``epsg``, ``minx``, ``maxy``, ``side`` and all columns of splits.
    record : Record
        Gives the recipe, and the size of the tile.
    """
    grid, placed = next(iter(_grids(rows, record.tile_size_m(tile))))
    own = {name: column for name, column in recorded_strategies(record).items() if column in rows}
    splits: dict[str, _Names] = {}
    for name in dict.fromkeys((*USUAL, *own)):
        if name in own:
            mark = " (this dataset)" if own[name] == SPLIT else ""
            splits[f"{name}{mark}"] = _image(grid, placed, placed[own[name]].astype(object))
        else:
            splits[f"{name} (computed)"] = _image(grid, placed, _computed(USUAL[name], grid, placed))
    kept = _image(grid, placed, placed["status"] == KEPT) == True  # noqa: E712 - None where there is no patch
    return TileSplits(tile, grid.patch_m, kept, splits)


def with_strategies(dataset: PatchSet, record: Record) -> PatchSet:
    """A dataset with a further column of splits, ``split_<strategy> (computed)``, for each strategy that it has not.

    A strategy that the dataset has gets a column of its name too, ``split_<strategy>``, if there is none.
    """
    recorded = {name: column for name, column in recorded_strategies(record).items() if column in dataset.splits}
    own = recorded.keys() | {column.removeprefix(f"{SPLIT}_") for column in dataset.splits}
    rules = {f"{SPLIT}_{name} (computed)": rule for name, rule in USUAL.items() if name not in own}
    patches = dataset.patches.reset_index(drop=True)
    columns = {name: np.full(len(dataset), None, object) for name in rules}
    named = {f"{SPLIT}_{name}": patches[column] for name, column in recorded.items() if column == SPLIT}
    for tile, rows in patches.groupby("tile", observed=True):
        for grid, placed in _grids(rows, record.tile_size_m(str(tile))):
            for name, rule in rules.items():
                columns[name][placed.index] = _computed(rule, grid, placed)
    more: dict[str, Any] = {name: column for name, column in {**named, **columns}.items() if name not in dataset.splits}
    return PatchSet(dataset.path, patches.assign(**more), dataset.labels, (*dataset.splits, *more))


def rule_of(strategy: str, record: Record) -> Split | None:
    """The rule by which a strategy was, or would be, applied to a dataset; ``None`` if it is not known."""
    column = recorded_strategies(record).get(strategy)
    if column is None:
        return USUAL.get(strategy)
    keys = ("split",) if column == SPLIT else ("more_splits", column.removeprefix(f"{SPLIT}_"))
    try:
        return _RULE.validate_python(record.part("recipe", *keys))
    except ValidationError:
        return None


def _grids(rows: pd.DataFrame, tile_size_m: tuple[int, int] | None) -> Iterator[tuple[PatchGrid, pd.DataFrame]]:
    """Patches of a tile, grid by grid, with their column and row: both are known from where the patches lie.

    A tile whose size is not on record is as large as what its patches cover.
    """
    side, ulx, uly = int(rows["side"].iloc[0]), int(rows["minx"].min()), int(rows["maxy"].max())
    east, south = rows["minx"] - ulx, uly - rows["maxy"]
    covered = ShapeYX(int(south.max()) + side, int(east.max()) + side)
    size = ShapeYX(*map(max, covered, tile_size_m or covered))
    placed = rows.assign(x=east // side, y=south // side, offset=east % side)
    for offset, of_grid in placed.groupby("offset"):
        yield PatchGrid(int(rows["epsg"].iloc[0]), ulx, uly, size, side, int(str(offset))), of_grid


def _computed(rule: Split, grid: PatchGrid, placed: pd.DataFrame) -> _Names:
    """Split of each of the patches, in their order."""
    if isinstance(rule, RandomSplit):
        found = split_of_tile(rule, grid, placed["patch_id"].tolist())
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
