"""Two ordered streams side by side: what is wanted, and what is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from reben_dask.verify.rows import Wanted

V = TypeVar("V")


def match(wanted: Iterable[Wanted], found: Iterable[tuple[Any, V]]) -> Iterator[tuple[Any, Wanted | None, V | None]]:
    """Bring together what rows ask for and what a dataset holds, holding neither in memory.

    Parameters
    ----------
    wanted : iterable of Wanted
        Ascending by key. Where several ask for the same, as rows that share a Sentinel-1 patch do, the first counts.
    found : iterable of (key, value)
        Strictly ascending by key.

    Yields
    ------
    (key, Wanted or None, value or None)
        Ascending by key; without a value where it is missing, without ``Wanted`` where nobody asks for it.
    """
    waiting = _distinct(wanted)
    next_wanted = next(waiting, None)
    for key, value in found:
        while next_wanted is not None and next_wanted.key < key:
            yield next_wanted.key, next_wanted, None
            next_wanted = next(waiting, None)
        if next_wanted is not None and next_wanted.key == key:
            yield key, next_wanted, value
            next_wanted = next(waiting, None)
        else:
            yield key, None, value
    while next_wanted is not None:
        yield next_wanted.key, next_wanted, None
        next_wanted = next(waiting, None)


def _distinct(wanted: Iterable[Wanted]) -> Iterator[Wanted]:
    last = None
    for item in wanted:
        if item.key != last:
            yield item
        last = item.key
