"""Samples as PyTorch reads them: map-style and iterable datasets, and batches.

This module needs PyTorch, of the extra ``train``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from reben_dask.training.samples import Samples
from reben_dask.training.streams import stream

Batch = dict[str, torch.Tensor]

_TORCH = {np.dtype(np.float32): torch.float32, np.dtype(np.int64): torch.int64}


class PatchDataset(Dataset):  # type: ignore[misc]  # untyped base
    """Map-style dataset of samples: a dict of tensors for a number, or a batch for several.

    ``DataLoader(PatchDataset(samples), batch_size=64, shuffle=True)`` collates patches; :func:`load_batches` reads
    batches into one buffer each, which is faster.

    Parameters
    ----------
    samples : Samples
        ``image`` (float32, axes ``(band, y, x)``), ``label`` (float32, ``(class,)``) and perhaps ``mask`` (int64,
        ``(y, x)``); see :class:`~reben_dask.training.Samples`.
    """

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, numbers: int | Sequence[int]) -> Batch:
        """Read a patch, or a batch of patches."""
        if not isinstance(numbers, Sequence | np.ndarray):
            return _tensors(self.samples[numbers])
        if get_worker_info() is None:
            return _tensors(self.samples.batch(numbers))
        made: list[torch.Tensor] = []

        def allocate(shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
            made.append(_shared_tensor(shape, dtype))
            array: npt.NDArray[Any] = made[-1].numpy()
            return array

        return dict(zip(self.samples.batch(numbers, allocate=allocate), made, strict=True))


class PatchStream(IterableDataset):  # type: ignore[misc]  # untyped base
    """Iterable dataset of batches, read shard by shard; each worker of a ``DataLoader`` takes its part of the shards.

    Use it as ``DataLoader(PatchStream(samples, 64, seed=0), batch_size=None, num_workers=4,
    multiprocessing_context="spawn")``.

    Parameters
    ----------
    samples : Samples
    size : int
        Patches per batch.
    seed : int, optional
        Seed of the order, which also depends on :attr:`epoch`; by default the order is that of the shards.
    buffer_shards : int
        Shards that each worker holds in memory; see :func:`~reben_dask.training.stream`.
    """

    def __init__(self, samples: Samples, size: int, *, seed: int | None = None, buffer_shards: int = 4) -> None:
        self._samples, self._size, self._seed, self._buffer_shards = samples, size, seed, buffer_shards
        self.epoch = 0
        """Current epoch. Set it before workers are started."""

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        part = (0, 1) if worker is None else (worker.id, worker.num_workers)
        seed = None if self._seed is None else (self._seed, self.epoch)
        return map(_tensors, stream(self._samples, self._size, seed=seed, buffer_shards=self._buffer_shards, part=part))


class Batches:
    """Numbers of patches in batches: in order, or in a new random order in each epoch.

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

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, as Lightning does."""
        self.epoch = epoch


def load_batches(
    samples: Samples, batches: Batches, workers: int = 0, *, pin: bool = False, context: str = "spawn"
) -> Any:
    """Return a ``DataLoader`` of batches.

    Parameters
    ----------
    samples : Samples
    batches : Batches
        Numbers of each batch.
    workers : int
        Processes that read; they are kept from epoch to epoch. 0 reads in this process.
    pin : bool
        True to copy batches to pinned memory, for a GPU.
    context : {"spawn", "forkserver", "fork"}
        Way to start workers; ``spawn`` is safe and fast with every store.
    """
    return DataLoader(
        PatchDataset(samples),
        sampler=batches,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context=context if workers else None,
        persistent_workers=workers > 0,
        pin_memory=pin,
        # Its own, so that reading takes no numbers from the generator of the training.
        generator=torch.Generator(),
    )


def _tensors(sample: Mapping[str, npt.NDArray[Any]]) -> Batch:
    return {name: torch.from_numpy(values) for name, values in sample.items()}


def _shared_tensor(shape: tuple[int, ...], dtype: Any) -> torch.Tensor:
    """Allocate a tensor in shared memory, as PyTorch's collation does, so that a worker sends it without a copy."""
    tensor = torch.empty(0, dtype=_TORCH[np.dtype(dtype)])
    storage = torch.UntypedStorage._new_shared(prod(shape) * tensor.element_size())  # noqa: SLF001
    return tensor.set_(storage, 0, shape)
