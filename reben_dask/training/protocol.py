"""Protocol of a training run: every setting is a key of a YAML file.

The defaults are those of the reBEN paper, also in ``protocols/reben.yaml``; a file may contain only some keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

import yaml
from pydantic import Field, field_validator, model_validator

from reben_dask.errors import InputError, missing
from reben_dask.formats.bands import BANDS, MODALITIES, POLARISATIONS, Modality
from reben_dask.options import Count, Options

Task = Literal["labels", "map"]
"""Multi-labels of a patch, or the class of each of its pixels."""


@dataclass(frozen=True)
class Architecture:
    """A network that can be trained."""

    title: str
    """Name in the papers' tables."""
    task: Task
    timm_name: str | None
    """Name in timm; ``None`` for networks of this package."""
    entry: str
    """Adaptation of a 120 px patch to the input size."""
    takes_size: bool = False
    """True if the network is built for one size of image."""
    pad_px: int = 0
    """Pixels by which a patch is padded on each side, by reflection."""
    has_drop_path: bool = True
    """False if it has no residual blocks that could be left out."""


ARCHITECTURES = {
    "resnet50": Architecture("ResNet-50", "labels", "resnet50", "any size; features of 4 x 4"),
    "resnet101": Architecture("ResNet-101", "labels", "resnet101", "any size; features of 4 x 4"),
    "vit_base": Architecture(
        "ViT Base", "labels", "vit_base_patch8_224", "15 x 15 tokens of 8 px, position embeddings of that size", True
    ),
    "mlp_mixer": Architecture(
        "MLP-Mixer Base", "labels", "mixer_b16_224", "padded to 128 px by reflection; 8 x 8 tokens of 16 px", True, 4
    ),
    "convmixer": Architecture(
        "ConvMixer-768/32",
        "labels",
        "convmixer_768_32",
        "17 x 17 patches of 7 px; the last pixel is not used",
        has_drop_path=False,
    ),
    "mobilevit_s": Architecture(
        "MobileViT S", "labels", "mobilevit_s", "any size; features are resampled to whole tokens of 2 x 2"
    ),
    "convnextv2_base": Architecture(
        "ConvNext v2 Base", "labels", "convnextv2_base", "any size; stem of 4 px, features of 3 x 3"
    ),
    "densenet121": Architecture(
        "DenseNet-121", "labels", "densenet121", "any size; features of 3 x 3", has_drop_path=False
    ),
    "deeplabv3": Architecture(
        "DeepLabV3", "map", "resnet50", "ResNet-50 with output stride 8: features of 15 x 15, resampled to 120 px"
    ),
    "scnn": Architecture("S-CNN", "labels", None, "three convolutions, two poolings: features of 30 x 30"),
}
"""Networks by the name that ``--model`` takes. The first layer of each is built for the number of bands."""

if TYPE_CHECKING:
    ModelName: TypeAlias = str
    BandName: TypeAlias = str
else:
    ModelName = Literal[tuple(ARCHITECTURES)]
    BandName = Literal[(*BANDS, *POLARISATIONS)]

Whole = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Optimizer(Options):
    """AdamW, or stochastic gradient descent with momentum."""

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    betas: tuple[Share, Share] = (0.9, 0.999)
    """Of AdamW."""
    momentum: Share = 0.9
    """Of SGD."""


class Schedule(Options):
    """Learning rate: a linear warm-up by step, then constant or half a cosine to the last step."""

    shape: Literal["cosine", "constant"] = "cosine"
    warmup_steps: Whole = 1_000
    max_warmup_share: Fraction = 0.1
    """Largest share of all steps that the warm-up may take; it is shorter in short runs."""
    start: Fraction = 0.0
    """First rate, as a share of the full one."""
    end: Fraction = 0.0
    """Last rate, as a share of the full one."""


class Protocol(Options):
    """Settings of a run. Two runs that differ only in ``seed``, ``device`` and ``workers`` are repetitions."""

    model: ModelName = "resnet50"
    modality: Modality = "S1+S2"
    bands: tuple[BandName, ...] | None = None
    """Bands instead of those of the modality, in this order."""
    pretrained: bool = False
    """True to start from timm's ImageNet weights, which are downloaded."""
    epochs: Count = 100
    batch_size: Annotated[int, Field(ge=2)] = 512
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    dropout: Share = 0.15
    drop_path: Share = 0.15
    """Stochastic depth, in the networks that have it."""
    flips: bool = False
    """True to mirror training patches at random, in both directions."""
    threshold: Fraction = 0.5
    """Minimum probability of a predicted class."""
    min_region_px: Whole = 0
    """Pixels of the smallest connected region that counts in training; needs reference maps if above 1."""
    region_thresholds_px: dict[str, Whole] = Field(default={})
    """Named thresholds for the evaluation: the metrics without smaller regions; needs reference maps."""
    below_px: tuple[Count, ...] = ()
    """Sizes for the evaluation of maps: the metrics on smaller regions alone."""
    mixed_precision: bool = True
    """True to compute in bfloat16 on a GPU; a CPU computes in float32."""
    seed: Whole = 0
    device: Literal["cpu", "cuda"] | None = None
    """``None`` takes a GPU if there is one."""
    workers: Whole = 0
    """Processes that read patches; 0 reads in the main process."""

    @field_validator("bands")
    @classmethod
    def _has_each_band_once(cls, bands: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if bands is not None and (not bands or len(set(bands)) < len(bands)):
            raise ValueError("give each band once, and at least one")
        return bands

    @model_validator(mode="after")
    def _evaluates_maps_of_maps(self) -> Self:
        if self.below_px and self.architecture.task != "map":
            raise ValueError(f"below_px is for networks that make maps, which {self.model} does not")
        return self

    @property
    def architecture(self) -> Architecture:
        """The network."""
        return ARCHITECTURES[self.model]

    @property
    def channels(self) -> tuple[str, ...]:
        """Bands, in the order of the network's channels."""
        return self.bands if self.bands is not None else MODALITIES[self.modality]

    def settings(self) -> dict[str, Any]:
        """Return the settings that make a result, without ``seed``, ``device`` and ``workers``; JSON values."""
        return self.model_dump(mode="json", exclude={"seed", "device", "workers"})


def shipped_protocols() -> list[str]:
    """Names of the package's protocols, sorted."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _folder().iterdir() if entry.name.endswith(".yaml"))


def load_protocol(config: str | Path | None = None, **changes: Any) -> Protocol:
    """Load a protocol.

    Parameters
    ----------
    config : str or path, optional
        Name of a shipped protocol (with ``-`` or ``_``), or a ``.yaml`` file; by default that of the reBEN paper.
    **changes
        Keys to change; ``None`` keeps a key as it is.

    Returns
    -------
    Protocol

    Raises
    ------
    InputError
        If there is no such protocol, or a key is unknown or wrong.
    """
    keys = _read(str(config)) if config is not None else {}
    return Protocol.of(**keys | {name: value for name, value in changes.items() if value is not None})


def _read(config: str) -> dict[str, Any]:
    if config.endswith((".yaml", ".yml")):
        path = Path(config)
        if not path.is_file():
            raise InputError(missing("The training protocol", config))
        text = path.read_text(encoding="utf-8")
    else:
        name = config.replace("-", "_")
        if name not in shipped_protocols():
            known = ", ".join(shipped_protocols())
            raise InputError(f"There is no training protocol {config!r}; use one of {known}, or a .yaml file.")
        text = (_folder() / f"{name}.yaml").read_text(encoding="utf-8")
    try:
        keys = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"The training protocol {config} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(keys, dict):
        raise InputError(f"The training protocol {config} is not a table of keys, such as `batch_size: 512`.")
    return keys


def _folder() -> Any:
    return resources.files("reben_dask.training") / "protocols"
