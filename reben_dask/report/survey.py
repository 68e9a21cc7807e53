"""Counting the patch table, part by part, in the few columns that a report asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from reben_dask.errors import InputError
from reben_dask.formats.columns import KEPT, SPLITS
from reben_dask.patches.decision import REASONS
from reben_dask.stores.batches import batched
from reben_dask.stores.patch_table import dataset_parts, read_rows

TOTAL = "all"
NONE = "(none)"
"""What stands for a missing split, season or country."""

_PARTS = 64
"""Parts that are in memory together: up to half a million patches, in few columns."""

PLACE = ("epsg", "minx", "miny", "maxx", "maxy")
_FLAGS = ("contains_seasonal_snow", "contains_cloud_or_shadow")
_FRACTIONS = ("snow_fraction", "cloud_fraction", "shadow_fraction")
_COLUMNS = (
    *("tile", "status", "reason", "labels", "labeled_fraction", "split", "country", "season", "sensing_time"),
    *(*_FLAGS, *_FRACTIONS, *PLACE),
)


@dataclass(frozen=True)
class Survey:
    """Everything that is counted in a patch table.

    Parameters
    ----------
    path : Path
        The dataset.
    tiles : DataFrame
        A row for each tile, by name: ``tile``, ``part`` (its file), ``candidates``, ``kept``, ``clear`` (kept without
        any snow, cloud or shadow), ``snow`` and ``cloud`` (kept and flagged so), ``partly`` (kept with pixels that
        carry no label), ``season``, ``sensing_time``, and ``epsg``, ``minx`` to ``maxy`` of all its patches.
    status : DataFrame
        ``status``, ``reason`` and ``patches``.
    apart : dict of str to int
        Kept patches that are listed apart for ``snow``, ``cloud`` (cloud or shadow), and ``any`` of them.
    splits : DataFrame
        Kept patches by ``split``; index and columns as of the tables below, with one row.
    classes, numbers, seasons, dates, countries : DataFrame
        Kept patches by class, number of labels, season, day (UTC) and country: integer columns of the splits and
        :data:`TOTAL`, which also counts patches in none of them.
    """

    path: Path
    tiles: pd.DataFrame
    status: pd.DataFrame
    apart: dict[str, int]
    splits: pd.DataFrame
    classes: pd.DataFrame
    numbers: pd.DataFrame
    seasons: pd.DataFrame
    dates: pd.DataFrame
    countries: pd.DataFrame

    @property
    def candidates(self) -> int:
        """All candidate patches."""
        return int(self.tiles["candidates"].sum())

    @property
    def kept(self) -> int:
        """Kept patches."""
        return int(self.tiles["kept"].sum())

    @property
    def steps(self) -> list[tuple[str, int]]:
        """All candidates, then each rule and how many patches it rejects, in the order of the rules."""
        rejected = self.status[self.status["status"] != KEPT].set_index("reason")["patches"]
        ordered = [*(name for name in REASONS if name in rejected.index), *rejected.index.difference(list(REASONS))]
        return [
            ("candidates", self.candidates),
            *((REASONS.get(name, str(name)), int(rejected[name])) for name in ordered),
        ]


def survey(out: Path) -> Survey:
    """Count the patches of a dataset.

    Parameters
    ----------
    out : Path
        Folder of the dataset.

    Raises
    ------
    InputError
        If it is not a dataset of this program, or its patch table cannot be read.
    """
    parts = dataset_parts(out)
    counted = [_count(batch) for batch in batched(parts, _PARTS)]
    tables = {name: _sum(each.counts[name] for each in counted) for name in counted[0].counts}
    tiles = pd.DataFrame([tile for each in counted for tile in each.tiles]).sort_values("tile", ignore_index=True)
    by_split = {name: _by_split(tables[name], name) for name in ("classes", "numbers", "dates", "countries")}
    return Survey(
        path=out,
        tiles=tiles,
        status=tables["status"],
        apart={name: sum(each.apart[name] for each in counted) for name in ("snow", "cloud", "any")},
        splits=_by_split(tables["splits"], "splits"),
        seasons=_seasons(tables["seasons"]),
        **by_split,
    )


@dataclass(frozen=True)
class _Counted:
    """What is counted in a few parts."""

    tiles: list[dict[str, Any]]
    apart: dict[str, int]
    counts: dict[str, pa.Table]


def _count(parts: Sequence[Path]) -> _Counted:
    tables = [_read(part) for part in parts]
    rows = pa.concat_tables(tables)
    kept = _kept(rows)
    snow, cloud = _flags(kept)
    apart = {"snow": _true(snow), "cloud": _true(cloud), "any": _true(pc.or_(snow, cloud))}
    tiles = [_tile(part, table) for part, table in zip(parts, tables, strict=True)]
    return _Counted(tiles, apart, _counts(rows, kept))


def _read(part: Path) -> pa.Table:
    try:
        return read_rows(part, _COLUMNS)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"The part {part} of the patch table cannot be read ({error}).") from None


def _kept(rows: pa.Table) -> pa.Table:
    return rows.filter(pc.equal(rows["status"], KEPT))


def _flags(kept: pa.Table) -> list[pa.Array]:
    """Whether patches are listed apart for snow, and for cloud or shadow."""
    return [pc.fill_null(kept[name], fill_value=False) for name in _FLAGS]


def _tile(part: Path, rows: pa.Table) -> dict[str, Any]:
    kept = _kept(rows)
    snow, cloud = _flags(kept)
    fractions = [pc.fill_null(kept[name], 0.0) for name in _FRACTIONS]
    clear = pc.equal(pc.add(pc.add(*fractions[:2]), fractions[2]), 0.0)
    partly = pc.and_(pc.less(kept["labeled_fraction"], 1.0), clear)
    edges = {name: pc.min if name.startswith("min") else pc.max for name in PLACE}
    first = {name: rows[name][0].as_py() if len(rows) else None for name in ("season", "sensing_time")}
    return {
        "tile": part.stem,
        "part": part,
        "candidates": len(rows),
        "kept": len(kept),
        "clear": _true(clear),
        "snow": _true(snow),
        "cloud": _true(cloud),
        "partly": _true(partly),
        **first,
        **{name: find(rows[name]).as_py() for name, find in edges.items()},
    }


def _counts(rows: pa.Table, kept: pa.Table) -> dict[str, pa.Table]:
    split = pc.fill_null(kept["split"], NONE).combine_chunks()
    labels = kept["labels"].combine_chunks()
    time = kept["sensing_time"]
    columns = {
        "numbers": pc.fill_null(pc.list_value_length(labels), 0).cast(pa.int64()),
        "dates": pc.strftime(time, format="%Y-%m-%d"),
        "countries": pc.fill_null(kept["country"], NONE),
    }
    classes = {"classes": pc.list_flatten(labels), "split": split.take(pc.list_parent_indices(labels))}
    seasons = {"seasons": pc.fill_null(kept["season"], NONE), "month": pc.month(time), "split": split}
    return {
        "status": _grouped(rows.select(["status", "reason"])),
        "splits": _grouped(pa.table({"splits": pc.fill_null(kept["status"], ""), "split": split})),
        "classes": _grouped(pa.table(classes)),
        "seasons": _grouped(pa.table(seasons)),
        **{name: _grouped(pa.table({name: column, "split": split})) for name, column in columns.items()},
    }


def _grouped(table: pa.Table) -> pa.Table:
    counts = table.group_by(table.column_names).aggregate([([], "count_all")])
    return counts.rename_columns([*table.column_names, "patches"])


def _sum(tables: Iterable[pa.Table]) -> pd.DataFrame:
    whole = pa.concat_tables(list(tables))
    keys = [name for name in whole.column_names if name != "patches"]
    summed = whole.group_by(keys).aggregate([("patches", "sum")]).rename_columns([*keys, "patches"])
    frame: pd.DataFrame = summed.to_pandas()
    return frame.sort_values(keys, ignore_index=True)


def _by_split(counts: pd.DataFrame, key: str) -> pd.DataFrame:
    """One row for each key, in order, with a column for each split and one for all patches."""
    table = counts.pivot_table(index=key, columns="split", values="patches", aggfunc="sum", fill_value=0)
    total = table.sum(axis=1)
    table = table.reindex(columns=list(SPLITS), fill_value=0).assign(**{TOTAL: total})
    return table.astype("int64").rename_axis(columns=None).sort_index()


def _seasons(counts: pd.DataFrame) -> pd.DataFrame:
    """Seasons in the order of their first months, from March on; patches without one come last."""
    first = ((counts["month"] - 3) % 12).groupby(counts["seasons"]).min()
    order = sorted(first.index, key=lambda season: (season == NONE, first[season], season))
    return _by_split(counts, "seasons").reindex(order)


def _true(mask: Any) -> int:
    return int(pc.sum(mask).as_py() or 0)
