"""A Zarr store, tile by tile: which patches are there, and their pixels, a column of patches at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from reben_dask.errors import InputError
from reben_dask.formats.bands import MAP_RESOLUTION_M
from reben_dask.formats.cube import GRID_GROUPS, MAP_NODE, SHARD_PATCHES, Node, empty_nodes
from reben_dask.formats.names import PatchName
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.nomenclature import Nomenclature
from reben_dask.patches.candidates import nodata_pixels
from reben_dask.patches.labels import label_columns
from reben_dask.stores.arrays import held_chunks, open_array
from reben_dask.verify.cubes_group import (
    DOCUMENT,
    Document,
    check_group,
    grids_below,
    images_of,
    kind_of,
    read_document,
)
from reben_dask.verify.expected import Expected, Kind
from reben_dask.verify.findings import Check, collect, one_sentence


def sample(patches: Iterable[tuple[int, int]]) -> list[int]:
    """Columns in which there is one patch of each shard, of some patches ``(x, y)``."""
    first: dict[tuple[int, int], int] = {}
    for x, y in sorted(patches):
        first.setdefault((x // SHARD_PATCHES, y // SHARD_PATCHES), x)
    return sorted(set(first.values()))


@dataclass(frozen=True)
class Column:
    """Pixels of a column of patches.

    Parameters
    ----------
    x : int
        Its number in the tile.
    grid : PatchGrid
        Its patches alone.
    bands : dict of str to ndarray of uint16, shape (y, x)
        Sentinel-2 bands by name.
    codes : ndarray of uint16, shape (y, x)
        The reference map; an empty one, if there is none.
    """

    x: int
    grid: PatchGrid
    bands: Mapping[str, npt.NDArray[np.uint16]]
    codes: npt.NDArray[np.uint16]

    def bands_with_nodata(self) -> list[list[str]]:
        """For each patch the names of the bands in which a pixel is NODATA."""
        width_m = self.grid.patch_m
        counts = {name: nodata_pixels(dn, self.grid, width_m // dn.shape[1]) for name, dn in self.bands.items()}
        return [[name for name in counts if counts[name][row]] for row in range(self.grid.size)]

    def labels(self, expected: Expected) -> pd.DataFrame:
        """For each patch its labels, by all thresholds, and ``labeled_fraction``, read off its map."""
        return label_columns(self.codes, self.grid, expected.nomenclature, expected.thresholds_px)

    def unknown_codes(self, nomenclature: Nomenclature) -> list[int | None]:
        """For each patch a code of its map that the nomenclature does not know, if there is any."""
        if not self.codes.size:
            return [None] * self.grid.size
        blocks = self.grid.blocks(self.codes, MAP_RESOLUTION_M)[:, 0]
        known = np.isin(blocks, sorted(nomenclature.codes))
        return [None if here.all() else int(codes[~here][0]) for codes, here in zip(blocks, known, strict=True)]


class TileCube:
    """The arrays of one tile, cut along one grid.

    Parameters
    ----------
    store : Path
        The Zarr store.
    group : str
        Path of the group.
    grid : PatchGrid
        Its patches.
    nodes : sequence of Node
        Its arrays, which must be sound.
    """

    def __init__(self, store: Path, group: str, grid: PatchGrid, nodes: Sequence[Node]) -> None:
        self.group, self.grid, self.nodes = group, grid, nodes
        self._folder = store / group
        self._arrays = {node.name: open_array(self.path(node), "r") for node in nodes}

    def path(self, node: Node) -> Path:
        """Where the array of a node is."""
        return self._folder / node.name / node.variable

    def name(self, x: int, y: int) -> str:
        """Name of a patch."""
        return str(PatchName(self.group, x, y, self.grid.digits))

    def held(self, node: Node) -> npt.NDArray[np.bool_]:
        """Which patches an array holds, by its shards; shape ``(image, row, column)``."""
        return held_chunks(self.path(node)).reshape(-1, *self.grid.shape_yx)

    def columns(self, chosen: Iterable[int], check: Check) -> Iterator[Column]:
        """Columns of patches; the check is told of those that cannot be read.

        Each in one piece, so that a chunk is decoded once, and of each array, though not all are looked at.
        """
        for x in chosen:
            try:
                yield self._column(x)
            except InputError as error:
                check.problem(f"{self.group}, column {x}, {error}")

    def _column(self, x: int) -> Column:
        tile_m = ShapeYX(self.grid.shape_yx.y * self.grid.patch_m, self.grid.patch_m)
        grid = PatchGrid(self.grid.epsg, self.grid.ulx + x * self.grid.patch_m, self.grid.uly, tile_m, tile_m.x)
        pixels = {node.name: self._read(node, x) for node in self.nodes}
        bands = {
            name: dn
            for node in self.nodes
            if kind_of(node.name) is Kind.S2
            for name, dn in zip(images_of(node), pixels[node.name], strict=True)
        }
        return Column(x, grid, bands, pixels.get(MAP_NODE, np.zeros((0, 0), np.uint16)))

    def _read(self, node: Node, x: int) -> npt.NDArray[Any]:
        side = node.encoding["chunks"][-1]
        try:
            return np.asarray(self._arrays[node.name][..., x * side : (x + 1) * side])
        except Exception as error:  # noqa: BLE001 - damaged shards make codecs raise anything
            raise InputError(f"cannot be read from {node.name} ({one_sentence(error)})") from None


class CubeStore:
    """A Zarr store of which all tiles have nodes of the same kinds.

    Parameters
    ----------
    path : Path
        The store.
    expected : Expected
        Bands and side of a patch.
    required : set of Kind
        What all tiles must have; and they must have what any of them has.
    """

    def __init__(self, path: Path, expected: Expected, required: frozenset[Kind] = frozenset()) -> None:
        self.path, self.kinds, self.sound = path, kinds_in(path) | required, Check("Zarr cubes")
        tiles = sorted(group for group in path.glob("*") if group.is_dir())
        self.tiles = [tile.name for tile in tiles]
        self.groups = [group.relative_to(path).as_posix() for tile in tiles for group in (tile, *grids_below(tile))]
        self.document: Document = {}
        self._expected = expected
        with collect(self.sound):
            self.document = read_document(path / DOCUMENT)

    def cube(self, group: str, grid: PatchGrid) -> TileCube | None:
        """The arrays of a group, if they are as they must be."""
        every = empty_nodes(self._expected.layout(group, grid))
        nodes, before = [node for node in every if kind_of(node.name) in self.kinds], self.sound.problems
        check_group(self.path, group, nodes, self.document, self.sound)
        return TileCube(self.path, group, grid, nodes) if self.sound.problems == before else None


def kinds_in(store: Path) -> frozenset[Kind]:
    """Of what any tile of a store has pixels."""
    nodes = (document.parent for depth in ("*", f"*/{GRID_GROUPS}") for document in store.glob(f"{depth}/*/{DOCUMENT}"))
    return frozenset(kind_of(node.name) for node in nodes if not node.match(GRID_GROUPS))
