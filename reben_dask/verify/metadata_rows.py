"""The rows of metadata files, in the order of their patch ids, and what they ask for.

They are all in memory, some 200 bytes a patch. Nothing else of a verification grows with their number.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reben_dask.formats.columns import METADATA_SCHEMA
from reben_dask.verify.expected import Kind

APART = "apart"
"""Column that says which file a row is from: true for the one of patches with snow, cloud or shadow."""

_BATCH = 8_192

Row = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """Rows of all metadata files of a dataset.

    Parameters
    ----------
    table : pyarrow.Table
        The columns of the published files and :data:`APART`, ascending by ``patch_id``; see :func:`gather`.
    """

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[Row]:
        """Rows as dictionaries, in their order."""
        for batch in self.table.to_batches(_BATCH):
            yield from batch.to_pylist()

    def value(self, column: str, row: int) -> Any:
        """One value of one row."""
        return self.table[column][row].as_py()

    def beginning(self, beginning: str) -> slice:
        """Rows of the patches whose names begin so."""
        # Between a text and the one with the next last letter are all that begin with it.
        end = f"{beginning[:-1]}{chr(ord(beginning[-1]) + 1)}"
        return slice(*(_place(self._ids, edge) for edge in (beginning, end)))

    def names(self, kind: Kind) -> Names:
        """Names of what the rows ask for: patches, or their Sentinel-1 partners."""
        return Names(self.table["s1_name" if kind is Kind.S1 else "patch_id"])

    @cached_property
    def _ids(self) -> pa.Array:
        return self.table["patch_id"].drop_null().combine_chunks()


class Names:
    """Names of one kind that rows ask for, and which of them were met.

    Parameters
    ----------
    column : pyarrow.ChunkedArray of str
        One for each row. Rows without a name ask for nothing, and several with the same for one thing.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        order = pc.sort_indices(column)
        self._rows = order.to_numpy()
        self._names = column.take(order).drop_null().combine_chunks()
        self._met = np.zeros(len(self._names), bool)
        self._next = 0

    def __len__(self) -> int:
        return len(self._names)

    def meet(self, name: str) -> int | None:
        """Note that something of this name was met, and give the first row that asks for it, if any does."""
        if not self._is_at(self._next, name):
            self._next = _place(self._names, name)
        place = self._next
        if not self._is_at(place, name):
            return None
        self._met[place] = True
        self._next = place + 1
        return int(self._rows[place])

    def find(self, name: str) -> int | None:
        """The first row that asks for a name, if any does."""
        place = _place(self._names, name)
        return int(self._rows[place]) if self._is_at(place, name) else None

    def missing(self) -> Iterator[str]:
        """Names that were not met."""
        for place in np.flatnonzero(~self._met).tolist():
            name = self._names[place].as_py()
            # Of several rows that ask for the same, the first was noted.
            if not (place and self._is_at(place - 1, name)):
                yield name

    def _is_at(self, place: int, name: str) -> bool:
        return place < len(self._names) and self._names[place].as_py() == name


def gather(tables: Sequence[pa.Table]) -> Rows:
    """All rows together, in the order of their patch ids, with the columns that all have."""
    names = [name for name in tables[0].column_names if all(name in table.column_names for table in tables)]
    return Rows(pa.concat_tables([table.select(names) for table in tables]).sort_by("patch_id").combine_chunks())


def in_file(rows: pa.Table, *, apart: bool) -> pa.Table:
    """Rows of a metadata file with the types of the published files, :data:`APART`, and what columns there are more."""
    further = [name for name in rows.column_names if name not in METADATA_SCHEMA.names]
    found = rows.select(METADATA_SCHEMA.names).cast(METADATA_SCHEMA)
    for name in further:
        found = found.append_column(name, rows[name])
    return found.append_column(APART, pa.array([apart] * rows.num_rows, pa.bool_()))


def _place(names: pa.Array, name: str) -> int:
    return bisect_left(names, name, key=lambda found: found.as_py())
