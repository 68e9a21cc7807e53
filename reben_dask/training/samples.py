"""Labelled patches by number, with bands stacked to one image, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reben_dask.errors import InputError
from reben_dask.formats.bands import BAND_RESOLUTION_M, MAP_RESOLUTION_M, S1_RESOLUTION_M
from reben_dask.formats.dataset import CUBES, LMDB, METADATA_FILE, TABLE
from reben_dask.formats.lmdb import find_lmdb
from reben_dask.training.readers import CubeReader, Images, LmdbReader, Reader
from reben_dask.training.table import TrainingTable, read_training_table

TEN_METRES = ("B02", "B03", "B04", "B08")
"""Bands that need no resampling."""

Sample = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Samples:
    """Labelled patches of a dataset by number: a map-style dataset in PyTorch's terms.

    ``samples[number]`` is a dict of arrays with TorchGeo's keys: ``image`` (float32, axes ``(band, y, x)``: DN of
    Sentinel-2, dB of Sentinel-1), ``mask`` (int64, axes ``(y, x)``: land-cover codes; only in datasets with reference
    maps) and ``label`` (float32, axes ``(class,)``: 1 for each class that the patch carries).

    Parameters
    ----------
    table : TrainingTable
    reader : Reader
    bands : tuple of str
        Bands of the image, in this order; coarser ones are resampled to 10 m by repetition.
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
        if (pixels.reference_map is not None) != self._has_maps:
            other = "no reference map" if self._has_maps else "a reference map"
            raise InputError(f"The patch {name} has {other}, unlike the first patch, {self.table.patch_ids[0]}.")
        side = max((len(pixels.images[band]) * _pixel_m(band) // MAP_RESOLUTION_M for band in self.bands), default=0)
        sample = {"image": stack_bands(pixels.images, self.bands, side)}
        if pixels.reference_map is not None:
            sample["mask"] = pixels.reference_map.astype(np.int64)
        return {**sample, "label": self.table.labels[number].astype(np.float32)}

    @cached_property
    def _has_maps(self) -> bool:
        first = self.reader.read(self.table.patch_ids[0], None, ())
        return first.reference_map is not None


def lmdb_samples(
    out: str | PathLike[str],
    *,
    split: str | None = None,
    bands: Sequence[str] = TEN_METRES,
    classes: Sequence[str] | None = None,
) -> Samples:
    """Open the labelled patches of a dataset in its LMDB; flagged ones (snow, cloud or shadow) are left out.

    Parameters
    ----------
    out : path
        Folder with ``metadata.parquet`` and ``lmdb``, one environment or several shards with their index; or an LMDB
        with ``metadata.parquet`` in its folder or beside it, such as a published or a merged one; or their folder.
    split : str, optional
        ``train``, ``validation`` or ``test``; by default all patches.
    bands : sequence of str
        Bands of the image, such as ``B04``, ``VV``; those of 10 m by default.
    classes : sequence of str, optional
        Class names, in the order of ``label``. By default the list in the metadata; without one, that of the shipped
        nomenclature that alone holds all labels, or by whose recipe the patches are named.

    Raises
    ------
    InputError
        If there is no metadata, no patch of this split, or no class list.
    """
    folder = Path(out)
    lmdb = folder / LMDB if (folder / LMDB).is_dir() else find_lmdb(folder) or folder / LMDB
    beside = folder if (folder / METADATA_FILE).is_file() or lmdb != folder else folder.absolute().parent
    return Samples(read_training_table(beside, split, classes), LmdbReader(lmdb), tuple(bands))


def cube_samples(
    out: str | PathLike[str],
    *,
    split: str | None = None,
    bands: Sequence[str] = TEN_METRES,
    classes: Sequence[str] | None = None,
) -> Samples:
    """Open the labelled patches of a dataset in its Zarr store; flagged ones (snow, cloud or shadow) are left out.

    Zarr reads with threads, which a forked process does not have: give ``DataLoader`` workers
    ``multiprocessing_context="spawn"`` (or ``"forkserver"``).

    Parameters
    ----------
    out : path
        Folder with ``metadata.parquet``, ``patches.parquet`` and ``cubes.zarr``.
    split, bands, classes
        As of :func:`lmdb_samples`.

    Raises
    ------
    InputError
        If there is no metadata, no patch of this split, or no class list.
    """
    folder = Path(out)
    table = read_training_table(folder, split, classes)
    return Samples(table, CubeReader(folder / CUBES, folder / TABLE), tuple(bands))


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


def _pixel_m(band: str) -> int:
    return BAND_RESOLUTION_M.get(band, S1_RESOLUTION_M)
