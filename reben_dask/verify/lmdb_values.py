"""Safetensors values: what they hold, and whether that is what they must hold.

A value is eight bytes with the length of a JSON header, the header, and the bytes of all tensors one after the other.
The values of one kind have the same header, byte for byte, so that the library looks at the first of them, and another
one costs a comparison and the one page of the environment on which its header lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load

from reben_dask.verify.expected import Layer

_LENGTH_BYTES = 8
_MOST_KNOWN = 64


class ValueFormat:
    """The format that all values of one kind must have.

    Parameters
    ----------
    layers : mapping of str to Layer
        Tensors that a value must hold, all of them and no other.
    """

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        self._layers = dict(layers)
        self._known: set[tuple[bytes, int]] = set()

    def check(self, value: bytes | memoryview) -> None:
        """Check a value by its header; where that is a usual one, nothing else is read.

        Raises
        ------
        ValueError
            If the value is not well formed, or does not hold what it must; the message is a phrase.
        """
        length = int.from_bytes(value[:_LENGTH_BYTES], "little")
        head = bytes(value[: _LENGTH_BYTES + length]), len(value)
        if head in self._known:
            return
        self._compare(decode(value))
        if len(self._known) < _MOST_KNOWN:
            self._known.add(head)

    def _compare(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        if missing := [name for name in self._layers if name not in tensors]:
            raise ValueError(f"has no {', '.join(missing)}")
        if foreign := [name for name in tensors if name not in self._layers]:
            raise ValueError(f"also holds {', '.join(foreign)}")
        for name, layer in self._layers.items():
            dtype, shape = tensors[name].dtype.name, tensors[name].shape
            if dtype != layer.dtype:
                raise ValueError(f"{name} is {dtype}, not {layer.dtype}")
            if shape != layer.shape_yx:
                raise ValueError(f"{name} has the shape {shape}, not {layer.shape_yx}")


def decode(value: bytes | memoryview) -> dict[str, npt.NDArray[Any]]:
    """Tensors of a value by name; those of Sentinel and of maps have shape ``(y, x)``.

    Raises
    ------
    ValueError
        If the value is not well formed; the message is a phrase.
    """
    try:
        tensors: dict[str, npt.NDArray[Any]] = load(bytes(value))
    except (SafetensorError, KeyError) as error:
        reason = str(error).removeprefix("Error while deserializing: ")
        raise ValueError(f"cannot be decoded ({len(value):,} bytes; {reason})") from None
    return tensors
