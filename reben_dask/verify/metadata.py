"""Rows of patches of any origin: metadata files, and tables of trees without a patch table."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from itertools import groupby, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reben_dask.errors import InputError
from reben_dask.formats import columns
from reben_dask.formats.bands import ImageKind
from reben_dask.formats.columns import (
    FLAGS,
    LABELS,
    PATCH_ID,
    S1_NAME,
    S2V1_NAME,
    SPLIT,
    SPLITS,
    decode_classes,
    flagged,
    patch_table_schema,
)
from reben_dask.formats.dataset import FLAGGED_METADATA_FILE, METADATA_FILE
from reben_dask.formats.names import NameTemplate, parse_patch_name
from reben_dask.formats.trees.layout import TableRow
from reben_dask.verify.expected import Expected
from reben_dask.verify.findings import Check, collect, differences, schema_faults
from reben_dask.wording import counted

_CHECKS = ("Patch ids", "Pairs of names", "Each patch listed once", "Splits", "Labels")
_FLAGS_CHECK = "Flagged patches listed separately"
_IN_FLAGGED = "in_flagged_file"
"""Column of metadata rows: true in the file of flagged patches."""

_PARTNERS = {"S1": S1_NAME, "S2": S2V1_NAME}

Row = Mapping[str, Any]

_BATCH = 8_192
"""Rows as Python objects at a time."""


class Rows:
    """Rows of patches by ``patch_id``, with the columns that all tables have.

    If rows are complete, patches without a row do not belong to the data.
    """

    def __init__(self, tables: Sequence[pa.Table] = (), *, is_complete: bool | None = None) -> None:
        self.is_complete = bool(tables) if is_complete is None else is_complete
        tables = tables or [pa.table({PATCH_ID: pa.array([], pa.string())})]
        names = [name for name in tables[0].column_names if all(name in table.column_names for table in tables)]
        self.table = pa.concat_tables([table.select(names) for table in tables]).sort_by(PATCH_ID).combine_chunks()
        self._numbers = cache(self._number)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.table.to_batches(_BATCH):
            yield from batch.to_pylist()

    def value(self, column: str, number: int | None) -> Any:
        """Return a value of a row; ``None`` without such a column."""
        return self.table[column][number].as_py() if column in self.table.column_names else None

    def row(self, number: int) -> dict[str, Any]:
        """One row."""
        found: dict[str, Any] = self.table.slice(number, 1).to_pylist()[0]
        return found

    def of_prefix(self, prefix: str) -> slice:
        """Rows whose names start with a prefix."""
        end = f"{prefix[:-1]}{chr(ord(prefix[-1]) + 1)}"
        return slice(*(bisect_left(self._ids, edge, key=lambda found: found.as_py()) for edge in (prefix, end)))

    def names(self, kind: ImageKind) -> Names:
        """Names of images of a kind that the rows demand."""
        return Names(self._numbers(S1_NAME if kind is ImageKind.S1 else PATCH_ID))

    @cached_property
    def _ids(self) -> pa.Array:
        return self.table[PATCH_ID].drop_null().combine_chunks()

    def _number(self, column: str) -> dict[str, int]:
        """Map each name to the number of its first row."""
        found = self.table[column].to_pylist() if column in self.table.column_names else []
        numbers = {name: number for number, name in reversed([*enumerate(found)])}
        numbers.pop(None, None)
        return numbers


class Names:
    """Row numbers by name, and marks of the names that were found."""

    def __init__(self, numbers: Mapping[str, int]) -> None:
        self._numbers = numbers
        self._is_found = bytearray(max(numbers.values(), default=-1) + 1)

    def __len__(self) -> int:
        return len(self._numbers)

    def find(self, name: str) -> int | None:
        """Find the number of the first row with a name."""
        return self._numbers.get(name)

    def mark(self, name: str) -> None:
        """Mark a name as found."""
        self._is_found[self._numbers[name]] = True

    def missing(self) -> list[str]:
        """Unmarked names, in order."""
        return sorted(name for name, number in self._numbers.items() if not self._is_found[number])


def compare_rows(found: Iterable[Row], wanted: Iterable[Row], too_few: str, too_many: str) -> Iterator[str]:
    """Phrases for differences between rows of patches, both in the order of names, in the columns of both."""
    merged = heapq.merge(zip(repeat(0), found), zip(repeat(1), wanted), key=_patch_id)
    for patch_id, group in groupby(merged, key=_patch_id):
        there: tuple[list[Row], list[Row]] = [], []
        for side, row in group:
            there[side].append(row)
        if not (there[0] and there[1]):
            yield f"{patch_id} {too_few if there[1] else too_many}"
        else:
            common = {name: value for name, value in there[1][0].items() if name in there[0][0]}
            yield from (f"{patch_id} {fault}" for fault in differences(there[0][0], common))


def _patch_id(numbered: tuple[int, Row]) -> str:
    return str(numbered[1][PATCH_ID])


def find_metadata(folders: Iterable[Path]) -> list[Path]:
    """Metadata files of the first folder that has any; both, though one may be missing."""
    pairs = ([folder / METADATA_FILE, folder / FLAGGED_METADATA_FILE] for folder in folders)
    return next((files for files in pairs if any(file.is_file() for file in files)), [])


def verify_metadata(files: Sequence[Path], expected: Expected, *, own: bool) -> tuple[Rows, list[Check]]:
    """Check metadata files by themselves; ``own`` ones must be in order, and have the columns of this program.

    The file of flagged patches is known by its name. If a file cannot be read, there are no rows.
    """
    sound, order = Check("Metadata files"), Check("Rows in the order of their names")
    classes, tables = set(expected.nomenclature.classes), []
    for path in files:
        with collect(sound, path.name):
            tables.append(_read_metadata(path, expected, classes, (sound, order), own=own))
    if len(tables) < len(files):
        return Rows(), [sound]
    rows = Rows(tables)
    sound.summary = f"{counted(len(files), 'file')}, {counted(len(rows), 'row')}"
    return rows, [sound, order, *_check_rows(rows, expected, classes)]


def _read_metadata(
    path: Path, expected: Expected, classes: set[str], checks: tuple[Check, Check], *, own: bool
) -> pa.Table:
    """Read a file with the types of the published ones; add its classes to ``classes``."""
    sound, order = checks
    if not path.is_file():
        raise InputError("is missing")
    with pq.ParquetFile(path) as file:
        found = file.schema_arrow
        wanted = columns.schema(
            name for name in columns.METADATA if own or name in columns.PUBLISHED_METADATA or name in found.names
        )
        faults, index = schema_faults(found, wanted)
        sound.add(faults + [f"also has the column {name}" for name in index if own], path.name)
        if index and not own:
            sound.notes.append(f"{path.name} also has the index {', '.join(index)}")
        if missing := [name for name in wanted.names if name not in found.names]:
            raise InputError(f"without {', '.join(missing)}, rows cannot be read")
        listed = decode_classes(found.metadata)
        classes.update(listed or ())
        if own and listed != expected.nomenclature.classes:
            other = "carries another class list than the run record"
            sound.problem(f"{path.name} {'does not carry its class list' if listed is None else other}")
        further = [name for name in expected.recipe.extra_columns if name in found.names]
        read = file.read([*wanted.names, *further])
    ids = read[PATCH_ID]
    backwards = np.flatnonzero(pc.fill_null(pc.less(ids[1:], ids[:-1]), False).to_numpy()).tolist()
    if own:
        order.add(f"{path.name}: {ids[row + 1]} after {ids[row]}" for row in backwards)
    elif backwards:
        order.notes.append(f"{path.name} is in another order")
    table = read.select([*wanted.names, *further]).cast(
        pa.schema([*wanted, *(read.schema.field(name) for name in further)])
    )
    return table.append_column(_IN_FLAGGED, pa.array([path.name == FLAGGED_METADATA_FILE] * len(read), pa.bool_()))


def _check_rows(rows: Rows, expected: Expected, classes: set[str]) -> list[Check]:
    ids, pairs, once, splits, labels = (Check(title) for title in _CHECKS)
    flags, names = Check(_FLAGS_CHECK), expected.names
    splits_of = {name: values for name, values in expected.splits_of.items() if name in rows.table.column_names}
    label_fault = cache(lambda found: _label_fault(found, classes, may_be_empty=expected.labels_may_be_empty))
    last: Row = {PATCH_ID: None}
    for row in rows:
        patch_id, is_flagged, is_in_flagged = row[PATCH_ID], flagged(row), row[_IN_FLAGGED]
        if names and names.parse(patch_id) is None:
            ids.problem(f"{patch_id} is not the name of a Sentinel-2 patch")
        if fault := pair_fault(row, names):
            pairs.problem(f"{patch_id} {fault}")
        if patch_id is not None and patch_id == last[PATCH_ID]:
            once.problem(f"{patch_id} is listed {'twice' if is_in_flagged == last[_IN_FLAGGED] else 'in both files'}")
        for name, allowed in splits_of.items():
            splits.add([f"is in the {name} {row[name]!r}"] if row[name] not in allowed else [], patch_id)
        if fault := label_fault(None if row[LABELS] is None else tuple(row[LABELS])):
            labels.problem(f"{patch_id} {fault}")
        if None in (row[flag] for flag in FLAGS):
            flags.problem(f"{patch_id} has a null flag")
        elif is_flagged != is_in_flagged:
            other = METADATA_FILE if is_flagged else FLAGGED_METADATA_FILE
            flags.problem(f"{patch_id} is {'' if is_flagged else 'not '}flagged, but in {other}")
        last = row
    ids.not_checked = None if names else "only a run record defines the patch names"
    none, unpaired = (rows.table[name].null_count for name in (SPLIT, S1_NAME))
    pairs.summary = f"{counted(len(rows) - unpaired, 'patch')} with a Sentinel-1 partner"
    splits.summary = ", ".join(SPLITS) + (f"; {counted(none, 'patch')} in none" if none else "")
    labels.summary = f"{label_fault.cache_info().misses:,} combinations of {len(classes)} classes"
    return [ids, pairs, once, splits, labels, flags]


def _label_fault(labels: tuple[str, ...] | None, classes: set[str], *, may_be_empty: bool) -> str | None:
    if labels is None or not all(labels):
        return "has labels that are null or without a name"
    if not labels:
        return None if may_be_empty else "has no label"
    if unknown := sorted(set(labels) - classes):
        return f"has the unknown label {unknown[0]!r}"
    if list(labels) != sorted(set(labels)):
        return f"has labels that are not sorted, or not distinct ({', '.join(labels)})"
    return None


def pair_fault(row: Row, names: NameTemplate | None) -> str | None:
    """Phrase for foreign partners: indices, and for Sentinel-1 the MGRS tile, must be those of the patch."""
    partners = {satellite: row[column] for satellite, column in _PARTNERS.items() if row.get(column) is not None}
    parsed = names.parse(row[PATCH_ID]) if names and partners else None
    if parsed is None:
        return None
    for satellite, partner in partners.items():
        try:
            found = parse_patch_name(partner)
        except InputError:
            found = None
        if found is None or not found.scene.startswith(satellite):
            return f"has the partner {partner!r}, which is not the name of a {satellite} patch"
        if parsed.xy not in (None, (found.x, found.y)):
            return f"has the partner {partner}, which has other indices"
        if satellite == "S1" and parsed.mgrs not in (None, found.scene.rpartition("_")[2]):
            return f"has the partner {partner}, which is of another tile"
    return None


def read_tree_tables(path: Path, expected: Expected, rows: Rows) -> tuple[Rows, list[Check]]:
    """Check the tables beside trees, also against rows of metadata files, if any; return their rows."""
    layout, check = expected.tree_layout, Check("Tables of the trees", "patch")
    folders = (folder for folder in (path, path.parent) if any((folder / name).exists() for name in layout.tables))
    folder = next(folders, None)
    if folder is None:
        return Rows(), []
    if layout.read_tables is None:
        check.not_checked = f"those of the tree {expected.recipe.tree} can only be checked with their patch table"
        return Rows(), [check]
    check.add(f"{name} is missing" for name in layout.table_files if not (folder / name).is_file())
    tables, is_whole = list[pa.Table](), False
    with collect(check):
        lines = _sound_lines(layout.read_tables(folder), expected, check)
        while batch := [line.row for line in islice(lines, _BATCH)]:
            types = patch_table_schema(expected.recipe.extra_columns)
            tables.append(pa.Table.from_pylist(batch, pa.schema([types.field(name) for name in batch[0]])))
        is_whole = True
    found = Rows(tables, is_complete=bool(tables) and layout.is_listed is None)
    check.count = len(found)
    names = Counter(found.table[PATCH_ID].to_pylist())
    check.add(f"{name} is listed {number} times" for name, number in names.items() if number > 1)
    wanted = (row for row in rows if row[PATCH_ID] and (layout.is_listed or bool)(row))
    if rows.is_complete and is_whole:
        check.add(compare_rows(found, wanted, "is not listed, but in the metadata", "is listed, but should not be"))
    return found, [check]


def _sound_lines(lines: Iterable[TableRow], expected: Expected, check: Check) -> Iterator[TableRow]:
    """Lines of patches by their names; problems are reported."""
    for line in lines:
        row, names, faults = line.row, expected.names, [*line.faults]
        patch_id = str(row.get(PATCH_ID))
        if row and names and names.parse(patch_id):
            fault = pair_fault(row, names)
            faults += [f"has {patch_id}, which {fault}"] if fault else []
            foreign = (key for key, values in expected.values.items() if values and row.get(key) not in (None, *values))
            faults += [f"has {patch_id} in the {key} {row[key]!r}, which the recipe lacks" for key in foreign]
            parts = ((key, text) for key, text in line.name_parts.items() if key in names.fields)
            faults += [f"has the {key} {text}, but is of {patch_id}" for key, text in parts if text not in patch_id]
            yield line
        elif row:
            faults.append(f"has {patch_id!r}, which is not the name of a patch")
        check.add(faults, line.where)
