"""Counts of a patch table, from only the columns that a report needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from reben_dask.analysis.counts import count_by_split, date_table, season_table
from reben_dask.errors import InputError
from reben_dask.formats import columns
from reben_dask.formats.columns import (
    COUNTRY,
    KEPT,
    LABELED_FRACTION,
    LABELS,
    REASON,
    SEASON,
    SENSING_TIME,
    SPLIT,
    SPLITS,
    STATUS,
    TILE,
)
from reben_dask.patches.decision import REASONS
from reben_dask.stores.patch_table import dataset_parts, read_rows

NONE = "(none)"
"""Label of a missing country."""

PLACE = (columns.EPSG, *columns.BOUNDS)
FLAGS = {"snow": columns.SNOW, "cloud": columns.CLOUD}
FRACTIONS = (columns.SNOW_FRACTION, columns.CLOUD_FRACTION, columns.SHADOW_FRACTION)
_PARTS = 64
"""Part files whose labels are held in memory together: up to half a million patches."""

_NAMES = (TILE, STATUS, REASON, SPLIT, COUNTRY, SEASON)
_COLUMNS = (*_NAMES, LABELS, LABELED_FRACTION, SENSING_TIME, *columns.FLAGS, *FRACTIONS, *PLACE)


@dataclass(frozen=True)
class Survey:
    """Counts of a patch table."""

    path: Path
    tiles: pd.DataFrame
    """One row per tile, by name: ``tile``, ``candidates``, ``kept``, ``clear`` (kept without any snow, cloud or
    shadow), ``snow`` and ``cloud`` (kept and flagged), ``partly`` (clear, with unlabelled pixels), ``season``,
    ``sensing_time``, and ``epsg``, ``minx`` to ``maxy`` of all its patches."""
    rejected: pd.Series[int]
    """Rejected patches by reason, in the order of the rules."""
    splits: pd.Series[int]
    """Kept patches by split, and ``all``."""
    tables: dict[str, pd.DataFrame]
    """Kept patches by ``class``, number of ``labels``, ``season``, ``date`` (UTC) and ``country``; columns: splits, and
    ``all``, which includes patches in no split."""

    @property
    def candidates(self) -> int:
        """Number of candidate patches."""
        return int(self.tiles["candidates"].sum())

    @property
    def kept(self) -> int:
        """Number of kept patches."""
        return int(self.tiles["kept"].sum())

    @property
    def flagged(self) -> dict[str, int]:
        """Kept patches flagged for ``snow``, and for ``cloud`` or shadow."""
        return {name: int(self.tiles[name].sum()) for name in FLAGS}

    @property
    def has_countries(self) -> bool:
        """True if the country of a kept patch is known."""
        return bool(set(self.tables["country"].index) - {NONE})

    @property
    def steps(self) -> list[tuple[str, int]]:
        """Number of candidates, then of patches rejected by each rule."""
        losses = [(REASONS.get(str(name), str(name)), int(lost)) for name, lost in self.rejected.items()]
        return [("candidates", self.candidates), *losses]


def survey(out: Path) -> Survey:
    """Count the patches of a dataset; raises InputError if its patch table is missing or cannot be read."""
    tables: list[pa.Table] = []
    classes: list[pd.DataFrame] = []
    numbers: list[pd.DataFrame] = []
    parts = dataset_parts(out)
    for start in range(0, len(parts), _PARTS):
        table = pa.concat_tables(map(_read, parts[start : start + _PARTS]))
        tables.append(_without_labels(table))
        for counts, found in zip((classes, numbers), _count_labels(table), strict=True):
            counts.append(found)
    patches = pa.concat_tables(tables).unify_dictionaries().to_pandas()
    rows = patches[patches[STATUS] == KEPT]
    rejected = patches.loc[patches[STATUS] != KEPT, REASON].value_counts(sort=False)
    rejected = rejected[rejected > 0]
    order = [*(name for name in REASONS if name in rejected.index), *rejected.index.difference(list(REASONS))]
    totals = rows[SPLIT].value_counts().reindex(list(SPLITS), fill_value=0).astype("int64")
    totals["all"] = len(rows)
    by = {
        "class": _sum(classes),
        "labels": _sum(numbers),
        "season": season_table(rows.astype({SEASON: object})),
        "date": date_table(rows),
        "country": count_by_split(rows[COUNTRY].astype(object).fillna(NONE), rows[SPLIT], "country"),
    }
    return Survey(out, _tiles(patches), rejected[order], totals, by)


def _read(part: Path) -> pa.Table:
    try:
        return read_rows(part, _COLUMNS)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"The part {part} of the patch table cannot be read ({error}).") from None


def _without_labels(table: pa.Table) -> pa.Table:
    """Other columns, with the few distinct names as dictionaries to save memory."""
    plain = columns.fill_flags(table.drop_columns(LABELS))
    for name in _NAMES:
        plain = plain.set_column(plain.column_names.index(name), name, pc.dictionary_encode(plain[name]))
    return plain


def _count_labels(table: pa.Table) -> tuple[pd.DataFrame, pd.DataFrame]:
    kept = table.filter(pc.equal(table[STATUS], KEPT))
    labels, splits = kept[LABELS].combine_chunks(), kept[SPLIT].to_pandas()
    numbers = pc.fill_null(pc.list_value_length(labels), 0).to_pandas()
    of_label = pc.list_parent_indices(labels).to_numpy(zero_copy_only=False)
    of_classes = splits.iloc[of_label].reset_index(drop=True)
    classes = count_by_split(pc.list_flatten(labels).to_pandas(), of_classes, "class")
    return classes, count_by_split(numbers, splits, "labels")


def _sum(counts: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(counts).groupby(level=0).sum()


def _tiles(patches: pd.DataFrame) -> pd.DataFrame:
    kept = patches[STATUS] == KEPT
    clear = kept & (patches[list(FRACTIONS)].fillna(0).sum(axis=1) == 0)
    marks: dict[str, Any] = {
        "candidates": True,
        "kept": kept,
        "clear": clear,
        "partly": clear & (patches[LABELED_FRACTION] < 1),
        **{name: kept & patches[flag] for name, flag in FLAGS.items()},
    }
    counts = patches[[TILE]].assign(**marks).groupby(TILE, observed=True).sum().astype("int64")
    edges = {name: "min" if name.startswith("min") else "max" for name in PLACE}
    first = patches.groupby(TILE, observed=True).agg({SEASON: "first", SENSING_TIME: "first", **edges})
    tiles = counts.join(first).reset_index()
    return tiles.astype({TILE: str}).sort_values(TILE, ignore_index=True)
