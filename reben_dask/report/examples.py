"""A few patches that show what a dataset looks like, chosen by rules and by lot, and the same at every call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import zarr

from reben_dask.errors import InputError
from reben_dask.formats.columns import KEPT
from reben_dask.formats.cube import MAP_NODE, group_of
from reben_dask.formats.dataset import CUBES, TABLE
from reben_dask.patches.splits import seeded_hashes
from reben_dask.report.survey import Survey
from reben_dask.stores.arrays import open_array
from reben_dask.stores.cube_reader import FULL_SCALE
from reben_dask.stores.patch_table import part_files, read_rows

NATURAL = ("B04", "B03", "B02")
_PLAIN, _UNDER_SKY = 5, 3
_MOST_LABELS = 6
_PARTLY = 0.8
"""Share of labelled pixels in the example of a patch that has others: enough of both."""

_SEED = 2018
_Row = dict[str, Any]
_FRACTIONS = ("snow_fraction", "cloud_fraction", "shadow_fraction")
_FLAGS = {"snow": "contains_seasonal_snow", "cloud": "contains_cloud_or_shadow"}
_COLUMNS = (
    *("patch_id", "tile", "grid", "x", "y", "status", "labels", "labeled_fraction", "split", "country"),
    *("sensing_time", *_FRACTIONS, *_FLAGS.values()),
)


@dataclass(frozen=True)
class Example:
    """One patch with its pixels.

    Parameters
    ----------
    row : dict of str to object
        Columns of the patch table.
    why : str
        What it is an example of.
    reflectance : ndarray of float64, shape (y, x, 3), or None
        Red, green and blue surface reflectance; ``None`` if the dataset lacks one of these bands.
    codes : ndarray of uint16, shape (y, x)
        Its reference map.
    """

    row: Mapping[str, Any]
    why: str
    reflectance: npt.NDArray[np.float64] | None
    codes: npt.NDArray[np.uint16]

    @property
    def name(self) -> str:
        """Its ``patch_id``."""
        return str(self.row["patch_id"])

    @property
    def labels(self) -> list[str]:
        """Its labels."""
        return list(map(str, self.row["labels"]))


def plain_examples(found: Survey, *, harmonized: bool) -> list[Example]:
    """Clear patches with as many different labels between them as can be, the first with unlabelled pixels if any.

    Parameters
    ----------
    found : Survey
        The dataset.
    harmonized : bool
        Whether offsets of its digital numbers were taken out already.
    """
    chosen: list[tuple[_Row, str]] = []
    for tile in _spread(found.tiles[found.tiles["partly"] > 0], 1):
        rows = _clear(tile)
        partly = rows[(rows["labeled_fraction"] < 1) & (rows["labels"].map(len) <= _MOST_LABELS)]
        partly = partly.assign(off=(partly["labeled_fraction"] - _PARTLY).abs())
        chosen += [(row, "some pixels carry no label") for row in _first(partly, "off")]
    shown = {str(label) for row, _ in chosen for label in row["labels"]}
    tiles = _spread(found.tiles[found.tiles["clear"] > 0], _PLAIN)
    while len(chosen) < _PLAIN and tiles:
        before = len(chosen)
        for tile in tiles[: _PLAIN - before]:
            taken = [row["patch_id"] for row, _ in chosen]
            rows = _clear(tile)
            rows = rows[~rows["patch_id"].isin(taken) & (rows["labels"].map(len) <= _MOST_LABELS)]
            new = [-len(set(labels) - shown) for labels in rows["labels"]]
            for row in _first(rows.assign(new=new), "new"):
                chosen.append((row, ""))
                shown |= set(map(str, row["labels"]))
        if len(chosen) == before:
            break
    return list(_with_pixels(found.path, chosen, harmonized=harmonized))


def sky_examples(found: Survey, *, harmonized: bool) -> list[Example]:
    """Patches that are listed apart for snow, and for cloud or shadow; see :func:`plain_examples`."""
    titles = {"snow": "listed apart: snow", "cloud": "listed apart: cloud or shadow"}
    chosen: list[tuple[_Row, str]] = []
    for kind, flag in _FLAGS.items():
        of_kind: list[tuple[_Row, str]] = []
        for tile in _spread(found.tiles[found.tiles[kind] > 0], _UNDER_SKY):
            rows = _kept(tile)
            flagged = rows[rows[flag].eq(True)]
            of_kind += [(row, titles[kind]) for row in _first(flagged.assign(any=0), "any", _UNDER_SKY)]
        chosen += of_kind[:_UNDER_SKY]
    return list(_with_pixels(found.path, chosen, harmonized=harmonized))


def examples_of(out: Path, patch_ids: Sequence[str], *, harmonized: bool) -> list[Example]:
    """Patches that were chosen by name, in that order.

    Raises
    ------
    InputError
        If none is named, one is not among the kept patches, or its pixels are not in the dataset.
    """
    if not patch_ids:
        raise InputError("No patch is named; name at least one by its patch_id.")
    rows: dict[str, _Row] = {}
    for part in part_files(out / TABLE):
        of_part = _kept(part)
        chosen = of_part[of_part["patch_id"].isin(patch_ids)]
        rows |= {row["patch_id"]: row for row in chosen.to_dict("records")}
        if len(rows) == len(set(patch_ids)):
            break
    if missing := [name for name in patch_ids if name not in rows]:
        raise InputError(f"{missing[0]} is not a kept patch of {out}; names are in the column patch_id of {TABLE}.")
    examples = list(_with_pixels(out, [(rows[name], "") for name in patch_ids], harmonized=harmonized))
    if len(examples) < len(patch_ids):
        raise InputError(f"{out / CUBES} does not hold the pixels of all these patches.")
    return examples


def _spread(tiles: pd.DataFrame, count: int) -> list[Path]:
    """Part files of a few tiles, spread over seasons: of each season the tile with most kept patches, and so on."""
    ordered = tiles.sort_values(["kept", "tile"], ascending=[False, True])
    turn = ordered.groupby(ordered["season"].fillna("")).cumcount()
    return list(ordered.assign(turn=turn).sort_values("turn", kind="stable")["part"].head(count))


def _kept(part: Path) -> pd.DataFrame:
    rows: pd.DataFrame = read_rows(part, _COLUMNS, status=KEPT).to_pandas()
    return rows


def _clear(part: Path) -> pd.DataFrame:
    rows = _kept(part)
    covered = rows[list(_FRACTIONS)].fillna(0).sum(axis=1) + rows[list(_FLAGS.values())].eq(True).sum(axis=1)
    return rows[covered == 0]


def _first(rows: pd.DataFrame, by: str, count: int = 1) -> list[_Row]:
    """Rows with the smallest values; between equal ones, the lot decides."""
    lots = seeded_hashes(rows["patch_id"].tolist(), _SEED)
    ordered = rows.assign(lot=lots).sort_values([by, "lot"]).head(count)
    return ordered.to_dict("records")  # type: ignore[return-value]


def _with_pixels(out: Path, chosen: list[tuple[_Row, str]], *, harmonized: bool) -> Iterator[Example]:
    for row, why in chosen:
        group = out / CUBES / group_of(str(row["tile"]), row["grid"])
        if not (group / MAP_NODE).is_dir():
            continue
        place = (row["x"], row["y"])
        codes = _window(group / MAP_NODE / MAP_NODE, *place)
        offsets = {} if harmonized else _offsets(out / CUBES / str(row["tile"]))
        yield Example(row, why, _natural(group / "r10m", place, offsets), codes)


def _natural(node: Path, place: tuple[int, int], offsets: Mapping[str, int]) -> npt.NDArray[np.float64] | None:
    if not node.is_dir():
        return None
    names = [str(name) for name in np.asarray(zarr.open_array(node / "band", mode="r")[:]).tolist()]
    if not set(NATURAL) <= set(names):
        return None
    pixels = _window(node / "dn", *place)
    bands = [pixels[names.index(name)] + float(offsets.get(name, 0)) for name in NATURAL]
    return np.stack(bands, axis=-1) / FULL_SCALE


def _window(path: Path, x: int, y: int) -> npt.NDArray[np.uint16]:
    """One patch of an array whose chunks are patches; its last two axes are ``(y, x)``."""
    array = open_array(path, "r")
    side = array.chunks[-1]
    return np.asarray(array[..., y * side : (y + 1) * side, x * side : (x + 1) * side])


def _offsets(group: Path) -> Mapping[str, int]:
    """Offset of each band of a tile, as the store has it."""
    offsets = zarr.open_group(group, mode="r").attrs.asdict().get("boa_add_offset")
    return {str(name): int(str(value)) for name, value in offsets.items()} if isinstance(offsets, Mapping) else {}
