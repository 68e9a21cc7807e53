"""Chunks, shards and compressors for the cubes: size, CPU seconds to write and to read, files.

Takes one band of 10 m of a product, repeats it to the size of a full tile if it is smaller, and writes it in different
ways with the codecs of ``zarrs``. ``make bench-codecs PRODUCT=….SAFE`` runs it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, ZstdCodec

from reben_dask.sources.sentinel2 import read_band, read_tile
from reben_dask.stores.cubes import open_array

PATCH_PX = 120
REPEATS = 3
CHOSEN = "blosc lz4 9, bit shuffle"

COMPRESSORS = {
    "none": None,
    "zstd 1": ZstdCodec(level=1),
    "zstd 5": ZstdCodec(level=5),
    "blosc lz4 1, bit shuffle": BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle"),
    CHOSEN: BloscCodec(cname="lz4", clevel=9, shuffle="bitshuffle"),
    "blosc lz4 1, byte shuffle": BloscCodec(cname="lz4", clevel=1, shuffle="shuffle"),
    "blosc zstd 1, bit shuffle": BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),
    "blosc zstd 5, bit shuffle": BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle"),
}


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("product", type=Path, help="a Sentinel-2 product")
    parser.add_argument("--band", default="B04")
    parser.add_argument("--patches", type=int, default=91, help="patches along a side of what is written")
    parser.add_argument("--scratch", type=Path)
    options = parser.parse_args()
    dn = _resized(read_band(read_tile(options.product), options.band), options.patches)
    print(f"{options.product.name}, {options.band}: {dn.nbytes / 2**20:,.0f} MiB\n")
    print(f"{'chunk':>7}{'shard':>7}  {'compressor':<28}{'size %':>7}{'write s':>9}", end="")
    print(f"{'read s':>8}{'column s':>10}{'files':>8}")
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        for number, (chunk, shard, name) in enumerate(_ways()):
            row = _measure(dn, Path(folder) / str(number), chunk, shard, name)
            print(f"{chunk:>7}{shard or '-':>7}  {name:<28}" + row, flush=True)


def _resized(dn: np.ndarray, patches: int) -> np.ndarray:
    side = PATCH_PX * patches
    repeats = [-(-side // length) for length in dn.shape]
    return np.tile(dn, repeats)[:side, :side].copy()


def _ways() -> Iterator[tuple[int, int | None, str]]:
    for name in COMPRESSORS:
        yield 1, 13, name
    for shard in (7, 91):
        yield 1, shard, CHOSEN
    yield 1, None, CHOSEN
    yield 7, None, CHOSEN


def _measure(dn: np.ndarray, path: Path, chunk: int, shard: int | None, name: str) -> str:
    compressor = COMPRESSORS[name]
    zarr.create_array(
        store=path,
        shape=dn.shape,
        dtype=dn.dtype,
        chunks=(chunk * PATCH_PX,) * 2,
        shards=shard and (shard * PATCH_PX,) * 2,
        compressors=compressor,
        fill_value=0,
    )
    array = open_array(path, "r+")
    write = _best(lambda: array.__setitem__(slice(None), dn))
    read = _best(lambda: array[:])
    column = _best(lambda: _columns(array))
    files = [file for file in path.rglob("*") if file.is_file() and file.name != "zarr.json"]
    size = sum(file.stat().st_size for file in files)
    return f"{100 * size / dn.nbytes:>7.1f}{write:>9.2f}{read:>8.2f}{column:>10.2f}{len(files):>8,}"


def _columns(array: zarr.Array[Any]) -> None:
    """Column by column of patches, as the LMDB is written."""
    for left in range(0, array.shape[1], PATCH_PX):
        array[:, left : left + PATCH_PX]


def _best(action: Callable[[], object]) -> float:
    return min(_cpu(action) for _ in range(REPEATS))


def _cpu(action: Callable[[], object]) -> float:
    before = os.times()
    action()
    after = os.times()
    return after.user + after.system - before.user - before.system


if __name__ == "__main__":
    main()
