"""Writing the trees of a published dataset: a folder of GeoTIFFs for each patch, loose or as tar archives, and tables.

Archives are made in parallel, and nothing is compressed twice: a tile's task writes the members of its patches as zstd
frames without the end mark of a tar archive, and a last step puts such parts one after the other and adds the mark.
Frames in a row are one valid ``.zst`` file, and members in a row one archive.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from reben_dask.atomic import atomic_path
from reben_dask.formats.columns import EPSG, GRID, IN_GRID, KEPT, MAXX, MAXY, MINX, TILE, X, Y
from reben_dask.formats.trees.layout import Row, Tree, TreeLayout
from reben_dask.stores.cube_reader import TileReader
from reben_dask.stores.geotiff import Place, encode_geotiff
from reben_dask.stores.patch_table import part_files, read_rows

REPORT_EVERY = 256
"""Patches between two reports of progress."""

ARCHIVE_SUFFIX = ".tar.zst"

MEMBER_TIME = 1_704_067_200
"""Time of each archive member: 2024-01-01 UTC. A fixed one, so that the bytes follow from the data alone, and not 1970,
of which some tars warn for each file that they unpack: the authors of the published archives chose it for that."""

ZSTD_LEVEL = 3
"""Measured on real patches: level 1 leaves 5 % more, level 6 nothing less, and takes twice the time of level 3."""

FRAME_BYTES = 4 * 2**20
"""Members are compressed in frames of about this size: so much memory is needed, and a reader can work in parallel."""

_COPY_BYTES = 16 * 2**20
_END_OF_ARCHIVE = bytes(2 * tarfile.BLOCKSIZE)

Advance = Callable[[int], None]
_COLUMNS = (TILE, GRID, X, Y, EPSG, MINX, MAXX, MAXY)


@dataclass(frozen=True)
class PatchFolder:
    """The folder of one patch in one tree."""

    tree: str
    name: str
    place: str
    """Folder of the tree that holds it: a tile, a Sentinel-1 scene or a grid; empty for the tree itself."""
    run: str
    """Name of the run of patches that it belongs to in an archive."""
    files: tuple[tuple[str, bytes], ...]
    """Names and contents of the files in it, in the order of their names."""

    @property
    def path(self) -> str:
        """Folder below that of the dataset."""
        return "/".join(filter(None, (self.tree, self.place, self.name)))


def patch_folders(store: Path, part: Path, tree: Tree) -> Iterator[PatchFolder]:
    """Encode the kept patches of one tile for one tree, flagged ones included.

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
    readers = TileReader(store, rows[0][TILE], tree.kinds)
    for row in rows:
        if images := tree.images(readers[row[GRID]].patch(row[X], row[Y])):
            name = row[tree.name_column]
            files = {image: _encode(pixels, row, tree) for image, pixels in images.items()}
            files.update(tree.documents(row, readers.attributes))
            names = tree.file_names(name)
            named = tuple(sorted((names[file], content) for file, content in files.items()))
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


def write_parts(patches: Iterable[PatchFolder], root: Path, source: str, advance: Advance = lambda _: None) -> None:
    """Write patches as parts of archives: ``<root>/<tree>/<run>/<source>.tar.zst``.

    A part appears under its name when it is complete. It is not an archive of its own; see :func:`join_parts`.

    Parameters
    ----------
    patches : iterable of PatchFolder
        Patches; those of a run follow each other.
    root : Path
        Folder of the parts of all archives.
    source : str
        The tile. Patches of one Sentinel-1 scene may come from several.
    advance : callable
        Called with the number of patches of each batch that is written.

    Raises
    ------
    ValueError
        If the patches come in another order, so that one part would replace another.
    """
    done = set()
    for part, group in groupby(reported(patches, advance), lambda patch: (patch.tree, patch.run)):
        if part in done:
            raise ValueError(f"patches {part[1]} of {part[0]} do not follow each other")
        done.add(part)
        with atomic_path(root.joinpath(*part, f"{source}{ARCHIVE_SUFFIX}")) as draft, draft.open("wb") as file:
            for frame in _frames(group):
                file.write(frame)


def join_parts(root: Path, tree: str, archive: Path) -> int:
    """Join the parts of one tree to an archive, in the order of their runs, and within a run tile after tile.

    Nothing is compressed again, and the parts stay. The archive appears under its name when it is complete; without
    any part, it holds the folder of the tree alone, for which readers look.

    Parameters
    ----------
    root : Path
        Folder of the parts of all archives.
    tree : str
        Name of the tree.
    archive : Path
        The archive to write.

    Returns
    -------
    int
        Number of parts.
    """
    parts = sorted(path for path in (root / tree).glob("*/*") if not path.name.startswith("."))
    with atomic_path(archive) as draft, draft.open("wb") as joined:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, joined, _COPY_BYTES)
        joined.write(_compress(_END_OF_ARCHIVE if parts else _folder(tree) + _END_OF_ARCHIVE))
    return len(parts)


def member_info(name: str, size: int) -> tarfile.TarInfo:
    """What an archive says of a file; owner and group are 0 and have no names: who unpacks it is somebody else."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, MEMBER_TIME
    return info


def write_tables(layout: TreeLayout, parts: Sequence[Path], root: Path) -> None:
    """Write the tables of a layout; they appear under their names when all are complete.

    Parameters
    ----------
    layout : TreeLayout
        The layout.
    parts : sequence of Path
        Part files of the patch table, in the order of their tiles; read one after the other.
    root : Path
        Folder of the dataset.
    """
    with ExitStack() as stack:
        drafts = {path: stack.enter_context(atomic_path(root / path)) for path in layout.table_files}
        with ExitStack() as opened:
            files = {
                path: opened.enter_context(draft.open("w", encoding="utf-8", newline=""))
                for path, draft in drafts.items()
            }
            for path, line in layout.table_lines(kept_rows(parts, layout.table_columns)):
                files[path].write(line)


def kept_rows(parts: Iterable[Path], columns: Sequence[str]) -> Iterator[Row]:
    """Kept patches of all parts, one part after the other, each in the order of its cubes."""
    for part in parts:
        rows = read_rows(part, [*dict.fromkeys((*columns, *IN_GRID))], status=KEPT)
        yield from rows.sort_by([(name, "ascending") for name in IN_GRID]).to_pylist()


def _appear(draft: Path, folder: Path) -> None:
    try:
        draft.rename(folder)
    except OSError:
        # Another attempt has written it; empty folders are replaced.
        if not folder.is_dir():
            raise
        shutil.rmtree(draft)


def reported(patches: Iterable[PatchFolder], advance: Advance) -> Iterator[PatchFolder]:
    """Pass patches on, and report those before the one that is asked for."""
    count = 0
    for count, patch in enumerate(patches, start=1):
        yield patch
        if count % REPORT_EVERY == 0:
            advance(REPORT_EVERY)
    if count % REPORT_EVERY:
        advance(count % REPORT_EVERY)


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
    resolution = (row[MAXX] - row[MINX]) // pixels.shape[-1]
    place = Place(row[EPSG], row[MINX], row[MAXY], resolution)
    return encode_geotiff(pixels, place, nodata=tree.nodata, compress=tree.compress)


def _frames(patches: Iterable[PatchFolder]) -> Iterator[bytes]:
    waiting = bytearray()
    for patch in patches:
        for name, content in patch.files:
            waiting += _member(f"{patch.path}/{name}", content)
        if len(waiting) >= FRAME_BYTES:
            yield _compress(waiting)
            waiting = bytearray()
    if waiting:
        yield _compress(waiting)


def _member(name: str, content: bytes) -> bytes:
    # This format divides a long name between two fields, where the others spend two more blocks on each file.
    header = member_info(name, len(content)).tobuf(tarfile.USTAR_FORMAT)
    return header + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def _folder(name: str) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, MEMBER_TIME
    return info.tobuf(tarfile.USTAR_FORMAT)


def _compress(members: bytes | bytearray) -> bytes:
    frame: bytes = pa.Codec("zstd", compression_level=ZSTD_LEVEL).compress(members, asbytes=True)
    return frame
