"""Evaluation of networks on a split, and of finished runs on any dataset with their classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from reben_dask.atomic import write_json
from reben_dask.errors import InputError, missing
from reben_dask.formats.training_run import WEIGHTS, TrainedOn, TrainingRecord, metrics_file
from reben_dask.training.inputs import Advance, open_split
from reben_dask.training.loaders import Batch, Batches, load_batches
from reben_dask.training.metrics import (
    Metrics,
    confusion_matrix,
    label_metrics,
    map_metrics,
    present_classes,
    region_sizes,
)
from reben_dask.training.model_card import write_model_card
from reben_dask.training.networks import build_network
from reben_dask.training.protocol import Protocol
from reben_dask.training.samples import Samples
from reben_dask.training.table import IGNORED

Begin = Callable[[str, int], Advance]
"""Announces a stage and its number of steps; returns the function that advances it."""


def silent(_stage: str, _steps: int) -> Advance:
    """No progress."""
    return lambda _: None


@dataclass(frozen=True)
class Trainee:
    """A network with its protocol, on a device."""

    network: nn.Module
    protocol: Protocol
    classes: tuple[str, ...]
    device: torch.device

    @property
    def makes_maps(self) -> bool:
        """True if the network classifies pixels."""
        return self.protocol.architecture.task == "map"

    def logits(self, batch: Batch) -> torch.Tensor:
        """Run the network on the images of a batch."""
        with self._precision():
            return self.network(batch["image"].to(self.device, non_blocking=True)).float()

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean cross-entropy: of each class (sigmoid), or of each labelled pixel (softmax)."""
        if not self.makes_maps:
            return functional.binary_cross_entropy_with_logits(logits, batch["label"].to(self.device))
        target = batch["mask"].to(self.device)
        total = functional.cross_entropy(logits, target, ignore_index=IGNORED, reduction="sum")
        return total / (target != IGNORED).sum().clamp(min=1)

    def predictions(self, batches: Any) -> Iterator[tuple[Batch, torch.Tensor]]:
        """Yield each batch with its logits, without dropout and gradients."""
        self.network.eval()
        with torch.inference_mode():
            for batch in batches:
                yield batch, self.logits(batch)

    def measure(self, batches: Any, advance: Advance) -> Metrics:
        """Compute ``loss`` and the metrics of all batches; see :mod:`reben_dask.training.metrics`.

        ``regions`` has the metrics of each threshold of the protocol, if the batches have maps.
        """
        collect: _Maps | _Labels = _Maps(self) if self.makes_maps else _Labels(self)
        losses, patches = 0.0, 0
        for batch, logits in self.predictions(batches):
            count = len(logits)
            losses, patches = losses + float(self.loss(logits, batch)) * count, patches + count
            collect.add(batch, logits)
            advance(count)
        return {"loss": losses / patches, **collect.metrics()}

    def _precision(self) -> Any:
        enabled = self.device.type == "cuda" and self.protocol.mixed_precision
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)


class _Labels:
    """Predicted and true labels of all batches."""

    def __init__(self, trainee: Trainee) -> None:
        self._trainee = trainee
        self._probabilities: list[npt.NDArray[np.float32]] = []
        self._labels: dict[str | None, list[npt.NDArray[np.bool_]]] = {None: []}

    def add(self, batch: Batch, logits: torch.Tensor) -> None:
        self._probabilities.append(logits.sigmoid().cpu().numpy())
        self._labels[None].append(batch["label"].numpy() > 0)
        for name, maps in _at_thresholds(batch, self._trainee.protocol.region_thresholds_px).items():
            self._labels.setdefault(name, []).append(present_classes(maps, len(self._trainee.classes)))

    def metrics(self) -> Metrics:
        probabilities, trainee = np.concatenate(self._probabilities), self._trainee
        found = {
            name: label_metrics(probabilities, np.concatenate(labels), trainee.classes, trainee.protocol.threshold)
            for name, labels in self._labels.items()
        }
        return _with_regions(found)


class _Maps:
    """Confusion matrices of all batches."""

    def __init__(self, trainee: Trainee) -> None:
        self._trainee = trainee
        self._confusion: dict[str | None, npt.NDArray[np.int64]] = {}

    def add(self, batch: Batch, logits: torch.Tensor) -> None:
        protocol, classes = self._trainee.protocol, len(self._trainee.classes)
        predicted, maps = logits.argmax(1).cpu().numpy(), batch["mask"].numpy()
        shown: dict[str | None, npt.NDArray[np.int64]] = {None: maps}
        shown |= _at_thresholds(batch, protocol.region_thresholds_px)
        if protocol.below_px:
            sizes = region_sizes(maps)
            shown |= {f"below_{size}_px": np.where(sizes < size, maps, IGNORED) for size in protocol.below_px}
        for name, true in shown.items():
            self._confusion[name] = self._confusion.get(name, 0) + confusion_matrix(true, predicted, classes)

    def metrics(self) -> Metrics:
        found = {name: map_metrics(matrix, self._trainee.classes) for name, matrix in self._confusion.items()}
        return {"ap_macro": None, "ap_micro": None, **_with_regions(found)}


def _at_thresholds(batch: Batch, thresholds: Mapping[str, int]) -> dict[str | None, npt.NDArray[np.int64]]:
    """Remove regions below each threshold from the maps."""
    if not thresholds or "mask" not in batch:
        return {}
    maps = batch["mask"].numpy()
    sizes = region_sizes(maps)
    return {name: np.where(sizes >= pixels, maps, IGNORED) for name, pixels in thresholds.items()}


def _with_regions(found: Mapping[str | None, Metrics]) -> Metrics:
    regions = {name: metrics for name, metrics in found.items() if name is not None}
    return {**found[None], **({"regions": regions} if regions else {})}


@dataclass(frozen=True)
class TrainedModel:
    """A finished run, to predict with; see :func:`load_run`."""

    record: TrainingRecord
    trainee: Trainee

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the predictions."""
        return self.record.classes

    def batches(self, samples: Samples) -> Any:
        """Load samples in batches, in order, normalised as in the training."""
        protocol = self.trainee.protocol
        order, pin = Batches(len(samples), protocol.batch_size), self.trainee.device.type == "cuda"
        return load_batches(samples.normalized(self.record.scales), order, protocol.workers, pin=pin)

    def predict(self, out: str | PathLike[str], split: str = "test") -> tuple[Samples, npt.NDArray[Any]]:
        """Predict all patches of a split.

        Parameters
        ----------
        out : path
            Dataset.
        split : str
            ``train``, ``validation`` or ``test``.

        Returns
        -------
        tuple of Samples and ndarray
            The patches, and for each of them the probability of each class (float32, shape ``(patch, class)``), or its
            map (int64, shape ``(patch, y, x)``: positions in the classes).
        """
        samples = open_split(Path(out), split, self.record.bands, self.classes)
        found = [
            (logits.argmax(1) if self.trainee.makes_maps else logits.sigmoid()).cpu().numpy()
            for _, logits in self.trainee.predictions(self.batches(samples))
        ]
        return samples, np.concatenate(found)


def require_dataset(out: str | PathLike[str]) -> Path:
    """Return the path of a dataset; :class:`InputError` if there is nothing."""
    if not Path(out).exists():
        raise InputError(missing("The dataset", out))
    return Path(out)


def choose_device(name: str | None) -> torch.device:
    """Return a device by name, or a GPU if there is one; :class:`InputError` if PyTorch cannot use it."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("There is no GPU that PyTorch can use; leave out --device cuda.")
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def load_run(run: str | PathLike[str], device: str | None = None) -> TrainedModel:
    """Load the best network of a run.

    Parameters
    ----------
    run : path
        Folder of ``reben train``.
    device : {"cpu", "cuda"}, optional
        By default a GPU if there is one.

    Raises
    ------
    InputError
        If the folder holds no run with a finished epoch, or there is no such device.
    """
    folder = Path(run)
    record = TrainingRecord.read(folder)
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{folder} has no finished epoch yet; run its `reben train` command again, with --resume.")
    # Parameters come from the file: neither are they downloaded, nor are random numbers of the caller used.
    protocol = Protocol.of(**record.protocol | {"pretrained": False})
    with torch.random.fork_rng(devices=[]):
        network = build_network(protocol, len(record.classes))
    network.load_state_dict(load_file(folder / WEIGHTS))
    place = choose_device(device)
    return TrainedModel(record, Trainee(network.to(place), protocol, record.classes, place))


def evaluate(
    run: str | PathLike[str],
    out: str | PathLike[str],
    *,
    split: str = "test",
    device: str | None = None,
    workers: int | None = None,
    begin: Begin = silent,
) -> Metrics:
    """Evaluate the best network of a run on a split, and write the metrics into the folder of the run.

    Parameters
    ----------
    run : path
        Folder of ``reben train``.
    out : path
        The dataset it was trained on, or another one with its classes and bands.
    split : str
        ``train``, ``validation`` or ``test``.
    device : {"cpu", "cuda"}, optional
        By default a GPU if there is one.
    workers : int, optional
        Processes that read patches; by default as in the training.
    begin : callable
        Progress.

    Returns
    -------
    dict
        Contents of ``metrics-<split>.json`` (``metrics-<folder>-<split>.json`` for another dataset): those of
        :mod:`reben_dask.training.metrics`, values from 0 to 1, with ``split``, ``dataset``, ``patches`` and
        ``threshold``.

    Raises
    ------
    InputError
        If the dataset has other classes, lacks a band or the split, or has no reference maps where they are needed.
    """
    folder, data = Path(run), require_dataset(out)
    model = load_run(folder, device)
    if workers is not None:
        trainee = replace(model.trainee, protocol=model.trainee.protocol.model_copy(update={"workers": workers}))
        model = replace(model, trainee=trainee)
    protocol = model.trainee.protocol
    samples = open_split(data, split, model.record.bands, model.classes)
    if model.trainee.makes_maps or protocol.region_thresholds_px:
        samples = samples.with_masks()
    measured = model.trainee.measure(model.batches(samples), begin("evaluate", len(samples)))
    dataset = TrainedOn.of(data, {split: len(samples)})
    content = {
        "dataset": dataset.name,
        "split": split,
        "patches": len(samples),
        "threshold": protocol.threshold,
        **measured,
    }
    is_same = dataset.metadata_sha256 == model.record.dataset.metadata_sha256
    write_json(folder / metrics_file(split, None if is_same else dataset.name), content, indent=2)
    write_model_card(folder)
    return content
