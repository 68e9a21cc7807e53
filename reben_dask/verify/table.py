"""The patch table of a dataset: its parts, its agreement with the metadata, and the counts of the run record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reben_dask.patches.decision import KEPT
from reben_dask.stores.metadata import SCHEMA
from reben_dask.stores.patch_table import part_files
from reben_dask.verify.expected import Expected
from reben_dask.verify.findings import Check, collect, counted
from reben_dask.verify.part import Part, is_true, part_schema_faults, read_part
from reben_dask.verify.rows import Rows, compact
from reben_dask.verify.settings import Settings

STAGE = "verify-table"
MEASURES = ("status", "reason", "split", "class", "apart")
_FLAGS = ("contains_seasonal_snow", "contains_cloud_or_shadow")


def verify_table(
    folder: Path, rows: Rows | None, expected: Expected, record: Mapping[str, Any] | None, settings: Settings
) -> Iterator[Check]:
    """Check a patch table, part by part.

    Parameters
    ----------
    folder : Path
        The table.
    rows : Rows or None
        Rows of the metadata files, which must be the kept patches.
    expected : Expected
        Gives the side of a patch.
    record : mapping or None
        The run record, which names the tiles and has counts.
    settings : Settings
        Whom to tell of progress.

    Yields
    ------
    Check
        For the parts, the metadata and the counts.
    """
    sound, agree = Check("Patch table"), Check("Metadata as in the patch table")
    paths = part_files(folder) if folder.is_dir() else []
    settings.progress.begin(STAGE, len(paths))
    missing: list[str] = []
    with collect(sound, "the run record"):
        missing = _missing_tiles(paths, record)
        sound.add(f"{tile}.parquet is missing" for tile in missing)
        sound.add(_foreign_parts(paths, record))
    counts: Counter[tuple[str, str]] = Counter()
    comparison = None if rows is None else _Comparison(rows, agree)
    patches, unread = 0, []
    for path in paths:
        unread.append(path.stem)
        with collect(sound, path.name):
            sound.add(f"{path.name} {fault}" for fault in part_schema_faults(path))
            part = read_part(path, expected.patch_m)
            sound.add(part.faults())
            counts += count(part)
            patches += len(part.table)
            unread.pop()
            if comparison is not None:
                comparison.add(part)
        settings.progress.advance(STAGE)
    sound.summary = f"{counted(patches, 'candidate')} in {counted(len(paths), 'part')}"
    yield sound
    if comparison is None:
        agree.not_checked = "the metadata cannot be read"
    else:
        comparison.finish([*unread, *missing])
    yield agree
    yield _compare_counts(counts, record, is_whole=not unread and not missing)


def count(part: Part) -> Counter[tuple[str, str]]:
    """Count the patches of a tile as the run record does, by measure and key."""
    kept = part.kept
    snow, cloud = (is_true(kept, name) for name in _FLAGS)
    labels = pc.list_flatten(kept["labels"].combine_chunks())
    apart = {"snow": snow.sum(), "cloud_or_shadow": cloud.sum(), "any": (snow | cloud).sum()}
    found: Counter[tuple[str, str]] = Counter({("apart", key): int(number) for key, number in apart.items()})
    for measure, values in (
        ("status", part.table["status"]),
        ("reason", part.table["reason"]),
        ("split", kept["split"]),
        ("class", labels),
    ):
        for entry in pc.value_counts(values.drop_null()).to_pylist():
            found[measure, str(entry["values"])] += entry["counts"]
    return found


def _missing_tiles(paths: Sequence[Path], record: Mapping[str, Any] | None) -> list[str]:
    return sorted(_tiles_of(record) - {path.stem for path in paths}) if record else []


def _foreign_parts(paths: Sequence[Path], record: Mapping[str, Any] | None) -> Iterator[str]:
    if not paths:
        yield "there are no parts"
    if record:
        yield from (f"{path.name} is of no tile of the run" for path in paths if path.stem not in _tiles_of(record))


def _tiles_of(record: Mapping[str, Any]) -> set[str]:
    return {str(entry["tile"]) for entry in record["inputs"]["tiles"]}


class _Comparison:
    """The kept patches of all parts beside the rows of the metadata files."""

    def __init__(self, rows: Rows, check: Check) -> None:
        self._rows, self._check = rows, check
        self._met = np.zeros(len(rows), bool)

    def add(self, part: Part) -> None:
        """Compare the kept patches of one tile."""
        kept = part.kept.select(SCHEMA.names)
        for name in _FLAGS:
            kept = kept.set_column(kept.column_names.index(name), name, pc.fill_null(kept[name], False))
        patches = compact(kept, apart=False)
        start, stop = self._rows.of_tile(part.tile)
        listed = self._rows.table.slice(start, stop - start)
        places = pc.index_in(patches["patch_id"], listed["patch_id"])
        missing = patches["patch_id"].filter(pc.is_null(places)).to_pylist()
        self._check.add(f"{patch_id} is kept, but not in the metadata" for patch_id in missing)
        both = patches.filter(pc.is_valid(places))
        places = places.drop_null()
        self._met[start + places.to_numpy()] = True
        self._compare(both, listed.take(places))

    def finish(self, unread: Sequence[str]) -> None:
        """Name the rows that no kept patch has asked for; of tiles whose parts were not read, nobody knows."""
        for tile in unread:
            start, stop = self._rows.of_tile(tile)
            self._met[start:stop] = True
        for row in np.flatnonzero(~self._met).tolist():
            self._check.problem(f"{self._rows.text('patch_id', row)} is in the metadata, but not kept")
        self._check.summary = counted(len(self._rows), "patch")

    def _compare(self, patches: pa.Table, listed: pa.Table) -> None:
        for name in SCHEMA.names[1:]:
            left, right = (_plain(table[name]) for table in (patches, listed))
            same = pc.or_(pc.fill_null(pc.equal(left, right), False), pc.and_(pc.is_null(left), pc.is_null(right)))
            for position in np.flatnonzero(~np.asarray(same.to_numpy(), bool)).tolist():
                self._check.problem(f"{patches['patch_id'][position]} has another {name}")


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


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
