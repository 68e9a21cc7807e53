"""The metadata files: columns and types, order, names, splits, labels, flags and pairs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reben_dask.errors import InputError
from reben_dask.formats.columns import CLASSES_KEY, METADATA_SCHEMA, SPLITS
from reben_dask.formats.dataset import FLAGGED_METADATA_FILE, METADATA_FILE
from reben_dask.formats.names import PatchName, parse_patch_name
from reben_dask.verify.expected import Expected
from reben_dask.verify.findings import Check, collect
from reben_dask.verify.metadata_rows import APART, Row, Rows, gather, in_file
from reben_dask.verify.names import UNKNOWN, NamePattern
from reben_dask.verify.schemas import schema_faults
from reben_dask.wording import counted

_PARTNERS = {"S1": "s1_name", "S2": "s2v1_name"}


def find_metadata(folders: Sequence[Path]) -> list[Path]:
    """The metadata files of the first of some folders that has any; both, though one of them may be missing."""
    for folder in folders:
        files = [folder / METADATA_FILE, folder / FLAGGED_METADATA_FILE]
        if any(file.is_file() for file in files):
            return files
    return []


def verify_metadata(files: Sequence[Path], expected: Expected, *, own: bool) -> tuple[Rows | None, list[Check]]:
    """Check metadata files by themselves.

    Parameters
    ----------
    files : sequence of Path
        The main file and the one for snow, cloud and shadow, known by their names; files of other names hold rows of
        both sorts.
    expected : Expected
        Gives the class list, where a file does not carry one.
    own : bool
        Whether this program wrote them: then rows are in order, and no other column is among them.

    Returns
    -------
    rows : Rows or None
        All rows; ``None`` if a file cannot be read, as then nobody knows what belongs to the dataset.
    checks : list of Check
        What was found.
    """
    reader = _Reader(expected, own=own)
    tables = [reader.read(file) for file in files]
    usable = [table for table in tables if table is not None]
    if len(usable) < len(tables):
        return None, [reader.files]
    rows = gather(usable)
    reader.files.summary = f"{counted(len(files), 'file')}, {counted(len(rows), 'row')}"
    return rows, [reader.files, reader.order, *_check_rows(rows, expected, reader.classes)]


class _Reader:
    """Reads the files, one after the other."""

    def __init__(self, expected: Expected, *, own: bool) -> None:
        self.files, self.order = Check("Metadata files"), Check("Rows in the order of their names")
        self.classes: frozenset[str] = frozenset(expected.nomenclature.classes)
        self._expected, self._own = expected, own

    def read(self, path: Path) -> pa.Table | None:
        rows = None
        with collect(self.files, path.name):
            if not path.is_file():
                raise InputError("is missing")
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow
                self._look_at_schema(path, schema)
                self._look_at_classes(path, schema)
                further = [name for name in self._expected.extra_columns if name in schema.names]
                rows = in_file(file.read([*METADATA_SCHEMA.names, *further]), apart=path.name == FLAGGED_METADATA_FILE)
                self._look_at_order(path, rows["patch_id"])
        return rows

    def _look_at_schema(self, path: Path, schema: pa.Schema) -> None:
        faults, index = schema_faults(schema, METADATA_SCHEMA)
        if self._own:
            faults += [f"also has the column {name}" for name in index]
        elif index:
            self.files.notes.append(f"{path.name} also has the index {', '.join(index)}")
        self.files.add(f"{path.name} {fault}" for fault in faults)
        if missing := [name for name in METADATA_SCHEMA.names if name not in schema.names]:
            raise InputError(f"without {', '.join(missing)}, rows cannot be read")

    def _look_at_classes(self, path: Path, schema: pa.Schema) -> None:
        carried = (schema.metadata or {}).get(CLASSES_KEY)
        if carried is None:
            if self._own:
                self.files.problem(f"{path.name} does not carry its class list")
            return
        classes = tuple(json.loads(carried))
        self.classes |= frozenset(classes)
        if self._own and classes != self._expected.nomenclature.classes:
            self.files.problem(f"{path.name} carries another class list than the run record")

    def _look_at_order(self, path: Path, ids: pa.ChunkedArray) -> None:
        backwards = np.flatnonzero(pc.fill_null(pc.less(ids[1:], ids[:-1]), False).to_numpy()).tolist()
        if self._own:
            self.order.add(f"{path.name}: {ids[row + 1]} after {ids[row]}" for row in backwards)
        elif backwards:
            self.order.notes.append(f"{path.name} is in another order")


def _check_rows(rows: Rows, expected: Expected, classes: frozenset[str]) -> list[Check]:
    """Ask the same questions of each row."""
    names = rows.table.column_names
    label_fault = cache(partial(_label_fault, classes=classes, may_be_empty=expected.labels_may_be_empty))
    split_fault = partial(_split_fault, sets={name: sets for name, sets in expected.splits_of.items() if name in names})
    is_named = expected.patch_name != UNKNOWN
    questions: dict[str, Callable[[Row], str | None]] = {
        "Patch ids": partial(_name_fault, names=expected.names) if is_named else lambda _: None,
        "Pairs of names": partial(pair_fault, names=expected.names),
        "Each patch listed once": _Once(),
        "Splits": split_fault,
        "Labels": lambda row: label_fault(None if row["labels"] is None else tuple(row["labels"])),
        "Snow, cloud and shadow apart": _flag_fault,
    }
    checks = {title: Check(title) for title in questions}
    paired = apart = 0
    for row in rows:
        paired += row["s1_name"] is not None
        apart += row["split"] is None
        for title, question in questions.items():
            fault = question(row)
            if fault is not None:
                checks[title].problem(f"{row['patch_id']} {fault}")
    if not is_named:
        checks["Patch ids"].not_checked = "how patches are named is known from the run record alone"
    checks["Pairs of names"].summary = f"{counted(paired, 'patch')} with a Sentinel-1 partner"
    checks["Splits"].summary = ", ".join(SPLITS) + (f"; {counted(apart, 'patch')} in none" if apart else "")
    checks["Labels"].summary = f"{label_fault.cache_info().misses:,} combinations of {len(classes)} classes"
    return list(checks.values())


def _parse(name: str | None, satellite: str) -> PatchName | None:
    try:
        parsed = parse_patch_name(name or "")
    except InputError:
        return None
    return parsed if parsed.scene.startswith(satellite) else None


def _name_fault(row: Row, names: NamePattern) -> str | None:
    return "is not the name of a Sentinel-2 patch" if names.read(row["patch_id"]) is None else None


def pair_fault(row: Row, names: NamePattern) -> str | None:
    """How the partners of a row are not those of its patch, as a phrase.

    The names of one place have the same indices in all datasets, and those of Sentinel-1 the same tile.
    """
    partners = [(satellite, row[column]) for satellite, column in _PARTNERS.items() if row[column] is not None]
    told = names.read(row["patch_id"]) if partners else None
    if told is None:
        return None
    for satellite, partner in partners:
        parsed = _parse(partner, satellite)
        if parsed is None:
            return f"has the partner {partner!r}, which is not the name of a {satellite} patch"
        if told.place not in (None, (parsed.x, parsed.y)):
            return f"has the partner {partner}, which has other indices"
        if satellite == "S1" and told.mgrs not in (None, parsed.scene.rpartition("_")[2]):
            return f"has the partner {partner}, which is of another tile"
    return None


def _split_fault(row: Row, sets: Mapping[str, tuple[str | None, ...]]) -> str | None:
    for column, known in sets.items():
        if row[column] not in known:
            return f"is in the {column} {row[column]!r}"
    return None


class _Once:
    """Whether each patch has one row; rows come in the order of their names."""

    def __init__(self) -> None:
        self._last: Row = {"patch_id": None}

    def __call__(self, row: Row) -> str | None:
        last, self._last = self._last, row
        if row["patch_id"] is None or row["patch_id"] != last["patch_id"]:
            return None
        return "is listed twice" if row[APART] == last[APART] else "is listed in both files"


def _label_fault(labels: tuple[str, ...] | None, classes: frozenset[str], *, may_be_empty: bool) -> str | None:
    if labels is None or not all(labels):
        return "has labels that are null or without a name"
    if not labels:
        return None if may_be_empty else "has no label"
    if unknown := sorted(set(labels) - classes):
        return f"has the unknown label {unknown[0]!r}"
    if list(labels) != sorted(set(labels)):
        return f"has labels that are not sorted, or not distinct ({', '.join(labels)})"
    return None


def _flag_fault(row: Row) -> str | None:
    flags = row["contains_seasonal_snow"], row["contains_cloud_or_shadow"]
    if None in flags:
        return "has a null flag"
    if any(flags) == row[APART]:
        return None
    return (
        f"is flagged, but stands in {METADATA_FILE}"
        if any(flags)
        else f"is not flagged, but stands in {FLAGGED_METADATA_FILE}"
    )
