"""Training of a network by a protocol: resumable by epoch, with the same result as without an interruption."""

from __future__ import annotations

import csv
import io
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from reben_dask import __version__
from reben_dask.atomic import remove, write_text
from reben_dask.errors import InputError, OutputError
from reben_dask.formats.training_run import CHECKPOINT, HISTORY, RUN_RECORD, WEIGHTS, TrainedOn, TrainingRecord
from reben_dask.training.checkpoint import load_checkpoint, save_checkpoint, save_weights
from reben_dask.training.evaluation import Begin, Trainee, choose_device, require_dataset, silent
from reben_dask.training.inputs import band_scales, open_split
from reben_dask.training.loaders import Batch, Batches, load_batches
from reben_dask.training.model_card import write_model_card
from reben_dask.training.networks import build_network, count_parameters
from reben_dask.training.protocol import Protocol, Schedule, load_protocol
from reben_dask.training.samples import Samples

TRAIN, VALIDATION = "train", "validation"
SELECTED_BY = {"labels": "ap_macro", "map": "miou"}
"""Validation metric by task; the best epoch has its highest value."""


def train(
    out: str | PathLike[str],
    run: str | PathLike[str],
    *,
    config: str | Path | None = None,
    resume: bool = False,
    begin: Begin = silent,
    report: Callable[[str], object] = print,
    **keys: Any,
) -> TrainingRecord:
    """Train a network on the clear patches of a dataset, and keep the epoch that is best on the validation split.

    Parameters
    ----------
    out : path
        Dataset, or an LMDB in rico-hdl's layout with metadata.
    run : path
        New folder for the run.
    config : str or path, optional
        Name of a shipped protocol, or a YAML file; by default that of the reBEN paper.
    resume : bool
        True to resume after the last finished epoch, if there is one; settings must be the same.
    begin, report : callable
        Progress, and a line for each epoch.
    **keys
        Keys of the protocol to change, such as ``model="scnn"``; see
        :class:`~reben_dask.training.protocol.Protocol`.

    Returns
    -------
    TrainingRecord
        Contents of ``run.json``.

    Raises
    ------
    InputError
        If a setting is wrong, the dataset lacks a band, a split or reference maps where they are needed, or the run to
        resume has other settings.
    OutputError
        If the folder holds something, and ``resume`` is False.
    """
    data, folder = require_dataset(out), Path(run)
    protocol = load_protocol(config, **keys)
    started = _started(folder, resume=resume)
    device = choose_device(protocol.device)
    samples = {split: open_split(data, split, protocol.channels) for split in (TRAIN, VALIDATION)}
    classes = samples[TRAIN].classes
    if protocol.architecture.task == "map" or protocol.min_region_px > 1:
        samples = {
            split: patches.with_masks(min_region_px=protocol.min_region_px) for split, patches in samples.items()
        }
    dataset = TrainedOn.of(data, {split: len(patches) for split, patches in samples.items()})
    if started is None:
        scales = band_scales(samples[TRAIN], begin("statistics", len(samples[TRAIN])))
    else:
        _require_same(folder, started, protocol, dataset)
        scales = started.scales

    torch.manual_seed(protocol.seed)
    network = build_network(protocol, len(classes)).to(device)
    record = TrainingRecord(
        protocol=protocol.model_dump(mode="json"),
        classes=classes,
        bands=protocol.channels,
        scales=scales,
        dataset=dataset,
        parameters=count_parameters(network),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        versions=_versions(),
    )
    if started is None:
        record.write(folder)
    samples = {split: patches.normalized(scales) for split, patches in samples.items()}
    fit = _Fit(folder, record, Trainee(network, protocol, classes, device), samples, begin)
    fit.restore()
    report(
        f"{protocol.architecture.title}, {record.parameters:,} parameters, {len(record.bands)} bands; "
        f"{dataset.patches[TRAIN]:,} patches to train, {dataset.patches[VALIDATION]:,} to validate."
    )
    while fit.state.epochs < protocol.epochs:
        report(fit.run_epoch())
    write_model_card(folder)
    return fit.record


def learning_rate(schedule: Schedule, step: int, steps: int) -> float:
    """Return the learning rate of a step, from 0, as a share of the full rate."""
    warmup = min(schedule.warmup_steps, int(schedule.max_warmup_share * steps))
    if step < warmup:
        return schedule.start + (1 - schedule.start) * (step + 1) / warmup
    if schedule.shape == "constant":
        return 1.0
    done = (step - warmup) / max(1, steps - warmup)
    return schedule.end + (1 - schedule.end) * (1 + math.cos(math.pi * done)) / 2


@dataclass
class _State:
    """Progress of a run, as JSON values."""

    epochs: int = 0
    best_epoch: int | None = None
    best_score: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


class _Fit:
    """A run between two epochs."""

    def __init__(
        self, folder: Path, record: TrainingRecord, trainee: Trainee, samples: dict[str, Samples], begin: Begin
    ) -> None:
        self._folder, self._trainee, self._begin = folder, trainee, begin
        self.record = record
        self.state = _State()
        protocol = trainee.protocol
        self._optimizer = _optimizer(trainee)
        self._batches = Batches(len(samples[TRAIN]), protocol.batch_size, protocol.seed)
        in_order = Batches(len(samples[VALIDATION]), protocol.batch_size)
        pin = trainee.device.type == "cuda"
        self._train = load_batches(samples[TRAIN], self._batches, protocol.workers, pin=pin)
        self._validation = load_batches(samples[VALIDATION], in_order, protocol.workers, pin=pin)
        self._patches = {split: len(patches) for split, patches in samples.items()}

    def restore(self) -> None:
        """Go back to the last finished epoch, if there is one."""
        path = self._folder / CHECKPOINT
        if path.is_file():
            self.state = _State(**load_checkpoint(path, self._trainee.network, self._optimizer))
            self._publish()

    def run_epoch(self) -> str:
        """Train one epoch, validate and save; return a line that describes it."""
        start, epoch = time.perf_counter(), self.state.epochs + 1
        protocol = self._trainee.protocol
        loss, rate = self._train_epoch()
        found = self._trainee.measure(self._validation, self._begin("validate", self._patches[VALIDATION]))
        name = SELECTED_BY[protocol.architecture.task]
        score = found[name]
        if is_best := self.state.best_epoch is None or (score or 0) > (self.state.best_score or 0):
            self.state.best_epoch, self.state.best_score = epoch, score
            save_weights(self._folder / WEIGHTS, self._trainee.network)
        seconds = round(time.perf_counter() - start, 2)
        numbers = {f"validation_{key}": value for key, value in found.items() if isinstance(value, float)}
        row = {"epoch": epoch, "learning_rate": rate, "train_loss": loss, **numbers, "seconds": seconds}
        self.state.epochs = epoch
        self.state.history.append(row)
        save_checkpoint(self._folder / CHECKPOINT, self._trainee.network, self._optimizer, asdict(self.state))
        self._publish()
        return (
            f"Epoch {epoch} of {protocol.epochs}: loss {loss:.4f}, validation loss {found['loss']:.4f}, "
            f"{name} {'none' if score is None else format(score, '.4f')}{' (best)' if is_best else ''}, {seconds:.0f} s"
        )

    def _train_epoch(self) -> tuple[float, float]:
        """Mean loss, and the last learning rate."""
        trainee, protocol = self._trainee, self._trainee.protocol
        advance = self._begin("train", self._patches[TRAIN])
        trainee.network.train()
        self._batches.epoch = self.state.epochs
        first, steps = self.state.epochs * len(self._batches), protocol.epochs * len(self._batches)
        total, patches, rate = 0.0, 0, 0.0
        for step, batch in enumerate(self._train, start=first):
            rate = protocol.optimizer.learning_rate * learning_rate(protocol.schedule, step, steps)
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            flipped = _flip(batch) if protocol.flips else batch
            loss = trainee.loss(trainee.logits(flipped), flipped)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
            count = len(batch["image"])
            total, patches = total + float(loss.detach()) * count, patches + count
            advance(count)
        if not math.isfinite(total):
            raise InputError(
                f"The loss is {total / patches} in epoch {self.state.epochs + 1}; train again with a lower "
                f"optimizer.learning_rate than {protocol.optimizer.learning_rate:g}."
            )
        return total / patches, rate

    def _publish(self) -> None:
        """Write the results of an epoch."""
        state = self.state
        progress = {"epochs": state.epochs, "best_epoch": state.best_epoch, "best_score": state.best_score}
        self.record = self.record.model_copy(update=progress)
        self.record.write(self._folder)
        text = io.StringIO()
        rows = csv.DictWriter(
            text, list(dict.fromkeys(key for row in state.history for key in row)), lineterminator="\n"
        )
        rows.writeheader()
        rows.writerows(state.history)
        write_text(self._folder / HISTORY, text.getvalue())


def _started(folder: Path, *, resume: bool) -> TrainingRecord | None:
    """Record of the run in a folder; None if it is missing, or empty but for hidden remains of a killed run."""
    if not folder.exists() or (folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir())):
        return None
    if not (folder / RUN_RECORD).is_file():
        raise OutputError(f"{folder} exists, and holds no training run; give a new folder.")
    if not resume:
        raise OutputError(f"{folder} holds a training run; add --resume to continue it, or give a new folder.")
    for remains in folder.glob(".*"):
        remove(remains)
    return TrainingRecord.read(folder)


def _require_same(folder: Path, started: TrainingRecord, protocol: Protocol, dataset: TrainedOn) -> None:
    if started.dataset.metadata_sha256 != dataset.metadata_sha256:
        raise InputError(
            f"{folder} was trained on other patches, of {started.dataset.name}; give that dataset, or a new folder."
        )
    before, now = Protocol.of(**started.protocol), protocol
    old, new = ({**each.settings(), "seed": each.seed} for each in (before, now))
    if changed := [key for key in old if old[key] != new[key]]:
        key = changed[0]
        raise InputError(
            f"{folder} was started with {key} {old[key]!r}, not {new[key]!r}; give the same settings to resume, or a "
            "new folder."
        )


def _optimizer(trainee: Trainee) -> torch.optim.Optimizer:
    settings, parameters = trainee.protocol.optimizer, trainee.network.parameters()
    shared = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.name == "sgd":
        return torch.optim.SGD(parameters, momentum=settings.momentum, **shared)
    return torch.optim.AdamW(parameters, betas=settings.betas, **shared)


def _flip(batch: Batch) -> Batch:
    """Mirror each patch, with its map, at random in both directions."""
    names = [name for name in ("image", "mask") if name in batch]
    flipped = dict(batch)
    for axis in (-1, -2):
        chosen = torch.rand(len(batch["image"])) < 0.5
        for name in names:
            values = flipped[name]
            mirrored = chosen.reshape(-1, *[1] * (values.ndim - 1))
            flipped[name] = torch.where(mirrored, values.flip(axis), values)
    return flipped


def _versions() -> dict[str, str]:
    libraries = ("numpy", "safetensors", "timm", "torch")
    return {
        "reben_dask": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }
