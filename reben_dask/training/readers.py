"""Random access to pixels of patches in an LMDB.

LMDB must not open a path twice in a process, and a forked process must not use its handles. All readers of a process
therefore share its environments, which are closed before a fork and reopened by the next read.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Generator, Hashable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import NamedTuple, Protocol, Self

import lmdb
import numpy as np
import numpy.typing as npt

from reben_dask.errors import InputError
from reben_dask.formats.bands import POLARISATIONS
from reben_dask.formats.lmdb import INDEX_FILE, ShardIndex, Stack, is_single, reference_map_key, view_stacks
from reben_dask.stores.lmdb import open_environment

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

    def views(
        self, patches: Iterable[Patch], bands: Collection[str], *, with_map: bool = False
    ) -> Generator[View, None, None]:
        """View patches one after the other: those of ``bands`` that exist, and reference maps if wanted."""

    def shards(self, patches: Iterable[Patch]) -> list[Hashable]:
        """Return the unit of storage that holds each patch and is best read as a whole."""

    def holding(self, patches: Iterable[Patch], bands: Collection[str], *, with_map: bool = False) -> Self:
        """Return a reader that holds the shards of these patches in memory, if single patches are slow to read."""


@dataclass(frozen=True)
class LmdbReader:
    """Patches in an LMDB environment, or in a folder of shards with their index."""

    folder: Path

    def views(
        self, patches: Iterable[Patch], bands: Collection[str], *, with_map: bool = False
    ) -> Generator[View, None, None]:
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

    def _view(self, patch_id: str, values: Sequence[bytes | memoryview | None]) -> View:
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
