"""Writing LMDB environments from the Zarr store: one environment, or shards that are written in parallel."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import numpy.typing as npt
import zarr

from reben_dask.patches.decision import KEPT
from reben_dask.stores.cubes import MAP_NODE
from reben_dask.stores.lmdb_values import encode_bands, encode_reference_map, reference_map_key
from reben_dask.stores.patch_table import read_rows

PAGE_BYTES = 4_096
SPARE_PAGES = 256
COMMIT_EVERY = 256
INDEX_FILE = "index.json"


@dataclass(frozen=True)
class TileRange:
    """A run of the kept patches of one tile, in name order: rows ``start`` to ``stop`` (exclusive) of those kept."""

    part: Path
    start: int
    stop: int


@dataclass(frozen=True)
class ShardRecord:
    """What became of one environment: its path below the LMDB folder, its first and last patch, and its counts."""

    path: str
    first: str | None
    last: str | None
    patches: int
    keys: int


def plan_shards(kept: Sequence[tuple[Path, int]], shards: int) -> list[list[TileRange]]:
    """Divide the kept patches into runs of equal length, in name order.

    Parameters
    ----------
    kept : sequence of (Path, int)
        Part file and number of kept patches of each tile, in the order of the tiles.
    shards : int
        Number of environments.

    Returns
    -------
    list of list of TileRange
        One entry per shard; a shard is empty where there are fewer patches than shards.
    """
    total = sum(count for _, count in kept)
    edges = [total * number // shards for number in range(shards + 1)]
    return [list(_cut(kept, start, stop)) for start, stop in pairwise(edges)]


def shard_name(number: int, shards: int) -> str:
    """Folder of a shard below the LMDB folder, such as ``part-00000-of-00008``."""
    return f"part-{number:05d}-of-{shards:05d}"


def write_environment(
    destination: Path,
    ranges: Sequence[TileRange],
    store: Path,
    name: str = "",
    advance: Callable[[int], None] = lambda _: None,
) -> ShardRecord:
    """Write one LMDB environment: bands and reference map of each patch in ``ranges``.

    Keys come in order and pixels column by column of patches, as the names are ordered, so that each chunk of the
    store is decoded once and the environment grows at its end.

    Parameters
    ----------
    destination : Path
        Folder of the environment; it must be on a local disk and is made.
    ranges : sequence of TileRange
        Patches to write.
    store : Path
        The Zarr store with the tiles' cubes.
    name : str
        Path of the environment below the LMDB folder, for the index.
    advance : callable
        Called with the number of patches of each batch that is written.

    Returns
    -------
    ShardRecord
        First and last patch and counts.
    """
    # An attempt that was interrupted has left an environment that would only grow.
    shutil.rmtree(destination, ignore_errors=True)
    destination.mkdir(parents=True)
    environment = lmdb.open(str(destination), map_size=SPARE_PAGES * PAGE_BYTES, readahead=False, sync=False)
    expected = sum(piece.stop - piece.start for piece in ranges)
    first = last = None
    patches = 0
    try:
        for batch in _batches(_values(ranges, store), COMMIT_EVERY):
            if first is None:
                environment.set_mapsize(_expected_map_size(batch, expected))
            _put(environment, batch)
            first, last = first or batch[0][0], batch[-1][0]
            patches += len(batch)
            advance(len(batch))
        environment.sync(True)
    finally:
        environment.close()
    return ShardRecord(name, first, last, patches, 2 * patches)


def write_index(folder: Path, shards: Sequence[ShardRecord], classes: Sequence[str]) -> None:
    """Write ``index.json`` beside shards: which patches are where (``first`` to ``last`` in name order)."""
    index = {"version": 1, "classes": list(classes), "shards": [vars(record) for record in shards]}
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _cut(kept: Sequence[tuple[Path, int]], start: int, stop: int) -> Iterator[TileRange]:
    offset = 0
    for part, count in kept:
        first, last = max(start - offset, 0), min(stop - offset, count)
        if first < last:
            yield TileRange(part, first, last)
        offset += count


def _values(ranges: Iterable[TileRange], store: Path) -> Iterator[tuple[str, bytes, bytes]]:
    """Patch id, encoded bands and encoded reference map of each patch."""
    for piece in ranges:
        rows = read_rows(piece.part, ["patch_id", "tile", "x", "y"], status=KEPT)
        rows = rows.slice(piece.start, piece.stop - piece.start)
        column = _ColumnReader(store, rows["tile"][0].as_py())
        for patch_id, x, y in zip(*(rows[name].to_pylist() for name in ("patch_id", "x", "y")), strict=True):
            bands, codes = column.patch(x, y)
            yield patch_id, encode_bands(bands), encode_reference_map(codes)


class _ColumnReader:
    """Patches of a tile, read one column of patches at a time."""

    def __init__(self, store: Path, tile: str) -> None:
        group = store / tile
        nodes = sorted(path.name for path in group.iterdir() if (path / "dn").is_dir())
        self._bands = [zarr.open_array(group / node / "dn", mode="r") for node in nodes]
        self._names = [
            [str(name) for name in _read(zarr.open_array(group / node / "band", mode="r"))] for node in nodes
        ]
        self._map = zarr.open_array(group / MAP_NODE / MAP_NODE, mode="r")
        self._x: int | None = None

    def patch(self, x: int, y: int) -> tuple[Mapping[str, npt.NDArray[np.uint16]], npt.NDArray[np.uint16]]:
        if x != self._x:
            self._x = x
            self._columns = [self._column(array, x) for array in self._bands]
            self._codes = self._column(self._map, x)
        bands = {
            name: self._row(pixels, y)[index]
            for names, pixels in zip(self._names, self._columns, strict=True)
            for index, name in enumerate(names)
        }
        return bands, self._row(self._codes, y)

    @staticmethod
    def _column(array: zarr.Array[Any], x: int) -> npt.NDArray[np.uint16]:
        side = array.chunks[-1]
        pixels: npt.NDArray[np.uint16] = np.asarray(array[..., x * side : (x + 1) * side])
        return pixels

    @staticmethod
    def _row(pixels: npt.NDArray[np.uint16], y: int) -> npt.NDArray[np.uint16]:
        side = pixels.shape[-1]
        return pixels[..., y * side : (y + 1) * side, :]


def _read(array: zarr.Array[Any]) -> npt.NDArray[Any]:
    return np.asarray(array[:])


def _batches(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    batch = []
    for value in values:
        batch.append(value)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _put(environment: lmdb.Environment, batch: list[tuple[str, bytes, bytes]]) -> None:
    """Write a batch in one transaction, with a larger map if it does not fit."""
    while True:
        try:
            with environment.begin(write=True) as transaction:
                for patch_id, bands, codes in batch:
                    transaction.put(patch_id.encode(), bands)
                    transaction.put(reference_map_key(patch_id).encode(), codes)
        except lmdb.MapFullError:
            environment.set_mapsize(2 * environment.info()["map_size"])
        else:
            return


def _expected_map_size(batch: list[tuple[str, bytes, bytes]], patches: int) -> int:
    """Room for ``patches`` patches like those of ``batch``, and a tenth more for the tree above them.

    Readers map as much as the environment says, and some machines refuse the terabytes that are sometimes asked for.
    """
    largest = max(_whole_pages(bands) + _whole_pages(codes) for _, bands, codes in batch)
    return (patches * largest * 11 // 10 // PAGE_BYTES + SPARE_PAGES) * PAGE_BYTES


def _whole_pages(value: bytes) -> int:
    # A large value stands on pages of its own, behind a header of 16 bytes.
    return -(-(len(value) + 16) // PAGE_BYTES) * PAGE_BYTES
