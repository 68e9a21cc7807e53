"""The metadata files: columns and types, order, names, splits, labels, flags and pairs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reben_dask.errors import InputError
from reben_dask.patches.names import PatchName, parse_patch_name
from reben_dask.patches.splits import SPLITS
from reben_dask.stores.metadata import METADATA, SCHEMA, SNOW_CLOUD_METADATA
from reben_dask.stores.patch_table import CLASSES_KEY
from reben_dask.verify.expected import Expected
from reben_dask.verify.findings import Check, collect, counted
from reben_dask.verify.rows import APART, Rows, compact, gather
from reben_dask.verify.schemas import schema_faults

_BATCH = 65_536
_FLAGS = ("contains_seasonal_snow", "contains_cloud_or_shadow")


def find_metadata(folders: Sequence[Path]) -> list[Path]:
    """The metadata files of the first of some folders that has any; both, though one of them may be missing."""
    for folder in folders:
        files = [folder / METADATA, folder / SNOW_CLOUD_METADATA]
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
    return rows, [reader.files, reader.order, *_row_checks(rows, expected, reader.classes)]


class _Reader:
    """Reads the files, one batch of rows after the other."""

    def __init__(self, expected: Expected, *, own: bool) -> None:
        self.files, self.order = Check("Metadata files"), Check("Rows in the order of their names")
        self.classes: frozenset[str] = frozenset(expected.nomenclature.classes)
        self._expected, self._own = expected, own

    def read(self, path: Path) -> pa.Table | None:
        with collect(self.files, path.name):
            if not path.is_file():
                raise InputError("is missing")
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow
                self._look_at_schema(path, schema)
                self._look_at_classes(path, schema)
                apart = path.name == SNOW_CLOUD_METADATA
                batches = file.iter_batches(_BATCH, columns=SCHEMA.names)
                tables = [compact(pa.Table.from_batches([batch]), apart=apart) for batch in batches]
            nothing = compact(SCHEMA.empty_table(), apart=apart)
            table = pa.concat_tables([nothing, *tables]).unify_dictionaries().combine_chunks()
            self._look_at_order(path, table["patch_id"])
            return table
        return None

    def _look_at_schema(self, path: Path, schema: pa.Schema) -> None:
        faults, index = schema_faults(schema, SCHEMA)
        if self._own:
            faults += [f"also has the column {name}" for name in index]
        elif index:
            self.files.notes.append(f"{path.name} also has the index {', '.join(index)}")
        self.files.add(f"{path.name} {fault}" for fault in faults)
        if missing := [name for name in SCHEMA.names if name not in schema.names]:
            raise InputError(f"without {', '.join(missing)}, rows cannot be read")

    def _look_at_classes(self, path: Path, schema: pa.Schema) -> None:
        carried = (schema.metadata or {}).get(CLASSES_KEY)
        known = self._expected.nomenclature.classes
        if carried is None:
            if self._own:
                self.files.problem(f"{path.name} does not carry its class list")
            return
        classes = tuple(json.loads(carried))
        self.classes |= frozenset(classes)
        if self._own and classes != known:
            self.files.problem(f"{path.name} carries another class list than the run record")

    def _look_at_order(self, path: Path, ids: pa.ChunkedArray) -> None:
        backwards = _positions(pc.less(ids[1:], ids[:-1]))
        if not len(backwards):
            return
        if self._own:
            self.order.add(f"{path.name}: {ids[row + 1]} after {ids[row]}" for row in backwards.tolist())
        else:
            self.order.notes.append(f"{path.name} is in another order")


def _row_checks(rows: Rows, expected: Expected, classes: frozenset[str]) -> Iterator[Check]:
    yield from _names_and_pairs(rows)
    yield _once(rows)
    yield _splits(rows)
    yield _labels(rows, expected, classes)
    yield _flags(rows)


def _names_and_pairs(rows: Rows) -> list[Check]:
    names, pairs = Check("Patch ids"), Check("Pairs of names")
    for batch in rows.table.select(["patch_id", "s1_name", "s2v1_name"]).to_batches(_BATCH):
        for patch_id, *partners in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            name = _parse(patch_id)
            if name is None or not name.scene.startswith("S2"):
                names.problem(f"{patch_id!r} is not the name of a Sentinel-2 patch")
                continue
            fault = _pair_fault(name, *partners)
            if fault:
                pairs.problem(f"{patch_id}: {fault}")
    pairs.summary = f"{counted(len(rows) - rows.table['s1_name'].null_count, 'patch')} with a Sentinel-1 partner"
    return [names, pairs]


def _parse(name: Any) -> PatchName | None:
    try:
        return None if name is None else parse_patch_name(name)
    except InputError:
        return None


def _pair_fault(name: PatchName, s1_name: str | None, s2v1_name: str | None) -> str | None:
    """The names of one place have the same indices in all datasets, and those of Sentinel-1 the same tile."""
    for partner, satellite in ((s1_name, "S1"), (s2v1_name, "S2")):
        if partner is None:
            continue
        parsed = _parse(partner)
        if parsed is None or not parsed.scene.startswith(satellite):
            return f"{partner!r} is not the name of a {satellite} patch"
        if (parsed.x, parsed.y) != (name.x, name.y):
            return f"its partner {partner} has other indices"
        if satellite == "S1" and f"T{_last(parsed)}" != _last(name):
            return f"its partner {partner} is of another tile"
    return None


def _last(name: PatchName) -> str:
    return name.scene.rpartition("_")[2]


def _once(rows: Rows) -> Check:
    check = Check("Each patch listed once")
    ids = rows.table["patch_id"]
    for row in _positions(pc.equal(ids[1:], ids[:-1])).tolist():
        first, second = (rows.table[APART][number].as_py() for number in (row, row + 1))
        where = "twice" if first == second else "in both files"
        check.problem(f"{ids[row]} {where}")
    return check


def _splits(rows: Rows) -> Check:
    check = Check("Splits", ", ".join(SPLITS))
    valid = pc.is_in(rows.table["split"].cast(pa.string()), pa.array(SPLITS))
    for row in _positions(pc.invert(valid)).tolist():
        check.problem(f"{rows.text('patch_id', row)} is in {rows.text('split', row)!r}")
    return check


def _labels(rows: Rows, expected: Expected, classes: frozenset[str]) -> Check:
    check = Check("Labels", f"{len(rows.label_sets):,} combinations of {len(classes)} classes")
    faults = [_label_fault(labels, expected, classes) for labels in rows.label_sets]
    bad = np.array([fault is not None for fault in faults], bool)
    if bad.any():
        for row in np.flatnonzero(bad[rows.label_codes]).tolist():
            check.problem(f"{rows.text('patch_id', row)}: {faults[rows.label_codes[row]]}")
    return check


def _label_fault(labels: tuple[str, ...], expected: Expected, classes: frozenset[str]) -> str | None:
    if not labels:
        return None if expected.labels_may_be_empty else "no label"
    if not all(labels):
        return "labels are null or without a name"
    if unknown := sorted(set(labels) - classes):
        return f"unknown class {unknown[0]!r}"
    if list(labels) != sorted(set(labels)):
        return f"labels are not sorted, or not distinct ({', '.join(labels)})"
    return None


def _flags(rows: Rows) -> Check:
    check = Check("Snow, cloud and shadow apart")
    snow, cloud = (rows.table[name] for name in _FLAGS)
    flagged, apart = pc.or_(snow, cloud), rows.table[APART]
    for row in _positions(pc.invert(pc.fill_null(pc.equal(flagged, apart), False))).tolist():
        patch_id, is_flagged = rows.text("patch_id", row), flagged[row].as_py()
        if is_flagged is None:
            check.problem(f"{patch_id} has a null flag")
        else:
            where = METADATA if is_flagged else SNOW_CLOUD_METADATA
            check.problem(f"{patch_id} is {'flagged' if is_flagged else 'not flagged'}, but stands in {where}")
    return check


def _positions(mask: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Where a chunked array of bools is true."""
    return np.flatnonzero(pc.fill_null(mask, False).to_numpy())
