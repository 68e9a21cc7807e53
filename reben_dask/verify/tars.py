"""Members of tar archives as this program writes them: regular files in ``ustar`` with fixed headers.

Other headers announce names and maps of any length, which readers load into memory, and :mod:`tarfile` ends without an
error at a damaged header.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from reben_dask.errors import InputError
from reben_dask.sources.published.archives import BLOCK, parse_header, read_content
from reben_dask.stores.trees import member_info
from reben_dask.verify.findings import Check, differences

_NO_FILES = {
    tarfile.LNKTYPE: "link",
    tarfile.SYMTYPE: "symbolic link",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "pipe",
    tarfile.DIRTYPE: "folder",
}
"""Archive members without content."""

_SKIPPED_BYTES = 2**20


def read_members(
    stream: BinaryIO, check: Check, most_bytes: int, *, empty_folder: str | None = None
) -> Iterator[tuple[str, bytes | str]]:
    """Names and contents of the files of an archive, or a phrase for content of more than ``most_bytes``.

    An archive without files may hold the folder ``empty_folder``. Faults of headers are added to ``check``;
    :class:`InputError`, with a phrase as message, for a damaged archive.
    """
    others: list[str] = []
    is_empty = True
    while any(block := stream.read(BLOCK)):
        info = _parse_header(block)
        if info.isreg():
            usual = _header_fields(member_info(info.name, info.size))
            check.add(differences(_header_fields(info), usual), info.name)
            yield info.name, read_content(stream, info, most_bytes)
        else:
            others.append(f"{info.name!r} is a {_NO_FILES[info.type]}")
        is_empty = is_empty and info.isdir() and info.name == empty_folder
    check.add(others[1:] if is_empty else others)
    if len(block) < BLOCK:
        raise InputError("ends without the mark of its end")
    while rest := stream.read(_SKIPPED_BYTES):
        if any(rest):
            raise InputError("continues after the mark of its end")


def _header_fields(info: tarfile.TarInfo) -> dict[str, object]:
    return {name: getattr(info, name) for name in ("mode", "uid", "gid", "uname", "gname", "mtime")}


def _parse_header(block: bytes) -> tarfile.TarInfo:
    info = parse_header(block)
    if info.type not in {tarfile.REGTYPE, tarfile.AREGTYPE, *_NO_FILES}:
        raise InputError(
            f"is of another format than ustar (a member of the type {info.type.decode(errors='replace')!r}); unpack it "
            "and verify the tree"
        )
    return info
