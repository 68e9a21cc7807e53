"""Layout of a tile's group in the Zarr store: nodes, axes, chunks, shards and compressors.

Measured with ``tests/bench/bench_codecs.py`` (a 10 m band of real pixels, full tile). A chunk of one patch is what
training and export read; without shards that is 8,281 files a band and twice the time to write. Bit-shuffled LZ4 leaves
66 % of the raw size, zstd without shuffle 75 %. Bit-shuffled zstd leaves 63 %, but takes twice as long to write and
three times as long to read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr
from zarr.codecs import BloscCodec, BloscShuffle

from reben_dask.formats.bands import MAP_RESOLUTION_M, shared_array
from reben_dask.grid import PatchGrid
from reben_dask.nomenclature import UNLABELED_CODE

SHARD_PATCHES = 13
"""Patches along a side of a shard. 91 = 7 x 13: a full tile has 49 shards a band, none of them ragged."""

DOCUMENT = "zarr.json"
"""File of a group or an array of the store."""

MAP_NODE = "reference_map"

S1_NODE = "s1"
S1_RESOLUTION_M = 10


@dataclass(frozen=True)
class CubeLayout:
    """Contents of a group of the Zarr store: the complete patches of a tile in one grid.

    Parameters
    ----------
    group : str
        Path of the group, see :func:`group_of`.
    bands : dict of int to tuple of str
        Bands of each resolution in metres, in the order of the ``band`` axis.
    attributes : dict
        JSON-compatible metadata of the tile.
    polarisations : tuple of str
        Labels of the ``polarisation`` axis; empty without Sentinel-1.
    """

    group: str
    grid: PatchGrid
    bands: Mapping[int, tuple[str, ...]]
    attributes: Mapping[str, Any]
    polarisations: tuple[str, ...] = ()
    has_map: bool = True


@dataclass(frozen=True)
class Node:
    """Array to be filled: lazy ``dataset`` of ``variable`` in the node ``name``, and its Zarr ``encoding``."""

    name: str
    variable: str
    dataset: xr.Dataset
    encoding: dict[str, Any]


class CubeArray(NamedTuple):
    """Array ``name`` of the node ``node`` of a tile's group.

    ``resolution`` is in metres; ``fill`` is the value where nothing is written; ``axis`` holds the labels of the axis
    before y and x, if there is one.
    """

    node: str
    name: str
    resolution: int
    fill: float
    dtype: npt.DTypeLike
    attributes: Mapping[str, Any]
    axis: Mapping[str, tuple[str, ...]]


_REGISTERED = "https://raw.githubusercontent.com/zarr-conventions"
CONVENTIONS = tuple(
    {
        "schema_url": f"{_REGISTERED}/{name}/refs/tags/v0.1/schema.json",
        "spec_url": f"https://github.com/zarr-conventions/{name}/blob/v0.1/README.md",
        "uuid": uuid,
        "name": name,
        "description": description,
    }
    for name, uuid, description in (
        (
            "proj",
            "f17cb550-5864-4468-aeb7-f3180cfb622f",
            "Coordinate reference system information for geospatial data",
        ),
        ("spatial", "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
    )
)
"""GeoZarr conventions of the arrays, beside CF."""

GRID_GROUPS = "grid[0-9]*"
"""Pattern of the groups of further grids, below that of their tile."""


def group_of(tile: str, grid: int = 1) -> str:
    """Path of the group of a tile's grid by number, from 1; further grids are subgroups of the tile's group.

    Each grid has its own pixels, as an inner chunk is one patch.
    """
    return tile if grid == 1 else f"{tile}/grid{grid}"


def dn_attributes(nodata: float | None) -> dict[str, Any]:
    """Attributes of an array of bands."""
    return {"long_name": "digital number"} | ({} if nodata is None else {"nodata": nodata})


def _of_bands(nodata: float | None, bands: tuple[str, ...]) -> dict[str, Any]:
    # Also as an attribute: GDAL and tensorstore read no arrays of text.
    return {**dn_attributes(nodata), "band_names": [*bands]}


def geozarr_attributes(grid: PatchGrid, resolution: int) -> dict[str, Any]:
    """Attributes of a whole array by the GeoZarr conventions; :func:`is_of_whole_array` knows them."""
    left, bottom, right, top = grid.covered_bounds()
    return {
        "zarr_conventions": [*CONVENTIONS],
        "proj:code": f"EPSG:{grid.epsg}",
        "spatial:dimensions": ["y", "x"],
        "spatial:registration": "pixel",
        "spatial:transform": [float(value) for value in (resolution, 0, left, 0, -resolution, top)],
        "spatial:shape": [*grid.shape_px_yx(resolution)],
        "spatial:bbox": [float(edge) for edge in (left, bottom, right, top)],
    }


def is_of_whole_array(attribute: str) -> bool:
    """Test for a GeoZarr attribute, which does not hold for a subset of its array."""
    return attribute == "zarr_conventions" or attribute.startswith(("proj:", "spatial:"))


def cube_arrays(layout: CubeLayout) -> Iterator[CubeArray]:
    """Arrays of a tile's group: bands by resolution, reference map, Sentinel-1."""
    for resolution, bands in layout.bands.items():
        dtype, nodata = shared_array(bands)
        yield CubeArray(
            f"r{resolution}m", "dn", resolution, nodata or 0, dtype, _of_bands(nodata, bands), {"band": bands}
        )
    if layout.has_map:
        attributes = {"long_name": "land-cover code, see class_of_code in run/record.json", "unlabeled": UNLABELED_CODE}
        yield CubeArray(MAP_NODE, MAP_NODE, MAP_RESOLUTION_M, UNLABELED_CODE, np.uint16, attributes, {})
    if layout.polarisations:
        attributes = {"long_name": "backscatter", "units": "dB", "band_names": [*layout.polarisations]}
        axis = {"polarisation": layout.polarisations}
        yield CubeArray(S1_NODE, "db", S1_RESOLUTION_M, np.nan, np.float32, attributes, axis)


def empty_nodes(layout: CubeLayout) -> Iterator[Node]:
    """Nodes of a tile's group, with the :func:`cube_arrays` to be filled."""
    return (_node(layout.grid, array) for array in cube_arrays(layout))


def shard_px(grid: PatchGrid, resolution: int) -> int:
    """Side in pixels of a shard."""
    return shard_patches(grid) * grid.patch_px(resolution)


def shard_patches(grid: PatchGrid) -> int:
    """Side in patches of a shard; a small tile is one shard."""
    return max(1, min(SHARD_PATCHES, max(grid.shape_yx)))


def _node(grid: PatchGrid, array: CubeArray) -> Node:
    import dask.array as da  # noqa: PLC0415 - takes long to import; a client that makes no cube need not

    lengths = [len(labels) for labels in array.axis.values()]
    patch, shard = grid.patch_px(array.resolution), shard_px(grid, array.resolution)
    shape, ones = (*lengths, *grid.shape_px_yx(array.resolution)), (1,) * len(lengths)
    # Never computed: a single chunk avoids a graph of all shards, and a given name avoids Dask's pickling for one.
    pixels = da.full(shape, array.fill, dtype=array.dtype, chunks=shape, name=f"unwritten-{array.node}")
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
    from rasterio.transform import from_origin  # noqa: PLC0415 - see _node

    left, _, _, top = grid.covered_bounds()
    crs = _describe_crs(grid.epsg)
    located: xr.Dataset = dataset.assign_coords(
        y=("y", top - resolution * (np.arange(dataset.sizes["y"]) + 0.5), crs["y"].attrs),
        x=("x", left + resolution * (np.arange(dataset.sizes["x"]) + 0.5), crs["x"].attrs),
        spatial_ref=crs["spatial_ref"],
    ).rio.write_transform(from_origin(left, top, resolution, resolution))
    for variable in located.data_vars.values():
        # As an attribute, not an encoding: then xarray also lists spatial_ref among the variable's coordinates, and a
        # plain xr.open_zarr finds it there.
        variable.encoding.pop("grid_mapping", None)
        variable.attrs["grid_mapping"] = "spatial_ref"
        variable.attrs |= geozarr_attributes(grid, resolution)
    return located


@cache
def _describe_crs(epsg: int) -> xr.Dataset:
    """Describe a CRS as CF does, by the attributes of ``spatial_ref``, ``y`` and ``x`` of one pixel."""
    import rioxarray  # noqa: F401, PLC0415 - registers the .rio accessor; imports dask.array, see _node

    pixel = xr.Dataset(coords={"y": [0.0], "x": [0.0]})
    described: xr.Dataset = pixel.rio.write_crs(epsg).rio.write_coordinate_system()
    return described
