"""Writing an LMDB of ready-made values that takes hours: one writer, in large transactions, resumable.

Each transaction is on disk before it counts, so that what an interrupted attempt has left is sound even after a power
cut: the next one asks the environment which keys it has, and goes on with the others.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import lmdb

from reben_dask.errors import InputError, OutputError
from reben_dask.stores.building import FAILURES, publish, unfinished
from reben_dask.stores.lmdb_environment import is_on_network_disk, map_bytes_for, put

T = TypeVar("T")

COMMIT_BYTES = 32 * 2**20
_ENVIRONMENT = "lmdb"

Made = tuple[bytes, bytes | InputError]
"""A key, and its value or the reason why there is none."""


@dataclass(frozen=True)
class Values(Generic[T]):
    """What an environment is going to hold.

    Parameters
    ----------
    entries : sequence
        One for each key, best in the order of the keys.
    key : callable
        Gives the key of an entry.
    make : callable
        Makes the values of entries, in any order. It is not asked for those that an earlier attempt has written.
    map_bytes : int
        Expected size of all values on their pages, see :func:`~reben_dask.stores.lmdb_environment.value_pages_bytes`.
    """

    entries: Sequence[T]
    key: Callable[[T], bytes]
    make: Callable[[Iterable[T]], Generator[Made]]
    map_bytes: int


def write_values(
    destination: Path, inputs: Mapping[str, Any], values: Values[Any], advance: Callable[[int], None] = lambda _: None
) -> int:
    """Write an LMDB environment, or go on with one that was interrupted.

    Parameters
    ----------
    destination : Path
        Folder of the environment, on a local disk. It appears when it is complete; until then what there is stands in
        a hidden folder beside it.
    inputs : mapping
        What the values are made from, as JSON knows it; an attempt goes on only with one from the same.
    values : Values
        What is to be in it.
    advance : callable
        Called with a number of entries when they are on disk.

    Returns
    -------
    int
        Number of entries.

    Raises
    ------
    InputError
        If entries could not be made; the others are written first.
    OutputError
        If there is something at ``destination``, if it lies on a network disk, or if an earlier attempt is damaged or
        was made from other inputs.
    """
    if is_on_network_disk(destination):
        raise OutputError(
            f"{destination} lies on a network disk, where LMDB must not be written; "
            "give a folder on a local disk, and copy it when it is complete."
        )
    with unfinished(destination, inputs) as building:
        with _environment(building / _ENVIRONMENT, values.map_bytes) as environment:
            missing = _missing(environment, values, building)
            advance(len(values.entries) - len(missing))
            with closing(values.make(values.entries[number] for number in missing)) as made:
                failures = _Writer(environment, advance).write(made)
        if failures:
            raise InputError(_describe(failures, len(values.entries), building))
        publish(building / _ENVIRONMENT, destination)
    return len(values.entries)


@contextmanager
def _environment(folder: Path, map_bytes: int) -> Iterator[lmdb.Environment]:
    try:
        folder.mkdir(exist_ok=True)
        environment = lmdb.open(str(folder), map_size=map_bytes_for(map_bytes), readahead=False)
    except (lmdb.Error, OSError) as error:
        raise OutputError(f"The unfinished LMDB {folder} cannot be opened ({error}); delete it.") from None
    try:
        yield environment
    finally:
        environment.close()


def _missing(environment: lmdb.Environment, values: Values[Any], building: Path) -> list[int]:
    """Which of the entries are not there yet."""
    entries = values.entries
    there: int = environment.stat()["entries"]
    if not there:
        return list(range(len(entries)))
    with environment.begin(buffers=True) as transaction:
        cursor = transaction.cursor()
        missing = [number for number, entry in enumerate(entries) if not cursor.set_key(values.key(entry))]
    if there != len(entries) - len(missing):
        raise OutputError(
            f"{building} holds entries that are not in the inputs any more; delete it, or give another folder."
        )
    return missing


@dataclass
class _Writer:
    """Writes values in large transactions, one of them while the next is being gathered."""

    environment: lmdb.Environment
    advance: Callable[[int], None]
    failures: list[InputError] = field(default_factory=list)

    def write(self, values: Iterable[Made]) -> list[InputError]:
        """Write what can be made; what cannot is given back. Whatever ends this, all that was made is written."""
        with ThreadPoolExecutor(1) as thread:
            batch: list[tuple[bytes, bytes]] = []
            size = 0
            under_way = thread.submit(self._commit, [])
            try:
                for key, value in values:
                    if isinstance(value, InputError):
                        self.failures.append(value)
                        if len(self.failures) == FAILURES:
                            break
                        continue
                    batch.append((key, value))
                    size += len(value)
                    if size >= COMMIT_BYTES:
                        under_way.result()
                        under_way = thread.submit(self._commit, batch)
                        batch, size = [], 0
            finally:
                under_way.result()
                self._commit(batch)
        return self.failures

    def _commit(self, batch: Sequence[tuple[bytes, bytes]]) -> None:
        if not batch:
            return
        try:
            put(self.environment, batch)
        except lmdb.Error as error:
            raise OutputError(f"{self.environment.path()} cannot be written ({error}).") from None
        self.advance(len(batch))


def _describe(failures: Sequence[InputError], entries: int, building: Path) -> str:
    many = "" if len(failures) == 1 else f"{len(failures):,} of {entries:,} entries could not be made; the first: "
    return (
        f"{many}{failures[0]} All others that were made are kept in {building}: "
        "give the same command again to go on with them."
    )
