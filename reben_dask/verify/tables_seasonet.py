"""``meta.csv`` and ``splits`` of SeasoNet, by themselves and beside metadata."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from reben_dask.errors import InputError
from reben_dask.formats.columns import METADATA_SCHEMA
from reben_dask.formats.trees.layout import SHORT_SPLITS, class_numbers
from reben_dask.formats.trees.seasonet import META, SPLITS_FOLDER
from reben_dask.verify.expected import Expected
from reben_dask.verify.findings import Check, collect
from reben_dask.verify.metadata_rows import Rows, gather, in_file
from reben_dask.verify.patch_rows import PatchRow
from reben_dask.wording import counted

_NEEDED = ("Index", "Season", "Grid", "Latitude", "Longitude", "Classes", "Path")
_TIME = ("Year", "Month", "Day", "Hour", "Minute", "Second")
_PATH = re.compile(r"(?P<season>[a-z0-9][a-z0-9_-]*)/grid(?P<grid>\d+)/(?P<name>[^/]+)")
_NUMBERS = re.compile(r"(\d{1,3}(,\d{1,3})*)?")


@dataclass
class Meta:
    """What the tables tell.

    Parameters
    ----------
    checks : tuple of Check
        What was found in them.
    rows : Rows or None
        All patches, if ``meta.csv`` can be read.
    """

    checks: tuple[Check, ...]
    rows: Rows | None = None
    _places: dict[str, tuple[str, int]] = field(default_factory=dict)

    def row_of(self, patch_id: str) -> PatchRow | None:
        """Season and grid of a patch."""
        place = self._places.get(patch_id)
        return None if place is None else {"patch_id": patch_id, "season": place[0], "grid": place[1]}


def read_meta(folder: Path, expected: Expected, rows: Rows | None) -> Meta:
    """Check the tables.

    Parameters
    ----------
    folder : Path
        Where they are.
    expected : Expected
        Classes, seasons, and how patches are named.
    rows : Rows or None
        Metadata that they must agree with.
    """
    sound, splits = Check(META), Check(SPLITS_FOLDER)
    entries: list[_Entry] = []
    with collect(sound):
        entries = list(_Reader(expected, sound).read(folder / META))
    set_of = _read_splits(folder / SPLITS_FOLDER, len(entries), splits)
    if rows is not None:
        listed = {entry.patch_id: (entry.labels, set_of.get(position)) for position, entry in enumerate(entries)}
        sound.add(_differences(listed, rows))
    sound.summary, splits.summary = counted(len(entries), "row"), f"{len(set_of):,} of them in a set"
    if not entries:
        return Meta((sound, splits))
    told = {
        "patch_id": [entry.patch_id for entry in entries],
        "labels": [entry.labels for entry in entries],
        "split": [set_of.get(position) for position in range(len(entries))],
        **dict.fromkeys(("contains_seasonal_snow", "contains_cloud_or_shadow"), [False] * len(entries)),
    }
    columns = {
        field.name: pa.array(told.get(field.name, [None] * len(entries)), field.type) for field in METADATA_SCHEMA
    }
    places = {entry.patch_id: entry.place for entry in entries}
    return Meta((sound, splits), gather([in_file(pa.table(columns, schema=METADATA_SCHEMA), apart=False)]), places)


class _Entry(NamedTuple):
    """A row of ``meta.csv``; a dataset has nearly two million, so that what they have in common is shared."""

    patch_id: str
    labels: list[str]
    place: tuple[str, int]


class _Reader:
    """Reads ``meta.csv``."""

    def __init__(self, expected: Expected, check: Check) -> None:
        self._expected, self._check = expected, check
        self._classes = list(class_numbers(expected.nomenclature))
        self._seen: set[str] = set()
        self._labels: dict[str, list[str]] = {}
        self._places: dict[tuple[str, str], tuple[str, int]] = {}

    def read(self, path: Path) -> Iterator[_Entry]:
        """Patches in their order; it ends at a row that tells of none."""
        if not path.is_file():
            raise InputError("is missing")
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in _NEEDED if name not in (reader.fieldnames or ())]:
                raise InputError(f"has no column {', '.join(missing)}")
            for position, row in enumerate(reader):
                match = _PATH.fullmatch(row["Path"] or "")
                if match is None or self._expected.names.read(match["name"]) is None:
                    raise InputError(f"row {position:,} has the path {row['Path']!r}, which is that of no patch")
                self._check.add(f"row {position:,} {fault}" for fault in self._faults(position, row, match))
                season, grid, classes = match["season"], match["grid"], row["Classes"] or ""
                if classes not in self._labels:
                    self._labels[classes] = sorted(self._classes[number - 1] for number in self._numbers(classes))
                place = self._places.setdefault((season, grid), (season, int(grid)))
                yield _Entry(match["name"], self._labels[classes], place)

    def _faults(self, position: int, row: Mapping[str, Any], match: re.Match[str]) -> Iterator[str]:
        season, grid, name = match["season"], match["grid"], match["name"]
        if name in self._seen:
            yield f"is of {name}, like one before"
        self._seen.add(name)
        if season not in self._expected.seasons or not 0 < int(grid) <= len(self._expected.grid_offsets_m):
            yield f"has the path {row['Path']}, in no folder of the layout"
        told = {"Index": str(position), "Season": season.capitalize(), "Grid": grid}
        yield from (f"has the {key} {row[key]!r}, not {value!r}" for key, value in told.items() if row[key] != value)
        for key, found in self._in_name(row).items():
            if found not in name:
                yield f"has the {key} {found}, but is of {name}"
        if not _NUMBERS.fullmatch(row["Classes"] or "") or self._numbers(row["Classes"]) != self._all(row["Classes"]):
            yield f"has the Classes {row['Classes']!r}, which are not numbers up to {len(self._classes)} in their order"

    def _in_name(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Parts that the name of a patch has, as far as it is made of them."""
        template, parts = self._expected.patch_name, {}
        if "{lat}" in template:
            parts["Latitude"] = str(row["Latitude"]).replace(".", "_")
        if "{lon}" in template:
            parts["Longitude"] = str(row["Longitude"]).replace(".", "_")
        if "{time}" in template and all(row.get(key) for key in _TIME):
            year, month, day, *clock = (row[key].zfill(2) for key in _TIME)
            parts["time"] = f"{year}{month}{day}T{''.join(clock)}"
        return parts

    def _numbers(self, text: str | None) -> list[int]:
        """Numbers of classes that there are."""
        return sorted({number for number in self._all(text) if 0 < number <= len(self._classes)})

    def _all(self, text: str | None) -> list[int]:
        return [int(number) for number in (text or "").split(",") if number.isascii() and number.isdigit()]


def _read_splits(folder: Path, rows: int, check: Check) -> dict[int, str]:
    """Set of each row that is in one."""
    found: dict[int, str] = {}
    for name, short in SHORT_SPLITS.items():
        with collect(check, f"{short}.csv"):
            if not (folder / f"{short}.csv").is_file():
                raise InputError("is missing")
            for number, text in enumerate((folder / f"{short}.csv").read_text(encoding="utf-8").split(), start=1):
                position = int(text) if text.isascii() and text.isdigit() else rows
                if position >= rows:
                    check.problem(f"{short}.csv, line {number:,}, is {text!r}, and {META} has no such row")
                elif position in found:
                    other = SHORT_SPLITS[found[position]]
                    check.problem(f"{short}.csv, line {number:,}, has row {text} again, after {other}.csv")
                else:
                    found[position] = name
    return found


def _differences(listed: Mapping[str, tuple[list[str], str | None]], rows: Rows) -> Iterator[str]:
    """What the metadata say otherwise; patches without a season have no row."""
    left = set(listed)
    for row in rows:
        patch_id = row["patch_id"]
        left.discard(patch_id)
        entry = listed.get(patch_id)
        if entry is None:
            yield f"has no row of {patch_id}"
            continue
        for column, found in zip(("labels", "split"), entry, strict=True):
            if found != row[column]:
                yield f"{patch_id} has the {column} {found}, but {row[column]} in the metadata"
    yield from (f"{patch_id} has a row, but is not in the metadata" for patch_id in sorted(left))
