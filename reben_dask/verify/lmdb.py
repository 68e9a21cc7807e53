"""LMDB in rico-hdl's layout: one environment, or shards with their index, as a stream of entries in key order.

Pages are checked first, as LMDB trusts its file, and damage may end the process. Values of one kind have the same
header byte for byte, so only the first is parsed, and others are compared with it.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from operator import itemgetter
from pathlib import Path

import lmdb
import numpy as np
from safetensors import SafetensorError

from reben_dask.errors import InputError
from reben_dask.formats.bands import Band, ImageKind
from reben_dask.formats.lmdb import (
    DATA_FILE,
    INDEX_FILE,
    MAP_SUFFIX,
    Shard,
    ShardIndex,
    decode,
    kind_of_key,
    patch_of_key,
    tensors_of,
)
from reben_dask.stores.lmdb import find_environments, open_environment
from reben_dask.stores.lmdb_pages import require_sound_pages
from reben_dask.verify.dataset import Place
from reben_dask.verify.engine import Content, Context, Engine, Entry
from reben_dask.verify.expected import MOST_NAMES
from reben_dask.verify.findings import NOTHING_THERE, Check, collect, differences
from reben_dask.wording import counted

_LENGTH_BYTES, _MOST_HEADERS = 8, 64


def verify_lmdb(path: Path, context: Context) -> Iterator[Check]:
    """Check an environment or a folder of shards in one pass: headers, all maps, and all or some other pixels."""
    engine, sound, is_whole = Engine("the LMDB", context), Check("LMDB"), False
    values = {kind: Check(f"Values of {kind.value}", "value") for kind in ImageKind}
    with collect(sound):
        folders = find_environments([path])
        with _Environments(folders, sound, digest=context.settings.digest) as environments:
            steps = sum(len(engine.names[kind]) for kind in ImageKind)
            engine.run(_entries(environments, engine, values), context.settings.begin("verify-lmdb", steps))
        is_whole = len(environments.shards) == len(folders)
        sound.summary = f"{counted(engine.found.total(), 'entry')} in {counted(len(folders), 'environment')}"
        context.report.digests |= {path.name: environments.sha256.hexdigest()} if environments.sha256 else {}
        sound.add(_index_faults(path, environments.shards, context))
    yield sound
    for kind, check in values.items():
        check.count = engine.found[kind]
        is_asked_for = not context.rows.is_complete or len(engine.names[kind]) > 0
        if not is_whole:
            # Values missing from environments that were not read to their ends are unknown.
            check.not_checked = f"{counted(check.count, 'value')} could be read"
        elif engine.found and not check.count and is_asked_for and kind not in context.required:
            check.not_checked = NOTHING_THERE
            context.report.without.append(kind.value)
        else:
            suffix = MAP_SUFFIX if kind is ImageKind.MAP else ""
            check.add(f"{name}{suffix} is missing" for name in engine.names[kind].missing())
        if check.count or check.problems or check.not_checked:
            yield check
    yield from engine.checks()


def names_in_lmdb(path: Path) -> list[str]:
    """First names of Sentinel-2 patches; none of an unreadable LMDB, which its own check reports."""
    names: list[str] = []
    with collect(Check("read again with the LMDB")), ExitStack() as stack:
        environment = stack.enter_context(open_environment(find_environments([path])[0]))
        transaction = stack.enter_context(environment.begin())
        keys = map(_readable, islice(transaction.cursor().iternext(values=False), MOST_NAMES))
        names = [key for key in keys if kind_of_key(key) is ImageKind.S2]
    return names  # noqa: RET504 - mypy does not know that collect() may end the block


class _Environments(ExitStack):
    """Entries of environments, open during a ``with`` block; ``shards`` are those read to their ends."""

    def __init__(self, folders: Sequence[Path], check: Check, *, digest: bool) -> None:
        super().__init__()
        self._folders, self._check = folders, check
        self.sha256 = hashlib.sha256() if digest else None
        self._transactions: list[lmdb.Transaction] = []
        self.shards: list[Shard] = []

    def __iter__(self) -> Iterator[tuple[bytes, memoryview]]:
        """Each key once, with its value, which is valid until the next."""
        last, last_value = None, None
        for key, value in heapq.merge(*map(self._stream, self._folders), key=itemgetter(0)):
            if self.sha256:
                self.sha256.update(b"%d %d %b" % (len(key), len(value), key))
                self.sha256.update(value)
            if key != last:
                yield key, value
            elif kind_of_key(_readable(key)) is not ImageKind.S1 or value != last_value:
                # Patches of two shards may share a Sentinel-1 partner.
                self._check.problem(f"{_readable(key)} is in more than one environment")
            last, last_value = key, value

    def value(self, key: bytes) -> memoryview:
        found = (transaction.get(key) for transaction in self._transactions)
        return memoryview(next(value for value in found if value is not None))

    def _stream(self, folder: Path) -> Iterator[tuple[bytes, memoryview]]:
        last, keys, patches = b"", 0, 0
        ends: list[str] = []
        with collect(self._check, folder.name):
            if (folder / DATA_FILE).is_file():
                require_sound_pages(folder / DATA_FILE)
            environment = self.enter_context(open_environment(folder))
            transaction = self.enter_context(environment.begin(buffers=True))
            self._transactions.append(transaction)
            for found, value in transaction.cursor():
                key, name = bytes(found), _readable(found)
                if key <= last:
                    raise InputError(f"its key {name} is not in order")
                yield key, value
                last, keys = key, keys + 1
                if kind_of_key(name) is ImageKind.S2:
                    patches, ends = patches + 1, [*ends[:1], name]
            first, final = (ends[0], ends[-1]) if ends else (None, None)
            self.shards.append(Shard(folder.name, first, final, patches, keys))


def _index_faults(folder: Path, shards: Sequence[Shard], context: Context) -> Iterator[str]:
    if not (folder / INDEX_FILE).is_file():
        return
    index = ShardIndex.read(folder)
    if context.dataset and index.classes != context.expected.nomenclature.classes:
        yield f"{INDEX_FILE} has another class list than the run record"
    listed = {shard.path: vars(shard) for shard in index.shards}
    for shard in shards:
        yield from (f"{INDEX_FILE}: {shard.path} {fault}" for fault in differences(listed[shard.path], vars(shard)))
    there = (data.parent.name for data in sorted(folder.glob(f"*/{DATA_FILE}")))
    yield from (f"{name} is not in {INDEX_FILE}" for name in there if name not in listed)


class ValueFormat:
    """Values of one kind: safetensors files with a tensor per band."""

    def __init__(self, tensors: Mapping[str, Band], patch_m: int, optional: Collection[str] = ()) -> None:
        self._bands, self._optional = tensors, optional
        self._wanted = {
            name: {"type": np.dtype(band.dtype), "shape": 2 * (band.side_px(patch_m),)}
            for name, band in tensors.items()
        }
        self._known: set[tuple[bytes, int]] = set()

    def read(self, value: memoryview, *, pixels: bool) -> Content:
        """Compare the header of a value; a known header and length are not parsed."""
        length = int.from_bytes(value[:_LENGTH_BYTES], "little")
        header = bytes(value[: _LENGTH_BYTES + length]), len(value)
        if header in self._known and not pixels:
            return Content()
        try:
            tensors = decode(value)
        except (SafetensorError, KeyError) as error:
            reason = str(error).removeprefix("Error while deserializing: ")
            return Content([f"cannot be decoded ({len(value):,} bytes; {reason})"])
        faults = [f"has no {name}" for name in self._wanted if name not in tensors and name not in self._optional]
        faults += [f"also holds {name}" for name in tensors if name not in self._wanted]
        for name, tensor in tensors.items() if not faults else ():
            found = {"type": tensor.dtype, "shape": tensor.shape}
            faults += [f"{name} {fault}" for fault in differences(found, self._wanted[name])]
        if faults:
            return Content(faults)
        if len(self._known) < _MOST_HEADERS:
            self._known.add(header)
        return Content(layers={self._bands[name]: tensors[name] for name in tensors} if pixels else {})


def _entries(environments: _Environments, engine: Engine, values: Mapping[ImageKind, Check]) -> Iterator[Entry]:
    """Entries in key order; those compared with cubes tile by tile in chunk order, to decode each chunk once."""
    expected = engine.expected
    patch_m, optional = expected.recipe.patch_size_m, expected.optional_bands
    formats = {kind: ValueFormat(tensors_of(kind, expected.bands), patch_m, optional) for kind in ImageKind}

    def entry(key: bytes, value: memoryview) -> Entry:
        name = _readable(key)
        kind = kind_of_key(name)
        return Entry(kind, patch_of_key(name), name, partial(formats[kind].read, value), values[kind])

    tile, waiting = "", list[tuple[Place, bytes]]()
    for key, value in environments:
        name = _readable(key)
        place = engine.place(engine.patch(kind_of_key(name), patch_of_key(name)))
        if place is None:
            yield entry(key, value)
            continue
        if place.tile != tile:
            yield from (entry(other, environments.value(other)) for _, other in sorted(waiting))
            tile, waiting = place.tile, []
        waiting.append((place, key))
    yield from (entry(other, environments.value(other)) for _, other in sorted(waiting))


def _readable(key: bytes | memoryview) -> str:
    return bytes(key).decode(errors="backslashreplace")
