"""Readers of patches in the Zarr store: by column of a tile, or any rectangle of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from reben_dask.formats.bands import BANDS, ImageKind
from reben_dask.formats.cube import MAP_NODE, S1_NODE, group_of
from reben_dask.formats.trees.layout import PatchPixels
from reben_dask.stores.cubes import open_array

EVERY_KIND = frozenset(ImageKind)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class CubeArray:
    """Array of a group: named images along the first axis, or a reference map without that axis."""

    kind: ImageKind
    names: tuple[str, ...]
    array: zarr.Array[Any]

    @property
    def side_px(self) -> int:
        """Side of a patch in pixels."""
        return int(self.array.chunks[-1])


class CubeGroup:
    """Arrays of one group of the store (a tile, cut along one grid), opened when first read.

    ``group`` is the open group, for one that is not in a folder.
    """

    def __init__(self, path: Path, group: zarr.Group | None = None) -> None:
        self.path = path
        self._group = group

    @cached_property
    def arrays(self) -> tuple[CubeArray, ...]:
        """Arrays of the group, those of Sentinel-2 first."""
        return _arrays_in(self.path) if self._group is None else _arrays_of(self._group)

    @cached_property
    def shard_patches(self) -> int:
        """Side of a shard in patches."""
        array = self.arrays[0].array
        return int((array.shards or array.chunks)[-1] // array.chunks[-1])

    @cached_property
    def attributes(self) -> Mapping[str, Any]:
        """Attributes of the group."""
        return zarr.open_group(self.path, mode="r").attrs.asdict()

    def window(
        self, columns: slice, rows: slice, bands: Collection[str], *, with_map: bool
    ) -> list[tuple[CubeArray, Array]]:
        """Read a rectangle of patches: arrays limited to some bands, with their pixels, axes ``([image,] y, x)``."""
        wanted = [_limited(found, bands) for found in self.arrays if found.kind is not ImageKind.MAP]
        maps = [(found, ...) for found in self.arrays if found.kind is ImageKind.MAP and with_map]
        chosen = [(found, images) for found, images in wanted if found.names] + maps
        return [(found, _window(found, columns, rows, images)) for found, images in chosen]

    def column(self, x: int, kinds: Collection[ImageKind] = EVERY_KIND) -> list[tuple[CubeArray, Array]]:
        """Read a column of patches: arrays with their pixels, shape ``([image,] y, x)``."""
        return [(found, _window(found, slice(x, x + 1), slice(None))) for found in self.arrays if found.kind in kinds]


class ColumnReader:
    """Patches of a group, read column by column so that each chunk of the store is decoded once.

    Holds one column of patches of the requested ``kinds`` in memory. Request patches in grid order: ``x``, then ``y``.
    """

    def __init__(self, group: CubeGroup, kinds: Collection[ImageKind] = EVERY_KIND) -> None:
        self.group, self._kinds = group, kinds
        self._x: int | None = None
        self._column: list[tuple[CubeArray, Array]] = []

    def patch(self, x: int, y: int) -> PatchPixels:
        """Return the pixels of the patch in column ``x``, row ``y``."""
        if x != self._x:
            self._column, self._x = self.group.column(x, self._kinds), x
        return _pixels(
            [(found, pixels[..., y * found.side_px : (y + 1) * found.side_px, :]) for found, pixels in self._column]
        )


class TileReader:
    """Column readers of a tile, by grid number."""

    def __init__(self, store: Path, tile: str, kinds: Collection[ImageKind] = EVERY_KIND) -> None:
        self._store, self._tile, self._kinds = store, tile, kinds
        self._grids: dict[int, ColumnReader] = {}

    def __getitem__(self, grid: int) -> ColumnReader:
        if grid not in self._grids:
            self._grids[grid] = ColumnReader(CubeGroup(self._store / group_of(self._tile, grid)), self._kinds)
        return self._grids[grid]

    @cached_property
    def attributes(self) -> Mapping[str, Any]:
        """Attributes of the tile's group."""
        return CubeGroup(self._store / self._tile).attributes


def _arrays_in(folder: Path) -> tuple[CubeArray, ...]:
    nodes = sorted(node for node in folder.iterdir() if (node / "dn").is_dir())
    found = [CubeArray(ImageKind.S2, _names(node / "band"), open_array(node / "dn", "r")) for node in nodes]
    if (s1 := folder / S1_NODE / "db").is_dir():
        found.append(CubeArray(ImageKind.S1, _names(s1.with_name("polarisation")), open_array(s1, "r")))
    if (codes := folder / MAP_NODE / MAP_NODE).is_dir():
        found.append(CubeArray(ImageKind.MAP, (MAP_NODE,), open_array(codes, "r")))
    return tuple(found)


def _arrays_of(group: zarr.Group) -> tuple[CubeArray, ...]:
    """Arrays of an open group, of any store, with Zarr's own codecs."""
    found = []
    for name, node in sorted(group.groups()):
        held = dict(node.arrays())
        for kind, array, axis in ((ImageKind.S2, "dn", "band"), (ImageKind.S1, "db", "polarisation")):
            if array in held:
                found.append(CubeArray(kind, tuple(map(str, np.asarray(held[axis][:]).tolist())), held[array]))
        if name == MAP_NODE and MAP_NODE in held:
            found.append(CubeArray(ImageKind.MAP, (MAP_NODE,), held[MAP_NODE]))
    return tuple(sorted(found, key=lambda array: array.kind is not ImageKind.S2))


def _limited(found: CubeArray, bands: Collection[str]) -> tuple[CubeArray, slice]:
    """Limit an array to the images from the first to the last wanted one."""
    places = [place for place, name in enumerate(found.names) if name in bands]
    images = slice(places[0], places[-1] + 1) if places else slice(0)
    return replace(found, names=found.names[images]), images


def _names(path: Path) -> tuple[str, ...]:
    return tuple(map(str, np.asarray(zarr.open_array(path, mode="r")[:]).tolist()))


def _window(found: CubeArray, columns: slice, rows: slice, images: Any = ...) -> Array:
    return np.asarray(found.array[images, _scaled(rows, found.side_px), _scaled(columns, found.side_px)])


def _scaled(patches: slice, side_px: int) -> slice:
    return slice(*(None if edge is None else edge * side_px for edge in (patches.start, patches.stop)))


def _pixels(arrays: Sequence[tuple[CubeArray, Array]]) -> PatchPixels:
    images: dict[ImageKind, dict[str, Array]] = {ImageKind.S2: {}, ImageKind.S1: {}}
    codes = None
    for found, pixels in arrays:
        if found.kind is ImageKind.MAP:
            codes = pixels
        else:
            images[found.kind].update(
                {name: _native(name, image) for name, image in zip(found.names, pixels, strict=True)}
            )
    return PatchPixels(images[ImageKind.S2], images[ImageKind.S1], codes)


def _native(name: str, pixels: Array) -> Array:
    """Restore the type of a band that shares an array with wider ones."""
    band = BANDS.get(name)
    return pixels if band is None else pixels.astype(band.dtype, copy=False)
