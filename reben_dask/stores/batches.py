"""Long streams in batches; what ``itertools.batched`` does from Python 3.12 on, with lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items in their order, the last one with what is left; no item is taken before it is needed."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
