"""The tags of a classic TIFF file with one image, read strictly.

Whatever is not as the specification has it, or as the published files have it, is :class:`Unusual`: nothing is guessed,
and such a file is left to GDAL.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass

_ORDER_OF_MAGIC = {b"II*\x00": "<", b"MM\x00*": ">"}
_HEADER_BYTES = 8
_ENTRY_BYTES = 12
_INLINE_BYTES = 4

_BYTES_OF_TYPE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_INTEGERS = {3: "H", 4: "I"}
_TEXT, _DOUBLE = 2, 12


class Unusual(Exception):  # noqa: N818 - not an error: GDAL may well read the file
    """Something that the published files do not have."""


@dataclass(frozen=True, slots=True)
class Directory:
    """The tags of the only image of a file.

    Parameters
    ----------
    content : bytes
        The whole file.
    order : str
        ``<`` or ``>``, as in :mod:`struct`.
    entries : dict of int to (int, int, int)
        Type, count, and position in the file of the values of each tag; all of them lie within the file.
    """

    content: bytes
    order: str
    entries: dict[int, tuple[int, int, int]]

    def integers(self, tag: int) -> tuple[int, ...]:
        """Values of a tag of type SHORT or LONG; raises :class:`Unusual` where it is missing or of another type."""
        kind, count, where = self.entries.get(tag, (0, 0, 0))
        if kind not in _INTEGERS:
            raise Unusual
        values: tuple[int, ...] = struct.unpack_from(f"{self.order}{count}{_INTEGERS[kind]}", self.content, where)
        return values

    def integer(self, tag: int, default: int | None = None) -> int:
        """The one value of a tag; ``default`` where it is missing, unless that is ``None``."""
        if default is not None and tag not in self.entries:
            return default
        values = self.integers(tag)
        if len(values) != 1:
            raise Unusual
        return values[0]

    def doubles(self, tag: int) -> tuple[float, ...]:
        """Values of a tag of type DOUBLE; raises :class:`Unusual` where it is missing or of another type."""
        kind, count, where = self.entries.get(tag, (0, 0, 0))
        if kind != _DOUBLE:
            raise Unusual
        values: tuple[float, ...] = struct.unpack_from(f"{self.order}{count}d", self.content, where)
        return values

    def text(self, tag: int) -> str | None:
        """Value of a tag of type ASCII, ``None`` where it is missing; raises :class:`Unusual` at any other type."""
        kind, count, where = self.entries.get(tag, (_TEXT, 0, 0))
        if kind != _TEXT:
            raise Unusual
        value = self.content[where : where + count].rstrip(b"\0 ").decode("ascii", "replace")
        return value if tag in self.entries else None


def read_directory(content: bytes, known: Collection[int]) -> Directory:
    """Read the tags of a classic TIFF file that holds one image.

    Parameters
    ----------
    content : bytes
        The whole file.
    known : collection of int
        Tags that may be there.

    Raises
    ------
    Unusual
        If it is another kind of file, holds more than one image or a tag that is not known, or if anything in it does
        not lie within the file.
    """
    order = _ORDER_OF_MAGIC.get(content[:4])
    if order is None or len(content) < _HEADER_BYTES:
        raise Unusual
    start: int = struct.unpack_from(f"{order}I", content, 4)[0]
    if not _HEADER_BYTES <= start <= len(content) - 2:
        raise Unusual
    count: int = struct.unpack_from(f"{order}H", content, start)[0]
    end = start + 2 + _ENTRY_BYTES * count
    if end + 4 > len(content) or struct.unpack_from(f"{order}I", content, end)[0]:
        raise Unusual
    return Directory(content, order, _entries(content, order, start + 2, end, known))


def _entries(
    content: bytes, order: str, start: int, end: int, known: Collection[int]
) -> dict[int, tuple[int, int, int]]:
    entries = {}
    last = 0
    position = start
    for tag, kind, count, pointer in struct.iter_unpack(f"{order}HHII", content[start:end]):
        size = count * _BYTES_OF_TYPE.get(kind, 0)
        where = pointer if size > _INLINE_BYTES else position + 8
        if not size or tag <= last or tag not in known or not _HEADER_BYTES <= where <= len(content) - size:
            raise Unusual
        entries[tag] = (kind, count, where)
        last = tag
        position += _ENTRY_BYTES
    return entries
