"""The rows of metadata files in a compact form, in the order of their patch ids.

Sorting them takes 800 bytes a patch at its peak (430 MB for the published 549,488, measured). Nothing else of a
verification grows with their number.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from reben_dask.stores.lmdb_values import MAP_SUFFIX
from reben_dask.stores.metadata import SCHEMA
from reben_dask.verify.expected import Kind

SEPARATOR = "\n"
"""Between the labels of a row; a row with null labels has two of them and nothing else."""

APART = "apart"
"""Column that says which file a row is from: true for the one of patches with snow, cloud or shadow."""

_AT_ONCE = 65_536
_CODED = ("labels", "split", "country")
_BELOW = {Kind.S2: "(_[^_]*){2}$", Kind.S1: "(_[^_]*){3}$", Kind.MAP: "(_[^_]*){2}$"}
"""What the name of a patch has beyond that of the folder above it: its indices, for Sentinel-1 also its tile."""


class Wanted(NamedTuple):
    """A value or folder that a row asks for: where it stands in the order of all, its kind, and its row."""

    key: Any
    kind: Kind
    row: int


@dataclass(frozen=True)
class Rows:
    """Rows of all metadata files of a dataset.

    Parameters
    ----------
    table : pyarrow.Table
        The columns of the published files and :data:`APART`, ascending by ``patch_id``, as :func:`compact` gives them.
    """

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def label_sets(self) -> list[tuple[str, ...]]:
        """Every combination of labels that occurs."""
        dictionary = self.table["labels"].chunk(0).dictionary if len(self) else []
        return [tuple(str(text).split(SEPARATOR)) if str(text) else () for text in dictionary]

    @cached_property
    def label_codes(self) -> npt.NDArray[np.int32]:
        """For each row, the position of its labels in :attr:`label_sets`."""
        chunks = [chunk.indices.to_numpy() for chunk in self.table["labels"].chunks]
        return np.concatenate([np.zeros(0, np.int32), *chunks])

    def labels(self, row: int) -> tuple[str, ...]:
        """Labels of one row."""
        return self.label_sets[int(self.label_codes[row])]

    def text(self, column: str, row: int) -> str:
        """A text of one row, for messages."""
        return str(self.table[column][row].as_py())

    def of_tile(self, tile: str) -> tuple[int, int]:
        """First row of a tile, and the row after its last."""
        return self._position(f"{tile}_"), self._position(f"{tile}`")

    def wanted_keys(self) -> Iterator[Wanted]:
        """Keys of all values in an LMDB that the rows ask for, as bytes, ascending."""
        ids = self.table["patch_id"]
        suffix, nothing = pa.scalar(MAP_SUFFIX, pa.large_string()), pa.scalar("", pa.large_string())
        names = {
            Kind.S2: ids,
            Kind.S1: self.table["s1_name"],
            Kind.MAP: pc.binary_join_element_wise(ids, suffix, nothing),
        }
        return heapq.merge(*(_wanted_keys(kind, column) for kind, column in names.items()), key=itemgetter(0))

    def wanted_folders(self, kind: Kind) -> Iterator[Wanted]:
        """Folders of a GeoTIFF tree that the rows ask for, as the pair of upper folder and name, ascending."""
        names = self.table["s1_name" if kind is Kind.S1 else "patch_id"]
        above = pc.replace_substring_regex(names, _BELOW[kind], "")
        for name, row in _ascending(pa.table([above, names], ["above", "name"])):
            yield Wanted((upper_folder(name, kind), name), kind, row)

    def _position(self, text: str) -> int:
        low, high = 0, len(self)
        ids = self.table["patch_id"]
        while low < high:
            middle = (low + high) // 2
            name = ids[middle].as_py()
            if name is not None and name < text:
                low = middle + 1
            else:
                high = middle
        return low


def upper_folder(name: str, kind: Kind) -> str:
    """Folder of a GeoTIFF tree in which a patch folder stands: the tile, or the Sentinel-1 scene."""
    return re.sub(_BELOW[kind], "", name)


def compact(rows: pa.Table, *, apart: bool) -> pa.Table:
    """Rows of a metadata file in the form that :class:`Rows` holds; columns as in the published files."""
    rows = rows.select(SCHEMA.names).cast(SCHEMA)
    joined = pc.fill_null(pc.binary_join(rows["labels"].combine_chunks(), SEPARATOR), 2 * SEPARATOR)
    arrays = {name: rows[name].combine_chunks() for name in SCHEMA.names} | {"labels": joined}
    for name in ("patch_id", "s1_name", "s2v1_name"):
        arrays[name] = arrays[name].cast(pa.large_string())
    for name in _CODED:
        arrays[name] = arrays[name].dictionary_encode()
    return pa.table({**arrays, APART: pa.array([apart] * rows.num_rows, pa.bool_())})


def gather(tables: list[pa.Table]) -> Rows:
    """All rows together, in the order of their patch ids."""
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    return Rows(table.take(pc.sort_indices(table["patch_id"])).combine_chunks())


def _wanted_keys(kind: Kind, names: pa.ChunkedArray) -> Iterator[Wanted]:
    for name, row in _ascending(pa.table([names], ["name"])):
        yield Wanted(name.encode(), kind, row)


def _ascending(names: pa.Table) -> Iterator[tuple[str, int]]:
    """The last column, in the order of all columns, with its rows; without nulls."""
    order = pc.sort_indices(names, [(column, "ascending") for column in names.column_names])
    column = names[names.column_names[-1]]
    for start in range(0, len(order), _AT_ONCE):
        rows = order.slice(start, _AT_ONCE)
        for name, row in zip(column.take(rows).to_pylist(), rows.to_pylist(), strict=True):
            if name is not None:
                yield name, row
