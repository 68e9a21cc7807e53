"""One part file of the patch table: the patches of one tile, and the grid that they must be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely

from reben_dask.patches.candidates import footprints
from reben_dask.patches.decision import KEPT, REASONS, REJECTED
from reben_dask.patches.grid import PatchGrid, ShapeYX
from reben_dask.patches.names import patch_ids
from reben_dask.stores.patch_table import SCHEMA
from reben_dask.verify.findings import Check, collect
from reben_dask.verify.schemas import schema_faults

_EDGES = ("xmin", "ymin", "xmax", "ymax")

DEGREES = 1e-6
"""How far apart footprints may be: versions of PROJ differ in the last digits."""


@dataclass(frozen=True)
class Part:
    """The patches of one tile.

    Parameters
    ----------
    tile : str
        Its name, which is also that of the file.
    table : pyarrow.Table
        All columns of the patch table.
    patch_m : int
        Side of a patch in metres.
    """

    tile: str
    table: pa.Table
    patch_m: int

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
        tile_m = ShapeYX(rows * self.patch_m, columns * self.patch_m)
        ulx, uly = int(minx[0] - x[0] * self.patch_m), int(maxy[0] + y[0] * self.patch_m)
        return PatchGrid(self.table["epsg"][0].as_py(), ulx, uly, tile_m, self.patch_m)

    def faults(self) -> Iterator[str]:
        """What is wrong with the rows by themselves; phrases that begin with the tile or the patch."""
        if not len(self.table):
            yield f"{self.tile} has no rows"
            return
        yield from self._grid_faults()
        ids, status, reason = (self.table[name].to_pylist() for name in ("patch_id", "status", "reason"))
        for patch_id, state, why in zip(ids, status, reason, strict=True):
            if state not in (KEPT, REJECTED):
                yield f"{patch_id} has the status {state!r}"
            elif (state == KEPT) != (why is None) or (why is not None and why not in REASONS):
                yield f"{patch_id} is {state} for the reason {why!r}"

    def _grid_faults(self) -> Iterator[str]:
        try:
            grid = self.grid()
        except (TypeError, ValueError) as error:
            yield f"{self.tile} {error}"
            return
        for name, wanted in self._wanted(grid).items():
            found = self.table[name].to_pylist()
            wrong = next((row for row, pair in enumerate(zip(found, wanted, strict=True)) if pair[0] != pair[1]), None)
            if wrong is not None:
                yield f"{self.tile} has the {name} {found[wrong]} in row {wrong}, not {wanted[wrong]}"
        bounds = shapely.bounds(shapely.from_wkb(self.table["geometry"].to_numpy(), on_invalid="ignore"))
        boxes = np.column_stack([self.table["bbox"].combine_chunks().field(edge).to_numpy() for edge in _EDGES])
        places = shapely.bounds(footprints(grid).to_numpy())
        for what, edges in (("geometry", bounds), ("bbox", boxes)):
            far = ~(np.abs(edges - places) < DEGREES).all(axis=1)
            if far.any():
                yield f"{self.table['patch_id'][int(far.argmax())]} has a {what} that is not its footprint"

    def _wanted(self, grid: PatchGrid) -> dict[str, list[Any]]:
        x, y = (indices.tolist() for indices in grid.indices_xy())
        bounds = dict(zip(("minx", "miny", "maxx", "maxy"), grid.bounds().T.tolist(), strict=True))
        same = {"tile": [self.tile] * grid.size, "epsg": [grid.epsg] * grid.size}
        return {"patch_id": patch_ids(self.tile, x, y, grid.digits), "x": x, "y": y, **same, **bounds}


def read_part(path: Path, patch_m: int) -> Part:
    """Read a part file.

    Raises
    ------
    ValueError
        If it is not a Parquet file, or without a column that must be there.
    """
    return Part(path.stem, pq.read_table(path, partitioning=None).select(SCHEMA.names), patch_m)


def readable_part(path: Path, patch_m: int) -> Part | None:
    """A part file, or ``None``: one that cannot be read is told of by the check of the patch table, and only there."""
    part = None
    with collect(Check("the patch table")):
        part = read_part(path, patch_m)
    return part  # noqa: RET504 - mypy does not know that collect() may end the block


def part_schema_faults(path: Path) -> list[str]:
    """What is wrong with the columns of a part file."""
    faults, index = schema_faults(pq.read_schema(path), SCHEMA)
    return faults + [f"also has the column {name}" for name in index]
