"""Checkpoints: parameters, optimizer and random states in one safetensors file, with JSON in its header; no pickle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from reben_dask.atomic import atomic_path
from reben_dask.errors import InputError

_MODEL, _OPTIMIZER, _RANDOM = "model.", "optimizer.", "random."
_STATE = "state"
"""Key of the JSON in the header."""


def save_weights(path: Path, network: nn.Module) -> None:
    """Write the parameters and buffers of a network, atomically."""
    with atomic_path(path) as draft:
        save_file(dict(_tensors(network)), draft)


def save_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Write everything that the next epoch depends on, atomically; ``state`` holds JSON values."""
    tensors = {_MODEL + name: tensor for name, tensor in _tensors(network)}
    for number, values in optimizer.state_dict()["state"].items():
        tensors |= {
            f"{_OPTIMIZER}{number}.{name}": value.contiguous() for name, value in values.items() if value is not None
        }
    tensors[f"{_RANDOM}cpu"] = torch.get_rng_state()
    if torch.cuda.is_initialized():
        tensors[f"{_RANDOM}cuda"] = torch.cuda.get_rng_state()
    with atomic_path(path) as draft:
        save_file(tensors, draft, metadata={_STATE: json.dumps(state)})


def load_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Restore a network, its optimizer and the random states; return the JSON values.

    :class:`InputError` if the file is damaged, or of another network.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            state: dict[str, Any] = json.loads(file.metadata()[_STATE])
        network.load_state_dict(_below(_MODEL, tensors))
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"The checkpoint {path} cannot be used ({error}); train again in a new folder.") from None
    values: dict[int, dict[str, Any]] = {}
    for key, tensor in _below(_OPTIMIZER, tensors).items():
        number, _, name = key.partition(".")
        values.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors[f"{_RANDOM}cpu"])
    if torch.cuda.is_initialized() and f"{_RANDOM}cuda" in tensors:
        torch.cuda.set_rng_state(tensors[f"{_RANDOM}cuda"])
    return state


def _tensors(network: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in network.state_dict().items():
        yield name, tensor.contiguous()


def _below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
