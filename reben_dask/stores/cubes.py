"""Zarr v3 store: one group per tile, one inner chunk per patch.

A shard is the unit of concurrent writing: two tasks that write parts of the same shard lose data without an error.
Each task therefore owns a whole band, a whole map or blocks of whole shards; this module checks it.

Arrays are opened with the codecs of the ``zarrs`` library. Zarr's own run in Python, chunk by chunk: a band of a full
tile takes 1.9 CPU-seconds to write and 1.7 to read, with ``zarrs`` 0.3 and 0.4, in the same format. ``zarrs``
understands slices only: select one band as ``array[i : i + 1]``; ``array[i]`` falls back to Zarr's own codecs.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zarr

from reben_dask.formats.bands import MAP_RESOLUTION_M, S1_RESOLUTION_M
from reben_dask.formats.cube import MAP_NODE, S1_NODE, CubeArray, CubeLayout, cube_arrays, empty_nodes, shard_patches
from reben_dask.grid import PatchGrid, ShapeYX

TILES_IN_ONE_DOCUMENT = 512

_PIPELINE = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}
_NOT_THERE = 2**64 - 1
_ENTRY_BYTES, _CHECKSUM_BYTES = 16, 4
"""Bytes of an index entry (offset and length of a chunk), and of the checksum at its end."""

_SETTING = Lock()

if hasattr(os, "register_at_fork"):
    # A forked process has no threads of zarrs, and would wait for them; Zarr's own codecs start new ones.
    os.register_at_fork(after_in_child=_PIPELINE.clear)

# Not by warnings.catch_warnings: the first of several threads to leave it lets through what the others hold back.
warnings.filterwarnings("ignore", "Consolidated metadata", zarr.errors.ZarrUserWarning)

Pixels = Mapping[str, npt.NDArray[Any]]
"""Images of a patch, shape ``(y, x)``, by band or polarisation; its reference map is under ``reference_map``."""


def open_array(path: Path, mode: Literal["r", "r+"]) -> zarr.Array[Any]:
    """Open a numeric array of a directory store for reading (``r``) or updating (``r+``).

    ``zarrs`` 0.2.3 does not enforce ``r``: the caller must not write.
    """
    with _SETTING, zarr.config.set(_PIPELINE):
        return zarr.open_array(path, mode=mode)


def held_chunks(path: Path) -> npt.NDArray[np.bool_]:
    """Mask of the chunks present in the shards of an array, in axis order, from the indices at the shard ends.

    No chunk is read. Chunks that hold only the fill value are not written and read as that value; so do lost chunks.
    """
    array = open_array(path, "r")
    shards = array.shards or array.chunks
    of_shard = tuple(shard // chunk for shard, chunk in zip(shards, array.chunks, strict=True))
    held = np.zeros([-(-size // chunk) for size, chunk in zip(array.shape, array.chunks, strict=True)], bool)
    for place in np.ndindex(*(-(-size // shard) for size, shard in zip(array.shape, shards, strict=True))):
        window = tuple(slice(index * many, (index + 1) * many) for index, many in zip(place, of_shard, strict=True))
        there = held[window]
        in_index = _in_index(path / array.metadata.encode_chunk_key(place), prod(of_shard)).reshape(of_shard)
        there[...] = in_index[tuple(slice(side) for side in there.shape)]
    return held


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


def s1_strips(grid: PatchGrid) -> list[range]:
    """Rows of patches of each strip in which Sentinel-1 is written; a strip is a whole number of shards."""
    rows, step = grid.shape_yx.y, shard_patches(grid)
    return [range(start, min(start + step, rows)) for start in range(0, rows, step)]


def write_s1_strip(store: Path, layout: CubeLayout, rows: range, db: npt.NDArray[np.float32]) -> None:
    """Write Sentinel-1 for one of :func:`s1_strips`: dB, shape ``(polarisation, y, x)``, NaN for nodata."""
    if rows not in s1_strips(layout.grid):
        raise ValueError(f"{rows} is not a whole number of shards")
    side = layout.grid.patch_px(S1_RESOLUTION_M)
    array = open_array(store / layout.group / S1_NODE / "db", "r+")
    array[:, rows.start * side : rows.stop * side, :] = db


def write_block(store: Path, layout: CubeLayout, corner: ShapeYX, patches: Iterable[tuple[int, int, Pixels]]) -> None:
    """Write all shards of a block, with fill values where there is no patch.

    Parameters
    ----------
    store : Path
        The Zarr store, with the group of this tile, made by :func:`create_cube`.
    layout : CubeLayout
        Layout of the tile's group.
    corner : ShapeYX
        Row and column of the first patch of the block.
    patches : iterable of (int, int, mapping of str to ndarray)
        Column, row and images of each patch; missing images keep the fill value.
    """
    grid, step = layout.grid, shard_patches(layout.grid)
    if corner.y % step or corner.x % step:
        raise ValueError(f"a block at {corner} is not a whole number of shards of {step} patches")
    sides = ShapeYX(min(step, grid.shape_yx.y - corner.y), min(step, grid.shape_yx.x - corner.x))
    images = [_BlockImage(array, corner, sides, grid.patch_px(array.resolution)) for array in cube_arrays(layout)]
    for x, y, pixels in patches:
        for image in images:
            image.place(x, y, pixels)
    for image in images:
        image.write(store / layout.group)


def create_store(store: Path, attributes: Mapping[str, Any]) -> None:
    """Create an empty store or group, or update the attributes of an existing one."""
    zarr.open_group(str(store), mode="a", zarr_format=3).attrs.update(dict(attributes))


def consolidate(store: Path, group: str = "") -> None:
    """Consolidate the metadata below a group, so that opening it reads one file."""
    zarr.consolidate_metadata(str(store), path=group or None)


def consolidate_store(store: Path, tiles: int) -> None:
    """Consolidate the metadata of all tiles in one document, unless there are too many tiles.

    The document has 48 kB per tile with Sentinel-1: 6 MB for reBEN, 480 MB for 10,000 tiles. Each tile's own group is
    always consolidated.
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


class _BlockImage:
    """A block of one array, in memory until all of its patches are read; ``corner`` and ``sides`` are in patches."""

    def __init__(self, array: CubeArray, corner: ShapeYX, sides: ShapeYX, patch_px: int) -> None:
        self._path, self._corner, self._sides, self._px = Path(array.node, array.name), corner, sides, patch_px
        # An array without such an axis is one image, under its own name.
        self._names = next(iter(array.axis.values()), (array.name,))
        self._pixels = np.full((len(self._names), sides.y * patch_px, sides.x * patch_px), array.fill, array.dtype)

    def place(self, x: int, y: int, pixels: Pixels) -> None:
        top, left = (y - self._corner.y) * self._px, (x - self._corner.x) * self._px
        for band, image in zip(self._names, self._pixels, strict=True):
            if band in pixels:
                image[top : top + self._px, left : left + self._px] = pixels[band]

    def write(self, group: Path) -> None:
        array = open_array(group / self._path, "r+")
        rows, columns = (
            slice(start * self._px, (start + size) * self._px)
            for start, size in zip(self._corner, self._sides, strict=True)
        )
        array[..., rows, columns] = self._pixels if array.ndim == self._pixels.ndim else self._pixels[0]


def _in_index(file: Path, chunks: int) -> npt.NDArray[Any]:
    size = _ENTRY_BYTES * chunks + _CHECKSUM_BYTES
    try:
        with file.open("rb") as opened:
            opened.seek(-size, os.SEEK_END)
            index = np.frombuffer(opened.read(size), "<u8", 2 * chunks)
    except OSError:
        # Not there, or too short for an index.
        return np.zeros(chunks, bool)
    there: npt.NDArray[Any] = index[::2] != _NOT_THERE
    return there
