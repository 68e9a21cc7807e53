"""The pages of an LMDB environment, checked before the library follows them.

LMDB trusts its file: a flipped bit in the tree above the values may end the process (an assertion, or memory that is
not mapped) instead of raising an error. The tree of 1.6 million values has about 40,000 pages; checking them takes 1 s.
They are parsed here because a child process that walks with LMDB would read a page of each value, and miss page numbers
and flags that only a writer needs. Pages are laid out as in ``mdb.c`` of LMDB 0.9, on machines of 64 bits, little
endian.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reben_dask.errors import InputError

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_META = struct.Struct("<16xII8x8xI44xIHHQQQQQQQ")
"""Page header, magic, version, address, map size, page size, the rest of the free list's tree; of the main tree: pad,
flags, depth, branch pages, leaf pages, overflow pages, entries, root; last page, transaction."""

_HEADER = struct.Struct("<QHHHH")
_HEADER_BYTES = _HEADER.size
_NODE_BYTES = 8
_BRANCH, _LEAF = 1, 2
_BIG = 1
"""Flag of a node whose value is on pages of its own; their number is stored in its place."""

_MOST_KEY_BYTES = 511
"""Default of LMDB builds."""

_EMPTY_ROOT = 2**64 - 1
_SMALLEST_PAGE = 512


class _Tree(NamedTuple):
    """The main tree, as a meta page describes it."""

    transaction: int
    page_bytes: int
    depth: int
    tree_pages: int
    entries: int
    root: int
    last_page: int


def require_sound_pages(file: Path) -> None:
    """Check that LMDB can walk over all entries of an environment without leaving its pages.

    Parameters
    ----------
    file : Path
        Its ``data.mdb``. One of another format than LMDB 0.9 is left to the library.

    Raises
    ------
    InputError
        If the tree is damaged; the message is a phrase.
    """
    with file.open("rb") as opened:
        first = _read_meta(opened.fileno(), 0)
        if first is not None:
            # The library takes the newer one, too.
            tree = max(first, _read_meta(opened.fileno(), first.page_bytes) or first)
            if tree.root != _EMPTY_ROOT:
                _Walk(opened.fileno(), tree).over_all()


def _read_meta(file: int, offset: int) -> _Tree | None:
    content = os.pread(file, _META.size, offset)
    if len(content) < _META.size:
        return None
    magic, version, page_bytes, _, _, depth, *pages, entries, root, last_page, transaction = _META.unpack(content)
    if (magic, version) != (_MAGIC, _VERSION):
        return None
    if page_bytes < _SMALLEST_PAGE or page_bytes & (page_bytes - 1):
        raise InputError(f"it declares pages of {page_bytes} bytes")
    branches, leaves, _ = pages
    return _Tree(transaction, page_bytes, depth, branches + leaves, entries, root, last_page)


class _Walk:
    """Walk over all branches and leaves of a tree."""

    def __init__(self, file: int, tree: _Tree) -> None:
        self._file, self._tree = file, tree
        self._pages = min(os.fstat(file).st_size // tree.page_bytes, tree.last_page + 1)
        self._seen = self._entries = 0

    def over_all(self) -> None:
        if self._pages <= self._tree.last_page:
            raise InputError("it is cut short")
        waiting = [(self._tree.root, 1)]
        while waiting:
            number, level = waiting.pop()
            waiting += [(child, level + 1) for child in self._check_page(number, level)]
        if self._entries != self._tree.entries:
            raise InputError(f"its tree has {self._entries:,} entries instead of {self._tree.entries:,}")

    def _check_page(self, number: int, level: int) -> list[int]:
        """Check a page; return the pages below it."""
        self._seen += 1
        if not 1 < number < self._pages or self._seen > self._tree.tree_pages:
            raise InputError(f"its tree refers to page {number}, which is not part of it")
        size = self._tree.page_bytes
        content = os.pread(self._file, size, number * size)
        own_number, _, flags, lower, upper = _HEADER.unpack_from(content)
        kind = _LEAF if level == self._tree.depth else _BRANCH
        if own_number != number or flags != kind or not _HEADER_BYTES < lower <= upper <= size or lower % 2:
            raise InputError(f"page {number} is damaged")
        return self._check_nodes(np.frombuffer(content, np.uint8), number, kind, lower)

    def _check_nodes(self, page: npt.NDArray[np.uint8], number: int, kind: int, lower: int) -> list[int]:
        size = self._tree.page_bytes
        places = page[_HEADER_BYTES:lower].view("<u2").astype(np.int64)
        if places.min() < lower or places.max() > size - _NODE_BYTES or np.any(places % 2):
            raise InputError(f"page {number} is damaged")
        heads = page.view("<u2")[places[:, np.newaxis] // 2 + np.arange(_NODE_BYTES // 2)]
        low, high, flags, key_bytes = heads.astype(np.int64).T
        values = low | high << 16
        is_big = (flags & _BIG).astype(bool) & (kind == _LEAF)
        held = 0 if kind == _BRANCH else np.where(is_big, 8, values)
        if np.any(places + _NODE_BYTES + key_bytes + held > size):
            raise InputError(f"page {number} is damaged")
        if kind == _BRANCH:
            children: list[int] = (values | flags << 32).tolist()
            return children
        if np.any(flags & ~_BIG):
            raise InputError(f"page {number} is damaged, or has several values of a key or a database in an entry")
        if np.any((key_bytes < 1) | (key_bytes > _MOST_KEY_BYTES)):
            raise InputError(f"page {number} is damaged")
        self._entries += len(places)
        self._require_room(page, (places + _NODE_BYTES + key_bytes)[is_big], values[is_big], number)
        return []

    def _require_room(self, page: npt.NDArray[np.uint8], places: Any, sizes: Any, number: int) -> None:
        """Check that large values end before the file does."""
        if not len(places):
            return
        firsts = np.ascontiguousarray(page[places[:, np.newaxis] + np.arange(8)]).view("<u8").ravel()
        pages = -(-(sizes + _HEADER_BYTES) // self._tree.page_bytes)
        if np.any(firsts >= self._pages) or np.any(firsts.astype(np.int64) + pages > self._pages):
            raise InputError(f"page {number} leads to values beyond its end")
