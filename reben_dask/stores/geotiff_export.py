"""The trees of a published dataset: a folder of GeoTIFFs for each patch."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pyarrow.compute as pc

from reben_dask.formats.trees.layout import Tree
from reben_dask.patches.decision import KEPT
from reben_dask.stores.geotiff import Place, encode_geotiff
from reben_dask.stores.patch_reader import TileReader
from reben_dask.stores.patch_table import part_files, read_rows

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
    place : str
        Folder of the tree that holds it: a tile, a Sentinel-1 scene or a grid; empty for the tree itself.
    run : str
        What it has in common with the patches that stand beside it in an archive.
    files : tuple of (str, bytes)
        Names and contents of the files in it, in the order of their names.
    """

    tree: str
    name: str
    place: str
    run: str
    files: tuple[tuple[str, bytes], ...]

    @property
    def path(self) -> str:
        """Folder below that of the dataset."""
        return "/".join(filter(None, (self.tree, self.place, self.name)))


def patch_folders(store: Path, part: Path, tree: Tree) -> Iterator[PatchFolder]:
    """Encode the kept patches of one tile for one tree, those listed apart for snow or cloud included.

    Parameters
    ----------
    store : Path
        The Zarr store with the tile's cube.
    part : Path
        The tile's part file of the patch table.
    tree : Tree
        The tree. That of Sentinel-1 has the patches with an ``s1_name``, if the cube has Sentinel-1 pixels. One that is
        the partner of several acquisitions over the same place comes with the first of them in name order.

    Yields
    ------
    PatchFolder
        Patches in the order of the tree.
    """
    rows = _rows(part, tree)
    if not rows:
        return  # a tile without kept patches may have no cube
    readers = TileReader(store, rows[0]["tile"])
    for row in rows:
        images = tree.images(readers[row["grid"]], row["x"], row["y"])
        if images:
            files = {f"{image}.tif": _encode(pixels, row, tree) for image, pixels in images.items()}
            files.update(tree.documents(row, readers.attributes))
            name = row[tree.name_column]
            named = tuple((f"{name}_{file}", files[file]) for file in sorted(files))
            yield PatchFolder(tree.name, name, tree.place(row), tree.run(row), named)


def write_tree(
    patches: Iterable[PatchFolder], root: Path, advance: Advance = lambda _: None, *, drafts: Path | None = None
) -> None:
    """Write loose files.

    Parameters
    ----------
    patches : iterable of PatchFolder
        What to write.
    root : Path
        Folder in which the trees are.
    advance : callable
        Called with the number of patches of each batch that is written.
    drafts : Path, optional
        Folder on the same disk, which is made. If given, the folder of a patch appears when it is complete, and one
        that is there is left alone.
    """
    for patch in reported(patches, advance):
        folder = root / patch.path
        draft = folder if drafts is None else drafts / patch.path
        draft.mkdir(parents=True, exist_ok=True)
        for name, content in patch.files:
            (draft / name).write_bytes(content)
        if draft != folder:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _appear(draft, folder)


def _appear(draft: Path, folder: Path) -> None:
    try:
        draft.rename(folder)
    except OSError:
        # Another attempt has written it; empty folders are replaced.
        if not folder.is_dir():
            raise
        shutil.rmtree(draft)


def reported(patches: Iterable[PatchFolder], advance: Advance) -> Iterator[PatchFolder]:
    """Pass patches on, and report them: who takes the next has written the one before."""
    count = 0
    for count, patch in enumerate(patches, start=1):
        yield patch
        if count % TELL_EVERY == 0:
            advance(TELL_EVERY)
    if count % TELL_EVERY:
        advance(count % TELL_EVERY)


def _rows(part: Path, tree: Tree) -> list[dict[str, Any]]:
    """Kept patches of a tile that are in the tree, in its order."""
    column = tree.name_column
    rows = read_rows(part, [*dict.fromkeys((*_COLUMNS, column, *tree.only, *tree.columns))], status=KEPT)
    rows = rows.filter(rows[column].is_valid())
    for name, value in tree.only.items():
        rows = rows.filter(pc.equal(rows[name], value))
    for earlier in _earlier_parts(part) if tree.is_shared else ():
        rows = rows.filter(pc.invert(pc.is_in(rows[column], read_rows(earlier, [column], status=KEPT)[column])))
    found: list[dict[str, Any]] = rows.sort_by([(name, "ascending") for name in tree.order]).to_pylist()
    return found


def _earlier_parts(part: Path) -> list[Path]:
    """Part files of tiles over the same place that come first in name order."""
    place = part.stem.rpartition("_")[2]
    return [other for other in part_files(part.parent) if other < part and other.stem.endswith(f"_{place}")]


def _encode(pixels: npt.NDArray[Any], row: Mapping[str, Any], tree: Tree) -> bytes:
    resolution = (row["maxx"] - row["minx"]) // pixels.shape[-1]
    place = Place(row["epsg"], row["minx"], row["maxy"], resolution)
    return encode_geotiff(pixels, place, nodata=tree.nodata, compress=tree.compress)
