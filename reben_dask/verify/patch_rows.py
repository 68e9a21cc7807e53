"""Rows of kept patches by name: what a dataset's patch table, or a table of the trees, tells of one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from reben_dask.formats.columns import KEPT
from reben_dask.formats.names import tile_names
from reben_dask.stores.cube_reader import TileReader
from reben_dask.verify.expected import Expected
from reben_dask.verify.findings import Check, collect

PatchRow = Mapping[str, Any]

RowOf = Callable[[str], PatchRow | None]
"""Gives the row of a patch, with some or all columns of the patch table; ``None`` for one that is not known."""

_PARTS = 4
"""Tiles of which all rows are in memory."""


def no_rows(_: str) -> PatchRow | None:
    """Nothing is known of any patch."""
    return None


class PatchRows:
    """Kept patches of a patch table; best asked for tile after tile.

    Parameters
    ----------
    store : Path
        The Zarr store, whose tiles have attributes.
    parts : sequence of Path
        Part files of the patch table.
    expected : Expected
        How patches are named.
    """

    def __init__(self, store: Path, parts: Sequence[Path], expected: Expected) -> None:
        self._store, self._parts, self._names = store, {part.stem: part for part in parts}, expected.names
        self._rows = lru_cache(_PARTS)(_read)
        self._attributes = lru_cache(_PARTS)(self._read_attributes)

    def row(self, patch_id: str) -> PatchRow | None:
        """All columns of a patch; see :data:`RowOf`."""
        place = bisect_right(self._beginnings, (patch_id, "\U0010ffff")) - 1
        if place < 0:
            return None
        return self._rows(self._parts[self._beginnings[place][1]]).get(patch_id)

    def attributes(self, tile: str) -> Mapping[str, Any]:
        """What the Zarr store says of a tile."""
        return self._attributes(tile)

    def _read_attributes(self, tile: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = {}
        with collect(Check("the store")):
            found = TileReader(self._store, tile).attributes
        return found  # noqa: RET504 - mypy does not know that collect() may end the block

    @cached_property
    def _beginnings(self) -> list[tuple[str, str]]:
        """What names begin with, and the tile, ascending."""
        beginnings: list[tuple[str, str]] = []
        for tile, name in tile_names(sorted(self._parts)).items():
            # A file that is not named as a tile is not one, and must not keep others from being read.
            with suppress(IndexError):
                beginnings.append((self._names.beginning(name), tile))
        return sorted(beginnings)


def _read(part: Path) -> dict[str, PatchRow]:
    rows: dict[str, PatchRow] = {}
    with collect(Check("the patch table")):
        table = pq.read_table(part, filters=[("status", "=", KEPT)], partitioning=None)
        rows = {row["patch_id"]: row for row in table.drop_columns(["geometry", "bbox"]).to_pylist()}
    return rows  # noqa: RET504 - as above
