"""Loaders of PyTorch: the same samples whatever the workers and the way they start, and nothing left open."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from tiny import PATCHES, write_tiny
from torch.utils.data import DataLoader

from reben_dask.training import BandScale, Samples, close_environments, cube_samples, lmdb_samples
from reben_dask.training.data_module import PatchDataModule
from reben_dask.training.loaders import Batches, PatchDataset, PatchStream, load_batches

CONTEXTS = ("fork", "spawn", "forkserver")
SCALES = {name: BandScale(mean=1_000, std=500) for name in ("B04", "B11")}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "dataset")


@pytest.fixture
def samples(tiny: Path) -> Iterator[Samples]:
    yield lmdb_samples(tiny, bands=("B04", "B11")).normalized(SCALES).with_masks("codes")
    close_environments()


def _held() -> tuple[set[str], set[str]]:
    """Open files, and files of shared memory that this process maps."""
    process = psutil.Process()
    maps = {entry.path for entry in process.memory_maps(grouped=True)}
    return {file.path for file in process.open_files()}, {path for path in maps if "/torch_" in path}


def _expect(batches: list[dict[str, torch.Tensor]], samples: Samples, order: list[list[int]]) -> None:
    assert len(batches) == len(order)
    for batch, numbers in zip(batches, order, strict=True):
        for name, values in samples.batch(numbers).items():
            np.testing.assert_array_equal(batch[name].numpy(), values)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("workers", [0, 1, 4])
def test_the_same_batches_from_every_worker(samples: Samples, workers: int, context: str) -> None:
    samples[0]
    before = _held()
    batches = Batches(len(samples), 2, seed=1)
    loader = load_batches(samples, batches, workers, context=context)
    for epoch in range(2):
        batches.set_epoch(epoch)
        found = list(loader)
        _expect(found, samples, list(batches))
    del loader, found
    assert not multiprocessing.active_children()
    samples[0]
    assert _held() == before


def test_forked_workers_read_cubes_that_this_process_has_read(tiny: Path) -> None:
    samples = cube_samples(tiny, bands=("B04", "B11"))
    samples[0]
    batches = Batches(len(samples), 2)
    _expect(list(load_batches(samples, batches, 2, context="fork")), samples, list(batches))


@pytest.mark.parametrize(("workers", "context"), [(0, None), (1, "fork"), (4, "fork")])
def test_a_stream_has_every_patch_once(tiny: Path, workers: int, context: str | None) -> None:
    samples = cube_samples(tiny, bands=("B04", "B11"))
    expected = sorted(image.tobytes() for image in samples.batch(range(len(samples)))["image"])
    patches = PatchStream(samples, 2, seed=0, buffer_shards=2)
    orders = set()
    for epoch in range(4 if workers == 0 else 1):
        patches.epoch = epoch
        loader = DataLoader(patches, batch_size=None, num_workers=workers, multiprocessing_context=context)
        found = [image.numpy().tobytes() for batch in loader for image in batch["image"]]
        assert sorted(found) == expected
        orders.add(tuple(found))
    assert len(orders) > 1 or workers


def test_patches_are_collated(samples: Samples) -> None:
    (batch,) = DataLoader(PatchDataset(samples), batch_size=len(samples))
    _expect([batch], samples, [list(range(len(samples)))])


def test_splits_of_a_data_module(tiny: Path) -> None:
    samples = {split: lmdb_samples(tiny, split=split, bands=["B04"]) for split in ("train", "validation")}
    module = PatchDataModule(samples, 2, seed=3)
    train = module.train_dataloader()
    train.sampler.set_epoch(1)
    expected = Batches(3, 2, seed=3)
    expected.set_epoch(1)
    _expect(list(train), samples["train"], list(expected))
    _expect(list(module.val_dataloader()), samples["validation"], [[0]])
    assert list(module.test_dataloader()) == list(module.predict_dataloader()) == []
    close_environments()


def test_lightning_trains_with_a_data_module(tiny: Path, tmp_path: Path) -> None:
    from lightning import pytorch as lightning  # noqa: PLC0415 - needs torchvision's operators, declared above

    seen: dict[str, list[int]] = {"train": [], "validation": []}

    class Model(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 3)

        def _loss(self, split: str, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            seen[split].append(len(batch["image"]))
            logits = self.layer(batch["image"].mean((1, 2, 3))[:, None])
            return torch.nn.functional.binary_cross_entropy_with_logits(logits, batch["label"])

        def training_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return self._loss("train", batch)

        def validation_step(self, batch: dict[str, torch.Tensor]) -> None:
            self._loss("validation", batch)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.01)

    samples = {split: lmdb_samples(tiny, split=split, bands=["B04"]) for split in seen}
    quiet = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "logger": False,
    }
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", num_sanity_val_steps=0, default_root_dir=tmp_path, **quiet
    )
    trainer.fit(Model(), datamodule=PatchDataModule(samples, 3))
    assert seen == {"train": [3, 3], "validation": [1, 1]}
    assert sum(len(each) for each in samples.values()) == len([patch for patch in PATCHES if patch.split != "test"])
    close_environments()


@pytest.mark.parametrize(("length", "size", "sizes"), [(10, 4, [4, 4, 2]), (9, 4, [4, 4]), (3, 8, [3]), (1, 8, [1])])
def test_shuffled_batches(length: int, size: int, sizes: list[int]) -> None:
    batches = Batches(length, size, seed=5)
    first = list(batches)
    assert [len(batch) for batch in first] == sizes
    assert len(batches) == len(sizes)
    assert len({number for batch in first for number in batch}) == sum(sizes)
    assert list(batches) == first
    batches.epoch = 1
    assert length < 4 or list(batches) != first
    in_order = Batches(length, size)
    assert [number for batch in in_order for number in batch] == list(range(length))
    assert len(in_order) == len(list(in_order))
