"""Random access to pixels of patches in an LMDB or a Zarr store.

LMDB must not open a path twice in a process, and a forked process must not use its handles. All readers of a process
therefore share its environments, which are closed before a fork and reopened by the next read.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple, Protocol

import lmdb
import numpy as np
import numpy.typing as npt

from reben_dask.errors import InputError
from reben_dask.formats.bands import POLARISATIONS
from reben_dask.formats.columns import GRID, KEPT, PATCH_ID, TILE, X, Y
from reben_dask.formats.cube import group_of
from reben_dask.formats.lmdb import INDEX_FILE, MAP_TENSOR, ShardIndex, decode, is_single, reference_map_key
from reben_dask.stores.cube_reader import CubeGroup
from reben_dask.stores.lmdb import open_environment
from reben_dask.stores.patch_table import part_files, read_rows

Images = Mapping[str, npt.NDArray[Any]]

_LOCK = RLock()
_OPEN: dict[Path, lmdb.Environment] = {}
_CLOSING = ExitStack()


class Pixels(NamedTuple):
    """Pixels of a patch."""

    images: Images
    """Bands at native resolution by name, shape ``(y, x)``: uint16 DN, or float32 dB (``VV``, ``VH``)."""
    reference_map: npt.NDArray[np.uint16] | None
    """Land-cover codes, shape ``(y, x)``; ``None`` if the dataset has none."""


class Reader(Protocol):
    """Source of pixels."""

    def read(self, patch_id: str, s1_name: str | None, bands: Collection[str]) -> Pixels:
        """Read a patch and its Sentinel-1 partner: at least those of ``bands`` that exist."""


@dataclass(frozen=True)
class LmdbReader:
    """Patches in an LMDB environment, or in a folder of shards with their index."""

    folder: Path

    def read(self, patch_id: str, s1_name: str | None, bands: Collection[str]) -> Pixels:
        """Read a patch; see :class:`Reader`."""
        partner = [s1_name] if s1_name and not set(POLARISATIONS).isdisjoint(bands) else []
        keys = [patch_id, reference_map_key(patch_id), *partner]
        for folder in self._folders(patch_id):
            s2, codes, *s1 = _read_values(folder, keys)
            if s2 is not None:
                images = {
                    name: image for value in (s2, *s1) if value is not None for name, image in decode(value).items()
                }
                return Pixels(images, None if codes is None else decode(codes)[MAP_TENSOR])
        raise InputError(f"{self.folder} has no patch {patch_id}; it belongs to another dataset.")

    def _folders(self, patch_id: str) -> list[Path]:
        return [self.folder] if self._index is None else self._index.folders(self.folder, patch_id)

    @cached_property
    def _index(self) -> ShardIndex | None:
        if is_single(self.folder) or not (self.folder / INDEX_FILE).is_file():
            return None
        return ShardIndex.read(self.folder)


class _Place(NamedTuple):
    group: str
    x: int
    y: int


@dataclass(frozen=True)
class CubeReader:
    """Patches in a Zarr store, located by its patch table; arrays stay open."""

    store: Path
    table: Path
    _groups: dict[str, CubeGroup] = field(default_factory=dict, compare=False, repr=False)

    def read(self, patch_id: str, s1_name: str | None, bands: Collection[str]) -> Pixels:  # noqa: ARG002 - at the same place
        """Read a patch; see :class:`Reader`."""
        place = self._places.get(patch_id)
        if place is None:
            raise InputError(f"{self.table} has no kept patch {patch_id}; it belongs to another dataset.")
        group = self._groups.setdefault(place.group, CubeGroup(self.store / place.group))
        if not group.path.is_dir():
            raise InputError(f"{group.path} has no cubes.")
        pixels = group.patch(place.x, place.y, bands)
        return Pixels({**pixels.s2, **pixels.s1}, pixels.reference_map)

    @cached_property
    def _places(self) -> dict[str, _Place]:
        columns = (PATCH_ID, TILE, GRID, X, Y)
        rows = (read_rows(part, columns, status=KEPT) for part in part_files(self.table))
        return {
            name: _Place(group_of(tile, grid), x, y)
            for table in rows
            for name, tile, grid, x, y in zip(*(table[column].to_pylist() for column in columns), strict=True)
        }

    def __getstate__(self) -> dict[str, Any]:
        return {"store": self.store, "table": self.table, "_groups": {}}


def close_environments() -> None:
    """Close all environments, so that other programs in this process can open them; the next read reopens them."""
    with _LOCK:
        _OPEN.clear()
        _CLOSING.close()


def _read_values(folder: Path, keys: list[str]) -> list[bytes | None]:
    with _LOCK:
        path = folder.resolve()
        if path not in _OPEN:
            _OPEN[path] = _CLOSING.enter_context(open_environment(path))
        with _OPEN[path].begin() as transaction:
            return [transaction.get(key.encode()) for key in keys]


def _before_fork() -> None:
    _LOCK.acquire()
    close_environments()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)
