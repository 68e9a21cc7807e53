"""Sums of the patches of a dataset: read from LMDB or cubes, kept in files, and described in tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reben_dask.atomic import atomic_path
from reben_dask.errors import InputError
from reben_dask.formats.bands import REFERENCE_MAP
from reben_dask.formats.columns import (
    FLAGS,
    GRID,
    KEPT,
    LABELS,
    PATCH_ID,
    S1_NAME,
    SPLIT,
    SPLITS,
    TILE,
    X,
    Y,
    flagged,
)
from reben_dask.formats.lmdb import DATA_FILE, MAP_TENSOR, ShardIndex, decode, is_single, reference_map_key
from reben_dask.formats.statistics import Statistics, bin_values
from reben_dask.formats.trees.layout import PatchPixels
from reben_dask.patches.statistics import IMAGES, NO_SPLIT, Sums
from reben_dask.stores.cube_reader import TileReader
from reben_dask.stores.lmdb import open_environment
from reben_dask.stores.lmdb_pages import require_sound_pages
from reben_dask.stores.patch_table import read_rows
from reben_dask.tables import COUNT, TEXT, Cell, Table

Row = Mapping[str, Any]
"""Kept patch with :data:`ROW_COLUMNS`."""

Count = Callable[[int], object]

ROW_COLUMNS = (PATCH_ID, SPLIT, S1_NAME, LABELS, *FLAGS)
"""Columns that sums need of a patch; flags may be missing."""

_VALUE = ",.6g"
_HISTOGRAM = pa.schema([("band", pa.string()), ("split", pa.string()), ("value", pa.float64()), ("pixels", pa.int64())])


# Sums


def add_patch(sums: Sums, row: Row, pixels: PatchPixels) -> None:
    """Add a kept patch, unless it is flagged."""
    if flagged(row):
        return
    # Without a partner, cubes have NaN all over.
    images: dict[str, npt.NDArray[Any]] = {**pixels.s2, **(pixels.s1 if row[S1_NAME] else {})}
    if pixels.reference_map is not None:
        images[REFERENCE_MAP.name] = pixels.reference_map
    sums.add(row[SPLIT], images, () if row[LABELS] is None else row[LABELS])


def sum_lmdb(folder: Path, rows: Iterable[Row], advance: Count) -> Sums:
    """Add up the clear patches of an LMDB environment, or of shards with their index.

    Parameters
    ----------
    folder : Path
        Environment, or folder of the shards.
    rows : iterable of mapping
        Kept patches, preferably in name order.
    advance : callable
        Called with numbers of rows.

    Raises
    ------
    InputError
        If a patch is missing, or an environment cannot be opened.
    """
    sums = Sums()
    with _Environments(folder) as environments:
        for row in rows:
            if not flagged(row):
                add_patch(sums, row, environments.read(row[PATCH_ID], row[S1_NAME]))
            advance(1)
    return sums


def sum_cubes(store: Path, parts: Iterable[Path], advance: Count) -> Sums:
    """Add up the clear patches of a Zarr store; ``parts`` of the patch table have their rows.

    ``advance`` is called with numbers of kept patches.
    """
    sums = Sums()
    for part in parts:
        rows = read_rows(part, [TILE, GRID, X, Y, *ROW_COLUMNS], status=KEPT)
        readers = TileReader(store, part.stem)
        for row in rows.to_pylist():
            if not flagged(row):
                add_patch(sums, row, readers[row[GRID]].patch(row[X], row[Y]))
            advance(1)
    return sums


class _Environments(ExitStack):
    """Environments of an LMDB, each opened when it is first read."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder, self._index = folder, None if is_single(folder) else ShardIndex.read(folder)
        self._transactions: dict[Path, lmdb.Transaction] = {}

    def read(self, patch_id: str, s1_name: str | None) -> PatchPixels:
        """Read the images of a patch that exist."""
        for folder in self._index.folders(self._folder, patch_id) if self._index else [self._folder]:
            transaction = self._transaction(folder)
            if (bands := transaction.get(patch_id.encode())) is not None:
                radar = transaction.get(s1_name.encode()) if s1_name else None
                codes = transaction.get(reference_map_key(patch_id).encode())
                return PatchPixels(
                    decode(bands),
                    {} if radar is None else decode(radar),
                    None if codes is None else decode(codes)[MAP_TENSOR],
                )
        raise InputError(f"{self._folder} has no patch {patch_id}; give the metadata of the patches in it.")

    def _transaction(self, folder: Path) -> lmdb.Transaction:
        if folder not in self._transactions:
            if (folder / DATA_FILE).is_file():
                require_sound_pages(folder / DATA_FILE)
            environment = self.enter_context(open_environment(folder))
            self._transactions[folder] = self.enter_context(environment.begin(buffers=True))
        return self._transactions[folder]


# Files


def write_sums(path: Path, sums: Sums) -> None:
    """Write sums to an ``.npz`` file, atomically."""
    arrays: dict[str, Any] = {
        "labels": np.array(list(sums.patches), str),
        "patches": np.array(list(sums.patches.values()), np.int64),
    }
    for (name, split), of in sums.bands.items():
        pixels, key = of.pixels(), f"{name}/{split}"
        bins = np.flatnonzero(pixels).astype(np.uint16)
        arrays |= {f"{key}/bins": bins, f"{key}/pixels": pixels[bins]}
        arrays |= {
            f"{key}/sums": np.array([str(of.total), str(of.squares)]),
            f"{key}/ends": np.array([of.low, of.high]),
        }
    with atomic_path(path) as draft, draft.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_sums(path: Path) -> Sums:
    """Read the file of :func:`write_sums`."""
    sums = Sums()
    with np.load(path) as arrays:
        sums.patches.update(dict(zip(arrays["labels"].tolist(), arrays["patches"].tolist(), strict=True)))
        for key in (name.removesuffix("/bins") for name in arrays.files if name.endswith("/bins")):
            of = sums.of(*key.split("/"))
            of.add_pixels(arrays[f"{key}/bins"], arrays[f"{key}/pixels"])
            of.total, of.squares = map(Fraction, arrays[f"{key}/sums"].tolist())
            of.low, of.high = arrays[f"{key}/ends"].tolist()
    return sums


def merge_sums(paths: Iterable[Path]) -> Sums:
    """Read several files, and add them up; the order does not matter."""
    sums = Sums()
    for path in paths:
        sums.merge(read_sums(path))
    return sums


def write_histograms(path: Path, sums: Sums) -> None:
    """Write the pixels of each image by split and value to a Parquet file, atomically."""
    tables = [_HISTOGRAM.empty_table()]
    for name in [*sums.names, REFERENCE_MAP.name]:
        values = bin_values(IMAGES[name])
        for split in (*SPLITS, NO_SPLIT):
            if (name, split) in sums.bands:
                pixels = sums.bands[name, split].pixels()
                bins = np.flatnonzero(pixels)
                columns = [[name] * len(bins), [split or None] * len(bins), values[bins].astype(float), pixels[bins]]
                tables.append(pa.table(dict(zip(_HISTOGRAM.names, columns, strict=True)), schema=_HISTOGRAM))
    with atomic_path(path) as draft:
        pq.write_table(pa.concat_tables(tables).combine_chunks(), draft, compression="zstd")


# Tables


def band_table(statistics: Statistics, splits: Sequence[str]) -> Table:
    """Table of the bands in some splits, without those that have no pixels."""
    columns = ["band", *(["split"] if len(splits) > 1 else [])]
    rows: list[list[Cell]] = []
    for band, of_split in statistics.bands.items():
        for split in splits:
            of = of_split[split]
            values: list[Cell] = [of.count, of.mean, of.std, of.min, of.p01, of.p50, of.p99, of.max]
            rows += [[*(band, split)[: len(columns)], *values]] if of.count else []
    measures = ["pixels", "mean", "std", "min", "1 %", "median", "99 %", "max"]
    formats = [*[TEXT] * len(columns), COUNT, *[_VALUE] * (len(measures) - 1)]
    return Table("Statistics of the bands: DN of Sentinel-2, dB of Sentinel-1", [*columns, *measures], rows, formats)


def class_table(statistics: Statistics) -> Table:
    """Table of the classes: patches, pixels of the reference maps, and weight."""
    rows = [[name, of.patches, of.pixels, of.weight] for name, of in statistics.classes.items()]
    table = Table(
        "Frequency of the classes", ["class", "patches", "pixels", "weight"], rows, [TEXT, COUNT, COUNT, ",.4g"]
    )
    return table.without_zero_columns()


def iter_rows(table: pa.Table) -> Iterator[Row]:
    """Rows with :data:`ROW_COLUMNS`, as far as the table has them."""
    there = [name for name in ROW_COLUMNS if name in table.column_names]
    missing: Row = {str(name): None for name in ROW_COLUMNS if name not in there}
    for batch in table.select(there).to_batches():
        for row in batch.to_pylist():
            yield {**missing, **row}
