"""Labelled patches by number, with bands stacked to one image, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from reben_dask.errors import InputError
from reben_dask.formats.columns import LABELS, PATCH_ID, S1_NAME, SPLIT, decode_classes
from reben_dask.formats.dataset import CUBES, LMDB, TABLE
from reben_dask.sources.published.metadata import metadata_files, read_metadata
from reben_dask.training.readers import CubeReader, Images, LmdbReader, Reader

TEN_METRES = ("B02", "B03", "B04", "B08")
"""Bands that need no resampling."""

Sample = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class TrainingTable:
    """Patches in the order of a metadata file."""

    classes: tuple[str, ...]
    patch_ids: npt.NDArray[np.object_]
    s1_names: npt.NDArray[np.object_]
    """Names of the Sentinel-1 partners, or ``None``."""
    labels: npt.NDArray[np.bool_]
    """Presence of each class, shape ``(patch, class)``."""


@dataclass(frozen=True)
class Samples:
    """Labelled patches of a dataset by number: a map-style dataset in PyTorch's terms.

    ``samples[number]`` is a dict of arrays with TorchGeo's keys: ``image`` (float32, axes ``(band, y, x)``: DN of
    Sentinel-2, dB of Sentinel-1), ``mask`` (int64, axes ``(y, x)``: CLC codes) and ``label`` (float32, axes
    ``(class,)``: 1 for each class that the patch carries).

    Parameters
    ----------
    table : TrainingTable
    reader : Reader
    bands : tuple of str
        Bands of the image, in this order; coarser ones are resampled to the pixels of the reference map by repetition.
    """

    table: TrainingTable
    reader: Reader
    bands: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of ``label``."""
        return self.table.classes

    @property
    def patch_ids(self) -> Sequence[str]:
        """Names of the patches by number."""
        return [str(name) for name in self.table.patch_ids]

    def __len__(self) -> int:
        return len(self.table.patch_ids)

    def __getitem__(self, number: int) -> Sample:
        """Read one patch; raises IndexError beyond the last, and InputError if a band is missing."""
        name, partner = self.table.patch_ids[number], self.table.s1_names[number]
        pixels = self.reader.read(name, partner, self.bands)
        if missing := [band for band in self.bands if band not in pixels.images]:
            raise InputError(f"The patch {name} has no band {missing[0]} in this dataset; leave it out of the bands.")
        return {
            "image": stack_bands(pixels.images, self.bands, len(pixels.reference_map)),
            "mask": pixels.reference_map.astype(np.int64),
            "label": self.table.labels[number].astype(np.float32),
        }


def lmdb_samples(out: str | PathLike[str], *, split: str | None = None, bands: Sequence[str] = TEN_METRES) -> Samples:
    """Open the labelled patches of a dataset in its LMDB; flagged ones (snow, cloud or shadow) are left out.

    Parameters
    ----------
    out : path
        Folder with ``metadata.parquet`` and ``lmdb``, one environment or several shards with their index.
    split : str, optional
        ``train``, ``validation`` or ``test``; by default all patches.
    bands : sequence of str
        Bands of the image, such as ``B04``, ``VV``; those of 10 m by default.

    Raises
    ------
    InputError
        If there is no metadata, or no patch of this split.
    """
    return Samples(_read_table(Path(out), split), LmdbReader(Path(out) / LMDB), tuple(bands))


def cube_samples(out: str | PathLike[str], *, split: str | None = None, bands: Sequence[str] = TEN_METRES) -> Samples:
    """Open the labelled patches of a dataset in its Zarr store; flagged ones (snow, cloud or shadow) are left out.

    Zarr reads with threads, which a forked process does not have: give ``DataLoader`` workers
    ``multiprocessing_context="spawn"`` (or ``"forkserver"``).

    Parameters
    ----------
    out : path
        Folder with ``metadata.parquet``, ``patches.parquet`` and ``cubes.zarr``.
    split, bands
        As of :func:`lmdb_samples`.

    Raises
    ------
    InputError
        If there is no metadata, or no patch of this split.
    """
    folder = Path(out)
    return Samples(_read_table(folder, split), CubeReader(folder / CUBES, folder / TABLE), tuple(bands))


def batches(samples: Samples, size: int, *, seed: int | None = None) -> Iterator[Sample]:
    """Yield all samples once in batches: the arrays of :class:`Samples` with a leading patch axis.

    Parameters
    ----------
    samples : Samples
    size : int
        Patches per batch; the last one may have fewer.
    seed : int, optional
        Seed to shuffle with, reproducibly; by default samples keep their order.
    """
    numbers = np.arange(len(samples)) if seed is None else np.random.default_rng(seed).permutation(len(samples))
    for start in range(0, len(samples), size):
        chosen = [samples[number] for number in numbers[start : start + size].tolist()]
        yield {name: np.stack([sample[name] for sample in chosen]) for name in chosen[0]}


def stack_bands(images: Images, bands: Sequence[str], side: int) -> npt.NDArray[np.float32]:
    """Stack square bands of shape ``(y, x)`` to a float32 image of shape ``(band, y, x)``.

    ``side`` is a multiple of the sides of all bands; coarser pixels are repeated.
    """
    stacked = np.empty((len(bands), side, side), np.float32)
    for layer, name in zip(stacked, bands, strict=True):
        times = side // len(images[name])
        layer[:] = images[name].repeat(times, axis=0).repeat(times, axis=1)
    return stacked


def _read_table(out: Path, split: str | None) -> TrainingTable:
    (file,) = metadata_files(out, clear_only=True)
    rows = read_metadata([file], [PATCH_ID, LABELS, SPLIT, S1_NAME])
    if split is not None:
        splits = sorted(rows[SPLIT].dropna().unique())
        rows = rows[rows[SPLIT] == split].reset_index(drop=True)
        if rows.empty:
            raise InputError(f"No patch of {file} is in the split {split!r}; available: {', '.join(splits) or 'none'}.")
    classes = _classes(file, rows[LABELS])
    place = {name: number for number, name in enumerate(classes)}
    lengths = rows[LABELS].map(len).to_numpy(np.int64)
    codes = np.array([place[label] for labels in rows[LABELS] for label in labels], np.int64)
    presence = np.zeros((len(rows), len(classes)), bool)
    presence[np.repeat(np.arange(len(rows)), lengths), codes] = True
    s1_names = rows[S1_NAME].astype(object).where(rows[S1_NAME].notna(), None)
    return TrainingTable(classes, rows[PATCH_ID].to_numpy(object), s1_names.to_numpy(object), presence)


def _classes(file: Path, labels: pd.Series[Any]) -> tuple[str, ...]:
    """Class list in the file's metadata, or the classes that occur, in alphabetical order."""
    listed = decode_classes(pq.read_schema(file).metadata)
    return listed or tuple(sorted({label for each in labels for label in each}))
