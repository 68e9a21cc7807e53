"""The patch table of a dataset: its parts, its agreement with the metadata, and the counts of the run record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from reben_dask.formats.columns import KEPT
from reben_dask.formats.names import TileName, tile_names
from reben_dask.stores.patch_table import part_files
from reben_dask.verify.context import Context
from reben_dask.verify.findings import Check, collect
from reben_dask.verify.metadata_rows import Rows
from reben_dask.verify.names import NamePattern
from reben_dask.verify.part import Part, grid_faults, part_schema_faults, read_parts
from reben_dask.wording import counted

STAGE = "verify-table"
MEASURES = ("status", "reason", "split", "class", "apart")
_FLAGS = ("contains_seasonal_snow", "contains_cloud_or_shadow")


def verify_table(folder: Path, record: Mapping[str, Any] | None, context: Context) -> Iterator[Check]:
    """Check a patch table part by part, beside the metadata, which must be of the kept patches, and the run record.

    Parameters
    ----------
    folder : Path
        The table.
    record : mapping or None
        The run record, which names the tiles and has counts.
    context : Context
        Rows of the metadata files, and the side of a patch.

    Yields
    ------
    Check
        For the parts, the metadata and the counts.
    """
    sound, agree = Check("Patch table"), Check("Metadata as in the patch table")
    paths = part_files(folder) if folder.is_dir() else []
    if not paths:
        sound.problem("there are no parts")
    found = {path.stem for path in paths}
    tiles = found
    with collect(sound, "the run record"):
        tiles = found if record is None else {str(entry["tile"]) for entry in record["inputs"]["tiles"]}
        sound.add(f"{tile}.parquet is missing" for tile in sorted(tiles - found))
        sound.add(f"{tile}.parquet is of no tile of the run" for tile in sorted(found - tiles))
    # A file of no tile of the run must not change the names of others.
    names = {**{name: tile_names([name])[name] for name in found}, **tile_names(sorted(tiles))}
    counts: Counter[tuple[str, str]] = Counter()
    comparison = None if context.rows is None else _Comparison(context.rows, context.expected.names, agree)
    advance, unread, patches = context.settings.begin(STAGE, len(paths)), tiles - found, 0
    for path in paths:
        unread.add(path.stem)
        with collect(sound, path.name):
            sound.add(f"{path.name} {fault}" for fault in part_schema_faults(path, context.expected))
            parts = read_parts(path, context.expected)
            sound.add(grid_faults(parts, context.expected))
            for part in parts:
                sound.add(part.faults(names[path.stem]))
                sound.add(_attribute_faults(part, record))
                counts += count(part)
                patches += len(part.table)
            unread.remove(path.stem)
            if comparison is not None:
                comparison.add(names[path.stem], parts)
        advance(1)
    sound.summary = f"{counted(patches, 'candidate')} in {counted(len(paths), 'part')}"
    yield sound
    if comparison is None:
        agree.not_checked = "the metadata cannot be read"
    else:
        comparison.finish(names[tile] for tile in unread)
    yield agree
    yield _compare_counts(counts, record, is_whole=not unread)


def count(part: Part) -> Counter[tuple[str, str]]:
    """Count the patches of a grid as the run record does, by measure and key; classes are those of the sets."""
    kept = part.kept
    snow, cloud = (np.asarray(pc.fill_null(kept[name], False), bool) for name in _FLAGS)
    apart = {"snow": snow.sum(), "cloud_or_shadow": cloud.sum(), "any": (snow | cloud).sum()}
    found: Counter[tuple[str, str]] = Counter({("apart", key): int(number) for key, number in apart.items()})
    for measure, values in (
        ("status", part.table["status"]),
        ("reason", part.table["reason"]),
        ("split", kept["split"]),
        ("class", pc.list_flatten(kept["labels"])),
    ):
        for entry in pc.value_counts(values.drop_null()).to_pylist():
            found[measure, str(entry["values"])] += entry["counts"]
    return found


def _attribute_faults(part: Part, record: Mapping[str, Any] | None) -> Iterator[str]:
    """Attributes of which no layer was given must be empty."""
    layers = record["inputs"].get("layers") if record else None
    for name in part.expected.attributes:
        if layers is not None and name not in layers and part.table[name].null_count < len(part.table):
            yield f"{part.group} has values of {name}, but the run record names no layer of it"


class _Comparison:
    """The kept patches of all parts beside the rows of the metadata files."""

    def __init__(self, rows: Rows, names: NamePattern, check: Check) -> None:
        self._rows, self._names, self._check = rows, names, check
        self._is_compared = np.zeros(len(rows), bool)
        check.summary = counted(len(rows), "patch")

    def add(self, name: TileName, parts: Sequence[Part]) -> None:
        """Compare the kept patches of one tile, in all its grids."""
        here = self._rows.beginning(self._names.beginning(name))
        self._is_compared[here] = True
        listed = {row["patch_id"]: row for row in self._rows.table[here].to_pylist()}
        # Others may have put further columns of the table into the files.
        columns = [name for name in self._rows.table.column_names if name in parts[0].table.column_names]
        for patch in (patch for part in parts for patch in part.kept.select(columns).to_pylist()):
            row = listed.pop(patch["patch_id"], None)
            if row is None:
                self._check.problem(f"{patch['patch_id']} is kept, but not in the metadata")
                continue
            # What nobody looked for is null in the table, and false in the metadata.
            patch |= {name: bool(patch[name]) for name in _FLAGS}
            self._check.add(f"{patch['patch_id']} has another {name}" for name in patch if patch[name] != row[name])
        self._check.add(f"{patch_id} is in the metadata, but not kept" for patch_id in listed)

    def finish(self, unread: Iterable[TileName]) -> None:
        """Name the rows that are of no part; of tiles whose parts were not read, nobody knows."""
        for name in unread:
            # A file that is not named as a tile is not one, and has no rows.
            with suppress(IndexError):
                self._is_compared[self._rows.beginning(self._names.beginning(name))] = True
        for row in np.flatnonzero(~self._is_compared).tolist():
            self._check.problem(f"{self._rows.value('patch_id', row)} is in the metadata, but not kept")


def _compare_counts(counts: Counter[tuple[str, str]], record: Mapping[str, Any] | None, *, is_whole: bool) -> Check:
    check = Check("Counts of the run record")
    if record is None or not is_whole:
        check.not_checked = "there is no run record" if record is None else "the patch table is not whole"
        return check
    with collect(check):
        recorded = {
            (measure, key): number
            for measure, numbers in record["counts"].items()
            if measure in MEASURES
            for key, number in numbers.items()
        }
        for measure, key in sorted(set(counts) | set(recorded)):
            found, noted = counts[measure, key], recorded.get((measure, key), 0)
            if found != noted:
                check.problem(f"{measure} {key}: {noted:,} in the record, {found:,} in the patch table")
        check.summary = f"{counted(counts['status', KEPT], 'patch')} kept"
    return check
