"""GeoTIFF trees as archives: a stream of members, in which nothing is trusted and of which nothing is unpacked.

Only what this program writes is read: members in the ``ustar`` format, each with its whole path. Headers of other
formats announce names and maps of any length, which readers take into memory.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow as pa

from reben_dask.errors import InputError
from reben_dask.stores.trees import ARCHIVE_SUFFIX, member_info
from reben_dask.verify.findings import Check, collect
from reben_dask.verify.trees_folder import PatchFolder
from reben_dask.verify.trees_walk import Walk

_BLOCK = tarfile.BLOCKSIZE
_SKIPPED_BYTES = 2**20
_MOST_FILES = 64
"""Further files of a folder are not kept in memory."""

_FIXED = ("mode", "uid", "gid", "uname", "gname", "mtime")
_NO_FILES = {
    tarfile.LNKTYPE: "link",
    tarfile.SYMTYPE: "symbolic link",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "pipe",
    tarfile.DIRTYPE: "folder",
}
"""Members without content."""


class _File(NamedTuple):
    """A file of an archive; with a phrase instead of its content, if that was not read."""

    folder: tuple[str, str]
    name: str
    content: bytes | str


def archived_folders(archive: Path, walk: Walk, check: Check, left_over: Check) -> Iterator[PatchFolder]:
    """Patch folders of an archive with their files, in the order of the archive.

    Parameters
    ----------
    archive : Path
        The archive, whose name is that of its tree.
    walk : Walk
        Where its patch folders are, what of them is read, and their order.
    check : Check
        Told of what is wrong with the archive, its members and their order.
    left_over : Check
        Told of members that are not where the files of patches are.
    """
    tree = archive.name.removesuffix(ARCHIVE_SUFFIX)
    part = last = ""
    last_place: tuple[int, ...] | None = None
    seen: set[str] = set()
    with collect(check), pa.input_stream(str(archive), compression="zstd") as stream:
        files = _Members(tree, walk, check, left_over).read(stream)
        for (above, name), members in groupby(files, key=lambda file: file.folder):
            before, part = part, walk.run(above, name)
            seen = seen if part == before else set()
            place, last_place = walk.place(name), last_place if part == before else None
            is_in_order = part > before or (part == before and (not place or not last_place or place > last_place))
            if name in seen or not is_in_order:
                check.problem(f"{name} is there twice" if name in seen else f"{name} comes after {last}")
            last, last_place = name, place
            seen.add(name)
            yield PatchFolder(above, name, _distinct(name, members, check))


class _Members:
    """Reads the members of an archive, one after the other."""

    def __init__(self, tree: str, walk: Walk, check: Check, left_over: Check) -> None:
        self._tree, self._walk, self._check, self._left_over = tree, walk, check, left_over

    def read(self, stream: BinaryIO) -> Iterator[_File]:
        """Files in a stream, to its end.

        Raises
        ------
        InputError
            If what follows cannot be told; the message is a phrase.
        """
        others: list[str] = []
        is_empty = True
        while any(block := stream.read(_BLOCK)):
            info = _parse(block)
            if info.isreg():
                self._look_at_header(info)
                content = self._read_content(stream, info)
                tree, *below = info.name.split("/")
                if tree == self._tree and len(below) == self._walk.depth + 1 and not {"", ".", ".."} & set(below):
                    *above, folder, file = below
                    yield _File(("/".join(above), folder), file, content)
                else:
                    self._left_over.problem(f"{info.name!r} in the archive of {self._tree}")
            else:
                others.append(f"{info.name!r} is a {_NO_FILES[info.type]}")
            is_empty = is_empty and info.isdir() and info.name == self._tree
        # An archive of nothing holds the folder of the tree, for which readers look.
        self._check.add(others[1:] if is_empty else others)
        if len(block) < _BLOCK:
            raise InputError("ends without the mark of its end")
        while rest := stream.read(_SKIPPED_BYTES):
            if any(rest):
                raise InputError("goes on after the mark of its end")

    def _look_at_header(self, info: tarfile.TarInfo) -> None:
        fixed = member_info(info.name, info.size)
        for field in _FIXED:
            found, wanted = getattr(info, field), getattr(fixed, field)
            if found != wanted:
                self._check.problem(f"{info.name} has the {field} {found!r}, not {wanted!r}")

    def _read_content(self, stream: BinaryIO, info: tarfile.TarInfo) -> bytes | str:
        left = info.size + -info.size % _BLOCK
        if info.size <= self._walk.most_bytes:
            content = stream.read(left)
            if len(content) == left:
                return content[: info.size]
            left -= len(content)
        while left and (skipped := stream.read(min(left, _SKIPPED_BYTES))):
            left -= len(skipped)
        if left:
            raise InputError(f"is cut short in {info.name!r}")
        return f"has {info.size:,} bytes, which is no image of a patch"


def _parse(header: bytes) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise InputError(f"has a damaged header ({error})") from None
    if info.size < 0:
        raise InputError(f"has a damaged header (a member of {info.size} bytes)")
    if info.type not in {tarfile.REGTYPE, tarfile.AREGTYPE, *_NO_FILES}:
        raise InputError(
            f"is of another format than ustar (a member of the type {info.type.decode(errors='replace')!r}); unpack it "
            "and verify the tree"
        )
    return info


def _distinct(folder: str, files: Iterable[_File], check: Check) -> dict[str, bytes | str]:
    """Files of a folder by name; those that come twice or out of order are told of."""
    found: dict[str, bytes | str] = {}
    last = ""
    for _, name, content in files:
        if name in found or name < last:
            check.problem(f"{folder}/{name} " + ("is there twice" if name in found else f"comes after {last}"))
        if len(found) < _MOST_FILES:
            found.setdefault(name, content)
        last = name
    return found
