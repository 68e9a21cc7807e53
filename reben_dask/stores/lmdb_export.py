"""LMDB export from the Zarr store: one environment, or shards written in parallel."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import lmdb

from reben_dask.atomic import atomic_path
from reben_dask.formats.bands import ImageKind
from reben_dask.formats.columns import GRID, KEPT, PATCH_ID, S1_NAME, TILE, X, Y
from reben_dask.formats.lmdb import DATA_FILE, Shard, encode_bands, encode_reference_map, keys_of
from reben_dask.stores.batches import batched
from reben_dask.stores.cube_reader import TileReader
from reben_dask.stores.lmdb_environment import (
    Item,
    map_bytes_for,
    new_environment,
    pages_bytes,
    put,
    used_bytes,
)
from reben_dask.stores.patch_table import read_rows

COMMIT_EVERY = 256


@dataclass(frozen=True)
class TileRange:
    """Kept patches ``start`` to ``stop`` (exclusive) of one tile, in name order."""

    part: Path
    start: int
    stop: int


def plan_shards(kept: Sequence[tuple[Path, int]], shards: int) -> list[list[TileRange]]:
    """Divide the kept patches into runs of equal length, in name order.

    ``kept`` has the part file and number of kept patches of each tile, in tile order. With fewer patches than shards,
    some shards are empty.
    """
    total = sum(count for _, count in kept)
    edges = [total * number // shards for number in range(shards + 1)]
    return [list(_cut(kept, start, stop)) for start, stop in pairwise(edges)]


def write_environment(
    destination: Path,
    ranges: Sequence[TileRange],
    store: Path,
    name: str = "",
    advance: Callable[[int], None] = lambda _: None,
) -> Shard:
    """Write one LMDB environment with bands, reference map and Sentinel-1 partner of each patch in ``ranges``.

    Reads by columns of patches, so that each chunk of the store is decoded once; padded names are in that order too,
    and the environment grows at its end. ``destination`` is a new folder on a local disk; ``name`` is its path below
    the LMDB folder, for the index entry that is returned. ``advance`` gets the number of patches of each batch.
    """
    # An interrupted attempt leaves an environment that would only grow.
    shutil.rmtree(destination, ignore_errors=True)
    expected = sum(piece.stop - piece.start for piece in ranges)
    first = last = None
    patches = 0
    with new_environment(destination) as environment:
        for batch in batched(_patches(ranges, store), COMMIT_EVERY):
            if first is None:
                environment.set_mapsize(_expected_map_size(batch, expected))
            put(environment, [item for patch in batch for item in patch.items])
            names = [patch.patch_id for patch in batch]
            first, last = min([*names, first or names[0]]), max([*names, last or names[0]])
            patches += len(batch)
            advance(len(batch))
        keys = environment.stat()["entries"]
    return Shard(name, first, last, patches, keys)


def append_tile(environment: Path, part: Path, store: Path, advance: Callable[[int], None] = lambda _: None) -> None:
    """Add the values of a tile's kept patches to an LMDB environment; those that it holds are left as they are.

    One process writes at a time. Each transaction is on disk when it ends, so that the call may be repeated after it
    was interrupted. ``environment`` is a folder on a local disk, made with its first tile; ``part`` is the tile's part
    of the patch table.
    """
    kept = read_rows(part, [PATCH_ID], status=KEPT).num_rows
    pieces = [TileRange(part, 0, kept)] * bool(kept)
    environment.mkdir(parents=True, exist_ok=True)
    own_copy(environment / DATA_FILE)
    with lmdb.open(str(environment), readahead=False) as opened:
        for number, batch in enumerate(batched(_patches(pieces, store), COMMIT_EVERY)):
            if number == 0:
                opened.set_mapsize(used_bytes(opened) + _expected_map_size(batch, kept))
            put(opened, [item for patch in batch for item in patch.items], overwrite=False)
            advance(len(batch))


def own_copy(file: Path) -> None:
    """Replace a file by a copy if it has hard links, such as one of a published dataset, that must not change."""
    if file.exists() and file.stat().st_nlink > 1:
        with atomic_path(file) as draft:
            shutil.copy2(file, draft)


def _cut(kept: Sequence[tuple[Path, int]], start: int, stop: int) -> Iterator[TileRange]:
    offset = 0
    for part, count in kept:
        first, last = max(start - offset, 0), min(stop - offset, count)
        if first < last:
            yield TileRange(part, first, last)
        offset += count


class _Patch(NamedTuple):
    patch_id: str
    items: tuple[Item, ...]


def _patches(ranges: Iterable[TileRange], store: Path) -> Iterator[_Patch]:
    columns = (PATCH_ID, S1_NAME, GRID, X, Y)
    for piece in ranges:
        rows = read_rows(piece.part, [TILE, *columns], status=KEPT)
        rows = rows.slice(piece.start, piece.stop - piece.start)
        readers = TileReader(store, rows[TILE][0].as_py())
        for patch_id, s1_name, grid, x, y in zip(*(rows[name].to_pylist() for name in columns), strict=True):
            pixels, keys = readers[grid].patch(x, y), keys_of(patch_id, s1_name)
            values = {ImageKind.S2: encode_bands(pixels.s2)}
            if pixels.reference_map is not None:
                values[ImageKind.MAP] = encode_reference_map(pixels.reference_map)
            # In a job without Sentinel-1, a published name has no pixels.
            if pixels.s1:
                values[ImageKind.S1] = encode_bands(pixels.s1)
            yield _Patch(patch_id, tuple((key.encode(), values[kind]) for kind, key in keys.items() if kind in values))


def _expected_map_size(batch: list[_Patch], patches: int) -> int:
    return map_bytes_for(patches * max(pages_bytes(value for _, value in patch.items) for patch in batch))
