"""Tables of any origin: metadata files, and tables of trees without a patch table."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reben_dask.errors import InputError
from reben_dask.formats import columns
from reben_dask.formats.dataset import FLAGGED_METADATA_FILE, METADATA_FILE
from reben_dask.formats.names import NameTemplate, parse_patch_name
from reben_dask.formats.trees import bigearthnet_v1, seasonet
from reben_dask.formats.trees.layout import class_numbers
from reben_dask.verify.expected import Expected
from reben_dask.verify.findings import Check, collect, differences, schema_faults
from reben_dask.verify.rows import Row, Rows
from reben_dask.wording import counted

IDS, PAIRS, ONCE, SPLITS = "Patch ids", "Pairs of names", "Each patch listed once", "Splits"
LABELS, FLAGS = "Labels", "Flagged patches listed separately"
"""Titles of the checks of rows."""

_IN_FLAGGED = "in_flagged_file"
"""Column of metadata rows: true in the file of flagged patches."""

_PARTNERS = {"S1": columns.S1_NAME, "S2": columns.S2V1_NAME}
_NEEDED = ("Index", "Season", "Grid", "Latitude", "Longitude", "Classes", "Path")
_TIME = ("Year", "Month", "Day", "Hour", "Minute", "Second")
_PATH = re.compile(r"(?P<season>[a-z0-9][a-z0-9_-]*)/grid(?P<grid>\d+)/(?P<name>[^/]+)")


def find_metadata(folders: Iterable[Path]) -> list[Path]:
    """Metadata files of the first folder that has any; both, though one may be missing."""
    for folder in folders:
        files = [folder / METADATA_FILE, folder / FLAGGED_METADATA_FILE]
        if any(file.is_file() for file in files):
            return files
    return []


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
            column
            for column in columns.METADATA
            if own or column in columns.PUBLISHED_METADATA or column in found.names
        )
        faults, index = schema_faults(found, wanted)
        sound.add(faults + [f"also has the column {name}" for name in index if own], path.name)
        if index and not own:
            sound.notes.append(f"{path.name} also has the index {', '.join(index)}")
        if missing := [name for name in wanted.names if name not in found.names]:
            raise InputError(f"without {', '.join(missing)}, rows cannot be read")
        listed = columns.decode_classes(found.metadata)
        classes.update(listed or ())
        if own and listed != expected.nomenclature.classes:
            other = "carries another class list than the run record"
            sound.problem(f"{path.name} {'does not carry its class list' if listed is None else other}")
        further = [name for name in expected.recipe.extra_columns if name in found.names]
        read = file.read([*wanted.names, *further])
    ids = read[columns.PATCH_ID]
    backwards = np.flatnonzero(pc.fill_null(pc.less(ids[1:], ids[:-1]), False).to_numpy()).tolist()
    if own:
        order.add(f"{path.name}: {ids[row + 1]} after {ids[row]}" for row in backwards)
    elif backwards:
        order.notes.append(f"{path.name} is in another order")
    table = read.select(wanted.names).cast(wanted)
    for name in further:
        table = table.append_column(name, read[name])
    is_flagged_file = path.name == FLAGGED_METADATA_FILE
    return table.append_column(_IN_FLAGGED, pa.array([is_flagged_file] * len(read), pa.bool_()))


def _check_rows(rows: Rows, expected: Expected, classes: set[str]) -> list[Check]:
    checks = {title: Check(title) for title in (IDS, PAIRS, ONCE, SPLITS, LABELS, FLAGS)}
    splits_of = {name: values for name, values in expected.splits_of.items() if name in rows.table.column_names}
    label_fault = cache(lambda found: _label_fault(found, classes, may_be_empty=expected.labels_may_be_empty))
    last: Row = {columns.PATCH_ID: None}
    for row in rows:
        labels = row[columns.LABELS]
        faults = [(SPLITS, f"is in the {name} {row[name]!r}") for name in splits_of if row[name] not in splits_of[name]]
        faults += [(LABELS, fault)] if (fault := label_fault(None if labels is None else tuple(labels))) else []
        for title, fault in (*faults, *_row_faults(row, last, expected.names)):
            checks[title].problem(f"{row[columns.PATCH_ID]} {fault}")
        last = row
    if expected.names is None:
        checks[IDS].not_checked = "how patches are named is known from the run record alone"
    none, unpaired = (rows.table[name].null_count for name in (columns.SPLIT, columns.S1_NAME))
    checks[PAIRS].summary = f"{counted(len(rows) - unpaired, 'patch')} with a Sentinel-1 partner"
    checks[SPLITS].summary = ", ".join(columns.SPLITS) + (f"; {counted(none, 'patch')} in none" if none else "")
    checks[LABELS].summary = f"{label_fault.cache_info().misses:,} combinations of {len(classes)} classes"
    return list(checks.values())


def _row_faults(row: Row, last: Row, names: NameTemplate | None) -> Iterator[tuple[str, str]]:
    patch_id, is_flagged = row[columns.PATCH_ID], columns.flagged(row)
    if names and names.parse(patch_id) is None:
        yield IDS, "is not the name of a Sentinel-2 patch"
    if fault := pair_fault(row, names):
        yield PAIRS, fault
    if patch_id is not None and patch_id == last[columns.PATCH_ID]:
        yield ONCE, "is listed twice" if row[_IN_FLAGGED] == last[_IN_FLAGGED] else "is listed in both files"
    if None in (row[flag] for flag in columns.FLAGS):
        yield FLAGS, "has a null flag"
    elif is_flagged != row[_IN_FLAGGED]:
        other = METADATA_FILE if is_flagged else FLAGGED_METADATA_FILE
        yield FLAGS, f"is {'' if is_flagged else 'not '}flagged, but in {other}"


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
    parsed = names.parse(row[columns.PATCH_ID]) if names and partners else None
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


class TreeTables(NamedTuple):
    """Findings in tables, and their rows."""

    checks: tuple[Check, ...] = ()
    rows: Rows = Rows()


def read_tree_tables(path: Path, expected: Expected, rows: Rows) -> TreeTables:
    """Check the tables beside trees, also against rows of metadata files, if any."""
    names, readers = expected.tree_layout.tables, {bigearthnet_v1.LAYOUT: _read_lists, seasonet.LAYOUT: _read_meta}
    folder = next((folder for folder in (path, path.parent) if any((folder / name).exists() for name in names)), None)
    read = readers.get(expected.recipe.tree)
    return TreeTables() if folder is None or read is None else read(folder, expected, rows)


def _read_lists(folder: Path, expected: Expected, rows: Rows) -> TreeTables:
    """Pairs by split, without flagged patches, so that the rows are incomplete."""
    check, found = Check("Lists of the splits", "patch"), dict[str, Row]()
    for split, file in bigearthnet_v1.LISTS.items():
        with collect(check, file):
            if not (folder / file).is_file():
                raise InputError("is missing")
            with (folder / file).open(encoding="utf-8", newline="") as lines:
                for number, cells in enumerate(csv.reader(lines), start=1):
                    row, fault = _pair(cells, split, expected, found)
                    if fault:
                        check.problem(f"{file}, line {number:,}, {fault}")
                    if row:
                        found[row[columns.PATCH_ID]] = row
    check.count = len(found)
    wanted = {row[columns.PATCH_ID]: row for row in rows if row[columns.SPLIT] and not columns.flagged(row)}
    for patch_id in sorted({**found, **wanted}) if rows.is_complete else ():
        there, must = (_list_entry(side.get(patch_id)) for side in (found, wanted))
        check.add([f"{patch_id} is {there}, but {must} by the metadata"] if there != must else [])
    schema = columns.schema([columns.PATCH_ID, columns.S1_NAME, columns.SPLIT])
    return TreeTables((check,), Rows([pa.Table.from_pylist(list(found.values()), schema)], is_complete=False))


def _list_entry(row: Row | None) -> str:
    return " with ".join(filter(None, (row[columns.SPLIT], row[columns.S1_NAME]))) if row else "in no list"


def _pair(cells: list[str], split: str, expected: Expected, found: Mapping[str, Row]) -> tuple[Row | None, str | None]:
    patch, partner = cells if len(cells) == 2 else ("", "")
    if expected.names is None or expected.names.parse(patch) is None:
        return None, f"is {','.join(cells)!r}, which is no pair of patches"
    if patch in found:
        return None, f"has {patch} again, after {bigearthnet_v1.LISTS[found[patch][columns.SPLIT]]}"
    row: Row = {columns.PATCH_ID: patch, columns.S1_NAME: partner or None, columns.SPLIT: split}
    fault = pair_fault(row, expected.names)
    return row, fault and f"{patch} {fault}"


def _read_meta(folder: Path, expected: Expected, rows: Rows) -> TreeTables:
    """``meta.csv``, and splits as numbers of its rows."""
    sound, splits = Check(seasonet.META, "row"), Check(seasonet.SPLITS_FOLDER)
    found: dict[str, list[Any]] = {columns.PATCH_ID: [], columns.LABELS: [], columns.SEASON: [], columns.GRID: []}
    with collect(sound):
        _read_rows(folder / seasonet.META, expected, found, sound)
    sound.count = len(found[columns.PATCH_ID])
    found[columns.SPLIT] = [None] * sound.count
    for split, file in seasonet.SPLIT_FILES.items():
        with collect(splits, Path(file).name):
            _read_split(folder / file, split, found[columns.SPLIT], splits)
    splits.summary = f"{sound.count - found[columns.SPLIT].count(None):,} of them in a split"
    listed = {patch_id: number for number, patch_id in enumerate(found[columns.PATCH_ID])}
    for row in rows:
        number = listed.pop(row[columns.PATCH_ID], None)
        if number is None:
            sound.problem(f"{row[columns.PATCH_ID]} has no row")
        else:
            sound.add(
                differences({name: found[name][number] for name in (columns.LABELS, columns.SPLIT)}, row),
                row[columns.PATCH_ID],
            )
    sound.add(f"{patch_id} has a row, but is not in the metadata" for patch_id in (listed if rows.is_complete else ()))
    if not sound.count:
        return TreeTables((sound, splits))
    table = pa.table(
        found, columns.schema([columns.PATCH_ID, columns.LABELS, columns.SEASON, columns.GRID, columns.SPLIT])
    )
    return TreeTables((sound, splits), Rows([table]))


def _read_split(path: Path, split: str, split_of: list[str | None], check: Check) -> None:
    if not path.is_file():
        raise InputError("is missing")
    for number, text in enumerate(path.read_text(encoding="utf-8").split(), start=1):
        position = int(text) if text.isascii() and text.isdigit() else len(split_of)
        other = split_of[position] if position < len(split_of) else None
        if position >= len(split_of):
            check.problem(f"{path.name}, line {number:,}, is {text!r}, and {seasonet.META} has no such row")
        elif other is not None:
            first = Path(seasonet.SPLIT_FILES[other]).name
            check.problem(f"{path.name}, line {number:,}, has row {text} again, after {first}")
        else:
            split_of[position] = split


def _read_rows(path: Path, expected: Expected, found: Mapping[str, list[Any]], check: Check) -> None:
    """Read ``meta.csv`` to the first row without a patch; equal values share memory, as there are millions."""
    if not path.is_file():
        raise InputError("is missing")
    classes, labels_of, seen = list(class_numbers(expected.nomenclature)), dict[str, list[str]](), set[str]()
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if missing := [name for name in _NEEDED if name not in (reader.fieldnames or ())]:
            raise InputError(f"has no column {', '.join(missing)}")
        for position, row in enumerate(reader):
            match = _PATH.fullmatch(row["Path"] or "")
            if match is None or expected.names is None or expected.names.parse(match["name"]) is None:
                raise InputError(f"row {position:,} has the path {row['Path']!r}, which is that of no patch")
            name, season, grid = match["name"], sys.intern(match["season"]), int(match["grid"])
            words = {int(word) for word in (row["Classes"] or "").split(",") if word.isascii() and word.isdigit()}
            numbers = sorted(words.intersection(range(1, len(classes) + 1)))
            text = ",".join(map(str, numbers))
            wanted = {"Index": str(position), "Season": season.capitalize(), "Grid": match["grid"], "Classes": text}
            check.add(differences(row, wanted), f"row {position:,}")
            if name in seen:
                check.problem(f"row {position:,} is of {name}, like one before")
            if season not in expected.recipe.all_seasons or grid not in expected.grids:
                check.problem(f"row {position:,} has the path {row['Path']}, in no folder of the layout")
            for key, part in _parts_of_name(row, expected.names).items():
                if part not in name:
                    check.problem(f"row {position:,} has the {key} {part}, but is of {name}")
            seen.add(name)
            labels = labels_of.setdefault(text, sorted(classes[number - 1] for number in numbers))
            for column, value in zip(found.values(), (name, labels, season, grid), strict=True):
                column.append(value)


def _parts_of_name(row: Mapping[str, Any], names: NameTemplate) -> dict[str, str]:
    """Parts of a patch name in columns of their own."""
    axes = {"lat": "Latitude", "lon": "Longitude"}
    parts = {key: str(row[key]).replace(".", "_") for field, key in axes.items() if field in names.fields}
    if "time" in names.fields and all(row.get(key) for key in _TIME):
        year, *rest = (row[key].zfill(2) for key in _TIME)
        parts["time"] = f"{year}{''.join(rest[:2])}T{''.join(rest[2:])}"
    return parts
