"""Patch table and cubes of a dataset: rows by tile, the grids that they imply, and what follows from the table.

Metadata, counts of the run record and tables of trees follow from the patch table; pixels are read for comparison.
"""

from __future__ import annotations

import csv
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely

from reben_dask.formats import columns
from reben_dask.formats.bands import Band, ImageKind
from reben_dask.formats.cube import SHARD_PATCHES, group_of
from reben_dask.formats.dataset import CUBES, RunRecord
from reben_dask.formats.footprints import footprint_bounds
from reben_dask.formats.names import NameTemplate, TileName, tile_names
from reben_dask.formats.trees import Tree, TreeLayout
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.candidates import Scene, candidate_patches
from reben_dask.patches.decision import REASONS
from reben_dask.stores.cube_reader import ColumnReader, CubeGroup
from reben_dask.stores.trees import kept_rows
from reben_dask.verify.expected import Expected
from reben_dask.verify.findings import Check, Settings, collect, differences, schema_faults
from reben_dask.verify.metadata import Row, Rows, compare_rows
from reben_dask.wording import counted

T = TypeVar("T")

_TILES = 4
"""Tiles whose rows, or a column of patches, are in memory."""

_DEGREES = 1e-6
"""Tolerance of footprints in degrees; their last digits depend on PROJ's version."""

_BASELINE = re.compile(r"_N\d{4}(?=_R\d{3}_T)")
"""Processing baseline in the name of a tile."""

_MEASURES = ("status", "reason", "split", "class", "apart")
"""Counts of the run record that follow from the patch table."""

_NOT_KEPT = "is in the metadata, but not kept"


class Place(NamedTuple):
    """Place of a patch in the Zarr store; in the order of places, each chunk is decoded once."""

    tile: str
    grid: int
    x: int
    y: int


@dataclass(frozen=True)
class Part:
    """Rows of one grid of a tile, and the group of its pixels."""

    group: str
    grid: PatchGrid
    table: pa.Table

    @property
    def kept_xy(self) -> list[tuple[int, int]]:
        """Column and row of each kept patch."""
        kept = self.table.filter(pc.equal(self.table[columns.STATUS], columns.KEPT))
        return list(zip(kept[columns.X].to_pylist(), kept[columns.Y].to_pylist(), strict=True))

    def column(self, x: int) -> dict[int, dict[str, Any]]:
        """Rows of one column of patches, by ``y``."""
        return {row[columns.Y]: row for row in self.table.filter(pc.equal(self.table[columns.X], x)).to_pylist()}

    def needed(self, kind: ImageKind) -> npt.NDArray[np.bool_]:
        """Patches that must have pixels of a kind, shape ``(row, column)``."""
        chosen = {
            ImageKind.S2: pc.invert(pc.fill_null(self.table[columns.NODATA], False)),
            ImageKind.MAP: pc.fill_null(pc.greater(self.table[columns.LABELED_FRACTION], 0), False),
            ImageKind.S1: self.table[columns.S1_NAME].is_valid(),
        }
        places = np.zeros(self.grid.shape_yx, bool)
        places[self.table[columns.Y].to_numpy(), self.table[columns.X].to_numpy()] = chosen[kind].to_numpy()
        return places


class Tile:
    """Rows of a part file, and the grids that they imply."""

    def __init__(self, path: Path, expected: Expected, size_m: Sequence[int] | None) -> None:
        recipe, self.name, self.expected = expected.recipe, path.stem, expected
        schema = columns.patch_table_schema(recipe.extra_columns)
        self.table = pq.read_table(path, partitioning=None).select(schema.names)
        parts = [self.table.filter(pc.equal(self.table[columns.GRID], number)) for number in expected.grids]
        first, patch_m, offsets = parts[0].slice(0, 1).to_pylist()[0], recipe.patch_size_m, recipe.grid_offsets_m
        ulx = first[columns.MINX] - first[columns.X] * patch_m - offsets[0]
        uly = first[columns.MAXY] + first[columns.Y] * patch_m + offsets[0]
        self.grids = []
        for rows, offset in zip(parts, offsets, strict=True):
            ends = [pc.max(rows[axis]).as_py() for axis in (columns.Y, columns.X)]
            reach = [0 if end is None else (end + 1) * patch_m + offset for end in ends]
            tile_m = ShapeYX(*(size_m or reach))
            self.grids.append(PatchGrid(first[columns.EPSG], ulx, uly, tile_m, patch_m, offset))
        numbered = zip(expected.grids, self.grids, parts, strict=True)
        self.parts = [Part(group_of(self.name, number), grid, rows) for number, grid, rows in numbered if grid.size]

    @property
    def is_observed(self) -> bool:
        """True if the tile passed its quality indicators, and so has pixels."""
        return bool(self.table[columns.FAILED_QUALITY].null_count > 0)

    def faults(self, name: TileName, layers: Iterable[str] | None) -> Iterator[str]:
        """Compare the rows with those of the grids, and values with allowed ones."""
        size = sum(grid.size for grid in self.grids)
        if len(self.table) == size:
            yield from self._grid_faults(name)
        else:
            yield f"{self.name} has {len(self.table):,} rows, but its grids have {size:,} patches"
        recipe, splits = self.expected.recipe, self.expected.splits_of
        read = (columns.PATCH_ID, columns.STATUS, columns.REASON, *splits, *recipe.attributes)
        for row in self.table.select(read).to_pylist():
            patch_id, status, reason = row[columns.PATCH_ID], row[columns.STATUS], row[columns.REASON]
            if status not in (columns.KEPT, columns.REJECTED):
                yield f"{patch_id} has the status {status!r}"
            elif (status == columns.KEPT) != (reason is None) or (reason is not None and reason not in REASONS):
                yield f"{patch_id} is {status} for the reason {reason!r}"
            wrong = [column for column in splits if row[column] not in splits[column]]
            wrong += [column for column in recipe.attributes if row[column] == ""]
            yield from (f"{patch_id} has the {column} {row[column]!r}" for column in wrong)
        for column in recipe.attributes:
            if layers is not None and column not in layers and self.table[column].null_count < len(self.table):
                yield f"{self.name} has values of {column}, but the run record names no layer of it"

    def _grid_faults(self, name: TileName) -> Iterator[str]:
        first = self.table.slice(0, 1).to_pylist()[0]
        of_tile = (columns.FAILED_QUALITY, columns.BOA_ADD_OFFSET, columns.BOA_OFFSET_SOURCE)
        scene = Scene(name, first[columns.SENSING_TIME], tuple(self.grids), *map(first.__getitem__, of_tile))
        wanted = candidate_patches(scene, self.expected.recipe)
        by_recipe = {*self.expected.splits_of, columns.SEASON}
        for column in wanted.columns.drop([columns.GEOMETRY, *by_recipe]):
            made = pa.array(wanted[column], self.table.schema.field(column).type, from_pandas=True)
            pairs = zip(self.table[column].to_pylist(), made.to_pylist(), strict=True)
            row, pair = next(((row, pair) for row, pair in enumerate(pairs) if pair[0] != pair[1]), (0, None))
            faults = differences({column: pair[0]}, {column: pair[1]}) if pair else ()
            yield from (f"{self.name}, row {row}, {fault}" for fault in faults)
        geometry = shapely.from_wkb(self.table[columns.GEOMETRY].to_numpy(), on_invalid="ignore")
        boxes = np.column_stack(self.table[columns.BBOX].combine_chunks().flatten())
        expected = wanted.geometry.to_numpy()
        compared = (
            (columns.GEOMETRY, shapely.bounds(geometry), shapely.bounds(expected)),
            (columns.BBOX, boxes, footprint_bounds(expected)),
        )
        for column, edges, wanted_edges in compared:
            far = ~(np.abs(edges - wanted_edges) < _DEGREES).all(axis=1)
            if far.any():
                yield f"{self.table[columns.PATCH_ID][int(far.argmax())]} has a {column} that is not its footprint"

    def kept(self) -> pa.Table:
        """Rows of the kept patches."""
        return self.table.filter(pc.equal(self.table[columns.STATUS], columns.KEPT))


class Dataset:
    """A finished dataset, read tile by tile on demand."""

    def __init__(
        self, out: Path, parts: Sequence[Path], expected: Expected, record: RunRecord | None, *, full: bool
    ) -> None:
        self.parts, self.record, self.expected, self._full = parts, record, expected, full
        self._store, self._names = out / CUBES, NameTemplate(expected.recipe.patch_name)
        self._rows, self._reader = lru_cache(_TILES)(self._read), lru_cache(3 * _TILES)(self._open)
        self.attributes = lru_cache(_TILES)(self._read_attributes)

    def read(self, part: Path) -> Tile:
        """Read a part file; raises anything for a damaged one, or for rows without a place."""
        return Tile(part, self.expected, self.record.tile_size_m(part.stem) if self.record else None)

    def read_sound(self, part: Path) -> Tile | None:
        """Read a part file; ``None`` if unreadable, which the check of the patch table reports."""
        return _or_else(None, lambda: self.read(part))

    def row(self, patch_id: str) -> Row:
        """Columns of a kept patch except its footprint; empty for an unknown one."""
        before = bisect_right(self._prefixes, (patch_id, len(self.parts)))
        # The name of a tile may begin that of its second data strip.
        for prefix, number in reversed(self._prefixes[:before]):
            if patch_id.startswith(prefix):
                return self._rows(self.parts[number]).get(patch_id, {})
        return {}

    def place(self, patch_id: str) -> Place | None:
        """Place of a patch that is compared with the cubes."""
        return self.row(patch_id).get("place") if self._store.exists() else None

    def layers(self, place: Place, kinds: tuple[ImageKind, ...], tree: Tree | None) -> Mapping[Band, npt.NDArray[Any]]:
        """Images of a patch in the cubes by band, or those that a tree has of it; none if they cannot be read."""

        def read() -> Mapping[Band, npt.NDArray[Any]]:
            reader = self._reader(group_of(place.tile, place.grid), tree.kinds if tree else kinds)
            pixels = reader.patch(place.x, place.y)
            return tree.layers(pixels) if tree else pixels.layers

        return _or_else({}, read)

    @cached_property
    def _prefixes(self) -> list[tuple[str, int]]:
        """Start of the patch names of each tile, ascending, and the number of its part."""
        numbers, prefixes = {part.stem: number for number, part in enumerate(self.parts)}, []
        for tile, name in tile_names(sorted(numbers)).items():
            # A file that is not named after a tile must not keep others from being read.
            with suppress(IndexError):
                prefixes.append((self._names.prefix(name), numbers[tile]))
        return sorted(prefixes)

    def _read(self, part: Path) -> dict[str, Row]:
        tile = self.read_sound(part)
        rows = tile.kept().drop_columns([columns.GEOMETRY, columns.BBOX]).to_pylist() if tile else []
        chosen = {
            grid: sample_columns((row[columns.X], row[columns.Y]) for row in rows if row[columns.GRID] == grid)
            for grid in self.expected.grids
        }
        for row in rows:
            is_compared = self._full or row[columns.X] in chosen[row[columns.GRID]]
            row["place"] = (
                Place(row[columns.TILE], row[columns.GRID], row[columns.X], row[columns.Y]) if is_compared else None
            )
        return {row[columns.PATCH_ID]: row for row in rows}

    def _open(self, group: str, kinds: tuple[ImageKind, ...]) -> ColumnReader:
        return ColumnReader(CubeGroup(self._store / group), kinds)

    def _read_attributes(self, tile: str) -> Mapping[str, Any]:
        return _or_else({}, lambda: CubeGroup(self._store / tile).attributes)


def _or_else(otherwise: T, read: Callable[[], T]) -> T:
    """Return the result of a reader, or the alternative for damaged data, which other checks report."""
    try:
        return read()
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - damaged files make libraries raise anything
        return otherwise


def sample_columns(patches: Iterable[tuple[int, int]]) -> set[int]:
    """Columns that have one of the patches ``(x, y)`` of each shard."""
    first: dict[tuple[int, int], int] = {}
    for x, y in sorted(patches):
        first.setdefault((x // SHARD_PATCHES, y // SHARD_PATCHES), x)
    return set(first.values())


def verify_table(dataset: Dataset, rows: Rows, settings: Settings) -> Iterator[Check]:
    """Check the patch table part by part, and metadata and the run record's counts against it."""
    expected, sound, record = dataset.expected, Check("Patch table"), dataset.record
    if not dataset.parts:
        sound.problem("there are no parts")
    found = {path.stem for path in dataset.parts}
    of_run = found if record is None else {entry.tile for entry in record.inputs.tiles}
    sound.add(f"{tile}.parquet is missing" for tile in sorted(of_run - found))
    sound.add(f"{tile}.parquet does not belong to a tile of the run" for tile in sorted(found - of_run))
    # A file of no tile of the run must not change the names of others.
    names = {**{name: tile_names([name])[name] for name in found}, **tile_names(sorted(of_run))}
    prefix, strips = NameTemplate(expected.recipe.patch_name).prefix, defaultdict[str, list[str]](list)
    for name in names:
        strips[name.rpartition("_")[0]].append(name)

    def rows_of(tile: str) -> npt.NDArray[np.int64]:
        """Numbers of a tile's rows; those of its later data strips lie among them."""
        found = np.r_[rows.of_prefix(prefix(names[tile]))]
        others = [np.r_[rows.of_prefix(prefix(names[strip]))] for strip in strips[tile]]
        return np.setdiff1d(found, np.concatenate(others)) if others else found

    same, is_compared = Check("Metadata as in the patch table", "patch", count=len(rows)), np.zeros(len(rows), bool)
    counts, unread, patches = Counter[tuple[str, str]](), of_run - found, 0
    offsets = Counter[int | None]()
    advance = settings.begin("verify-table", len(dataset.parts))
    for path in dataset.parts:
        unread.add(path.stem)
        with collect(sound, path.name):
            faults, index = schema_faults(
                pq.read_schema(path), columns.patch_table_schema(expected.recipe.extra_columns)
            )
            sound.add([*faults, *(f"also has the column {name}" for name in index)], path.name)
            tile = dataset.read(path)
            sound.add(tile.faults(names[path.stem], None if record is None else record.inputs.layers))
            counts += _count(tile)
            patches += len(tile.table)
            if tile.is_observed:
                offsets[tile.table[columns.BOA_ADD_OFFSET][0].as_py()] += 1
            here = rows_of(path.stem)
            is_compared[here] = True
            same.add(_row_faults(rows.table.take(here), tile) if rows.is_complete else ())
            unread.remove(path.stem)
        advance(1)
    sound.summary = f"{counted(patches, 'candidate')} in {counted(len(dataset.parts), 'part')}"
    sound.notes += [*_offset_notes(offsets), *_reprocessing_notes(of_run)]
    yield sound
    for tile_name in unread:
        # Rows of unread parts are unknown; a file that is not named after a tile has no rows.
        with suppress(IndexError):
            is_compared[rows_of(tile_name)] = True
    same.add(f"{rows.value(columns.PATCH_ID, number)} {_NOT_KEPT}" for number in np.flatnonzero(~is_compared).tolist())
    same.not_checked = None if rows.is_complete else "the metadata cannot be read"
    yield same
    yield _compare_counts(counts, record, is_whole=not unread)
    if record is not None and record.warnings:
        yield _recall_warnings(record)


def _offset_notes(tiles: Mapping[int | None, int]) -> Iterator[str]:
    """Note that digital numbers of tiles are on different scales; tiles are counted by their offset."""
    if len(tiles) > 1:
        kinds = [
            f"{counted(number, 'tile')} {'without one' if offset is None else f'with {offset} DN'}"
            for offset, number in sorted(tiles.items(), key=lambda kind: (kind[0] is None, kind[0]))
        ]
        yield f"tiles differ in {columns.BOA_ADD_OFFSET}: {', '.join(kinds)}"


def _reprocessing_notes(tiles: Iterable[str]) -> Iterator[str]:
    """Note the acquisitions that are in the dataset in several processing baselines."""
    acquisitions = defaultdict[str, list[str]](list)
    for tile in sorted(tiles):
        acquisitions[_BASELINE.sub("", tile)].append(tile)
    for same in acquisitions.values():
        if len(same) > 1:
            yield f"{', '.join(same)} are one acquisition, whose patches may be in different splits"


def _row_faults(listed: pa.Table, tile: Tile) -> Iterator[str]:
    """Compare metadata with the kept patches of a tile; others may have put further columns of the table into them."""
    shared = [column for column in listed.column_names if column in tile.table.column_names]
    kept = columns.fill_flags(tile.kept()).select(shared).sort_by(columns.PATCH_ID)
    return compare_rows(listed.to_pylist(), kept.to_pylist(), "is kept, but not in the metadata", _NOT_KEPT)


def _count(tile: Tile) -> Counter[tuple[str, str]]:
    kept = columns.fill_flags(tile.kept())
    snow, cloud = (np.asarray(kept[flag], bool) for flag in columns.FLAGS)
    apart = {"snow": snow.sum(), "cloud_or_shadow": cloud.sum(), "any": (snow | cloud).sum()}
    found = Counter({("apart", key): int(number) for key, number in apart.items()})
    values = (
        tile.table[columns.STATUS],
        tile.table[columns.REASON],
        kept[columns.SPLIT],
        pc.list_flatten(kept[columns.LABELS]),
    )
    for measure, of_patches in zip(_MEASURES, values, strict=False):
        found.update((measure, value) for value in of_patches.drop_null().to_pylist())
    return found


def _compare_counts(counts: Counter[tuple[str, str]], record: RunRecord | None, *, is_whole: bool) -> Check:
    check = Check("Counts of the run record", summary=f"{counted(counts['status', columns.KEPT], 'patch')} kept")
    if record is None or not is_whole:
        check.not_checked = "there is no run record" if record is None else "the patch table is not whole"
        return check
    if gaps := sum(record.counts.get(columns.S1_GAPS, {}).values()):
        check.notes.append(f"{counted(gaps, 'patch')} with Sentinel-1 pixels without backscatter, kept as published")
    recorded = {
        (measure, key): number for measure in _MEASURES for key, number in record.counts.get(measure, {}).items()
    }
    for measure, key in sorted({*counts, *recorded}):
        found, noted = counts[measure, key], recorded.get((measure, key), 0)
        if found != noted:
            check.problem(f"{measure} {key}: {noted:,} in the record, {found:,} in the patch table")
    return check


def _recall_warnings(record: RunRecord) -> Check:
    """Repeat the warnings of the job, as those about its inputs cannot be found in the dataset."""
    texts = (" ".join(warning.split()).removesuffix(".") for warning in record.public_warnings)
    return Check(
        "Warnings of the job",
        summary=f"{len(record.warnings):,} in the run record",
        notes=[text if text.isprintable() else ascii(text)[1:-1] for text in texts],
    )


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
            check.problem(f"{name}, line {lines[name]:,}, is {line.rstrip()!r}, but the table must end before it")
        for folder in {(out / name).parent for name in there} - {out}:
            names = [path.relative_to(out).as_posix() for path in sorted(folder.glob("[!.]*"))]
            check.add(f"{name} is not a table of the layout" for name in names if name not in layout.table_files)
    check.summary = f"{', '.join(layout.tables)}; {counted(lines.total(), 'line')}"
    yield check


def _line_fault(line: str | None, wanted: str) -> str:
    if line is None:
        return "is missing"
    cells = [next(csv.reader([text]), []) for text in (line, wanted)]
    named = [{f"column {number}": cell for number, cell in enumerate(row, start=1)} for row in cells]
    faults = list(differences(*named)) if len(cells[0]) == len(cells[1]) > 1 else []
    return faults[0] if faults else f"is {line.rstrip()!r}, not {wanted.rstrip()!r}"
