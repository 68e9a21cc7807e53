"""Patch table and cubes of a dataset: rows by tile, the grids that they imply, and pixels for comparison."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely

from reben_dask.formats import columns
from reben_dask.formats.bands import REFERENCE_MAP, ImageKind
from reben_dask.formats.cube import SHARD_PATCHES, group_of
from reben_dask.formats.dataset import CUBES, RunRecord
from reben_dask.formats.names import NameTemplate, TileName, tile_names
from reben_dask.formats.trees.layout import CLASS_NUMBERS, number_of_code
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.candidates import Scene, candidate_patches
from reben_dask.patches.decision import REASONS
from reben_dask.stores.cube_reader import ColumnReader, CubeGroup
from reben_dask.verify.expected import Expected
from reben_dask.verify.findings import Check, collect, differences
from reben_dask.verify.rows import Row

Images = Mapping[str, npt.NDArray[Any]]
"""Images of one kind of a patch by name, shape ``(y, x)``."""

_TILES = 4
"""Tiles whose rows, or a column of patches, are in memory."""

_DEGREES = 1e-6
"""Tolerance of footprints in degrees; their last digits depend on PROJ's version."""


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
        recipe, self.name, self._expected = expected.recipe, path.stem, expected
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
        recipe, splits = self._expected.recipe, self._expected.splits_of
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
        scene = Scene(name, first[columns.SENSING_TIME], tuple(self.grids), first[columns.FAILED_QUALITY])
        wanted = candidate_patches(scene, self._expected.recipe)
        by_recipe = {*self._expected.splits_of, columns.SEASON}
        for column in wanted.columns.drop([columns.GEOMETRY, *by_recipe]):
            made = pa.array(wanted[column], self.table.schema.field(column).type, from_pandas=True)
            pairs = zip(self.table[column].to_pylist(), made.to_pylist(), strict=True)
            row, pair = next(((row, pair) for row, pair in enumerate(pairs) if pair[0] != pair[1]), (0, None))
            faults = differences({column: pair[0]}, {column: pair[1]}) if pair else ()
            yield from (f"{self.name}, row {row}, {fault}" for fault in faults)
        geometry = shapely.from_wkb(self.table[columns.GEOMETRY].to_numpy(), on_invalid="ignore")
        boxes = np.column_stack(self.table[columns.BBOX].combine_chunks().flatten())
        for column, edges in ((columns.GEOMETRY, shapely.bounds(geometry)), (columns.BBOX, boxes)):
            far = ~(np.abs(edges - wanted.bounds.to_numpy()) < _DEGREES).all(axis=1)
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
        self.parts, self.record, self._expected, self._full = parts, record, expected, full
        self._store, self._names = out / CUBES, NameTemplate(expected.recipe.patch_name)
        self._rows, self._reader = lru_cache(_TILES)(self._read), lru_cache(3 * _TILES)(self._open)
        self.attributes = lru_cache(_TILES)(self._read_attributes)

    def read(self, part: Path) -> Tile:
        """Read a part file; raises anything for a damaged one, or for rows without a place."""
        return Tile(part, self._expected, self.record.tile_size_m(part.stem) if self.record else None)

    def read_sound(self, part: Path) -> Tile | None:
        """Read a part file; ``None`` if unreadable, which the check of the patch table reports."""
        found = None
        with collect(Check("the patch table")):
            found = self.read(part)
        return found  # noqa: RET504 - mypy does not know that collect() may end the block

    def row(self, patch_id: str) -> Row:
        """Columns of a kept patch except its footprint; empty for an unknown one."""
        number = bisect_right(self._prefixes, (patch_id, len(self.parts))) - 1
        return self._rows(self.parts[self._prefixes[number][1]]).get(patch_id, {}) if number >= 0 else {}

    def place(self, patch_id: str) -> Place | None:
        """Place of a patch that is compared with the cubes."""
        return self.row(patch_id).get("place") if self._store.exists() else None

    def differing(self, kind: ImageKind, place: Place, images: Images) -> list[str]:
        """Names of images that differ from the cubes; images that these lack are not compared."""
        stored: Images = {}
        with collect(Check("the store")):
            pixels = self._reader(group_of(place.tile, place.grid), kind).patch(place.x, place.y)
            codes, stored = pixels.reference_map, {**pixels.s2, **pixels.s1}
            if codes is not None:
                stored = {REFERENCE_MAP.name: codes, CLASS_NUMBERS.name: self._number_of_code[codes]}
        return sorted(name for name in images if name in stored and not _are_equal(images[name], stored[name]))

    @cached_property
    def _prefixes(self) -> list[tuple[str, int]]:
        """Start of the patch names of each tile, ascending, and the number of its part."""
        numbers, prefixes = {part.stem: number for number, part in enumerate(self.parts)}, []
        for tile, name in tile_names(sorted(numbers)).items():
            # A file whose name is no tile's must not keep others from being read.
            with suppress(IndexError):
                prefixes.append((self._names.prefix(name), numbers[tile]))
        return sorted(prefixes)

    @cached_property
    def _number_of_code(self) -> npt.NDArray[np.uint8]:
        return number_of_code(self._expected.nomenclature)

    def _read(self, part: Path) -> dict[str, Row]:
        tile = self.read_sound(part)
        rows = tile.kept().drop_columns([columns.GEOMETRY, columns.BBOX]).to_pylist() if tile else []
        chosen = {
            grid: sample_columns((row[columns.X], row[columns.Y]) for row in rows if row[columns.GRID] == grid)
            for grid in self._expected.grids
        }
        for row in rows:
            is_compared = self._full or row[columns.X] in chosen[row[columns.GRID]]
            row["place"] = (
                Place(row[columns.TILE], row[columns.GRID], row[columns.X], row[columns.Y]) if is_compared else None
            )
        return {row[columns.PATCH_ID]: row for row in rows}

    def _open(self, group: str, kind: ImageKind) -> ColumnReader:
        return ColumnReader(CubeGroup(self._store / group), {kind})

    def _read_attributes(self, tile: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = {}
        with collect(Check("the store")):
            found = CubeGroup(self._store / tile).attributes
        return found  # noqa: RET504 - mypy does not know that collect() may end the block


def sample_columns(patches: Iterable[tuple[int, int]]) -> set[int]:
    """Columns that have one of the patches ``(x, y)`` of each shard."""
    first: dict[tuple[int, int], int] = {}
    for x, y in sorted(patches):
        first.setdefault((x // SHARD_PATCHES, y // SHARD_PATCHES), x)
    return set(first.values())


def _are_equal(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> bool:
    return np.array_equal(left, right, equal_nan=left.dtype.kind == "f" and right.dtype.kind == "f")
