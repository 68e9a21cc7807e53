"""One patch of a dataset as a lazy xarray cube, for notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rioxarray  # noqa: F401 - gives datasets their .rio accessor
import xarray as xr

from reben_dask.errors import InputError
from reben_dask.formats.cube import group_of

CUBES = "cubes.zarr"
"""Name of the Zarr store in the folder of a dataset."""


FULL_SCALE = 10_000
"""Digital number of a reflectance of 1 in Sentinel-2 L2A."""


def open_patch(out: Path, patch: Mapping[str, Any]) -> xr.DataTree:
    """Open the pixels of one patch. No pixels are read.

    Parameters
    ----------
    out : Path
        Folder of the dataset.
    patch : mapping
        A row of its patch table, such as ``patches.iloc[0]``: ``tile``, ``grid``, ``x`` and ``y``.

    Returns
    -------
    DataTree
        What the store has of ``r10m``, ``r20m``, ``r60m``, ``reference_map`` and ``s1``, cut to the patch, with pixel
        centres as coordinates and a CF ``spatial_ref``; attributes of the tile at the root.

    Raises
    ------
    InputError
        If the store does not hold the patch.
    """
    group, x, y = group_of(str(patch["tile"]), int(patch["grid"])), int(patch["x"]), int(patch["y"])
    if not (out / CUBES / group).is_dir():
        raise InputError(f"{out / CUBES} has no group {group}; tiles that were left out have no pixels in it.")
    tile = xr.open_datatree(out / CUBES, engine="zarr", group=group, chunks={})
    nodes = {name: _cut(node.to_dataset(), x, y) for name, node in tile.children.items() if "y" in node.dims}
    return xr.DataTree.from_dict({"/": tile.to_dataset(), **nodes}, name=str(patch.get("patch_id", group)))


def surface_reflectance(cube: xr.DataTree, bands: Sequence[str]) -> xr.DataArray:
    """Surface reflectance of some bands: digital numbers with the offset of their product, by 10,000.

    Parameters
    ----------
    cube : DataTree
        A patch (:func:`open_patch`), a tile of the store, or a product as
        :func:`~reben_dask.sources.sentinel2.open_cube` opens it.
    bands : sequence of str
        Bands of one resolution, such as ``["B04", "B03", "B02"]``.

    Returns
    -------
    DataArray
        Float64, dims ``(band, y, x)``, as lazy as the cube; NaN where there is no data.

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


def _cut(node: xr.Dataset, x: int, y: int) -> xr.Dataset:
    """Cut to a patch; an inner chunk of the store is one patch."""
    side = min(variable.encoding["chunks"][-1] for variable in node.data_vars.values() if variable.ndim > 1)
    window = node.isel(x=slice(x * side, (x + 1) * side), y=slice(y * side, (y + 1) * side))
    if not window.sizes["x"] or not window.sizes["y"]:
        raise InputError(f"There is no patch in column {x}, row {y}: the tile has {node.sizes['x'] // side} x "
                         f"{node.sizes['y'] // side}, counted from 0 at its upper-left corner.")  # fmt: skip
    placed: xr.Dataset = window.rio.write_transform(window.rio.transform(recalc=True))
    return placed
