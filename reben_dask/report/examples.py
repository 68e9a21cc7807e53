"""Example patches of a dataset, chosen by rules and reproducibly at random."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from reben_dask.analysis.legend import Legend
from reben_dask.errors import InputError
from reben_dask.formats import columns
from reben_dask.formats.columns import COUNTRY, KEPT, LABELED_FRACTION, LABELS, PATCH_ID, SENSING_TIME, SPLIT, TILE
from reben_dask.formats.cube import MAP_NODE
from reben_dask.formats.dataset import CUBES, TABLE
from reben_dask.patches.splits import seeded_hashes
from reben_dask.report.survey import FLAGS, FRACTIONS, Survey
from reben_dask.stores.lazy_cubes import open_patch, surface_reflectance
from reben_dask.stores.patch_table import part_files, read_rows

WHITE = 0.26
"""Reflectance displayed as white, for clear patches."""

_GAMMA, _BRIGHTEST = 1 / 1.5, 0.98
_NATURAL = ("B04", "B03", "B02")
_CLEAR, _FLAGGED_OF_A_KIND = 5, 3
_MOST_LABELS = 6
_PARTLY = 0.8
"""Share of labelled pixels to look for in the example of a partly labelled patch."""

_SEED = 2018
_RARE = 0.01
_COLUMNS = (
    *(PATCH_ID, TILE, *columns.IN_GRID, columns.STATUS, LABELS, LABELED_FRACTION, SPLIT, COUNTRY, SENSING_TIME),
    *(*FRACTIONS, *columns.FLAGS),
)


@dataclass(frozen=True)
class Example:
    """Patch with its pixels."""

    row: Mapping[str, Any]
    why: str
    reflectance: npt.NDArray[np.float64] | None
    """Red, green and blue surface reflectance, shape ``(y, x, 3)``; None if the dataset lacks one of these bands."""
    codes: npt.NDArray[np.uint16]
    """Reference map, shape ``(y, x)``."""

    @property
    def name(self) -> str:
        """``patch_id`` of the patch."""
        return str(self.row[PATCH_ID])

    @property
    def labels(self) -> list[str]:
        """Labels of the patch."""
        return list(map(str, self.row[LABELS]))

    @property
    def day(self) -> str:
        """Day of sensing, such as ``2017-06-13``."""
        return f"{self.row[SENSING_TIME]:%Y-%m-%d}"

    @property
    def details(self) -> str:
        """Day, split, country and reason for the choice."""
        known = [self.row[key] for key in (SPLIT, COUNTRY) if self.row[key]]
        return ", ".join(filter(None, [self.day, *map(str, known), self.why]))

    def entries(self, legend: Legend) -> list[tuple[str, str]]:
        """Return colour, and name with share of pixels, of each code of the map, most frequent first."""
        codes, counts = np.unique(self.codes, return_counts=True)
        entries = []
        for place in np.argsort(-counts, kind="stable"):
            entry, share = legend.entry(int(codes[place])), counts[place] / counts.sum()
            part = f"{share:.0%}" if share >= _RARE else f"under {_RARE:.0%}"
            entries.append((entry.colour, f"{entry.name}, {part}"))
        return entries


def natural_colour(reflectance: npt.NDArray[np.float64], *, bright: bool) -> npt.NDArray[np.uint8]:
    """Stretch reflectance of shape ``(y, x, 3)`` to display values; NaN (nodata) becomes black.

    ``bright`` stretches to the brightest pixels of the patch, for snow and cloud; otherwise the stretch is the same for
    all patches.
    """
    pixels = np.nan_to_num(reflectance, nan=0.0)
    white = float(np.clip(np.quantile(pixels, _BRIGHTEST), WHITE, 1)) if bright else WHITE
    return np.rint(np.clip(pixels / white, 0, 1) ** _GAMMA * 255).astype(np.uint8)


def clear_examples(found: Survey) -> list[Example]:
    """Choose clear patches with diverse labels, the first with unlabelled pixels if there is one."""
    chosen: list[tuple[dict[str, Any], str]] = []
    for tile in _spread(found.tiles[found.tiles["partly"] > 0], 1):
        rows = _clear_rows(found.path, tile)
        partly = rows[rows[LABELED_FRACTION] < 1]
        off = (partly[LABELED_FRACTION] - _PARTLY).abs()
        chosen += [(row, "some pixels carry no label") for row in _first(partly, off)]
    shown = {label for row, _ in chosen for label in row[LABELS]}
    tiles = _spread(found.tiles[found.tiles["clear"] > 0], _CLEAR)
    rows_of = {tile: _clear_rows(found.path, tile) for tile in tiles}
    before = -1
    while before < len(chosen) < _CLEAR:
        before = len(chosen)
        for tile in tiles[: _CLEAR - before]:
            rows = rows_of[tile]
            rows = rows[~rows[PATCH_ID].isin([row[PATCH_ID] for row, _ in chosen])]
            known = [-len(set(labels) - shown) for labels in rows[LABELS]]
            for row in _first(rows, pd.Series(known, rows.index)):
                chosen.append((row, ""))
                shown |= set(row[LABELS])
    return list(_with_pixels(found.path, chosen))


def flagged_examples(found: Survey) -> list[Example]:
    """Choose patches flagged for snow, and for cloud or shadow."""
    chosen: list[tuple[dict[str, Any], str]] = []
    for kind, flag in FLAGS.items():
        tiles = _spread(found.tiles[found.tiles[kind] > 0], _FLAGGED_OF_A_KIND)
        flagged = [rows[rows[flag].eq(True)] for rows in (_kept_rows(found.path, tile) for tile in tiles)]
        of_kind = [row for rows in flagged for row in _first(rows, pd.Series(0, rows.index), _FLAGGED_OF_A_KIND)]
        why = "flagged: snow" if kind == "snow" else "flagged: cloud or shadow"
        chosen += [(row, why) for row in of_kind[:_FLAGGED_OF_A_KIND]]
    return list(_with_pixels(found.path, chosen))


def examples_of(out: Path, patch_ids: Sequence[str]) -> list[Example]:
    """Read patches by name, in that order.

    Raises InputError if none is named, one is not among the kept patches, or its pixels are missing in the dataset.
    """
    if not patch_ids:
        raise InputError("No patch is named; name at least one by its patch_id.")
    rows: dict[str, dict[str, Any]] = {}
    for part in part_files(out / TABLE):
        of_part = _kept_rows(out, part.stem)
        chosen = of_part[of_part[PATCH_ID].isin(patch_ids)]
        rows |= {row[PATCH_ID]: row for row in chosen.to_dict("records")}
        if len(rows) == len(set(patch_ids)):
            break
    if missing := [name for name in patch_ids if name not in rows]:
        raise InputError(f"{missing[0]} is not a kept patch of {out}; names are in the column patch_id of {TABLE}.")
    examples = list(_with_pixels(out, [(rows[name], "") for name in patch_ids]))
    if len(examples) < len(patch_ids):
        raise InputError(f"{out / CUBES} does not hold the pixels of all these patches.")
    return examples


def _spread(tiles: pd.DataFrame, count: int) -> list[str]:
    """Choose tiles spread over seasons, in turn the tile with most kept patches of those left in each season."""
    ordered = tiles.sort_values(["kept", TILE], ascending=[False, True])
    turn = ordered.groupby(ordered[columns.SEASON].fillna("")).cumcount()
    return list(ordered.assign(turn=turn).sort_values("turn", kind="stable")[TILE].head(count))


def _kept_rows(out: Path, tile: str) -> pd.DataFrame:
    rows: pd.DataFrame = read_rows(out / TABLE / f"{tile}.parquet", _COLUMNS, status=KEPT).to_pandas()
    return rows


def _clear_rows(out: Path, tile: str) -> pd.DataFrame:
    """Kept patches without snow, cloud or shadow, and with few labels."""
    rows = _kept_rows(out, tile)
    covered = rows[list(FRACTIONS)].fillna(0).sum(axis=1) + rows[list(columns.FLAGS)].eq(True).sum(axis=1)
    return rows[(covered == 0) & (rows[LABELS].map(len) <= _MOST_LABELS)]


def _first(rows: pd.DataFrame, rank: pd.Series[Any], count: int = 1) -> list[dict[str, Any]]:
    """Choose the rows of lowest rank; at random among equal ones."""
    draws = seeded_hashes(rows[PATCH_ID].tolist(), _SEED)
    ordered = rows.assign(rank=rank, draw=draws).sort_values(["rank", "draw"]).head(count)
    return ordered.drop(columns=["rank", "draw"]).to_dict("records")  # type: ignore[return-value]


def _with_pixels(out: Path, chosen: list[tuple[dict[str, Any], str]]) -> Iterator[Example]:
    """Read the pixels of patches; those missing in the store are skipped."""
    for row, why in chosen:
        try:
            patch = open_patch(out, row)
            codes = patch[MAP_NODE].to_dataset()[MAP_NODE].to_numpy()
        except (InputError, KeyError):
            continue
        try:
            natural = surface_reflectance(patch, _NATURAL).transpose("y", "x", "band").to_numpy()
        except InputError:
            natural = None
        yield Example(row, why, natural, codes)
