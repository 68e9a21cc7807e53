"""The entries of LMDB environments as one stream in the order of their keys, and the index beside shards."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Self

import lmdb

from reben_dask.errors import InputError
from reben_dask.formats.lmdb import DATA_FILE, INDEX_FILE, MAP_SUFFIX
from reben_dask.stores.lmdb_environment import open_environment
from reben_dask.stores.lmdb_pages import require_sound_pages
from reben_dask.verify.expected import Kind
from reben_dask.verify.findings import Check, collect

_MAP_SUFFIX = MAP_SUFFIX.encode()


@dataclass
class Shard:
    """What was met in one environment."""

    folder: Path
    keys: int = 0
    patches: int = 0
    first: str | None = None
    last: str | None = None
    is_whole: bool = False

    def count(self, key: bytes) -> None:
        """Count one entry."""
        self.keys += 1
        if kind_of(key) is Kind.S2:
            self.patches += 1
            self.last = readable(key)
            self.first = self.first or self.last


class Entries:
    """All entries of some environments, which are open from the time they are read until the end of a ``with`` block.

    Parameters
    ----------
    folders : sequence of Path
        The environments.
    check : Check
        Told of environments that cannot be read, and of keys that are in two of them.
    digest : bool
        Also work out :attr:`sha256`.
    """

    def __init__(self, folders: Sequence[Path], check: Check, *, digest: bool = False) -> None:
        self.shards = [Shard(folder) for folder in folders]
        self._check = check
        self._hash = hashlib.sha256() if digest else None
        self._transactions: list[lmdb.Transaction] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def sha256(self) -> str | None:
        """Digest of what was read so far; see :mod:`reben_dask.verify.digest`."""
        return None if self._hash is None else self._hash.hexdigest()

    @property
    def is_whole(self) -> bool:
        """Whether all environments were read to their ends."""
        return all(shard.is_whole for shard in self.shards)

    def __len__(self) -> int:
        total = 0
        for shard in self.shards:
            with collect(Check("counted again when they are read")), open_environment(shard.folder) as environment:
                total += environment.stat()["entries"]
        return total

    def __iter__(self) -> Iterator[tuple[bytes, memoryview]]:
        """Each key once, with its value, which is valid until the next one."""
        streams = [self._stream(shard) for shard in self.shards]
        last, last_value = None, None
        for key, value in heapq.merge(*streams, key=itemgetter(0)):
            if self._hash is not None:
                self._hash.update(b"%d %d %b" % (len(key), len(value), key))
                self._hash.update(value)
            if key != last:
                yield key, value
            elif kind_of(key) is not Kind.S1 or value != last_value:
                # Patches of two shards may share a Sentinel-1 partner.
                self._check.problem(f"{readable(key)} is in more than one environment")
            last, last_value = key, value

    def value(self, key: bytes) -> memoryview:
        """A value that was met before, while the entries are read."""
        found = (transaction.get(key) for transaction in self._transactions)
        return memoryview(next(value for value in found if value is not None))

    def _stream(self, shard: Shard) -> Iterator[tuple[bytes, memoryview]]:
        with collect(self._check, shard.folder.name):
            if (shard.folder / DATA_FILE).is_file():
                require_sound_pages(shard.folder / DATA_FILE)
            environment = self._stack.enter_context(open_environment(shard.folder))
            transaction = self._stack.enter_context(environment.begin(buffers=True))
            self._transactions.append(transaction)
            last = b""
            for key, value in transaction.cursor():
                name = bytes(key)
                if name <= last:
                    raise InputError(f"its key {readable(name)} is not in order")
                shard.count(name)
                yield name, value
                last = name
            shard.is_whole = True

    def index_faults(self, folder: Path, classes: Sequence[str] | None) -> Iterator[str]:
        """What the index of a folder of shards, if there is one, says otherwise than what was met, or than ``classes``.

        Of shards that were not read to their end, nobody knows.
        """
        if not (folder / INDEX_FILE).is_file():
            return
        index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        if classes is not None and list(index.get("classes", ())) != list(classes):
            yield f"{INDEX_FILE} has another class list than the run record"
        said = {entry.get("path"): entry for entry in index["shards"]}
        for shard in self.shards:
            for name in ("first", "last", "patches", "keys") if shard.is_whole else ():
                there, found = said[shard.folder.name].get(name), getattr(shard, name)
                if there != found:
                    yield f"{INDEX_FILE}: {name} of {shard.folder.name} is {there}, but the shard has {found}"
        for data in sorted(folder.glob(f"*/{DATA_FILE}")):
            if data.parent.name not in said:
                yield f"{data.parent.name} is not in {INDEX_FILE}"


def kind_of(key: bytes) -> Kind:
    """What the value of a key is, by the form of the key."""
    if key.endswith(_MAP_SUFFIX):
        return Kind.MAP
    return Kind.S1 if key.startswith(b"S1") else Kind.S2


def readable(key: bytes) -> str:
    """A key for a message."""
    return key.decode(errors="backslashreplace")
