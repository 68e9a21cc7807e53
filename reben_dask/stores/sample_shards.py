"""Writers of samples in shards: tar files for WebDataset, Parquet files for Hugging Face.

A task writes one file from the cubes, patch by patch, in the order of tiles and of the cubes in each. The same rows and
pixels give the same bytes, Parquet files with the same version of pyarrow.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reben_dask.atomic import atomic_path, write_json
from reben_dask.formats.columns import EPSG, FLAGS, GRID, MAXX, MAXY, MINX, PATCH_ID, S1_NAME, SPLIT, TILE, X, Y
from reben_dask.formats.sample_shards import (
    DOCUMENT,
    GROUPS,
    INDEX_FILE,
    PATCHES_PER_SHARD,
    ROWS_PER_GROUP,
    WEBDATASET,
    SampleContents,
    ShardFile,
    ShardForm,
    group_of,
    member_name,
)
from reben_dask.formats.trees.layout import SUFFIX, Row
from reben_dask.stores.cube_reader import TileReader
from reben_dask.stores.geotiff import Place, encode_geotiff
from reben_dask.stores.lmdb import TileRange, plan_shards
from reben_dask.stores.trees import END_OF_ARCHIVE, encode_member, kept_rows, reported

Advance = Callable[[int], None]


class Sample(NamedTuple):
    """A patch: its row, and the pixels of its images by name, shape ``(y, x)``."""

    row: Row
    images: Mapping[str, npt.NDArray[Any]]


class SampleShard(NamedTuple):
    """Patches of one file; the ranges count those of its group in each tile, in the order of the cubes."""

    file: ShardFile
    ranges: tuple[TileRange, ...]

    @property
    def patches(self) -> int:
        """Number of patches."""
        return sum(piece.stop - piece.start for piece in self.ranges)


def plan_sample_shards(parts: Sequence[Path]) -> list[SampleShard]:
    """Divide the kept patches of each group into files of nearly the same length; a group without patches has none."""
    counts = {part: Counter(map(group_of, kept_rows([part], (SPLIT, *FLAGS)))) for part in parts}
    shards = []
    for group in GROUPS:
        kept = [(part, found[group]) for part, found in counts.items()]
        files = -(-sum(count for _, count in kept) // PATCHES_PER_SHARD)
        shards += [
            SampleShard(ShardFile(group, number, files), tuple(ranges))
            for number, ranges in enumerate(plan_shards(kept, files) if files else ())
        ]
    return shards


def write_sample_shard(
    folder: Path,
    form: ShardForm,
    contents: SampleContents,
    store: Path,
    shard: SampleShard,
    advance: Advance = lambda _: None,
) -> None:
    """Write one file atomically; ``advance`` gets the number of patches of each batch."""
    samples = reported(read_samples(shard, store, contents), advance)
    with atomic_path(folder / f"{shard.file}{form.suffix}") as draft:
        if form == WEBDATASET:
            _write_tar(draft, samples, contents)
        else:
            _write_parquet(draft, samples, contents)


def write_index(folder: Path, shards: Iterable[SampleShard], classes: Sequence[str]) -> None:
    """Write the index of tar files: the classes, and the number of patches of each file."""
    patches = {f"{shard.file}{WEBDATASET.suffix}": shard.patches for shard in shards}
    write_json(folder / INDEX_FILE, {"version": 1, "classes": list(classes), "shards": patches}, indent=2)


def read_samples(shard: SampleShard, store: Path, contents: SampleContents) -> Iterator[Sample]:
    """Read the patches of a file from the cubes; one without partner has no Sentinel-1 images."""
    columns, images, kinds = (*contents.columns, TILE, GRID, X, Y), [*contents.images], contents.kinds
    for piece in shard.ranges:
        rows = (row for row in kept_rows([piece.part], columns) if group_of(row) == shard.file.group)
        readers: TileReader | None = None
        for row in islice(rows, piece.start, piece.stop):
            readers = readers or TileReader(store, row[TILE], kinds)
            pixels = readers[row[GRID]].patch(row[X], row[Y])
            layers = (pixels if row[S1_NAME] else pixels._replace(s1={})).layers
            found = {band.name: image for band, image in layers.items()}
            yield Sample(row, {name: found[name] for name in images if name in found})


def _write_tar(path: Path, samples: Iterable[Sample], contents: SampleContents) -> None:
    with path.open("wb") as file:
        for row, images in samples:
            name = row[PATCH_ID]
            members = {member_name(name, image): _encode_npy(pixels) for image, pixels in images.items()}
            members[f"{name}.{DOCUMENT}"] = json.dumps(contents.values(row), ensure_ascii=False).encode()
            for member in sorted(members):
                file.write(encode_member(member, members[member]))
        file.write(END_OF_ARCHIVE)


def _write_parquet(path: Path, samples: Iterable[Sample], contents: SampleContents) -> None:
    rows = (_table_row(sample, contents) for sample in samples)
    columns = [*map(str, contents.columns)]
    # Images have no equal values, and their smallest would only enlarge the footer.
    options = {"use_dictionary": columns, "write_statistics": columns, "compression": "zstd"}
    schema = contents.schema
    with pq.ParquetWriter(path, schema, **options) as writer:
        while batch := list(islice(rows, ROWS_PER_GROUP)):
            writer.write_table(pa.Table.from_pylist(batch, schema))


def _table_row(sample: Sample, contents: SampleContents) -> dict[str, Any]:
    row, images = sample
    side_m = row[MAXX] - row[MINX]
    encoded = {
        name: {
            "bytes": encode_geotiff(pixels, Place(row[EPSG], row[MINX], row[MAXY], side_m // len(pixels))),
            "path": f"{row[PATCH_ID]}_{name}{SUFFIX}",
        }
        for name, pixels in images.items()
    }
    return {**contents.values(row), **encoded}


def _encode_npy(pixels: npt.NDArray[Any]) -> bytes:
    little = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
    return _npy_header(little.shape, little.dtype.str) + little.tobytes()


@lru_cache
def _npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    """Header of a file that :func:`numpy.load` reads without pickle."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue()
