"""Random access to pixels of patches in an LMDB or a Zarr store.

LMDB must not open a path twice in a process, and a forked process must not use its handles. All readers of a process
therefore share its environments, which are closed before a fork and reopened by the next read.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple, Protocol, Self

import lmdb
import numpy as np
import numpy.typing as npt
import zarr

from reben_dask.errors import InputError
from reben_dask.formats.bands import POLARISATIONS, ImageKind
from reben_dask.formats.columns import GRID, KEPT, PATCH_ID, TILE, X, Y
from reben_dask.formats.cube import group_of
from reben_dask.formats.lmdb import INDEX_FILE, ShardIndex, Stack, is_single, reference_map_key, view_stacks
from reben_dask.sources.remote import is_address, zarr_store
from reben_dask.stores.cube_reader import CubeArray, CubeGroup
from reben_dask.stores.lmdb import open_environment
from reben_dask.stores.patch_table import part_files, read_rows

_LOCK = RLock()
_OPEN: dict[str, lmdb.Environment] = {}
_CLOSING = ExitStack()

_NEIGHBOURS = 128
"""Patches of an environment that make one shard of a stream, so that several processes can read it."""


class Patch(NamedTuple):
    """Names of a patch."""

    patch_id: str
    s1_name: str | None
    """Sentinel-1 partner; ``None`` without one."""


class View(NamedTuple):
    """Pixels of a patch, valid until the next one is requested."""

    stacks: Sequence[Stack]
    """Bands at native resolution: uint16 DN, or float32 dB (``VV``, ``VH``)."""
    codes: npt.NDArray[np.uint16] | None
    """Reference map, axes ``(y, x)``; ``None`` if there is none, or it is not wanted."""


class Reader(Protocol):
    """Source of pixels."""

    def views(self, patches: Iterable[Patch], bands: Collection[str], *, with_map: bool = False) -> Iterator[View]:
        """View patches one after the other: those of ``bands`` that exist, and reference maps if wanted."""

    def shards(self, patches: Iterable[Patch]) -> list[Hashable]:
        """Return the unit of storage that holds each patch and is best read as a whole."""

    def holding(self, patches: Iterable[Patch], bands: Collection[str], *, with_map: bool = False) -> Self:
        """Return a reader that holds the shards of these patches in memory, if single patches are slow to read."""


@dataclass(frozen=True)
class LmdbReader:
    """Patches in an LMDB environment, or in a folder of shards with their index."""

    folder: Path

    def views(self, patches: Iterable[Patch], bands: Collection[str], *, with_map: bool = False) -> Iterator[View]:
        """View patches in the memory map; see :class:`Reader`."""
        wants_s1 = not set(POLARISATIONS).isdisjoint(bands)
        wants_s2 = not set(POLARISATIONS).issuperset(bands)
        with _LOCK, ExitStack() as stack:
            transactions: dict[str, lmdb.Transaction] = {}
            for patch_id, s1_name in patches:
                keys = [patch_id if wants_s2 else None, s1_name if wants_s1 else None]
                keys.append(reference_map_key(patch_id) if with_map else None)
                for path in self._paths(patch_id):
                    if path not in transactions:
                        transactions[path] = stack.enter_context(_environment(path).begin(buffers=True))
                    get = transactions[path].get
                    values = [None if key is None else get(key.encode()) for key in keys]
                    if any(value is not None for value in values) or not any(keys):
                        break
                else:
                    raise InputError(f"{self.folder} has no patch {patch_id}; it belongs to another dataset.")
                yield self._view(patch_id, values)

    def shards(self, patches: Iterable[Patch]) -> list[Hashable]:
        """Return environment and run of neighbours of each patch; see :class:`Reader`."""
        paths = [next(iter(self._paths(patch.patch_id)), "") for patch in patches]
        return [(path, number // _NEIGHBOURS) for number, path in enumerate(paths)]

    def holding(self, patches: Iterable[Patch], bands: Collection[str], *, with_map: bool = False) -> Self:  # noqa: ARG002
        """Return itself: local memory maps need no buffer."""
        return self

    def _view(self, patch_id: str, values: Sequence[memoryview | None]) -> View:
        try:
            *bands, codes = [[] if value is None else view_stacks(value) for value in values]
        except ValueError as error:
            raise InputError(
                f"The value of {patch_id} in {self.folder} is damaged ({error}); `reben verify` lists all faults."
            ) from None
        return View([stack for stacks in bands for stack in stacks], codes[0].pixels[0] if codes else None)

    def _paths(self, patch_id: str) -> Sequence[str]:
        if self._index is None:
            return (self._path,)
        return [os.path.join(self._path, shard.path) for shard in self._index.shards if shard.may_hold(patch_id)]  # noqa: PTH118 - a Path takes 10 times as long

    @cached_property
    def _path(self) -> str:
        return str(self.folder.resolve())

    @cached_property
    def _index(self) -> ShardIndex | None:
        if is_single(self.folder) or not (self.folder / INDEX_FILE).is_file():
            return None
        return ShardIndex.read(self.folder)


class _Place(NamedTuple):
    group: str
    x: int
    y: int


class _Shard(NamedTuple):
    """Shard of a group, by its column and row."""

    group: str
    column: int
    row: int


_Window = Sequence[tuple[CubeArray, npt.NDArray[Any]]]


@dataclass(frozen=True)
class CubeReader:
    """Patches in a Zarr store, located by its patch table; arrays stay open.

    A forked process opens them again.
    """

    store: Path | str
    """Path or address."""
    table: Path
    _groups: dict[tuple[int, str], CubeGroup] = field(default_factory=dict, compare=False, repr=False)
    _held: Mapping[_Shard, _Window] = field(default_factory=dict, compare=False, repr=False)

    def views(self, patches: Iterable[Patch], bands: Collection[str], *, with_map: bool = False) -> Iterator[View]:
        """Decode patches; see :class:`Reader`."""
        for patch_id, _ in patches:
            place = self._place(patch_id)
            shard, x, y = self._find_shard(place)
            if (window := self._held.get(shard)) is None:
                columns, rows = slice(place.x, place.x + 1), slice(place.y, place.y + 1)
                window, x, y = self._group(place.group).window(columns, rows, bands, with_map=with_map), 0, 0
            yield _cut(window, x, y)

    def shards(self, patches: Iterable[Patch]) -> list[Hashable]:
        """Return the shard of each patch; see :class:`Reader`."""
        return [self._find_shard(self._place(patch.patch_id))[0] for patch in patches]

    def holding(self, patches: Iterable[Patch], bands: Collection[str], *, with_map: bool = False) -> Self:
        """Return a reader that has decoded the shards of these patches; see :class:`Reader`."""
        held = {}
        for place in (self._place(patch.patch_id) for patch in patches):
            shard, _, _ = self._find_shard(place)
            if shard not in held:
                group = self._group(shard.group)
                side = group.shard_patches
                columns, rows = (slice(at * side, (at + 1) * side) for at in (shard.column, shard.row))
                held[shard] = group.window(columns, rows, bands, with_map=with_map)
        return replace(self, _held=held)

    def _place(self, patch_id: str) -> _Place:
        place = self._places.get(patch_id)
        if place is None:
            raise InputError(f"{self.table} has no kept patch {patch_id}; it belongs to another dataset.")
        return place

    def _find_shard(self, place: _Place) -> tuple[_Shard, int, int]:
        """Find the shard of a patch, and column and row of the patch in it."""
        side = self._group(place.group).shard_patches
        (column, x), (row, y) = divmod(place.x, side), divmod(place.y, side)
        return _Shard(place.group, column, row), x, y

    def _group(self, name: str) -> CubeGroup:
        key = (os.getpid(), name)
        if key not in self._groups:
            self._groups[key] = self._open(name)
        return self._groups[key]

    def _open(self, name: str) -> CubeGroup:
        if is_address(self.store):
            root = zarr.open_group(zarr_store(f"{self.store}/{name}"), mode="r")
            return CubeGroup(Path(name), root)
        group = CubeGroup(Path(self.store) / name)
        if not group.path.is_dir():
            raise InputError(f"{group.path} has no cubes.")
        return group

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
        return {"store": self.store, "table": self.table, "_groups": {}, "_held": {}}


def _cut(window: _Window, x: int, y: int) -> View:
    stacks, codes = [], None
    for found, pixels in window:
        side = found.side_px
        patch = pixels[..., y * side : (y + 1) * side, x * side : (x + 1) * side]
        if found.kind is ImageKind.MAP:
            codes = patch
        else:
            stacks.append(Stack(found.names, patch))
    return View(stacks, codes)


def close_environments() -> None:
    """Close all environments, so that other programs in this process can open them; the next read reopens them."""
    with _LOCK:
        _OPEN.clear()
        _CLOSING.close()


def _environment(path: str) -> lmdb.Environment:
    if path not in _OPEN:
        _OPEN[path] = _CLOSING.enter_context(open_environment(Path(path)))
    return _OPEN[path]


def _before_fork() -> None:
    _LOCK.acquire()
    close_environments()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)
