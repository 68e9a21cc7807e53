"""Safetensors values, checked by their headers: what they claim to hold, and whether that fits their bytes.

A value is eight bytes with the length of a JSON header, the header, and the bytes of all tensors one after the other.
The values of one kind have the same header, byte for byte, so that it is parsed once, and a check costs one comparison
and the one page of the environment on which the header lies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from reben_dask.verify.expected import Layer

DTYPES = {"U16": "uint16", "F32": "float32"}
ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
_LENGTH_BYTES = 8
_MOST_HEADER_BYTES = 100_000_000
"""The limit of the safetensors library."""

_MOST_KNOWN = 64


@dataclass(frozen=True)
class Tensor:
    """What a header says of one tensor; ``start`` and ``stop`` are positions in the whole value."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class ValueFormat:
    """The format that all values of one kind must have.

    Parameters
    ----------
    layers : mapping of str to Layer
        Tensors that a value must hold, all of them and no other.
    """

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        self._layers = dict(layers)
        self._known: dict[tuple[bytes, int], dict[str, Tensor]] = {}

    def read(self, value: bytes | memoryview) -> dict[str, Tensor]:
        """Check a value by its header.

        Parameters
        ----------
        value : bytes-like
            The whole value; of its tensors nothing is read.

        Returns
        -------
        dict of str to Tensor
            Where each tensor is.

        Raises
        ------
        ValueError
            If the value is not well formed, or does not hold what it must; the message is a phrase.
        """
        header = _header_bytes(value)
        known = self._known.get((header, len(value)))
        if known is not None:
            return known
        tensors = parse_header(header, len(value))
        self._compare(tensors)
        if len(self._known) < _MOST_KNOWN:
            self._known[header, len(value)] = tensors
        return tensors

    def _compare(self, tensors: Mapping[str, Tensor]) -> None:
        if missing := [name for name in self._layers if name not in tensors]:
            raise ValueError(f"has no {', '.join(missing)}")
        if foreign := [name for name in tensors if name not in self._layers]:
            raise ValueError(f"also holds {', '.join(foreign)}")
        for name, layer in self._layers.items():
            dtype, shape = DTYPES.get(tensors[name].dtype, tensors[name].dtype), tensors[name].shape
            if dtype != layer.dtype:
                raise ValueError(f"{name} is {dtype}, not {layer.dtype}")
            if shape != layer.shape_yx:
                raise ValueError(f"{name} has the shape {shape}, not {layer.shape_yx}")


def parse_header(header: bytes, value_bytes: int) -> dict[str, Tensor]:
    """Parse the header of a value, trusting none of it.

    Parameters
    ----------
    header : bytes
        The JSON text, without its length.
    value_bytes : int
        Length of the whole value.

    Raises
    ------
    ValueError
        If it is no header, or its tensors do not fill the rest of the value without gaps and overlaps.
    """
    begin = _LENGTH_BYTES + len(header)
    try:
        described = json.loads(header, object_pairs_hook=_distinct)
        if not isinstance(described, dict):
            raise TypeError  # noqa: TRY301 - as all else that is no header
        described.pop("__metadata__", None)
        tensors = {name: _tensor(entry, begin) for name, entry in described.items()}
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ValueError("its header is damaged") from None
    end = begin
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if tensor.start != end or tensor.stop - end != prod(tensor.shape) * ITEM_BYTES[tensor.dtype]:
            raise ValueError(f"the bytes of {name} are not where its header says")
        end = tensor.stop
    if end != value_bytes:
        raise ValueError(f"has {value_bytes:,} bytes instead of {end:,}")
    return tensors


def pixels_of(value: bytes | memoryview, tensor: Tensor) -> npt.NDArray[Any]:
    """Pixels of one tensor of a value that was checked, shape ``(y, x)``; a view, nothing is copied."""
    dtype = np.dtype(DTYPES[tensor.dtype]).newbyteorder("<")
    return np.frombuffer(value, dtype, prod(tensor.shape), tensor.start).reshape(tensor.shape)


def _header_bytes(value: bytes | memoryview) -> bytes:
    length = int.from_bytes(value[:_LENGTH_BYTES], "little")
    if len(value) < _LENGTH_BYTES or length > min(len(value) - _LENGTH_BYTES, _MOST_HEADER_BYTES):
        raise ValueError(f"is cut short, or no safetensors value ({len(value):,} bytes)")
    return bytes(value[_LENGTH_BYTES : _LENGTH_BYTES + length])


def _tensor(entry: Any, begin: int) -> Tensor:
    start, stop = entry["data_offsets"]
    numbers = [*entry["shape"], start, stop]
    if not all(type(number) is int and number >= 0 for number in numbers) or entry["dtype"] not in ITEM_BYTES:
        raise ValueError
    return Tensor(entry["dtype"], tuple(entry["shape"]), begin + start, begin + stop)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name twice")
    return found
