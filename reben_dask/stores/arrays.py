"""Opening the arrays of a Zarr store with the codecs of the ``zarrs`` library, and listing the chunks of their shards.

Zarr's own codecs run in Python, chunk by chunk: on a band of a full tile they need 1.9 CPU-seconds to write and 1.7 to
read, those of ``zarrs`` 0.3 and 0.4, and what they write is the same format. They understand slices only: select one
band of an array as ``array[i : i + 1]``, for with ``array[i]`` they fall back to Zarr's own.
"""

from __future__ import annotations

import os
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zarr

_PIPELINE = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}
_NOT_THERE = 2**64 - 1
_ENTRY_BYTES, _CHECKSUM_BYTES = 16, 4
"""An index has an offset and a length for each chunk, then a checksum."""

_SETTING = Lock()
"""Zarr's configuration is one for the whole process."""


def open_array(path: Path, mode: Literal["r", "r+"]) -> zarr.Array[Any]:
    """Open an array of numbers in a directory store, for reading (``r``) or also for writing (``r+``).

    As of ``zarrs`` 0.2.3, ``r`` is a promise of the caller: the library would write all the same.
    """
    with _SETTING, zarr.config.set(_PIPELINE):
        return zarr.open_array(path, mode=mode)


def held_chunks(path: Path) -> npt.NDArray[np.bool_]:
    """Whether each chunk of an array is in its shards, by the indices at their ends; no chunk is read.

    A chunk that holds the fill value alone is not written, nor is a shard without chunks, and both read as the fill
    value. So do chunks that were lost.

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
