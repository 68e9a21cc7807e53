"""Values of the LMDB: what rico-hdl writes and ConfigILM reads, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

MAP_SUFFIX = "_reference_map"
_HEADER_BYTES = 1_024


def encode_bands(bands: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Encode the bands of one patch.

    Parameters
    ----------
    bands : mapping of str to ndarray, shape (y, x)
        2-D arrays at native resolution by band name: uint16 DN of Sentinel-2, or float32 dB of Sentinel-1.

    Returns
    -------
    bytes
        A safetensors file. It orders the tensors by dtype and name, so the bytes are determined by the arrays.
    """
    encoded: bytes = save({name: np.ascontiguousarray(pixels) for name, pixels in bands.items()})
    return encoded


def encode_reference_map(codes: npt.NDArray[np.uint16]) -> bytes:
    """Encode the reference map of one patch, shape ``(y, x)``, as the tensor ``Data``."""
    return encode_bands({"Data": codes})


def reference_map_key(patch_id: str) -> str:
    """Key of a patch's reference map."""
    return f"{patch_id}{MAP_SUFFIX}"


def value_size(pixels: int, tensors: int) -> int:
    """Upper bound in bytes of a value of ``pixels`` uint16 pixels in ``tensors`` tensors."""
    return 2 * pixels + _HEADER_BYTES * (1 + tensors // 12)
