"""Networks of the three papers: seven architectures of timm, DenseNet-121, DeepLabV3, and a shallow CNN."""

from __future__ import annotations

from importlib.metadata import version

import torch
from torch import nn
from torch.nn import functional

from reben_dask.formats.bands import MAP_RESOLUTION_M
from reben_dask.grid import PATCH_SIDE_M
from reben_dask.training.protocol import Protocol

PATCH_PX = PATCH_SIDE_M // MAP_RESOLUTION_M


def build_network(protocol: Protocol, classes: int) -> nn.Module:
    """Build an untrained network, with random parameters from PyTorch's generator.

    Parameters
    ----------
    protocol : Protocol
        Its ``model``, ``channels``, ``dropout``, ``drop_path`` and ``pretrained`` are used.
    classes : int
        Number of outputs.

    Returns
    -------
    torch.nn.Module
        Takes images, float32, axes ``(patch, band, y, x)`` with 120 x 120 px. Returns logits with the axes
        ``(patch, class)``, or ``(patch, class, y, x)`` if it makes maps.
    """
    architecture, bands = protocol.architecture, len(protocol.channels)
    if architecture.timm_name is None:
        return ShallowCnn(bands, classes, protocol.dropout)
    declare_missing_operators()
    import timm  # noqa: PLC0415 - after the operators; takes seconds

    shared = {"pretrained": protocol.pretrained, "in_chans": bands}
    if architecture.task == "map":
        drop_path = protocol.drop_path
        encoder = timm.create_model(
            architecture.timm_name,
            **shared,
            features_only=True,
            output_stride=8,
            out_indices=(4,),
            drop_path_rate=drop_path,
        )
        return DeepLabV3(encoder, classes, protocol.dropout)
    network = timm.create_model(
        architecture.timm_name,
        **shared,
        num_classes=classes,
        img_size=PATCH_PX + 2 * architecture.pad_px if architecture.takes_size else None,
        drop_rate=protocol.dropout,
        drop_path_rate=protocol.drop_path if architecture.has_drop_path else None,
    )
    return nn.Sequential(nn.ReflectionPad2d(architecture.pad_px), network) if architecture.pad_px else network


def count_parameters(network: nn.Module) -> int:
    """Count the trainable parameters."""
    return int(sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad))


class ShallowCnn(nn.Sequential):  # type: ignore[misc]  # untyped base
    """S-CNN of BigEarthNet v1: three zero-padded convolutions, max pooling between them, two dense layers."""

    def __init__(self, bands: int, classes: int, dropout: float) -> None:
        hidden = 128  # not in the paper
        super().__init__(
            nn.Conv2d(bands, 32, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * (PATCH_PX // 4) ** 2, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )


class DeepLabV3(nn.Module):  # type: ignore[misc]  # untyped base
    """DeepLabV3 (Chen et al. 2017): atrous spatial pyramid pooling on features of stride 8, resampled to the image."""

    def __init__(self, encoder: nn.Module, classes: int, dropout: float, width: int = 256) -> None:
        super().__init__()
        self.encoder = encoder
        depth = encoder.feature_info.channels()[-1]
        kernels = [
            {"kernel_size": 1},
            *({"kernel_size": 3, "padding": rate, "dilation": rate} for rate in (12, 24, 36)),
        ]
        self.pyramid = nn.ModuleList(_normalised(depth, width, **kernel) for kernel in kernels)
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), *_normalised(depth, width, kernel_size=1))
        self.head = nn.Sequential(
            *_normalised(width * (len(kernels) + 1), width, kernel_size=1),
            nn.Dropout(dropout),
            *_normalised(width, width, kernel_size=3, padding=1),
            nn.Conv2d(width, classes, 1),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Classify pixels; see :func:`build_network`."""
        (features,) = self.encoder(images)
        pooled = self.pooled(features).expand(-1, -1, *features.shape[-2:])
        logits = self.head(torch.cat([*(branch(features) for branch in self.pyramid), pooled], dim=1))
        return functional.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)


def _normalised(inputs: int, outputs: int, **kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, bias=False, **kernel), nn.BatchNorm2d(outputs), nn.ReLU())


def declare_missing_operators() -> None:
    """Let PyPI's torchvision, which timm imports, be imported beside a CPU build of PyTorch.

    It is compiled for CUDA: its own operators do not load there, but it expects their schemas. No network uses them.
    """
    if version("torch").endswith("+cpu") and not version("torchvision").endswith("+cpu"):
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                torch.library.define(f"torchvision::{name}", schema)
