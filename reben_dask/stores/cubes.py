"""Zarr v3 store: one group per tile, one inner chunk per patch.

A shard is the unit of concurrent writing: two tasks that write parts of the same shard lose data without an error.
Each task therefore owns a whole band, a whole map or strips of whole shards; this module checks it.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from reben_dask.formats.bands import MAP_RESOLUTION_M, S1_RESOLUTION_M
from reben_dask.formats.cube import MAP_NODE, S1_NODE, CubeLayout, empty_nodes, shard_patches
from reben_dask.grid import PatchGrid
from reben_dask.stores.arrays import open_array

__all__ = [
    "MAP_NODE",
    "CubeLayout",
    "consolidate",
    "consolidate_store",
    "create_cube",
    "create_store",
    "radar_strips",
    "write_band",
    "write_radar_strip",
    "write_reference_map",
]

TILES_IN_ONE_DOCUMENT = 512


def create_cube(store: Path, *layouts: CubeLayout) -> None:
    """Write metadata and coordinates of a tile's group (first layout) and its further grids, without pixels.

    The group appears atomically. An existing group keeps its pixels: a scheduler may repeat this task after bands have
    been written, while an earlier attempt still runs.
    """
    group = layouts[0].group
    place = store / group
    if place.exists():
        return
    with tempfile.TemporaryDirectory(dir=store.parent, prefix=f".{group}.") as scratch:
        for layout in reversed(layouts):
            _write_empty_cube(Path(scratch), layout)
        try:
            (Path(scratch) / group).rename(place)
        except OSError:
            # Another attempt was faster.
            if not place.exists():
                raise


def write_band(store: Path, layout: CubeLayout, band: str, dn: npt.NDArray[np.uint16]) -> None:
    """Write all shards of one band of a tile, in the group made by :func:`create_cube`.

    ``dn`` has shape ``(y, x)`` from the tile's upper-left corner; pixels outside complete patches are not written.
    """
    resolution = next(resolution for resolution, bands in layout.bands.items() if band in bands)
    array = open_array(store / layout.group / f"r{resolution}m" / "dn", "r+")
    _require_own_shards(array)
    index = layout.bands[resolution].index(band)
    array[index : index + 1] = layout.grid.cut(dn, resolution)[np.newaxis]


def write_reference_map(store: Path, layout: CubeLayout, codes: npt.NDArray[np.uint16]) -> None:
    """Write all shards of the reference map of a tile; shape of ``codes`` as in :func:`write_band`."""
    array = open_array(store / layout.group / MAP_NODE / MAP_NODE, "r+")
    cut = layout.grid.cut(codes, MAP_RESOLUTION_M)
    if cut.shape != array.shape:
        raise ValueError(f"a map of shape {cut.shape} does not fill the shards of an array of shape {array.shape}")
    array[:] = cut


def radar_strips(grid: PatchGrid) -> list[range]:
    """Rows of patches of each strip in which Sentinel-1 is written; a strip is a whole number of shards."""
    rows, step = grid.shape_yx.y, shard_patches(grid)
    return [range(start, min(start + step, rows)) for start in range(0, rows, step)]


def write_radar_strip(store: Path, layout: CubeLayout, rows: range, db: npt.NDArray[np.float32]) -> None:
    """Write Sentinel-1 for one of :func:`radar_strips`: dB, shape ``(polarisation, y, x)``, NaN for nodata."""
    if rows not in radar_strips(layout.grid):
        raise ValueError(f"{rows} is not a whole number of shards")
    side = layout.grid.patch_px(S1_RESOLUTION_M)
    array = open_array(store / layout.group / S1_NODE / "db", "r+")
    array[:, rows.start * side : rows.stop * side, :] = db


def create_store(store: Path, attributes: Mapping[str, Any]) -> None:
    """Create an empty store or group, or update the attributes of an existing one."""
    zarr.open_group(str(store), mode="a", zarr_format=3).attrs.update(dict(attributes))


def consolidate(store: Path, group: str = "") -> None:
    """Consolidate the metadata below a group, so that opening it reads one file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata", zarr.errors.ZarrUserWarning)
        zarr.consolidate_metadata(str(store), path=group or None)


def consolidate_store(store: Path, tiles: int) -> None:
    """Consolidate the metadata of all tiles in one document, unless there are too many tiles.

    The document has 34 kB per tile: 4 MB for reBEN, 340 MB for 10,000 tiles. Each tile's own group is always
    consolidated.
    """
    if tiles <= TILES_IN_ONE_DOCUMENT:
        consolidate(store)


def _write_empty_cube(store: Path, layout: CubeLayout) -> None:
    create_store(store / layout.group, layout.attributes)
    for node in empty_nodes(layout):
        group = f"{layout.group}/{node.name}"
        encoding = {node.variable: node.encoding}
        node.dataset.to_zarr(
            store, group=group, mode="w", compute=False, consolidated=False, zarr_format=3, encoding=encoding
        )
        consolidate(store, group)
    consolidate(store, layout.group)


def _require_own_shards(array: zarr.Array[Any]) -> None:
    if array.shards is None or array.shards[0] != 1:
        raise ValueError(f"a band of {array.path} is not a whole number of shards (shards are {array.shards})")
