"""One part file of the patch table: the patches of one tile, and the grids that they must be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely

from reben_dask.formats.columns import KEPT, REJECTED
from reben_dask.formats.cube import group_of
from reben_dask.formats.names import NameTemplate, TileName
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.candidates import footprints
from reben_dask.patches.decision import REASONS
from reben_dask.verify.expected import Expected
from reben_dask.verify.findings import Check, collect
from reben_dask.verify.schemas import schema_faults

_EDGES = ("xmin", "ymin", "xmax", "ymax")

DEGREES = 1e-6
"""How far apart footprints may be: versions of PROJ differ in the last digits."""


@dataclass(frozen=True)
class Part:
    """The patches of one grid of a tile.

    Parameters
    ----------
    tile : str
        Its name, which is also that of the file.
    table : pyarrow.Table
        All columns of the patch table.
    expected : Expected
        Side of a patch, offsets of the grids and names.
    number : int
        Number of the grid, counted from 1.
    """

    tile: str
    table: pa.Table
    expected: Expected
    number: int = 1

    @property
    def group(self) -> str:
        """Path of the group of the Zarr store that holds its pixels."""
        return group_of(self.tile, self.number)

    @property
    def is_observed(self) -> bool:
        """Whether the tile's pixels were read: it did not fail its quality indicators."""
        return bool(self.table["failed_quality"].null_count > 0)

    @property
    def kept(self) -> pa.Table:
        """The patches that were kept."""
        return self.table.filter(pc.equal(self.table["status"], KEPT))

    def kept_places(self) -> list[tuple[int, int]]:
        """Column and row of each patch that was kept."""
        return list(zip(*(self.kept[name].to_pylist() for name in ("x", "y")), strict=True))

    def column(self, x: int) -> dict[int, dict[str, Any]]:
        """Rows of one column of patches, by ``y``."""
        return {row["y"]: row for row in self.table.filter(pc.equal(self.table["x"], x)).to_pylist()}

    def where(self, chosen: pa.ChunkedArray, grid: PatchGrid) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Bools of the patches at their places in the grid, shape ``(row, column)``; null counts as false."""
        places = np.zeros(grid.shape_yx, bool)
        places[self.table["y"].to_numpy(), self.table["x"].to_numpy()] = pc.fill_null(chosen, False).to_numpy()
        return places

    def grid(self) -> PatchGrid:
        """The patch grid that rows with these indices and bounds must come from.

        Raises
        ------
        ValueError
            If they cannot come from any.
        """
        x, y, minx, maxy = (self.table[name].to_numpy() for name in ("x", "y", "minx", "maxy"))
        columns, rows = (int(values.max()) + 1 for values in (x, y))
        if columns * rows != len(x):
            raise ValueError(f"has {len(x):,} rows, but a grid of {columns} x {rows} patches has {columns * rows:,}")
        patch_m, offset_m = self.expected.patch_m, self.expected.grid_offsets_m[self.number - 1]
        tile_m = ShapeYX(rows * patch_m + offset_m, columns * patch_m + offset_m)
        ulx, uly = int(minx[0] - x[0] * patch_m) - offset_m, int(maxy[0] + y[0] * patch_m) + offset_m
        return PatchGrid(self.table["epsg"][0].as_py(), ulx, uly, tile_m, patch_m, offset_m)

    def faults(self, name: TileName) -> Iterator[str]:
        """What is wrong with the rows by themselves; phrases that begin with the group or the patch.

        Parameters
        ----------
        name : TileName
            What the tile gives to the names of its patches.
        """
        yield from self._grid_faults(name)
        ids, status, reason = (self.table[name].to_pylist() for name in ("patch_id", "status", "reason"))
        for patch_id, state, why in zip(ids, status, reason, strict=True):
            if state not in (KEPT, REJECTED):
                yield f"{patch_id} has the status {state!r}"
            elif (state == KEPT) != (why is None) or (why is not None and why not in REASONS):
                yield f"{patch_id} is {state} for the reason {why!r}"

        for column, sets in self.expected.splits_of.items():
            found = zip(ids, self.table[column].to_pylist(), strict=True)
            yield from (f"{patch_id} has the {column} {value!r}" for patch_id, value in found if value not in sets)
        for column in self.expected.attributes:
            found = zip(ids, self.table[column].to_pylist(), strict=True)
            yield from (f"{patch_id} has the {column} ''" for patch_id, value in found if value == "")

    def _grid_faults(self, tile: TileName) -> Iterator[str]:
        try:
            grid = self.grid()
        except (TypeError, ValueError) as error:
            yield f"{self.group} {error}"
            return
        for name, wanted in self._wanted(grid, tile).items():
            found = self.table[name].to_pylist()
            wrong = next((row for row, pair in enumerate(zip(found, wanted, strict=True)) if pair[0] != pair[1]), None)
            if wrong is not None:
                yield f"{self.group} has the {name} {found[wrong]} in row {wrong}, not {wanted[wrong]}"
        bounds = shapely.bounds(shapely.from_wkb(self.table["geometry"].to_numpy(), on_invalid="ignore"))
        boxes = np.column_stack([self.table["bbox"].combine_chunks().field(edge).to_numpy() for edge in _EDGES])
        places = shapely.bounds(footprints(grid).to_numpy())
        for what, edges in (("geometry", bounds), ("bbox", boxes)):
            far = ~(np.abs(edges - places) < DEGREES).all(axis=1)
            if far.any():
                yield f"{self.table['patch_id'][int(far.argmax())]} has a {what} that is not its footprint"

    def _wanted(self, grid: PatchGrid, tile: TileName) -> dict[str, list[Any]]:
        x, y = (indices.tolist() for indices in grid.indices_xy())
        bounds = dict(zip(("minx", "miny", "maxx", "maxy"), grid.bounds().T.tolist(), strict=True))
        same = {"tile": [self.tile] * grid.size, "epsg": [grid.epsg] * grid.size}
        ids = NameTemplate(self.expected.patch_name).names(tile, grid, self.number)
        return {"patch_id": ids, "x": x, "y": y, **same, **bounds}


def read_parts(path: Path, expected: Expected) -> list[Part]:
    """Read a part file, by grid.

    A grid that must be there and has no rows is left out, see :func:`grid_faults`.

    Raises
    ------
    ValueError
        If it is not a Parquet file, without a column that must be there, without rows, or with rows that are of no grid
        or not grid after grid.
    """
    table = pq.read_table(path, partitioning=None).select(expected.table_schema.names)
    numbers = table["grid"].to_pylist()
    if not numbers:
        raise ValueError("has no rows")
    if unknown := set(numbers) - set(range(1, len(expected.grid_offsets_m) + 1)):
        raise ValueError(f"has rows of the grid {unknown.pop()}, of {len(expected.grid_offsets_m)}")
    if numbers != sorted(numbers):
        raise ValueError("does not have its rows grid after grid")
    grids = sorted(set(numbers))
    return [Part(path.stem, table.filter(pc.equal(table["grid"], number)), expected, number) for number in grids]


def grid_faults(parts: Sequence[Part], expected: Expected) -> Iterator[str]:
    """What is wrong with the grids of a tile beside each other; phrases that begin with the tile.

    They count from one corner, and a grid has as many rows and columns as the first, or one less.
    """
    grids = {}
    for part in parts:
        with suppress(TypeError, ValueError):
            grids[part.number] = part.grid()
    first = grids.get(1)
    if first is None:
        return
    for number in range(2, len(expected.grid_offsets_m) + 1):
        other, fewest = grids.get(number), [side - 1 for side in first.shape_yx]
        if other is None:
            if min(fewest) and all(part.number != number for part in parts):
                yield f"{parts[0].tile} has no rows of its grid {number}"
        elif (other.epsg, other.ulx, other.uly) != (first.epsg, first.ulx, first.uly):
            yield f"{parts[0].tile} has a grid {number} that does not lie {other.offset_m} m from the corner of grid 1"
        elif any(not 0 <= more <= 1 for more in np.subtract(first.shape_yx, other.shape_yx)):
            yield f"{parts[0].tile} has a grid {number} of the shape {(*other.shape_yx,)} beside {(*first.shape_yx,)}"


def readable_parts(path: Path, expected: Expected) -> list[Part]:
    """The grids of a part file; none of one that cannot be read: the check of the patch table alone tells of it."""
    parts: list[Part] = []
    with collect(Check("the patch table")):
        parts = read_parts(path, expected)
    return parts  # noqa: RET504 - mypy does not know that collect() may end the block


def part_schema_faults(path: Path, expected: Expected) -> list[str]:
    """What is wrong with the columns of a part file."""
    faults, index = schema_faults(pq.read_schema(path), expected.table_schema)
    return faults + [f"also has the column {name}" for name in index]
