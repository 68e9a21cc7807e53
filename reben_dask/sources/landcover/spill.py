"""Polygons laid aside on disk, to be taken up in the order of a Hilbert curve."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

STRETCH_BITS = 10
"""The curve has 1,024 stretches: one of them is a small share of any map that is larger than a city."""

_CURVE_BITS = 32

SPILLED = pa.schema([("code", pa.uint16()), ("order", pa.int64()), ("curve", pa.uint32()), ("geometry", pa.binary())])
"""``order`` is the row in the source, ``curve`` the position on the curve, ``geometry`` is WKB."""


class Spill:
    """Rows in the order in which they come, to be read again stretch by stretch; one file, written once.

    Parameters
    ----------
    path : Path
        Where the file stands.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = pa.ipc.new_file(str(path), SPILLED)
        self._batches: dict[int, list[int]] = defaultdict(list)
        self._written = 0

    def add(self, table: pa.Table) -> None:
        """Lay rows of the schema :data:`SPILLED` aside."""
        if not len(table):
            return
        in_order = table.sort_by("curve").combine_chunks()
        stretch = in_order["curve"].to_numpy() >> np.uint32(_CURVE_BITS - STRETCH_BITS)
        numbers, starts = np.unique(stretch, return_index=True)
        stops = [*starts[1:].tolist(), len(stretch)]
        for number, start, stop in zip(numbers.tolist(), starts.tolist(), stops, strict=True):
            for batch in in_order.slice(start, stop - start).to_batches():
                self._writer.write_batch(batch)
                self._batches[number].append(self._written)
                self._written += 1

    def stretches(self) -> Iterator[pa.Table]:
        """Rows of each stretch that has any, along the curve; nothing can be added afterwards."""
        self._writer.close()
        # Not memory-mapped: Dask counts mapped pages against a worker's memory.
        with pa.OSFile(str(self._path)) as file, pa.ipc.open_file(file) as reader:
            for number in sorted(self._batches):
                yield pa.Table.from_batches([reader.get_batch(batch) for batch in self._batches[number]], SPILLED)
