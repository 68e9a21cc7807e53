"""Repeatable tasks on part files that count or reject patches in overlaps between products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from reben_dask.formats.columns import KEPT, REASON, REJECTED, SPLIT, SPLITS, STATUS
from reben_dask.job.plan import Plan
from reben_dask.job.record import COLUMNS, concat_counts
from reben_dask.job.scheduling import Tasks
from reben_dask.patches.decision import DUPLICATE_GROUND, SPLIT_CONFLICT
from reben_dask.patches.overlaps import (
    CONFLICT,
    CONFLICTING,
    HELD_OUT,
    Codes,
    Mask,
    Place,
    find_conflicts,
    find_dropped,
    find_duplicates,
    find_places,
    kept_codes,
    neighbours_of,
    period_of,
    split_codes,
)
from reben_dask.stores.patch_table import part_files, read_rows, rewrite_part

# Client


def count_conflicts(tasks: Tasks, plan: Plan, table: Path) -> pd.DataFrame:
    """Count the conflicting patches of each tile, as :mod:`~reben_dask.patches.overlaps` defines them."""
    futures = [
        tasks.submit(f"overlaps-{place.tiles[0]}", count_at_place, table, place, near)
        for place, near in _places_in(plan, table)
    ]
    return concat_counts(counts for _, counts in tasks.results(futures))


def drop_conflicts(tasks: Tasks, plan: Plan, table: Path) -> None:
    """Reject validation and test patches that conflict with patches of another MGRS tile."""
    futures = [
        tasks.submit(f"drop-{place.tiles[0]}", drop_at_place, table, place, near)
        for place, near in _places_in(plan, table)
    ]
    tasks.wait(futures)


def keep_first(tasks: Tasks, plan: Plan, table: Path) -> None:
    """Reject patches that an earlier MGRS tile (in name order) covers in the same season, or on the same date."""
    all_periods = {tile.name: period_of(tile.sensing_time, plan.recipe.seasons) for tile in plan.usable}
    futures = []
    for place, near in _places_in(plan, table):
        periods = {tile: all_periods[tile] for each in (place, *near) for tile in each.tiles}
        futures.append(tasks.submit(f"first-{place.tiles[0]}", keep_first_at_place, table, place, near, periods))
    tasks.wait(futures)


def _places_in(plan: Plan, table: Path) -> list[tuple[Place, list[Place]]]:
    """Places of the tiles that are built and passed their quality indicators, each with those around it."""
    built = {part.stem for part in part_files(table)}
    places = find_places({tile.name: plan.grids(tile) for tile in plan.usable if tile.name in built})
    return list(zip(places, neighbours_of(places), strict=True))


# Tasks


def count_at_place(table: Path, place: Place, near: Sequence[Place]) -> pd.DataFrame:
    """Count the conflicting patches of the tiles of a place."""
    found = find_conflicts(place, [place, *near], partial(kept_splits, table), CONFLICTING)
    rows = [
        (tile, CONFLICT, split, "", int(np.count_nonzero(codes == SPLITS.index(split))))
        for tile, codes in found.items()
        for split in HELD_OUT
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def drop_at_place(table: Path, place: Place, near: Sequence[Place]) -> None:
    """Reject the validation and test patches of a place that conflict with another MGRS tile."""
    for tile, is_dropped in find_dropped(place, near, partial(planned_splits, table)).items():
        _reject(_part(table, tile), is_dropped, SPLIT_CONFLICT)


def keep_first_at_place(table: Path, place: Place, near: Sequence[Place], periods: Mapping[str, str]) -> None:
    """Reject the patches of a place that an earlier MGRS tile covers in the same period."""
    for tile, is_covered in find_duplicates(place, near, periods).items():
        _reject(_part(table, tile), is_covered, DUPLICATE_GROUND)


def kept_splits(table: Path, tile: str) -> Codes:
    """Read the splits of the kept patches of a tile; -1 for others."""
    return kept_codes(read_rows(_part(table, tile), [STATUS, SPLIT]).to_pandas())


def planned_splits(table: Path, tile: str) -> Codes:
    """Read the splits of all candidates of a tile."""
    return split_codes(read_rows(_part(table, tile), [SPLIT])[SPLIT].to_pylist())


def _part(table: Path, tile: str) -> Path:
    return table / f"{tile}.parquet"


def _reject(part: Path, chosen: Mask, reason: str) -> None:
    rows = read_rows(part, [STATUS, REASON]).to_pandas()
    rejected = chosen & (rows[STATUS] == KEPT)
    if rejected.any():
        changed = {STATUS: rows[STATUS].mask(rejected, REJECTED), REASON: rows[REASON].mask(rejected, reason)}
        rewrite_part(part, pd.DataFrame(changed))
