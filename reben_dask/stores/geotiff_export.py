"""The three trees of the published dataset: a GeoTIFF for each band of each patch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pyarrow.compute as pc

from reben_dask.patches.decision import KEPT
from reben_dask.stores.geotiff import Compression, Place, encode_geotiff
from reben_dask.stores.patch_reader import PatchReader, TileReader
from reben_dask.stores.patch_table import part_files, read_rows

S2_TREE, S1_TREE, MAP_TREE = "BigEarthNet-S2", "BigEarthNet-S1", "Reference_Maps"

TELL_EVERY = 256
"""Patches between two reports of progress."""

Advance = Callable[[int], None]
_COLUMNS = ("tile", "grid", "x", "y", "epsg", "minx", "maxx", "maxy")


@dataclass(frozen=True)
class PatchFolder:
    """The folder of one patch in one tree.

    Parameters
    ----------
    tree : str
        Name of the tree.
    name : str
        Name of the patch.
    scene : str
        Folder of the tree that holds it: the tile, or the Sentinel-1 scene.
    files : tuple of (str, bytes)
        Names and contents of the files in it, in the order of their names.
    """

    tree: str
    name: str
    scene: str
    files: tuple[tuple[str, bytes], ...]

    @property
    def path(self) -> str:
        """Folder below that of the dataset."""
        return f"{self.tree}/{self.scene}/{self.name}"

    @property
    def part(self) -> str:
        """The name without indices. In the order of names, patches that have it in common follow each other."""
        return self.name.rsplit("_", 2)[0]


@dataclass(frozen=True)
class _Tree:
    """How the files of a tree come about.

    ``scene_parts`` of a name, counted from its end, are not of the scene. ``is_shared`` says whether patches of several
    tiles may have files of one name.
    """

    images: Callable[[PatchReader, int, int], Mapping[str, npt.NDArray[Any]]]
    name_column: str
    scene_parts: int
    nodata: int | None = None
    compress: Compression | None = None
    is_shared: bool = False


def _reference_map(reader: PatchReader, x: int, y: int) -> Mapping[str, npt.NDArray[Any]]:
    return {"reference_map": reader.reference_map(x, y)}


_TREES = {
    S2_TREE: _Tree(PatchReader.bands, "patch_id", 2, nodata=0),
    S1_TREE: _Tree(PatchReader.sentinel1, "s1_name", 3, is_shared=True),
    MAP_TREE: _Tree(_reference_map, "patch_id", 2, nodata=0, compress="deflate"),
}


def patch_folders(store: Path, part: Path, tree: str) -> Iterator[PatchFolder]:
    """Encode the kept patches of one tile for one tree, those listed apart for snow or cloud included.

    Parameters
    ----------
    store : Path
        The Zarr store with the tile's cube.
    part : Path
        The tile's part file of the patch table.
    tree : {"BigEarthNet-S2", "BigEarthNet-S1", "Reference_Maps"}
        The tree. That of Sentinel-1 has the patches with an ``s1_name``, if the cube has Sentinel-1 pixels. One that is
        the partner of several acquisitions over the same place comes with the first of them in name order.

    Yields
    ------
    PatchFolder
        Patches in the order of their names in that tree.
    """
    kind = _TREES[tree]
    rows = _rows(part, kind)
    if not rows:
        return  # a tile without kept patches may have no cube
    readers = TileReader(store, rows[0]["tile"])
    for row in rows:
        images = kind.images(readers[row["grid"]], row["x"], row["y"])
        name = row[kind.name_column]
        files = tuple((f"{name}_{image}.tif", _encode(images[image], row, kind)) for image in sorted(images))
        if files:
            yield PatchFolder(tree, name, name.rsplit("_", kind.scene_parts)[0], files)


def write_tree(patches: Iterable[PatchFolder], root: Path, advance: Advance = lambda _: None) -> None:
    """Write loose files.

    Parameters
    ----------
    patches : iterable of PatchFolder
        What to write.
    root : Path
        Folder in which the trees are.
    advance : callable
        Called with the number of patches of each batch that is written.
    """
    for patch in counted(patches, advance):
        folder = root / patch.path
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in patch.files:
            (folder / name).write_bytes(content)


def counted(patches: Iterable[PatchFolder], advance: Advance) -> Iterator[PatchFolder]:
    """Pass patches on, and report them: who takes the next has written the one before."""
    count = 0
    for count, patch in enumerate(patches, start=1):
        yield patch
        if count % TELL_EVERY == 0:
            advance(TELL_EVERY)
    if count % TELL_EVERY:
        advance(count % TELL_EVERY)


def _rows(part: Path, kind: _Tree) -> list[dict[str, Any]]:
    """Kept patches of a tile with a name in the tree, in the order of these names."""
    column = kind.name_column
    rows = read_rows(part, [*_COLUMNS, column], status=KEPT)
    rows = rows.filter(rows[column].is_valid()).sort_by(column)
    for earlier in _earlier_parts(part) if kind.is_shared else ():
        rows = rows.filter(pc.invert(pc.is_in(rows[column], read_rows(earlier, [column], status=KEPT)[column])))
    found: list[dict[str, Any]] = rows.to_pylist()
    return found


def _earlier_parts(part: Path) -> list[Path]:
    """Part files of tiles over the same place that come first in name order."""
    place = part.stem.rpartition("_")[2]
    return [other for other in part_files(part.parent) if other < part and other.stem.endswith(f"_{place}")]


def _encode(pixels: npt.NDArray[Any], row: Mapping[str, Any], kind: _Tree) -> bytes:
    resolution = (row["maxx"] - row["minx"]) // pixels.shape[1]
    place = Place(row["epsg"], row["minx"], row["maxy"], resolution)
    return encode_geotiff(pixels, place, nodata=kind.nodata, compress=kind.compress)
