"""The Zarr v3 store: one group per tile, one inner chunk per patch.

A shard is the unit of concurrent writing: two tasks that write parts of the same shard lose data without any error.
One task therefore owns a whole band (or the whole map) of a tile, which is a whole number of shards, and this module
checks it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import rioxarray  # noqa: F401 - gives datasets their .rio accessor
import xarray as xr
import zarr
from zarr.codecs import BloscCodec, BloscShuffle
from zarr.core.group import GroupMetadata

from reben_dask.patches.grid import PatchGrid
from reben_dask.patches.nomenclature import UNLABELED_CODE
from reben_dask.patches.reference_map import MAP_RESOLUTION_M

SHARD_PATCHES = 13
"""Patches along a side of a shard. 91 = 7 x 13, so a full tile has no ragged shards: 49 files a band."""

MAP_NODE = "reference_map"


@dataclass(frozen=True)
class CubeLayout:
    """What the group of a tile holds.

    Parameters
    ----------
    tile : str
        Name of the tile and of its group.
    grid : PatchGrid
        Patches of the tile; the cube covers the complete ones.
    bands : dict of int to tuple of str
        Band names of each resolution in metres, in the order of the ``band`` axis.
    attributes : dict
        Metadata of the tile, stored with the group; values as JSON knows them.
    """

    tile: str
    grid: PatchGrid
    bands: Mapping[int, tuple[str, ...]]
    attributes: Mapping[str, Any]


def create_cube(store: Path, layout: CubeLayout) -> None:
    """Write the metadata and coordinates of a tile's group, and no pixels.

    Done again, it leaves a finished group alone, with the pixels that are already there: a scheduler may repeat this
    task after bands have been written.

    Parameters
    ----------
    store : Path
        The Zarr store; other tiles may be written to it at the same time.
    layout : CubeLayout
        What the group holds.
    """
    if _is_finished(store / layout.tile):
        return
    create_store(store / layout.tile, layout.attributes)
    for resolution, bands in layout.bands.items():
        dataset = _empty_bands(layout.grid, resolution, bands)
        _write_group(dataset, store, f"{layout.tile}/r{resolution}m", {"dn": _encoding(layout.grid, resolution, 0)})
    codes = _empty_map(layout.grid)
    encoding = _encoding(layout.grid, MAP_RESOLUTION_M, UNLABELED_CODE, axes=2)
    _write_group(codes, store, f"{layout.tile}/{MAP_NODE}", {MAP_NODE: encoding})
    consolidate(store, layout.tile)


def write_band(store: Path, layout: CubeLayout, band: str, dn: npt.NDArray[np.uint16]) -> None:
    """Write one band of a tile, all of its shards.

    Parameters
    ----------
    store : Path
        The Zarr store, in which :func:`create_cube` has been for this tile.
    layout : CubeLayout
        What the tile's group holds.
    band : str
        Name of the band.
    dn : ndarray of uint16, shape (y, x)
        Digital numbers of the whole tile from its upper-left corner; the left-over strip is not written.
    """
    resolution = next(resolution for resolution, bands in layout.bands.items() if band in bands)
    height, width = layout.grid.shape_px_yx(resolution)
    array = zarr.open_array(store / layout.tile / f"r{resolution}m" / "dn", mode="r+")
    _require_own_shards(array)
    array[layout.bands[resolution].index(band)] = dn[:height, :width]


def write_reference_map(store: Path, tile: str, codes: npt.NDArray[np.uint16]) -> None:
    """Write the reference map of a tile, all of its shards; ``codes`` has shape ``(y, x)`` over complete patches."""
    array = zarr.open_array(store / tile / MAP_NODE / MAP_NODE, mode="r+")
    if codes.shape != array.shape:
        raise ValueError(f"a map of shape {codes.shape} does not fill the shards of an array of shape {array.shape}")
    array[:] = codes


def create_store(store: Path, attributes: Mapping[str, Any]) -> None:
    """Begin an empty store or group, or update the attributes of one that exists."""
    zarr.open_group(str(store), mode="a", zarr_format=3).attrs.update(dict(attributes))


def consolidate(store: Path, group: str = "") -> None:
    """Gather the metadata below a group in one document, so that opening it reads one file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata", zarr.errors.ZarrUserWarning)
        zarr.consolidate_metadata(str(store), path=group or None)


def _is_finished(group: Path) -> bool:
    if not (group / "zarr.json").is_file():
        return False
    metadata: GroupMetadata = zarr.open_group(group, mode="r").metadata
    return metadata.consolidated_metadata is not None


def _write_group(dataset: xr.Dataset, store: Path, group: str, encoding: dict[str, Any]) -> None:
    dataset.to_zarr(store, group=group, mode="w", compute=False, consolidated=False, zarr_format=3, encoding=encoding)
    consolidate(store, group)


def _empty_bands(grid: PatchGrid, resolution: int, bands: tuple[str, ...]) -> xr.Dataset:
    shape, shard = grid.shape_px_yx(resolution), _shard_px(grid, resolution)
    dn = da.zeros((len(bands), *shape), dtype=np.uint16, chunks=(1, shard, shard))
    attributes = {"long_name": "digital number", "nodata": 0}
    dataset = xr.Dataset({"dn": (("band", "y", "x"), dn, attributes)}, coords={"band": np.array(bands, object)})
    return _place(dataset, grid, resolution)


def _empty_map(grid: PatchGrid) -> xr.Dataset:
    shape, shard = grid.shape_px_yx(MAP_RESOLUTION_M), _shard_px(grid, MAP_RESOLUTION_M)
    codes = da.full(shape, UNLABELED_CODE, dtype=np.uint16, chunks=(shard, shard))
    attributes = {"long_name": "CORINE Land Cover level-3 code", "unlabeled": UNLABELED_CODE}
    return _place(xr.Dataset({MAP_NODE: (("y", "x"), codes, attributes)}), grid, MAP_RESOLUTION_M)


def _place(dataset: xr.Dataset, grid: PatchGrid, resolution: int) -> xr.Dataset:
    placed = dataset.assign_coords(
        y=grid.uly - resolution * (np.arange(dataset.sizes["y"]) + 0.5),
        x=grid.ulx + resolution * (np.arange(dataset.sizes["x"]) + 0.5),
    )
    located: xr.Dataset = placed.rio.write_crs(grid.epsg).rio.write_coordinate_system().rio.write_transform()
    for variable in located.data_vars.values():
        # As an attribute, not an encoding: then xarray also lists spatial_ref among the variable's coordinates, and a
        # plain xr.open_zarr finds it there.
        variable.encoding.pop("grid_mapping", None)
        variable.attrs["grid_mapping"] = "spatial_ref"
    return located


def _shard_px(grid: PatchGrid, resolution: int) -> int:
    return max(1, min(SHARD_PATCHES, max(grid.shape_yx))) * grid.patch_px(resolution)


def _encoding(grid: PatchGrid, resolution: int, fill_value: int, axes: int = 3) -> dict[str, Any]:
    patch, shard = grid.patch_px(resolution), _shard_px(grid, resolution)
    # Bits of neighbouring DN are alike: on real Sentinel-2 pixels this gives 64 % of the raw size, zstd alone 75 %.
    compressor = BloscCodec(cname="zstd", clevel=1, shuffle=BloscShuffle.bitshuffle)
    return {
        "chunks": (1, patch, patch)[-axes:],
        "shards": (1, shard, shard)[-axes:],
        "compressors": (compressor,),
        "fill_value": fill_value,
    }


def _require_own_shards(array: zarr.Array[Any]) -> None:
    if array.shards is None or array.shards[0] != 1:
        raise ValueError(f"a band of {array.path} is not a whole number of shards (shards are {array.shards})")
