"""Patch table of a dataset, and its consequences: metadata, counts of the run record, tables of trees."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reben_dask.formats.columns import (
    FLAGS,
    KEPT,
    LABELS,
    PATCH_ID,
    REASON,
    SPLIT,
    STATUS,
    fill_flags,
    patch_table_schema,
)
from reben_dask.formats.dataset import RunRecord
from reben_dask.formats.names import NameTemplate, TileName, tile_names
from reben_dask.formats.trees import TreeLayout
from reben_dask.stores.trees import kept_rows
from reben_dask.verify.dataset import Dataset, Tile
from reben_dask.verify.engine import Context
from reben_dask.verify.expected import Expected
from reben_dask.verify.findings import Check, collect, differences, schema_faults
from reben_dask.verify.rows import Rows
from reben_dask.wording import counted

_MEASURES = ("status", "reason", "split", "class", "apart")
"""Counts of the run record that follow from the patch table."""

_DEGREES = 1e-6


def verify_table(dataset: Dataset, context: Context) -> Iterator[Check]:
    """Check the patch table part by part, and metadata and the run record's counts against it."""
    expected, sound, record = context.expected, Check("Patch table"), dataset.record
    if not dataset.parts:
        sound.problem("there are no parts")
    found = {path.stem for path in dataset.parts}
    of_run = found if record is None else {entry.tile for entry in record.inputs.tiles}
    sound.add(f"{tile}.parquet is missing" for tile in sorted(of_run - found))
    sound.add(f"{tile}.parquet is of no tile of the run" for tile in sorted(found - of_run))
    # A file of no tile of the run must not change the names of others.
    names = {**{name: tile_names([name])[name] for name in found}, **tile_names(sorted(of_run))}
    comparison = _Comparison(context.rows, expected)
    counts, unread, patches = Counter[tuple[str, str]](), of_run - found, 0
    advance = context.settings.begin("verify-table", len(dataset.parts))
    for path in dataset.parts:
        unread.add(path.stem)
        with collect(sound, path.name):
            faults, index = schema_faults(pq.read_schema(path), patch_table_schema(expected.recipe.extra_columns))
            sound.add([*faults, *(f"also has the column {name}" for name in index)], path.name)
            tile = dataset.read(path)
            sound.add(tile.faults(names[path.stem], None if record is None else record.inputs.layers))
            counts += _count(tile)
            patches += len(tile.table)
            comparison.add(names[path.stem], tile)
            unread.remove(path.stem)
        advance(1)
    sound.summary = f"{counted(patches, 'candidate')} in {counted(len(dataset.parts), 'part')}"
    yield sound
    yield comparison.finish(names[tile] for tile in unread)
    yield _compare_counts(counts, record, is_whole=not unread)


class _Comparison:
    def __init__(self, rows: Rows, expected: Expected) -> None:
        self._rows, self._names = rows, NameTemplate(expected.recipe.patch_name)
        self._check = Check("Metadata as in the patch table", "patch", count=len(rows))
        self._is_compared = np.zeros(len(rows), bool)

    def add(self, name: TileName, tile: Tile) -> None:
        if not self._rows.is_complete:
            return
        here = self._rows.of_prefix(self._names.prefix(name))
        self._is_compared[here] = True
        listed = {row[PATCH_ID]: row for row in self._rows.table[here].to_pylist()}
        # Others may have put further columns of the table into the files.
        shared = [column for column in self._rows.table.column_names if column in tile.table.column_names]
        for wanted in fill_flags(tile.kept()).select(shared).to_pylist():
            row = listed.pop(wanted[PATCH_ID], None)
            self._check.add(
                ["is kept, but not in the metadata"] if row is None else differences(row, wanted), wanted[PATCH_ID]
            )
        self._check.add(f"{patch_id} is in the metadata, but not kept" for patch_id in listed)

    def finish(self, unread: Iterable[TileName]) -> Check:
        """Report rows of no part; those of unread parts are unknown."""
        if not self._rows.is_complete:
            self._check.not_checked = "the metadata cannot be read"
            return self._check
        for name in unread:
            # A file whose name is no tile's has no rows.
            with suppress(IndexError):
                self._is_compared[self._rows.of_prefix(self._names.prefix(name))] = True
        for number in np.flatnonzero(~self._is_compared).tolist():
            self._check.problem(f"{self._rows.value(PATCH_ID, number)} is in the metadata, but not kept")
        return self._check


def _count(tile: Tile) -> Counter[tuple[str, str]]:
    kept = fill_flags(tile.kept())
    snow, cloud = (np.asarray(kept[flag], bool) for flag in FLAGS)
    apart = {"snow": snow.sum(), "cloud_or_shadow": cloud.sum(), "any": (snow | cloud).sum()}
    found = Counter({("apart", key): int(number) for key, number in apart.items()})
    values = (tile.table[STATUS], tile.table[REASON], kept[SPLIT], pc.list_flatten(kept[LABELS]))
    for measure, of_patches in zip(_MEASURES, values, strict=False):
        found.update((measure, value) for value in of_patches.drop_null().to_pylist())
    return found


def _compare_counts(counts: Counter[tuple[str, str]], record: RunRecord | None, *, is_whole: bool) -> Check:
    check = Check("Counts of the run record", summary=f"{counted(counts['status', KEPT], 'patch')} kept")
    if record is None or not is_whole:
        check.not_checked = "there is no run record" if record is None else "the patch table is not whole"
        return check
    recorded = {
        (measure, key): number for measure in _MEASURES for key, number in record.counts.get(measure, {}).items()
    }
    for measure, key in sorted({*counts, *recorded}):
        found, noted = counts[measure, key], recorded.get((measure, key), 0)
        if found != noted:
            check.problem(f"{measure} {key}: {noted:,} in the record, {found:,} in the patch table")
    return check


def verify_tree_tables(out: Path, layout: TreeLayout, paths: Sequence[Path]) -> Iterator[Check]:
    """Compare the tables of a layout, line by line, with the patch table."""
    if not layout.table_files:
        return
    check, lines = Check("Tables of the trees as in the patch table"), Counter[str]()
    with collect(check), ExitStack() as stack:
        there = [name for name in layout.table_files if (out / name).is_file()]
        check.add(f"{name} is missing" for name in layout.table_files if name not in there)
        found = {name: stack.enter_context((out / name).open(encoding="utf-8", newline="")) for name in there}
        for name, wanted in layout.table_lines(kept_rows(paths, layout.table_columns)):
            lines[name] += 1
            if name in found and (line := next(found[name], None)) != wanted:
                check.problem(f"{name}, line {lines[name]:,}, {_line_fault(line, wanted)}")
        for name, line in ((name, line) for name, rest in found.items() for line in rest):
            lines[name] += 1
            check.problem(f"{name}, line {lines[name]:,}, is {line.rstrip()!r}, and there must be no further line")
        for folder in {(out / name).parent for name in there} - {out}:
            names = [path.relative_to(out).as_posix() for path in sorted(folder.glob("[!.]*"))]
            check.add(f"{name} is no table of the layout" for name in names if name not in layout.table_files)
    check.summary = f"{', '.join(layout.tables)}; {counted(lines.total(), 'line')}"
    yield check


def _line_fault(line: str | None, wanted: str) -> str:
    if line is None:
        return "is missing"
    cells = [next(csv.reader([text]), []) for text in (line, wanted)]
    named = [{f"column {number}": cell for number, cell in enumerate(row, start=1)} for row in cells]
    faults = list(differences(*named)) if len(cells[0]) == len(cells[1]) > 1 else []
    return faults[0] if faults else f"is {line.rstrip()!r}, not {wanted.rstrip()!r}"
