"""The trees of GeoTIFFs as tar archives, without millions of loose files on the way.

Archives are made in parallel, and nothing is compressed twice: a tile's task writes the members of its patches as zstd
frames without the end mark of a tar archive, and a last step puts such parts one after the other and adds the mark.
Frames in a row are one valid ``.zst`` file, and members in a row one archive.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from reben_dask.stores.geotiff_export import Advance, PatchFolder, reported

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
        with _appearing(root.joinpath(*part, f"{source}{ARCHIVE_SUFFIX}")) as file:
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
    with _appearing(archive) as joined:
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


@contextmanager
def _appearing(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("wb") as file:
        yield file
    unfinished.replace(path)


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
