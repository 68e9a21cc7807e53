"""The Zarr store of a dataset: a group for each tile, each array as readers see it, no shard missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyproj
import xarray as xr
import zarr

from reben_dask.patches.grid import PatchGrid
from reben_dask.patches.reference_map import MAP_RESOLUTION_M
from reben_dask.sources.sentinel1 import POLARISATIONS
from reben_dask.stores.arrays import open_array
from reben_dask.stores.cube_layout import MAP_NODE, RADAR_NODE, RADAR_RESOLUTION_M
from reben_dask.verify.documents import DOCUMENT, document_faults
from reben_dask.verify.expected import Expected, Kind
from reben_dask.verify.findings import Check, collect, counted, one_sentence
from reben_dask.verify.part import Part, is_true, readable_part
from reben_dask.verify.settings import Settings

STAGE = "verify-cubes"


@dataclass(frozen=True)
class Node:
    """One image array of a tile's group.

    Parameters
    ----------
    path : str
        Node below the tile's group.
    name : str
        Name of the array.
    kind : Kind
        What its pixels are.
    resolution_m : int
        Pixel size in metres.
    axis : str or None
        Its first axis, ``band`` or ``polarisation``; ``None`` for the map, which has only ``(y, x)``.
    images : tuple of str
        Names along that axis, or of the map itself as in an LMDB.
    """

    path: str
    name: str
    kind: Kind
    resolution_m: int
    axis: str | None
    images: tuple[str, ...]

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of its axes."""
        return ("y", "x") if self.axis is None else (self.axis, "y", "x")

    @property
    def dtype(self) -> str:
        """Type of its pixels."""
        return "float32" if self.kind is Kind.S1 else "uint16"

    def shape(self, grid: PatchGrid) -> tuple[int, ...]:
        """Shape over the complete patches, in the order of :attr:`dims`."""
        leading = () if self.axis is None else (len(self.images),)
        return (*leading, *grid.shape_px_yx(self.resolution_m))

    def chunks(self, grid: PatchGrid) -> tuple[int, ...]:
        """Shape of a chunk: one image of one patch."""
        side = grid.patch_px(self.resolution_m)
        return (side, side) if self.axis is None else (1, side, side)


def nodes_of(expected: Expected, *, radar: bool) -> list[Node]:
    """Image arrays that the group of every tile must have; ``radar`` says whether the dataset has Sentinel-1."""
    bands = [
        Node(f"r{resolution}m", "dn", Kind.S2, resolution, "band", tuple(expected.bands_of(resolution)))
        for resolution in expected.resolutions_m
    ]
    codes = Node(MAP_NODE, MAP_NODE, Kind.MAP, MAP_RESOLUTION_M, None, ("Data",))
    backscatter = Node(RADAR_NODE, "db", Kind.S1, RADAR_RESOLUTION_M, "polarisation", POLARISATIONS)
    return [*bands, codes, *([backscatter] if radar else [])]


def has_radar(store: Path) -> bool:
    """Whether any tile has Sentinel-1: a run was given it for all tiles, or for none."""
    return next(store.glob(f"*/{RADAR_NODE}"), None) is not None


def verify_cubes(store: Path, parts: Sequence[Path], expected: Expected, settings: Settings) -> Iterator[Check]:
    """Check the Zarr store without reading pixels.

    A shard that is not there reads as NODATA, or as a map without polygons, and no reader complains. So each shard
    must be there in which the patch table knows a patch that holds something.

    Parameters
    ----------
    store : Path
        The Zarr store.
    parts : sequence of Path
        Part files of the patch table.
    expected : Expected
        Bands and side of a patch.
    settings : Settings
        Whom to tell of progress.

    Yields
    ------
    Check
        For the arrays, and for their shards.
    """
    sound, shards = Check("Zarr cubes"), Check("Zarr shards")
    nodes = nodes_of(expected, radar=has_radar(store))
    tiles, files = set(), 0
    settings.progress.begin(STAGE, len(parts))
    for path in parts:
        tiles.add(path.stem)
        part = readable_part(path, expected.patch_m)
        if part is not None:
            with collect(sound, part.tile):
                if part.is_observed:
                    faults = _tile_faults(store, part, nodes)
                    sound.add(faults)
                    files += 0 if faults else _look_for_shards(store, part, nodes, shards)
                else:
                    tiles.remove(part.tile)
        settings.progress.advance(STAGE)
    with collect(sound, DOCUMENT):
        sound.add(document_faults(store, store.name, below=False))
        foreign = sorted(group.name for group in store.iterdir() if group.is_dir() and group.name not in tiles)
        sound.add(f"{name} is a group of no tile" for name in foreign)
    sound.summary, shards.summary = counted(len(tiles), "tile"), counted(files, "file")
    yield sound
    yield shards


def _tile_faults(store: Path, part: Part, nodes: Sequence[Node]) -> list[str]:
    if not (store / part.tile).is_dir():
        return [f"{part.tile} is missing"]
    grid = part.grid()
    faults: list[str] = []
    try:
        faults += document_faults(store / part.tile, part.tile)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        faults.append(f"{part.tile}/{DOCUMENT}: {one_sentence(error)}")
    for node in nodes:
        where = f"{part.tile}/{node.path}"
        try:
            faults += [f"{where} {fault}" for fault in _node_faults(store, part.tile, node, grid)]
        except Exception as error:  # noqa: BLE001 - damaged metadata make libraries raise anything
            faults.append(f"{where}: {one_sentence(error)}")
    return faults


def _node_faults(store: Path, tile: str, node: Node, grid: PatchGrid) -> Iterator[str]:
    with xr.open_zarr(store, group=f"{tile}/{node.path}", chunks=None, mask_and_scale=False) as dataset:
        image = dataset[node.name]
        yield from _array_faults(open_array(store / tile / node.path / node.name, "r"), node, grid)
        if image.dims != node.dims:
            yield f"has the dimensions {image.dims}, not {node.dims}"
        if image.shape != node.shape(grid):
            yield f"says that it has the shape {image.shape}"
        if node.axis is not None:
            images = tuple(map(str, dataset[node.axis].to_numpy()))
            if images != node.images:
                yield f"has along {node.axis} {', '.join(images)}, not {', '.join(node.images)}"
        yield from _place_faults(dataset, node, grid)


def _array_faults(array: zarr.Array[Any], node: Node, grid: PatchGrid) -> Iterator[str]:
    if array.shape != node.shape(grid):
        yield f"has the shape {array.shape}, not {node.shape(grid)}"
    if str(array.dtype) != node.dtype:
        yield f"is {array.dtype}, not {node.dtype}"
    if array.chunks != node.chunks(grid):
        yield f"has chunks of {array.chunks}, not one patch, {node.chunks(grid)}"


def _place_faults(dataset: xr.Dataset, node: Node, grid: PatchGrid) -> Iterator[str]:
    height, width = grid.shape_px_yx(node.resolution_m)
    for axis, centres in (
        ("y", grid.uly - node.resolution_m * (np.arange(height) + 0.5)),
        ("x", grid.ulx + node.resolution_m * (np.arange(width) + 0.5)),
    ):
        if not np.array_equal(dataset[axis].to_numpy(), centres):
            yield f"has other {axis} coordinates than the patch table"
    epsg = pyproj.CRS.from_wkt(dataset["spatial_ref"].attrs["crs_wkt"]).to_epsg()
    if epsg != grid.epsg:
        yield f"is in EPSG:{epsg}, not EPSG:{grid.epsg}"


def _look_for_shards(store: Path, part: Part, nodes: Sequence[Node], check: Check) -> int:
    """Look for each shard of a tile that must be there; gives their number."""
    labeled = np.asarray(pc.greater(pc.fill_null(part.table["labeled_fraction"], 0.0), 0).to_numpy(), bool)
    holding = {
        Kind.S2: ~is_true(part.table, "nodata"),
        Kind.MAP: labeled,
        Kind.S1: np.asarray(part.table["s1_name"].is_valid().to_numpy(), bool),
    }
    looked_for = 0
    for node in nodes:
        folder = store / part.tile / node.path / node.name
        array = open_array(folder, "r")
        for index in _shards_with(part, holding[node.kind], array):
            for image in [()] if node.axis is None else [(number,) for number in range(len(node.images))]:
                key = array.metadata.encode_chunk_key((*image, *index))
                looked_for += 1
                if not (folder / key).is_file():
                    check.problem(f"{part.tile}/{node.path}/{node.name}/{key} is missing")
    return looked_for


def _shards_with(part: Part, chosen: npt.NDArray[np.bool_], array: zarr.Array[Any]) -> list[tuple[int, int]]:
    """Positions ``(y, x)`` in the grid of shards of those with one of the chosen patches."""
    x, y = (part.table[name].to_numpy()[chosen] for name in ("x", "y"))
    of_patch = patches_of_shard(array)
    return sorted(set(zip((y // of_patch).tolist(), (x // of_patch).tolist(), strict=True)))


def patches_of_shard(array: zarr.Array[Any]) -> int:
    """Patches along a side of a shard."""
    shards = array.shards or array.chunks
    return max(1, int(shards[-1] // array.chunks[-1]))
