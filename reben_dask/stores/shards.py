"""Which chunks the shards of a Zarr array hold, by the indices at their ends; no chunk is read.

A chunk that holds the fill value alone is not written, nor is a shard without chunks, and both read as the fill value.
So do chunks that were lost: who knows which must be there has to look.
"""

from __future__ import annotations

import os
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reben_dask.stores.arrays import open_array

_NOT_THERE = 2**64 - 1
_ENTRY_BYTES, _CHECKSUM_BYTES = 16, 4
"""An index has an offset and a length for each chunk, then a checksum."""


def held_chunks(path: Path) -> npt.NDArray[np.bool_]:
    """Which chunks of an array are in its shards.

    Parameters
    ----------
    path : Path
        The array, in shards with an index at their end.

    Returns
    -------
    ndarray of bool
        One for each chunk, in the order of the array's axes.
    """
    array = open_array(path, "r")
    shards = array.shards or array.chunks
    of_shard = tuple(shard // chunk for shard, chunk in zip(shards, array.chunks, strict=True))
    held = np.zeros([-(-size // chunk) for size, chunk in zip(array.shape, array.chunks, strict=True)], bool)
    for place in np.ndindex(*(-(-size // shard) for size, shard in zip(array.shape, shards, strict=True))):
        window = tuple(slice(index * many, (index + 1) * many) for index, many in zip(place, of_shard, strict=True))
        there = held[window]
        in_index = _in_index(path / array.metadata.encode_chunk_key(place), prod(of_shard)).reshape(of_shard)
        there[...] = in_index[tuple(slice(side) for side in there.shape)]
    return held


def _in_index(file: Path, chunks: int) -> npt.NDArray[Any]:
    size = _ENTRY_BYTES * chunks + _CHECKSUM_BYTES
    try:
        with file.open("rb") as opened:
            opened.seek(-size, os.SEEK_END)
            index = np.frombuffer(opened.read(size), "<u8", 2 * chunks)
    except OSError:
        # Not there, or too short for an index.
        return np.zeros(chunks, bool)
    there: npt.NDArray[Any] = index[::2] != _NOT_THERE
    return there
