"""LMDB values, keys and shards, byte for byte as rico-hdl writes and ConfigILM reads them.

Keys of the main database (UTF-8): ``<patch_id>`` (Sentinel-2 bands), ``<patch_id>_reference_map``, and ``<s1_name>``
(polarisations). A value is a safetensors file of one 2-D array per band at native resolution; that of a map has the one
tensor ``Data``. All patches are in one environment, or in several shards listed in ``index.json``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from reben_dask.atomic import write_json
from reben_dask.errors import InputError
from reben_dask.formats.bands import BANDS, PUBLISHED_BANDS, REFERENCE_MAP, S1_BANDS, Band, ImageKind
from reben_dask.grid import PATCH_SIDE_M

DATA_FILE = "data.mdb"
LOCK_FILE, LOCK_BYTES = "lock.mdb", 8_192
"""Lock of an environment that is written; its size is that for LMDB's default of 126 readers."""
INDEX_FILE = "index.json"
MAP_SUFFIX = "_reference_map"
MAP_TENSOR = "Data"
_HEADER_BYTES = 1_024

Tensors = Mapping[str, npt.NDArray[Any]]
"""Images of a value, shape ``(y, x)``, by name."""


def reference_map_key(patch_id: str) -> str:
    """Key of a patch's reference map."""
    return f"{patch_id}{MAP_SUFFIX}"


def kind_of_key(key: str) -> ImageKind:
    """Kind of images under a key."""
    if key.endswith(MAP_SUFFIX):
        return ImageKind.MAP
    return ImageKind.S1 if key.startswith("S1") else ImageKind.S2


def patch_of_key(key: str) -> str:
    """Name of the patch of a key: its ``patch_id``, or ``s1_name`` for Sentinel-1."""
    return key.removesuffix(MAP_SUFFIX)


def keys_of(patch_id: str, s1_name: str | None) -> dict[ImageKind, str]:
    """Keys of a patch by kind of images; none for Sentinel-1 without a partner."""
    keys = {ImageKind.S2: patch_id, ImageKind.MAP: reference_map_key(patch_id)}
    return keys if s1_name is None else {**keys, ImageKind.S1: s1_name}


def tensors_of(kind: ImageKind, bands: Iterable[str] = PUBLISHED_BANDS) -> dict[str, Band]:
    """Specifications of a value's tensors by name; ``bands`` are those of Sentinel-2."""
    if kind is ImageKind.S2:
        return {name: BANDS[name] for name in sorted(bands)}
    return dict(sorted(S1_BANDS.items())) if kind is ImageKind.S1 else {MAP_TENSOR: REFERENCE_MAP}


def encode_bands(bands: Tensors) -> bytes:
    """Encode the bands of one patch as safetensors; the same arrays give the same bytes.

    ``bands`` are 2-D ``(y, x)`` at native resolution, by name: uint16 DN of Sentinel-2, or float32 dB of Sentinel-1.
    """
    encoded: bytes = save({name: np.ascontiguousarray(pixels) for name, pixels in bands.items()})
    return encoded


def encode_reference_map(codes: npt.NDArray[np.uint16]) -> bytes:
    """Encode the reference map of one patch, shape ``(y, x)``, as the tensor ``Data``."""
    return encode_bands({MAP_TENSOR: codes})


def decode(value: bytes | memoryview) -> dict[str, npt.NDArray[Any]]:
    """Decode a value to arrays of shape ``(y, x)`` by name; a damaged value raises ``SafetensorError``."""
    tensors: dict[str, npt.NDArray[Any]] = load(bytes(value))
    return tensors


class Stack(NamedTuple):
    """Images of one type and size in one array."""

    names: tuple[str, ...]
    pixels: npt.NDArray[Any]
    """Axes ``(image, y, x)``."""


def view_stacks(value: bytes | memoryview) -> list[Stack]:
    """View the tensors of a value, without a copy; neighbours of one type and shape are one stack.

    The views are valid as long as the memory of ``value``. ``ValueError`` for a damaged value.
    """
    end = _LENGTH_BYTES + int.from_bytes(value[:_LENGTH_BYTES], "little")
    size, runs = _layout(bytes(value[_LENGTH_BYTES:end]))
    if len(value) != end + size:
        raise ValueError(f"it has {len(value)} bytes instead of {end + size}")
    return [Stack(names, np.ndarray(shape, dtype, value, end + offset)) for names, shape, dtype, offset in runs]


_LENGTH_BYTES = 8
_DTYPES = {"U8": "u1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "F32": "<f4", "F64": "<f8"}

_Run = tuple[tuple[str, ...], tuple[int, ...], np.dtype[Any], int]


@lru_cache(maxsize=64)
def _layout(header: bytes) -> tuple[int, tuple[_Run, ...]]:
    """Bytes of all tensors, and their runs: names, shape ``(image, y, x)``, type, offset. Headers of a store repeat."""
    try:
        tensors = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        entries = [
            (*map(int, entry["data_offsets"]), np.dtype(_DTYPES[entry["dtype"]]), tuple(map(int, entry["shape"])), name)
            for name, entry in tensors.items()
        ]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError("its header is not that of safetensors") from None
    runs, place = [], 0
    for (dtype, shape_yx), run in groupby(sorted(entries, key=lambda entry: entry[:2]), lambda entry: entry[2:4]):
        names, start = [], place
        for begin, end, _, _, name in run:
            if len(shape_yx) != 2 or begin != place or end - begin != prod(shape_yx) * dtype.itemsize or end <= begin:
                raise ValueError(f"the tensor {name} is not a whole image")
            names.append(name)
            place = end
        runs.append((tuple(names), (len(names), *shape_yx), dtype, start))
    return place, tuple(runs)


def value_bytes(kind: ImageKind, bands: Collection[str] = tuple(PUBLISHED_BANDS), patch_m: int = PATCH_SIDE_M) -> int:
    """Upper bound in bytes of a value."""
    tensors = tensors_of(kind, bands)
    return sum(band.nbytes(patch_m) for band in tensors.values()) + _HEADER_BYTES * (1 + len(tensors) // 12)


@dataclass(frozen=True)
class Shard:
    """Environment, as the index lists it."""

    path: str
    """Folder below that of the index; empty for a single environment."""
    first: str | None
    """First patch in name order; ``None`` without patches."""
    last: str | None
    patches: int
    keys: int

    def may_hold(self, patch_id: str) -> bool:
        """Test if a patch is in the range of names; ranges may overlap where names are not padded."""
        return self.first is not None and self.last is not None and self.first <= patch_id <= self.last


@dataclass(frozen=True)
class ShardIndex:
    """Contents of ``index.json``: ranges of patches by environment."""

    classes: tuple[str, ...]
    shards: tuple[Shard, ...]

    def write(self, folder: Path) -> None:
        """Write ``index.json`` into the folder of the shards."""
        shards = [asdict(shard) for shard in self.shards]
        write_json(folder / INDEX_FILE, {"version": 1, "classes": list(self.classes), "shards": shards}, indent=2)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read ``index.json`` of a folder; :class:`InputError` if it is unreadable or no index."""
        path = folder / INDEX_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            shards = tuple(_shard(entry) for entry in content["shards"])
            return cls(tuple(map(str, content["classes"])), shards)
        except OSError as error:
            raise InputError(f"The index of shards {path} cannot be read ({error.strerror}).") from None
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is not an index of LMDB shards ({error}).") from None

    def folders(self, folder: Path, patch_id: str) -> list[Path]:
        """Environments that may hold a patch."""
        return [folder / shard.path for shard in self.shards if shard.may_hold(patch_id)]


def find_lmdb(folder: Path) -> Path | None:
    """Find the LMDB, or folder of shards, that a folder is or holds; ``None`` without one.

    :class:`InputError` if it holds several.
    """
    if is_lmdb(folder) or not folder.is_dir():
        return folder if folder.is_dir() else None
    found = sorted(path for path in folder.glob("[!.]*") if is_lmdb(path))
    if len(found) > 1:
        raise InputError(f"{folder} holds several LMDBs ({', '.join(path.name for path in found)}); give one of them.")
    return next(iter(found), None)


def is_lmdb(folder: Path) -> bool:
    """Test for an environment, or a folder of shards with their index."""
    return any((folder / name).is_file() for name in (DATA_FILE, INDEX_FILE))


def is_single(folder: Path) -> bool:
    """Test if a folder is one environment rather than shards."""
    return (folder / DATA_FILE).is_file()


def shard_name(number: int, shards: int) -> str:
    """Folder of a shard below the LMDB folder, such as ``part-00000-of-00008``."""
    return f"part-{number:05d}-of-{shards:05d}"


def environments(folder: Path) -> Sequence[Path]:
    """Environments in an LMDB folder: itself, or its shards that have patches; :class:`InputError` without any."""
    if is_single(folder):
        return [folder]
    return [folder / shard.path for shard in ShardIndex.read(folder).shards]


def _shard(entry: Any) -> Shard:
    first, last = (None if entry[key] is None else str(entry[key]) for key in ("first", "last"))
    path = str(entry["path"])
    if Path(path).name != path or path == "..":
        raise ValueError(f"the shard {path!r} is not in its folder")
    return Shard(path, first, last, int(entry["patches"]), int(entry["keys"]))
