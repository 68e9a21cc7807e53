"""The Zarr store as lazy xarray cubes: all tiles, one tile, or one patch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import rioxarray  # noqa: F401 - registers the .rio accessor
import xarray as xr

from reben_dask.errors import InputError
from reben_dask.formats.columns import GRID, PATCH_ID, TILE, X, Y
from reben_dask.formats.cube import DOCUMENT, group_of, is_of_whole_array
from reben_dask.formats.dataset import CUBES

FULL_SCALE = 10_000
"""Digital number of a reflectance of 1 in Sentinel-2 L2A."""


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
        A patch (:func:`open_patch`), a tile of the store, or
        :func:`~reben_dask.sources.sentinel2.lazy_cube.open_tile` of a product.
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


def _cut(node: xr.Dataset, x: int, y: int) -> xr.Dataset:
    """Cut a node to a patch; an inner chunk of the store is one patch."""
    side = min(variable.encoding["chunks"][-1] for variable in node.data_vars.values() if variable.ndim > 1)
    window = node.isel(x=slice(x * side, (x + 1) * side), y=slice(y * side, (y + 1) * side))
    if not window.sizes["x"] or not window.sizes["y"]:
        raise InputError(f"There is no patch in column {x}, row {y}: the tile has {node.sizes['x'] // side} x "
                         f"{node.sizes['y'] // side}, counted from 0 at its upper-left corner.")  # fmt: skip
    placed: xr.Dataset = window.rio.write_transform(window.rio.transform(recalc=True))
    return _without_geozarr(placed)
