"""What the group of a tile in the Zarr store looks like: its nodes, axes, chunks, shards and compressors.

Chunks, shards and compressor were chosen by measurement (``tests/bench/bench_codecs.py``, a band of 10 m of real pixels
at the size of a full tile). A chunk of one patch is what training and export read. Without shards that is 8,281 files
a band, and twice the time to write. Bits of neighbouring digital numbers are alike, so that shuffling bits helps more
than a stronger compressor: LZ4 after it leaves 66 % of the raw size, zstd without it 75 %. Zstd after it leaves 63 %,
but takes twice the time to write and three times to read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import numpy.typing as npt
import rioxarray  # noqa: F401 - gives datasets their .rio accessor
import xarray as xr
from zarr.codecs import BloscCodec, BloscShuffle

from reben_dask.formats.bands import MAP_RESOLUTION_M
from reben_dask.grid import PatchGrid
from reben_dask.nomenclature import UNLABELED_CODE

SHARD_PATCHES = 13
"""Patches along a side of a shard. 91 = 7 x 13, so a full tile has no ragged shards: 49 files a band."""

MAP_NODE = "reference_map"

S1_NODE = "s1"
S1_RESOLUTION_M = 10


@dataclass(frozen=True)
class CubeLayout:
    """What a group of the Zarr store holds: a tile, cut along one grid.

    Parameters
    ----------
    group : str
        Path of the group, see :func:`group_of`.
    grid : PatchGrid
        Patches of the tile; the cube covers the complete ones.
    bands : dict of int to tuple of str
        Band names of each resolution in metres, in the order of the ``band`` axis.
    attributes : dict
        Metadata of the tile, stored with the group; values as JSON knows them.
    polarisations : tuple of str
        Those of Sentinel-1, in the order of the ``polarisation`` axis; without any there is no such node.
    has_map : bool
        Whether there is a node for the reference map.
    """

    group: str
    grid: PatchGrid
    bands: Mapping[int, tuple[str, ...]]
    attributes: Mapping[str, Any]
    polarisations: tuple[str, ...] = ()
    has_map: bool = True


@dataclass(frozen=True)
class Node:
    """An array of a tile's group that is still to be filled.

    Parameters
    ----------
    name : str
        Name of the node below the tile's group.
    variable : str
        Name of the array.
    dataset : Dataset
        The array, lazily, with coordinates and attributes.
    encoding : dict
        Chunks, shards, compressors and fill value.
    """

    name: str
    variable: str
    dataset: xr.Dataset
    encoding: dict[str, Any]


class CubeArray(NamedTuple):
    """What tells the arrays of a tile apart.

    Parameters
    ----------
    node : str
        Name of the node below the tile's group.
    name : str
        Name of the array.
    resolution : int
        Pixel size in metres.
    fill : float
        Value where nothing is written.
    dtype : dtype
        Type of the pixels.
    attributes : mapping
        Attributes of the array.
    axis : mapping of str to tuple of str
        The axis before y and x, with its labels, if there is one.
    """

    node: str
    name: str
    resolution: int
    fill: float
    dtype: npt.DTypeLike
    attributes: Mapping[str, Any]
    axis: Mapping[str, tuple[str, ...]]


GRID_GROUPS = "grid[0-9]*"
"""Pattern of the names of further grids' groups, below that of their tile."""


def group_of(tile: str, grid: int = 1) -> str:
    """Path of the group of a tile, cut along the grid of this number: further grids stand below the tile's own group.

    Each grid has its own pixels, as an inner chunk is one patch: where grids overlap, pixels are stored once for each.
    """
    return tile if grid == 1 else f"{tile}/grid{grid}"


def cube_arrays(layout: CubeLayout) -> Iterator[CubeArray]:
    """Arrays of a tile's group: bands by resolution, the reference map and Sentinel-1, of these what it has."""
    for resolution, bands in layout.bands.items():
        attributes = {"long_name": "digital number", "nodata": 0}
        yield CubeArray(f"r{resolution}m", "dn", resolution, 0, np.uint16, attributes, {"band": bands})
    if layout.has_map:
        attributes = {"long_name": "CORINE Land Cover level-3 code", "unlabeled": UNLABELED_CODE}
        yield CubeArray(MAP_NODE, MAP_NODE, MAP_RESOLUTION_M, UNLABELED_CODE, np.uint16, attributes, {})
    if layout.polarisations:
        attributes = {"long_name": "backscatter", "units": "dB"}
        axis = {"polarisation": layout.polarisations}
        yield CubeArray(S1_NODE, "db", S1_RESOLUTION_M, np.nan, np.float32, attributes, axis)


def empty_nodes(layout: CubeLayout) -> Iterator[Node]:
    """Nodes of a tile's group, with :func:`cube_arrays` that are still to be filled."""
    return (_node(layout.grid, array) for array in cube_arrays(layout))


def shard_px(grid: PatchGrid, resolution: int) -> int:
    """Side in pixels of a shard."""
    return shard_patches(grid) * grid.patch_px(resolution)


def shard_patches(grid: PatchGrid) -> int:
    """Side in patches of a shard; a small tile is one shard."""
    return max(1, min(SHARD_PATCHES, max(grid.shape_yx)))


def _node(grid: PatchGrid, array: CubeArray) -> Node:
    lengths = [len(labels) for labels in array.axis.values()]
    patch, shard = grid.patch_px(array.resolution), shard_px(grid, array.resolution)
    shape, ones = (*lengths, *grid.shape_px_yx(array.resolution)), (1,) * len(lengths)
    pixels = da.full(shape, array.fill, dtype=array.dtype, chunks=(*ones, shard, shard))
    dataset = xr.Dataset(
        {array.name: ((*array.axis, "y", "x"), pixels, dict(array.attributes))},
        coords={axis: np.array(labels, object) for axis, labels in array.axis.items()},
    )
    encoding = {
        "chunks": (*ones, patch, patch),
        "shards": (*ones, shard, shard),
        "compressors": (BloscCodec(cname="lz4", clevel=9, shuffle=BloscShuffle.bitshuffle),),
        "fill_value": array.fill,
    }
    return Node(array.node, array.name, _place(dataset, grid, array.resolution), encoding)


def _place(dataset: xr.Dataset, grid: PatchGrid, resolution: int) -> xr.Dataset:
    left, _, _, top = grid.covered_bounds()
    placed = dataset.assign_coords(
        y=top - resolution * (np.arange(dataset.sizes["y"]) + 0.5),
        x=left + resolution * (np.arange(dataset.sizes["x"]) + 0.5),
    )
    located: xr.Dataset = placed.rio.write_crs(grid.epsg).rio.write_coordinate_system().rio.write_transform()
    for variable in located.data_vars.values():
        # As an attribute, not an encoding: then xarray also lists spatial_ref among the variable's coordinates, and a
        # plain xr.open_zarr finds it there.
        variable.encoding.pop("grid_mapping", None)
        variable.attrs["grid_mapping"] = "spatial_ref"
    return located
