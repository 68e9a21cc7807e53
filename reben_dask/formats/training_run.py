"""Folder of a training run: its files, and the record of protocol, data and result."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from reben_dask.atomic import write_json
from reben_dask.errors import InputError
from reben_dask.formats.dataset import METADATA_FILE

RUN_RECORD = "run.json"
WEIGHTS = "model.safetensors"
"""Parameters of the epoch that was best on the validation split."""

CHECKPOINT = "checkpoint.safetensors"
"""State after the last finished epoch, from which ``--resume`` continues; its JSON is in the header of the file."""

HISTORY = "history.csv"
"""Losses and metrics of each epoch."""

MODEL_CARD = "README.md"

RUN_FORMAT = 1
"""Version of all files in the folder of a training run."""


def metrics_file(split: str, dataset: str | None = None) -> str:
    """Name of the file of the metrics on a split; ``dataset`` is the folder of one that the run was not trained on."""
    return f"metrics-{split}.json" if dataset is None else f"metrics-{dataset}-{split}.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BandScale(_Part):
    """Mean and standard deviation of a band over the training split, in its own unit (DN, or dB)."""

    mean: float
    std: float


class TrainedOn(_Part):
    """The dataset of a run."""

    name: str
    """Name of its folder."""
    metadata_sha256: str
    """Digest of its metadata file, by which it is recognised."""
    patches: dict[str, int]
    """Patches by split."""

    @classmethod
    def of(cls, out: Path, patches: dict[str, int]) -> Self:
        """Describe the dataset whose metadata file is in, beside or at ``out``."""
        places = (out / METADATA_FILE, out.absolute().parent / METADATA_FILE)
        file = next(filter(Path.is_file, places))
        return cls(
            name=out.resolve().name, metadata_sha256=hashlib.sha256(file.read_bytes()).hexdigest(), patches=patches
        )


class TrainingRecord(_Part):
    """Contents of ``run.json``."""

    format: int = RUN_FORMAT
    protocol: dict[str, Any]
    """Every setting; see :class:`~reben_dask.training.protocol.Protocol`."""
    classes: tuple[str, ...]
    """Classes, in the order of the model's outputs."""
    bands: tuple[str, ...]
    """Bands, in the order of the model's channels."""
    scales: dict[str, BandScale]
    """Normalisation of each band: ``(value - mean) / std``."""
    dataset: TrainedOn
    parameters: int
    """Number of trainable parameters."""
    device: str
    versions: dict[str, str]
    epochs: int = 0
    """Finished epochs."""
    best_epoch: int | None = None
    """Epoch of :data:`WEIGHTS`, from 1."""
    best_score: float | None = None
    """Its validation metric, from 0 to 1."""

    def write(self, run: Path) -> None:
        """Write ``run.json`` into the folder of a run."""
        write_json(run / RUN_RECORD, self.model_dump(mode="json"), indent=2)

    @classmethod
    def read(cls, run: Path) -> Self:
        """Read the record of a run; :class:`InputError` if it is missing, damaged, or of another format version."""
        path = run / RUN_RECORD
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError:
            raise InputError(f"{run} holds no training run: it has no {RUN_RECORD}.") from None
        except ValueError as error:
            raise InputError(f"{path} is damaged ({error}); train again.") from None
        written = content.get("format") if isinstance(content, dict) else None
        if written != RUN_FORMAT:
            raise InputError(
                f"{run} has format {written}, and this version reads format {RUN_FORMAT}; train again, or use the "
                "version of reben_dask that wrote it."
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"{path} is damaged ({'.'.join(map(str, first['loc']))}: {first['msg']}).") from None
