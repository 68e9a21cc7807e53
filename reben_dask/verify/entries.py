"""The entries of LMDB environments as one stream in the order of their keys, and the index beside shards."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import lmdb

from reben_dask.errors import InputError
from reben_dask.stores.lmdb_environment import DATA_FILE, INDEX_FILE, open_environment
from reben_dask.stores.lmdb_pages import require_sound_pages
from reben_dask.stores.lmdb_values import MAP_SUFFIX
from reben_dask.verify.expected import Kind
from reben_dask.verify.findings import Check, collect

_STEP = 512
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


@contextmanager
def open_sound(folder: Path) -> Iterator[lmdb.Environment]:
    """Open an environment for reading, if LMDB can do so safely.

    Raises
    ------
    InputError
        If the folder holds no environment, or a damaged one.
    """
    if (folder / DATA_FILE).is_file():
        require_sound_pages(folder / DATA_FILE)
    with open_environment(folder) as environment:
        yield environment


class Entries:
    """All entries of some environments.

    Parameters
    ----------
    folders : sequence of Path
        The environments.
    check : Check
        Told of environments that cannot be read, and of keys that are in two of them.
    advance : callable
        Called with a number of entries as they are read.
    digest : bool
        Also work out :attr:`sha256`.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        check: Check,
        advance: Callable[[int], None] = lambda _: None,
        *,
        digest: bool = False,
    ) -> None:
        self.shards = [Shard(folder) for folder in folders]
        self._check, self._advance = check, advance
        self._hash = hashlib.sha256() if digest else None

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
        with ExitStack() as stack:
            streams = [self._stream(stack, shard) for shard in self.shards]
            last, last_value, steps = None, None, 0
            for key, value in heapq.merge(*streams, key=itemgetter(0)):
                if self._hash is not None:
                    self._hash.update(b"%d %d %b" % (len(key), len(value), key))
                    self._hash.update(value)
                if key != last:
                    yield key, value
                elif kind_of(key) is not Kind.S1 or value != last_value:
                    # Patches of two shards may share a Sentinel-1 partner.
                    self._check.problem(f"{readable(key)} is in more than one environment")
                last, last_value, steps = key, value, steps + 1
                if steps % _STEP == 0:
                    self._advance(_STEP)
            self._advance(steps % _STEP)

    def _stream(self, stack: ExitStack, shard: Shard) -> Iterator[tuple[bytes, memoryview]]:
        with collect(self._check, shard.folder.name):
            environment = stack.enter_context(open_sound(shard.folder))
            transaction = stack.enter_context(environment.begin(buffers=True))
            last = b""
            for key, value in transaction.cursor():
                name = bytes(key)
                if name <= last:
                    raise InputError(f"its key {readable(name)} is not in order")
                shard.count(name)
                yield name, value
                last = name
            shard.is_whole = True


class Values:
    """Random access to values by key; a context manager.

    Parameters
    ----------
    folders : sequence of Path
        The environments; those that cannot be opened are passed over.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = list(folders)
        self._stack = ExitStack()
        self._transactions: list[lmdb.Transaction] = []

    def __enter__(self) -> Self:
        for folder in self._folders:
            with collect(Check("told of when the entries were read")):
                environment = self._stack.enter_context(open_sound(folder))
                self._transactions.append(self._stack.enter_context(environment.begin(buffers=True)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def get(self, key: str) -> bytes | memoryview | None:
        """The value of a key; ``None`` if no environment has it."""
        for position, transaction in enumerate(self._transactions):
            value: bytes | memoryview | None = transaction.get(key.encode())
            if value is not None:
                # Keys are asked for in order, and the next one is in the same shard as a rule.
                self._transactions.insert(0, self._transactions.pop(position))
                return value
        return None


def verify_index(folder: Path, shards: Sequence[Shard], classes: Sequence[str] | None) -> Iterator[str]:
    """Compare the index beside shards with what was met in them.

    Parameters
    ----------
    folder : Path
        Folder of the shards; without an index nothing is compared.
    shards : sequence of Shard
        What was met; those that were not read to their end are left out.
    classes : sequence of str, optional
        Classes that the index must name.

    Yields
    ------
    str
        Problems.
    """
    path = folder / INDEX_FILE
    if not path.is_file():
        return
    index = json.loads(path.read_text(encoding="utf-8"))
    if classes is not None and list(index.get("classes", ())) != list(classes):
        yield f"{INDEX_FILE} has another class list than the run record"
    met = {shard.folder.name: shard for shard in shards}
    for entry in index["shards"]:
        shard = met.get(entry.get("path"))
        if shard is not None and shard.is_whole:
            yield from (f"{INDEX_FILE}: {fault}" for fault in _differences(entry, shard))
    for data in sorted(folder.glob(f"*/{DATA_FILE}")):
        if data.parent.name not in met:
            yield f"{data.parent.name} is not in {INDEX_FILE}"


def kind_of(key: bytes) -> Kind:
    """What the value of a key is, by the form of the key."""
    if key.endswith(_MAP_SUFFIX):
        return Kind.MAP
    return Kind.S1 if key.startswith(b"S1") else Kind.S2


def readable(key: bytes) -> str:
    """A key for a message."""
    return key.decode(errors="backslashreplace")


def _differences(entry: dict[str, Any], shard: Shard) -> Iterator[str]:
    for name in ("first", "last", "patches", "keys"):
        if entry.get(name) != getattr(shard, name):
            yield f"{name} of {shard.folder.name} is {entry.get(name)}, but the shard has {getattr(shard, name)}"
