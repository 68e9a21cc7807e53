"""Overlaps between the tiles of a dataset: the recorded conflicts, and the recipe's rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pandas as pd

from reben_dask.formats.columns import IN_GRID, KEPT, PATCH_ID, REASON, SENSING_TIME, SPLIT, SPLITS, STATUS
from reben_dask.patches.decision import DUPLICATE_GROUND, REASONS, SPLIT_CONFLICT
from reben_dask.patches.overlaps import (
    CONFLICT,
    CONFLICTING,
    HELD_OUT,
    Codes,
    Grids,
    Mask,
    Place,
    conflict_note,
    find_conflicts,
    find_dropped,
    find_duplicates,
    find_places,
    kept_codes,
    neighbours_of,
    period_of,
    split_codes,
)
from reben_dask.stores.patch_table import read_rows
from reben_dask.verify.dataset import Dataset
from reben_dask.verify.findings import Check, Settings

_TILES = 64
"""Tiles whose rows are in memory."""

_REASON_OF = {"drop": SPLIT_CONFLICT, "first": DUPLICATE_GROUND}


def verify_overlaps(dataset: Dataset, settings: Settings) -> Check:
    """Count the conflicting patches of a dataset, and check that overlaps are treated as the recipe demands."""
    check, grids, periods = Check("Overlaps of tiles"), dict[str, Grids](), dict[str, str]()
    for part in dataset.parts:
        tile = dataset.read_sound(part)
        if tile is None or len(tile.table) != sum(grid.size for grid in tile.grids):
            check.not_checked = "the patch table is not whole"
            return check
        if tile.is_observed:
            grids[tile.name] = tuple(tile.grids)
            sensed = tile.table[SENSING_TIME][0].as_py()
            periods[tile.name] = period_of(sensed, dataset.expected.recipe.seasons)
    rows = _Rows({part.stem: part for part in dataset.parts})
    counts, places = Counter[tuple[str, str]](), find_places(grids)
    advance = settings.begin("verify-overlaps", len(places))
    for place, near in zip(places, neighbours_of(places), strict=True):
        for codes in find_conflicts(place, [place, *near], rows.kept_splits, CONFLICTING).values():
            counts.update((CONFLICT, SPLITS[code]) for code in codes[codes >= 0])
        for tile_name in place.tiles:
            counts.update((SPLIT, SPLITS[code]) for code in rows.kept_splits(tile_name) if code >= 0)
        check.add(_faults(place, near, rows, periods, dataset.expected.recipe.overlaps))
        advance(1)
    found = {measure: {split: counts[measure, split] for split in HELD_OUT} for measure in (SPLIT, CONFLICT)}
    note = conflict_note(found) or "there are no validation or test patches"
    check.notes.append(note.removesuffix("."))
    recorded = dataset.record.counts.get(CONFLICT, {}) if dataset.record else found[CONFLICT]
    check.add(
        f"{CONFLICT} {split}: {recorded.get(split, 0):,} in the record, {number:,} in the patch table"
        for split, number in found[CONFLICT].items()
        if number != recorded.get(split, 0)
    )
    return check


class _Rows:
    """Rows of tiles by name, in the order of their grids' patches."""

    def __init__(self, parts: dict[str, Path]) -> None:
        self._parts = parts
        self.read = lru_cache(_TILES)(self._read)

    def kept_splits(self, tile: str) -> Codes:
        """Return the splits of the kept patches of a tile; -1 for others."""
        return kept_codes(self.read(tile))

    def planned_splits(self, tile: str) -> Codes:
        """Return the splits of all candidates of a tile."""
        return split_codes(self.read(tile)[SPLIT])

    def _read(self, tile: str) -> pd.DataFrame:
        rows: pd.DataFrame = read_rows(self._parts[tile], [PATCH_ID, *IN_GRID, STATUS, REASON, SPLIT]).to_pandas()
        return rows.sort_values(list(IN_GRID), kind="stable", ignore_index=True)


def _faults(place: Place, near: list[Place], rows: _Rows, periods: dict[str, str], rule: str) -> Iterator[str]:
    """Phrases for kept patches that the recipe's rule rejects, and for those rejected by it without cause."""
    reason = _REASON_OF.get(rule)
    for tile, is_rejected in _rejected(place, near, rows, periods, rule).items():
        of_tile = rows.read(tile)
        is_kept, has_reason = of_tile[STATUS] == KEPT, of_tile[REASON].isin(_REASON_OF.values())
        for patch_id in of_tile[PATCH_ID][is_kept & is_rejected]:
            yield f"{patch_id} is kept, but {REASONS[str(reason)]} (overlaps: {rule})"
        wrong = has_reason & ~((of_tile[REASON] == reason) & is_rejected)
        for patch_id, found in of_tile.loc[wrong, [PATCH_ID, REASON]].itertuples(index=False):
            yield f"{patch_id} is rejected for the reason {found!r}, which does not apply (overlaps: {rule})"


def _rejected(place: Place, near: list[Place], rows: _Rows, periods: dict[str, str], rule: str) -> dict[str, Mask]:
    if rule == "first":
        return find_duplicates(place, near, periods)
    return find_dropped(place, near if rule == "drop" else [], rows.planned_splits)
