"""Readers of patches in the Zarr store: by column of a tile, at random, or as lazy xarray cubes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rioxarray  # noqa: F401 - registers the .rio accessor
import xarray as xr
import zarr

from reben_dask.errors import InputError
from reben_dask.formats.bands import BANDS, ImageKind
from reben_dask.formats.columns import GRID, PATCH_ID, TILE, X, Y
from reben_dask.formats.cube import DOCUMENT, MAP_NODE, S1_NODE, group_of, is_of_whole_array
from reben_dask.formats.dataset import CUBES
from reben_dask.formats.trees.layout import PatchPixels
from reben_dask.stores.cubes import open_array

EVERY_KIND = frozenset(ImageKind)
FULL_SCALE = 10_000
"""Digital number of a reflectance of 1 in Sentinel-2 L2A."""

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


def open_cubes(store: str | PathLike[str], tile: str | None = None) -> xr.DataTree:
    """Open a Zarr store lazily, with one Dask chunk for each shard of a band.

    ``xr.open_zarr(…, chunks={})`` creates one Dask chunk per patch: 33,124 for the 10 m bands of a full tile; the mean
    of a band then takes 30 times as long.

    Parameters
    ----------
    store : path
        ``cubes.zarr`` of a dataset, or the store of ``reben convert --zarr``.
    tile : str, optional
        Only the group of this tile, or of one of its further grids (``<tile>/grid2``).

    Returns
    -------
    DataTree
        A node for each tile, or the nodes of the tile: ``r10m``, ``r20m`` and ``r60m`` with ``dn`` (uint16, dims
        ``(band, y, x)``), ``reference_map`` (uint16, ``(y, x)``), ``s1`` with ``db`` (float32, ``(polarisation, y,
        x)``). Georeferenced by CF, without the GeoZarr attributes, which are those of whole arrays.

    Raises
    ------
    InputError
        If there is no such store or tile.
    """
    place = Path(store) / (tile or "")
    if not (place / DOCUMENT).is_file():
        raise InputError(f"{place} is not a group of a Zarr store; give cubes.zarr of a dataset, and one of its tiles.")
    return xr.open_datatree(place, engine="zarr", chunks=None).map_over_datasets(_chunk_by_shards)


def open_patch(out: Path, patch: Mapping[str, Any]) -> xr.DataTree:
    """Open one patch lazily.

    Parameters
    ----------
    out : Path
        Folder of the dataset.
    patch : mapping
        Row of its patch table, such as ``patches.iloc[0]``, with ``tile``, ``grid``, ``x`` and ``y``.

    Returns
    -------
    DataTree
        Nodes of the store (``r10m``, ``r20m``, ``r60m``, ``reference_map``, ``s1``), cut to the patch, with pixel
        centres as coordinates and a CF ``spatial_ref``; attributes of the tile at the root.

    Raises
    ------
    InputError
        If the store does not hold the patch.
    """
    group, x, y = group_of(str(patch[TILE]), int(patch[GRID])), int(patch[X]), int(patch[Y])
    if not (out / CUBES / group).is_dir():
        raise InputError(f"{out / CUBES} has no group {group}; rejected tiles have no pixels in it.")
    tile = xr.open_datatree(out / CUBES, engine="zarr", group=group, chunks={})
    nodes = {name: _cut(node.to_dataset(), x, y) for name, node in tile.children.items() if "y" in node.dims}
    return xr.DataTree.from_dict({"/": tile.to_dataset(), **nodes}, name=str(patch.get(PATCH_ID, group)))


def surface_reflectance(cube: xr.DataTree, bands: Sequence[str]) -> xr.DataArray:
    """Compute surface reflectance: (DN + offset of the product) / 10,000.

    Parameters
    ----------
    cube : DataTree
        A patch (:func:`open_patch`), a tile of the store, or :func:`~reben_dask.sources.sentinel2.open_tile` of a
        product.
    bands : sequence of str
        Bands of one resolution, such as ``["B04", "B03", "B02"]``.

    Returns
    -------
    DataArray
        Float64, dims ``(band, y, x)``, as lazy as the cube; NaN for nodata.

    Raises
    ------
    InputError
        If the bands are not in one node of the cube.
    """
    arrays = [node.to_dataset()["dn"] for node in cube.children.values() if "dn" in node]
    chosen = [dn for dn in arrays if {*bands} <= {str(name) for name in dn["band"].values}]
    if not chosen:
        raise InputError(f"The bands {', '.join(bands)} are not of one resolution in this cube; take them one by one.")
    dn = chosen[0].sel(band=list(bands)).drop_attrs()
    offsets = {} if cube.attrs.get("harmonized") else cube.attrs.get("boa_add_offset") or {}
    offset = xr.DataArray([float(offsets.get(band, 0)) for band in bands], dims="band")
    reflectance: xr.DataArray = (dn.where(dn > 0) + offset) / FULL_SCALE
    return reflectance.assign_attrs(long_name="surface reflectance")


def _chunk_by_shards(node: xr.Dataset) -> xr.Dataset:
    sizes: dict[Any, int] = {}
    for variable in node.data_vars.values():
        stored = variable.encoding.get("shards") or variable.encoding.get("chunks") or variable.shape
        sizes |= zip(variable.dims, stored, strict=True)
    return _without_geozarr(node.chunk(sizes)) if sizes else node


def _without_geozarr(node: xr.Dataset) -> xr.Dataset:
    """Keep georeferencing by CF alone, which xarray cuts with the pixels."""
    for variable in node.data_vars.values():
        variable.attrs = {name: value for name, value in variable.attrs.items() if not is_of_whole_array(name)}
    return node


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


def _cut(node: xr.Dataset, x: int, y: int) -> xr.Dataset:
    """Cut a node to a patch; an inner chunk of the store is one patch."""
    side = min(variable.encoding["chunks"][-1] for variable in node.data_vars.values() if variable.ndim > 1)
    window = node.isel(x=slice(x * side, (x + 1) * side), y=slice(y * side, (y + 1) * side))
    if not window.sizes["x"] or not window.sizes["y"]:
        raise InputError(f"There is no patch in column {x}, row {y}: the tile has {node.sizes['x'] // side} x "
                         f"{node.sizes['y'] // side}, counted from 0 at its upper-left corner.")  # fmt: skip
    placed: xr.Dataset = window.rio.write_transform(window.rio.transform(recalc=True))
    return _without_geozarr(placed)
