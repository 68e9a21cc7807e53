"""Pixels of one patch by its name, from the LMDB or from the Zarr store. Readers can be pickled."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import zarr
from safetensors.numpy import load

from reben_dask.errors import InputError
from reben_dask.formats.cube import MAP_NODE, RADAR_NODE, group_of
from reben_dask.formats.lmdb import reference_map_key
from reben_dask.patches.decision import KEPT
from reben_dask.stores.arrays import open_array
from reben_dask.stores.lmdb_environment import DATA_FILE, INDEX_FILE
from reben_dask.stores.patch_table import part_files, read_rows
from reben_dask.training.environments import read_values

RADAR = frozenset({"VV", "VH"})
"""Bands that are with the Sentinel-1 partner."""

Images = Mapping[str, npt.NDArray[Any]]


class Pixels(NamedTuple):
    """Pixels of one patch.

    Parameters
    ----------
    images : mapping of str to ndarray, shape (y, x)
        Bands at native resolution by name: uint16 DN of Sentinel-2, float32 dB (``VV``, ``VH``) of Sentinel-1.
    reference_map : ndarray of uint16, shape (y, x)
        CLC codes.
    """

    images: Images
    reference_map: npt.NDArray[np.uint16]


class Reader(Protocol):
    """Where pixels come from."""

    def read(self, patch_id: str, s1_name: str | None, bands: Collection[str]) -> Pixels:
        """Pixels of a patch and its Sentinel-1 partner: of these bands what there is, and perhaps others."""


@dataclass(frozen=True)
class LmdbReader:
    """Patches in an LMDB, or in the shards of one.

    Parameters
    ----------
    folder : Path
        Folder of the environment, or of shards with their index.
    """

    folder: Path

    def read(self, patch_id: str, s1_name: str | None, bands: Collection[str]) -> Pixels:
        """Pixels of a patch; see :class:`Reader`."""
        partner = [s1_name] if s1_name and not RADAR.isdisjoint(bands) else []
        keys = [patch_id, reference_map_key(patch_id), *partner]
        for folder in self._folders(patch_id):
            optical, codes, *radar = read_values(folder, keys)
            if optical is not None and codes is not None:
                images = [load(value) for value in (optical, *radar) if value is not None]
                return Pixels({name: image for each in images for name, image in each.items()}, load(codes)["Data"])
        raise InputError(f"{self.folder} has no patch {patch_id}; it belongs to another dataset.")

    def _folders(self, patch_id: str) -> list[Path]:
        """Where a patch may be; ranges of shards may overlap."""
        if self._shards is None:
            return [self.folder]
        return [self.folder / name for name, first, last in self._shards if first <= patch_id <= last]

    @cached_property
    def _shards(self) -> list[tuple[str, str, str]] | None:
        index = self.folder / INDEX_FILE
        if (self.folder / DATA_FILE).is_file() or not index.is_file():
            return None
        shards = json.loads(index.read_text(encoding="utf-8"))["shards"]
        return [(shard["name"], shard["first"], shard["last"]) for shard in shards if shard["patches"]]


class _Place(NamedTuple):
    """Group of a patch in the store, and its column and row."""

    group: str
    x: int
    y: int


@dataclass(frozen=True)
class CubeReader:
    """Patches in a Zarr store; arrays stay open.

    Parameters
    ----------
    store : Path
        The Zarr store.
    table : Path
        The patch table, which says where in the store a patch is.
    """

    store: Path
    table: Path
    _arrays: dict[str, _Group] = field(default_factory=dict, compare=False, repr=False)

    def read(self, patch_id: str, s1_name: str | None, bands: Collection[str]) -> Pixels:  # noqa: ARG002 - it is at the same place
        """Pixels of a patch; see :class:`Reader`."""
        place = self._places.get(patch_id)
        if place is None:
            raise InputError(f"{self.table} has no kept patch {patch_id}; it belongs to another dataset.")
        if place.group not in self._arrays:
            self._arrays[place.group] = _open_group(self.store / place.group)
        return self._arrays[place.group].read(place, bands)

    @cached_property
    def _places(self) -> dict[str, _Place]:
        columns = ("patch_id", "tile", "grid", "x", "y")
        rows = (read_rows(part, columns, status=KEPT) for part in part_files(self.table))
        return {
            name: _Place(group_of(tile, grid), x, y)
            for table in rows
            for name, tile, grid, x, y in zip(*(table[column].to_pylist() for column in columns), strict=True)
        }

    def __getstate__(self) -> dict[str, Any]:
        return {"store": self.store, "table": self.table, "_arrays": {}}


class _Group(NamedTuple):
    """Arrays of a tile, with the names of their images."""

    images: list[tuple[list[str], zarr.Array[Any]]]
    codes: zarr.Array[Any]

    def read(self, place: _Place, bands: Collection[str]) -> Pixels:
        images = {
            name: image
            for names, array in self.images
            if not set(names).isdisjoint(bands)
            for name, image in zip(names, _window(array, place), strict=True)
        }
        return Pixels(images, _window(self.codes, place))


def _open_group(group: Path) -> _Group:
    if not (group / MAP_NODE).is_dir():
        raise InputError(f"There are no cubes with a reference map at {group}.")
    stacks = [(node / "dn", node / "band") for node in sorted(group.iterdir()) if (node / "dn").is_dir()]
    if (radar := group / RADAR_NODE).is_dir():
        stacks.append((radar / "db", radar / "polarisation"))
    images = [(_names(names), open_array(path, "r")) for path, names in stacks]
    return _Group(images, open_array(group / MAP_NODE / MAP_NODE, "r"))


def _names(path: Path) -> list[str]:
    return [str(name) for name in np.asarray(zarr.open_array(path, mode="r")[:]).tolist()]


def _window(array: zarr.Array[Any], place: _Place) -> npt.NDArray[Any]:
    side = array.chunks[-1]
    rows, columns = (slice(number * side, (number + 1) * side) for number in (place.y, place.x))
    return np.asarray(array[..., rows, columns])
