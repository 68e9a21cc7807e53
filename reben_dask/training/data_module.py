"""Data module of Lightning, with a ``DataLoader`` for each split.

Separate from :mod:`reben_dask.training.loaders`, which workers import, as importing Lightning takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reben_dask.training.loaders import Batches, load_batches
from reben_dask.training.networks import declare_missing_operators
from reben_dask.training.samples import Samples

try:
    declare_missing_operators()  # of torchvision, which Lightning imports
    from lightning.pytorch import LightningDataModule
except ImportError:
    LightningDataModule = object


class PatchDataModule(LightningDataModule):  # type: ignore[misc]  # untyped base
    """Data module of Lightning, with a ``DataLoader`` for each split.

    If ``lightning`` is installed, it is a ``LightningDataModule``; else it has the same methods.

    Parameters
    ----------
    samples : mapping of str to Samples
        Samples of the splits ``train``, ``validation`` and ``test``, or some of them.
    batch_size : int
        Patches per batch.
    workers : int
        Processes that read each split.
    seed : int
        Seed of the order of the training patches.
    pin : bool
        True to copy batches to pinned memory.

    Examples
    --------
    >>> splits = ("train", "validation")
    >>> samples = {split: dataset.samples(split=split).normalized() for split in splits}  # doctest: +SKIP
    >>> trainer.fit(model, datamodule=PatchDataModule(samples, batch_size=64, workers=4))  # doctest: +SKIP
    """

    def __init__(
        self,
        samples: Mapping[str, Samples],
        batch_size: int = 64,
        *,
        workers: int = 0,
        seed: int = 0,
        pin: bool = False,
    ) -> None:
        super().__init__()
        self._samples, self._batch_size, self._workers = samples, batch_size, workers
        self._seed, self._pin = seed, pin

    def train_dataloader(self) -> Any:
        """Load the training split, in a new random order in each epoch."""
        return self._load("train", self._seed)

    def val_dataloader(self) -> Any:
        """Load the validation split, in order."""
        return self._load("validation")

    def test_dataloader(self) -> Any:
        """Load the test split, in order."""
        return self._load("test")

    def predict_dataloader(self) -> Any:
        """Load the test split, in order."""
        return self._load("test")

    def _load(self, split: str, seed: int | None = None) -> Any:
        if split not in self._samples:
            return []
        samples = self._samples[split]
        batches = Batches(len(samples), self._batch_size, seed)
        return load_batches(samples, batches, self._workers, pin=self._pin)
