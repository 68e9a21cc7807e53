"""Columns of tables: what a file has, beside what it must have."""

from __future__ import annotations

import pyarrow as pa
from pyarrow import types


def schema_faults(found: pa.Schema, wanted: pa.Schema) -> tuple[list[str], list[str]]:
    """Compare the columns of a file with those it must have.

    Offsets of 64 bits are as good as those of 32, and names of list elements do not count: no reader sees either.

    Parameters
    ----------
    found : pyarrow.Schema
        Columns of the file.
    wanted : pyarrow.Schema
        Columns that it must have, in their order.

    Returns
    -------
    faults : list of str
        Phrases such as ``has no column split``.
    index : list of str
        Columns beyond those wanted that pandas takes for the index, so that its users never see them.
    """
    described = (found.pandas_metadata or {}).get("index_columns", [])
    index = [name for name in found.names if name in described and name not in wanted.names]
    columns = [name for name in found.names if name not in index]
    faults = [f"has no column {name}" for name in wanted.names if name not in columns]
    faults += [f"also has the column {name}" for name in columns if name not in wanted.names]
    if not faults and columns != wanted.names:
        faults.append(f"has its columns in another order ({', '.join(columns)})")
    for field in wanted:
        if columns.count(field.name) == 1 and _kind(found.field(field.name).type) != _kind(field.type):
            faults.append(f"has {field.name} as {found.field(field.name).type}, not {field.type}")
    return faults, index


def _kind(kind: pa.DataType) -> str:
    if types.is_list(kind) or types.is_large_list(kind):
        return f"list<{_kind(kind.value_type)}>"
    return _kind(kind.value_type) if types.is_dictionary(kind) else str(kind).removeprefix("large_")
