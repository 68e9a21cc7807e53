"""Random access to pixels of patches in a Zarr store, local or remote.

Separate from :mod:`reben_dask.training.readers`, as its libraries take seconds to import in each worker.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Generator, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy.typing as npt
import zarr

from reben_dask.errors import InputError
from reben_dask.formats.bands import ImageKind
from reben_dask.formats.columns import GRID, KEPT, PATCH_ID, TILE, X, Y
from reben_dask.formats.cube import group_of
from reben_dask.formats.lmdb import Stack
from reben_dask.sources.remote import is_address, zarr_store
from reben_dask.stores.cube_reader import CubeArray, CubeGroup
from reben_dask.stores.patch_table import part_files, read_rows
from reben_dask.training.readers import Patch, View


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
    """Path or URL."""
    table: Path
    _groups: dict[tuple[int, str], CubeGroup] = field(default_factory=dict, compare=False, repr=False)
    _held: Mapping[_Shard, _Window] = field(default_factory=dict, compare=False, repr=False)

    def views(
        self, patches: Iterable[Patch], bands: Collection[str], *, with_map: bool = False
    ) -> Generator[View, None, None]:
        """Decode patches; see :class:`~reben_dask.training.readers.Reader`."""
        for patch_id, _ in patches:
            place = self._place(patch_id)
            shard, x, y = self._find_shard(place)
            if (window := self._held.get(shard)) is None:
                columns, rows = slice(place.x, place.x + 1), slice(place.y, place.y + 1)
                window, x, y = self._group(place.group).window(columns, rows, bands, with_map=with_map), 0, 0
            yield _cut(window, x, y)

    def shards(self, patches: Iterable[Patch]) -> list[Hashable]:
        """Return the shard of each patch; see :class:`~reben_dask.training.readers.Reader`."""
        return [self._find_shard(self._place(patch.patch_id))[0] for patch in patches]

    def holding(self, patches: Iterable[Patch], bands: Collection[str], *, with_map: bool = False) -> Self:
        """Return a reader that has decoded the shards of these patches."""
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
