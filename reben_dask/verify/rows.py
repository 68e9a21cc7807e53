"""Known rows of patches, of metadata files or tables of trees, and names that they demand."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reben_dask.formats.bands import ImageKind
from reben_dask.formats.columns import PATCH_ID, S1_NAME

Row = Mapping[str, Any]

_BATCH = 8_192


class Rows:
    """Rows of patches by ``patch_id``, about 200 bytes each, with the columns that all tables have.

    If rows are complete, patches without a row do not belong to the data.
    """

    def __init__(self, tables: Sequence[pa.Table] = (), *, is_complete: bool | None = None) -> None:
        self.is_complete = bool(tables) if is_complete is None else is_complete
        tables = tables or [pa.table({PATCH_ID: pa.array([], pa.string())})]
        names = [name for name in tables[0].column_names if all(name in table.column_names for table in tables)]
        together = pa.concat_tables([table.select(names) for table in tables])
        self.table = together.sort_by(PATCH_ID).combine_chunks()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.table.to_batches(_BATCH):
            yield from batch.to_pylist()

    def value(self, column: str, number: int | None) -> Any:
        """A value of a row; ``None`` without such a column."""
        return self.table[column][number].as_py() if column in self.table.column_names else None

    def row(self, number: int) -> dict[str, Any]:
        """One row."""
        found: dict[str, Any] = self.table.slice(number, 1).to_pylist()[0]
        return found

    def of_prefix(self, prefix: str) -> slice:
        """Rows whose names start with a prefix."""
        end = f"{prefix[:-1]}{chr(ord(prefix[-1]) + 1)}"
        return slice(*(_position(self._ids, edge) for edge in (prefix, end)))

    def names(self, kind: ImageKind) -> Names:
        """Names of images of a kind that the rows demand."""
        column = S1_NAME if kind is ImageKind.S1 else PATCH_ID
        return Names(self.table[column] if column in self.table.column_names else pa.chunked_array([], pa.string()))

    @cached_property
    def _ids(self) -> pa.Array:
        return self.table[PATCH_ID].drop_null().combine_chunks()


class Names:
    """Names in a column, and marks of those found; several rows may have one name, or none."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        order = pc.sort_indices(column)
        self._rows = order.to_numpy()
        self._names = column.take(order).drop_null().combine_chunks()
        self._is_found = np.zeros(len(self._names), bool)
        self._last = 0

    def __len__(self) -> int:
        return len(self._names)

    def find(self, name: str) -> int | None:
        """Number of the first row with a name; fast in ascending order."""
        if not self._is_at(self._last, name):
            self._last += 1
        if not self._is_at(self._last, name):
            self._last = _position(self._names, name)
        return int(self._rows[self._last]) if self._is_at(self._last, name) else None

    def mark(self, name: str) -> None:
        """Mark a name as found."""
        self.find(name)
        self._is_found[self._last] = True

    def missing(self) -> Iterator[str]:
        """Unmarked names."""
        for place in np.flatnonzero(~self._is_found).tolist():
            name = self._names[place].as_py()
            # Of equal names the first is marked.
            if not (place and self._is_at(place - 1, name)):
                yield name

    def _is_at(self, place: int, name: str) -> bool:
        return place < len(self._names) and self._names[place].as_py() == name


def _position(names: pa.Array, name: str) -> int:
    return bisect_left(names, name, key=lambda found: found.as_py())
