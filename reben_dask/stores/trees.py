"""Writers of the trees of a published dataset: a folder of GeoTIFFs per patch, loose or in tar archives, and tables.

Archives are written in parallel and compressed once: a tile's task writes its members as zstd frames without the end
mark of a tar archive; a last step concatenates these parts and adds the mark. Concatenated frames are one valid
``.zst`` file, concatenated members one archive.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy.typing as npt
import pyarrow.compute as pc
from numcodecs import zstd

from reben_dask.atomic import atomic_path
from reben_dask.formats.columns import EPSG, GRID, IN_GRID, KEPT, MAXX, MAXY, MINX, TILE, X, Y
from reben_dask.formats.trees.layout import Row, Tree, TreeLayout
from reben_dask.stores.cube_reader import TileReader
from reben_dask.stores.geotiff import Place, encode_geotiff
from reben_dask.stores.patch_table import part_files, read_rows

REPORT_EVERY = 256
"""Patches between two progress reports."""

ARCHIVE_SUFFIX = ".tar.zst"

MEMBER_TIME = 1_704_067_200
"""Time of archive members: 2024-01-01 UTC, as in the published archives; for 1970, some tar programs warn per file."""

ZSTD_LEVEL = 3
"""Measured on real patches: level 1 is 5 % larger, level 6 no smaller and twice as slow as level 3."""

FRAME_BYTES = 4 * 2**20
"""Approximate size of a compressed frame; bounds the memory, and lets readers decompress in parallel."""

_COPY_BYTES = 16 * 2**20
END_OF_ARCHIVE = bytes(2 * tarfile.BLOCKSIZE)

Advance = Callable[[int], None]
T = TypeVar("T")
_COLUMNS = (TILE, GRID, X, Y, EPSG, MINX, MAXX, MAXY)


@dataclass(frozen=True)
class PatchFolder:
    """Folder of one patch in one tree."""

    tree: str
    name: str
    place: str
    """Folder of the tree that holds it (tile, Sentinel-1 scene or grid); empty for the tree itself."""
    run: str
    """Name of the run of patches that holds it in an archive."""
    files: tuple[tuple[str, bytes], ...]
    """Names and contents of its files, in name order."""

    @property
    def path(self) -> str:
        """Path relative to the dataset folder."""
        return "/".join(filter(None, (self.tree, self.place, self.name)))


def patch_folders(store: Path, part: Path, tree: Tree) -> Iterator[PatchFolder]:
    """Encode the kept patches of one tile for one tree, flagged ones included, in the order of the tree.

    The Sentinel-1 tree has the patches with an ``s1_name``, if the cube has Sentinel-1 pixels. A partner of several
    acquisitions of the same location is written with the first of them in name order.
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
            yield PatchFolder(tree.name, name, tree.place(row), tree.run.of(row), named)


def write_tree(
    patches: Iterable[PatchFolder], root: Path, advance: Advance = lambda _: None, *, drafts: Path | None = None
) -> None:
    """Write loose files below ``root``; ``advance`` gets the number of patches of each batch.

    With ``drafts``, a folder on the same disk, patch folders appear atomically and existing ones are kept.
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

    Parts appear atomically and are not archives of their own; see :func:`join_parts`. ``source`` is the tile, as
    patches of one Sentinel-1 scene may come from several. ``advance`` gets the number of patches of each batch. Raises
    ValueError if the patches of a run are not consecutive, so that one part would replace another.
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
    """Join the parts of a tree into an archive, by run, then by tile; return the number of parts.

    Parts are kept and not recompressed; the archive appears atomically. Without any part, it holds only the folder of
    the tree, which readers expect.
    """
    parts = sorted(path for path in (root / tree).glob("*/*") if not path.name.startswith("."))
    with atomic_path(archive) as draft, draft.open("wb") as joined:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, joined, _COPY_BYTES)
        joined.write(_compress(END_OF_ARCHIVE if parts else _folder(tree) + END_OF_ARCHIVE))
    return len(parts)


def member_info(name: str, size: int) -> tarfile.TarInfo:
    """Header of a file in an archive; owner and group are 0 and unnamed."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, MEMBER_TIME
    return info


def encode_member(name: str, content: bytes) -> bytes:
    """Encode a file of an archive: its header, and its content to the end of a block."""
    # USTAR splits a long name into two fields; other formats need two more blocks per file.
    header = member_info(name, len(content)).tobuf(tarfile.USTAR_FORMAT)
    return header + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def write_tables(layout: TreeLayout, parts: Sequence[Path], root: Path) -> None:
    """Write the tables of a layout from the part files in tile order; the tables appear together when complete."""
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
    """Yield the kept patches of all parts, each in the order of its cubes."""
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


def reported(patches: Iterable[T], advance: Advance) -> Iterator[T]:
    """Yield patches, and report the previous ones when the next is requested."""
    count = 0
    for count, patch in enumerate(patches, start=1):
        yield patch
        if count % REPORT_EVERY == 0:
            advance(REPORT_EVERY)
    if count % REPORT_EVERY:
        advance(count % REPORT_EVERY)


def _rows(part: Path, tree: Tree) -> list[dict[str, Any]]:
    """Kept patches of a tile that are in the tree, run by run and in its order."""
    column = tree.name_column
    rows = read_rows(part, [*dict.fromkeys((*_COLUMNS, *tree.row_columns))], status=KEPT)
    rows = rows.filter(rows[column].is_valid())
    for name, value in tree.only.items():
        rows = rows.filter(pc.equal(rows[name], value))
    for earlier in _earlier_parts(part) if tree.is_shared else ():
        rows = rows.filter(pc.invert(pc.is_in(rows[column], read_rows(earlier, [column], status=KEPT)[column])))
    return sorted(rows.sort_by([(name, "ascending") for name in tree.order]).to_pylist(), key=tree.run.of)


def _earlier_parts(part: Path) -> list[Path]:
    """Part files of tiles at the same location that come first in name order."""
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
            waiting += encode_member(f"{patch.path}/{name}", content)
        if len(waiting) >= FRAME_BYTES:
            yield _compress(waiting)
            waiting = bytearray()
    if waiting:
        yield _compress(waiting)


def _folder(name: str) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, MEMBER_TIME
    return info.tobuf(tarfile.USTAR_FORMAT)


def _compress(members: bytes | bytearray) -> bytes:
    # pyarrow's codec writes no checksum, without which readers do not notice changed pixels.
    return bytes(zstd.compress(members, ZSTD_LEVEL, checksum=True))
