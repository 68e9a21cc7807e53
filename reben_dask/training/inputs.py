"""Patches of a split as normalised tensors, in reproducible batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from reben_dask.errors import InputError
from reben_dask.formats.columns import SPLITS
from reben_dask.formats.dataset import RECORD, STATISTICS, RunRecord
from reben_dask.formats.statistics import Statistics
from reben_dask.formats.training_run import BandScale
from reben_dask.nomenclature import load_nomenclature, shipped_nomenclatures
from reben_dask.patches.statistics import Sums, describe_sums
from reben_dask.training.metrics import present_classes, region_sizes
from reben_dask.training.samples import Samples, lmdb_samples

IGNORED = -100
"""Class index of pixels that do not count, as PyTorch's losses expect it."""

Advance = Callable[[int], object]
Batch = dict[str, torch.Tensor]


def open_split(out: Path, split: str, bands: Sequence[str], classes: Sequence[str] | None = None) -> Samples:
    """Open the clear patches of a split; see :func:`~reben_dask.training.lmdb_samples`."""
    return lmdb_samples(out, split=split, bands=bands, classes=classes)


def band_scales(out: Path, train: Samples, advance: Advance) -> dict[str, BandScale]:
    """Return the mean and standard deviation of each band over the training split.

    They come from ``statistics.json`` of the dataset; without it, all pixels are read, nodata left out.

    Parameters
    ----------
    out : Path
        Folder of the dataset.
    train : Samples
        Training split; its bands count.
    advance : callable
        Called with the number of patches that were read.
    """
    found = Statistics.read(out).bands if (out / STATISTICS).is_file() else {}
    if not set(train.bands) <= set(found):
        sums = Sums()
        for patch_id, partner in zip(train.table.patch_ids, train.table.s1_names, strict=True):
            images = train.reader.read(patch_id, partner, train.bands).images
            if missing := [name for name in train.bands if name not in images]:
                raise InputError(f"The patch {patch_id} has no band {missing[0]}; choose another modality, or bands.")
            sums.add(SPLITS[0], {name: images[name] for name in train.bands})
            advance(1)
        found = describe_sums(sums, (), None).bands
    scales = {}
    for name in train.bands:
        of = found[name][SPLITS[0]]
        if of.mean is None or of.std is None:
            raise InputError(f"No training patch of {out} has a valid pixel in {name}; choose other bands.")
        scales[name] = BandScale(mean=of.mean, std=of.std or 1.0)
    return scales


def class_lookup(out: Path, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the table from CLC code to position in ``classes``; :data:`IGNORED` for codes without a label.

    Shape ``(65536,)``. The codes are those of the run record of a dataset, else those of the shipped nomenclature with
    these classes; :class:`InputError` if there is neither.
    """
    if (out / RECORD).is_file():
        class_of: Mapping[int, str | None] = RunRecord.read(out).class_of_code
    else:
        shipped = [load_nomenclature(name) for name in shipped_nomenclatures()]
        held = [nomenclature.class_of for nomenclature in shipped if set(nomenclature.classes) == set(classes)]
        if len(held) != 1:
            raise InputError(f"{out} has no run record, so the classes of its reference maps are not known.")
        class_of = held[0]
    table = np.full(np.iinfo(np.uint16).max + 1, IGNORED, np.int64)
    place = {name: number for number, name in enumerate(classes)}
    for code, name in class_of.items():
        if name is not None:
            table[code] = place[name]
    return table


@dataclass(frozen=True)
class PatchTensors(Dataset):  # type: ignore[misc]  # untyped base
    """Patches of :class:`~reben_dask.training.Samples`, normalised: a map-style dataset of PyTorch.

    An item has ``image`` (float32, axes ``(band, y, x)``), ``label`` (float32, ``(class,)``) and, with a lookup,
    ``map`` (int64, ``(y, x)``: positions in the classes, or :data:`IGNORED`).
    """

    samples: Samples
    scales: Mapping[str, BandScale]
    lookup: npt.NDArray[np.int64] | None = None
    min_region_px: int = 0
    """Pixels of the smallest region that counts, in labels and maps; needs a lookup if above 1."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> Batch:
        """Read one patch."""
        sample = self.samples[number]
        image = sample["image"]
        image -= self._mean
        image /= self._std
        tensors = {"image": torch.from_numpy(image), "label": torch.from_numpy(sample["label"])}
        if self.lookup is not None:
            if "mask" not in sample:
                raise InputError(f"The patch {self.samples.patch_ids[number]} has no reference map, which is needed.")
            codes = self.lookup[sample["mask"]]
            if self.min_region_px > 1:
                codes[region_sizes(codes[None])[0] < self.min_region_px] = IGNORED
                (present,) = present_classes([codes], len(self.samples.classes))
                tensors["label"] = torch.from_numpy(present.astype(np.float32))
            tensors["map"] = torch.from_numpy(codes)
        return tensors

    @cached_property
    def _mean(self) -> npt.NDArray[np.float32]:
        return self._column("mean")

    @cached_property
    def _std(self) -> npt.NDArray[np.float32]:
        return self._column("std")

    def _column(self, name: str) -> npt.NDArray[np.float32]:
        values = [getattr(self.scales[band], name) for band in self.samples.bands]
        return np.array(values, np.float32)[:, None, None]


class Batches:
    """Numbers of patches in batches: in order, or shuffled anew in each epoch.

    Parameters
    ----------
    length : int
        Number of patches.
    size : int
        Patches per batch.
    seed : int, optional
        Seed of the order, which depends on it and on :attr:`epoch` alone. A last batch of one patch is left out, which
        batch normalisation cannot use. Without a seed, all patches keep their order.
    """

    def __init__(self, length: int, size: int, seed: int | None = None) -> None:
        self._length, self._size, self._seed = length, size, seed
        self.epoch = 0
        """Current epoch."""

    def __len__(self) -> int:
        whole, rest = divmod(self._length, self._size)
        return whole + (rest > (0 if self._seed is None or not whole else 1))

    def __iter__(self) -> Iterator[list[int]]:
        numbers = np.arange(self._length)
        if self._seed is not None:
            numbers = np.random.default_rng([self._seed, self.epoch]).permutation(self._length)
        for batch in range(len(self)):
            yield numbers[batch * self._size : (batch + 1) * self._size].tolist()


def load_batches(tensors: PatchTensors, batches: Batches, workers: int, *, pin: bool = False) -> Any:
    """Return a DataLoader of batches; workers are started anew, which is safe with every store, and kept."""
    return DataLoader(
        tensors,
        batch_sampler=batches,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        persistent_workers=workers > 0,
        pin_memory=pin,
        # Its own, so that reading takes no numbers from the generator of the training.
        generator=torch.Generator(),
    )
