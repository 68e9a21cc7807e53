"""Running batches of tiles so that the graph and the memory do not grow with the archive."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dask.delayed import Delayed
from distributed import Client, Future, as_completed

BATCHES_IN_FLIGHT = 3
BANDS_PER_TILE = 12
RETRIES = 2
"""A network file system may stumble once; an error in a file itself comes back each time."""

Build = Callable[[Sequence[Any]], dict[str, list[Delayed]]]


def batch_size(threads: int) -> int:
    """Tiles of a batch: with all batches in flight, about four tasks wait for each thread."""
    return min(64, max(1, 4 * threads // (BATCHES_IN_FLIGHT * BANDS_PER_TILE)))


def run_batches(
    client: Client, tiles: Sequence[Any], build: Build, size: int, advance: Callable[[str], None]
) -> Iterator[Any]:
    """Run the tasks of all tiles, a few batches at a time.

    Parameters
    ----------
    client : Client
        The cluster.
    tiles : sequence
        What to divide into batches.
    build : callable
        Gives the tasks of a batch by stage; those of the last stage return what this function yields.
    size : int
        Tiles of a batch.
    advance : callable
        Called with the stage of each task that is done.

    Yields
    ------
    object
        Result of each task of the last stage, as they come.

    Raises
    ------
    Exception
        The error of the first task that fails; what is still running is dropped.
    """
    window = _Window(client, build)
    waiting = deque(tiles[start : start + size] for start in range(0, len(tiles), size))
    try:
        window.fill(waiting)
        for future, stage, is_last in window:
            if is_last or future.status == "error":
                result = future.result()
            advance(stage)
            if is_last:
                yield result
            window.fill(waiting)
    except BaseException:
        window.drop()
        raise


class _Window:
    """Batches in flight."""

    def __init__(self, client: Client, build: Build) -> None:
        self._client, self._build = client, build
        self._futures = as_completed()
        self._running: dict[Any, Future] = {}
        self._place: dict[Any, tuple[int, str, bool]] = {}
        self._left: Counter[int] = Counter()
        self._submitted = 0

    def fill(self, waiting: deque[Sequence[Any]]) -> None:
        """Send batches to the cluster while fewer are running than may be."""
        while waiting and len(self._left) < BATCHES_IN_FLIGHT:
            self._submit(waiting.popleft())

    def _submit(self, batch: Sequence[Any]) -> None:
        stages = self._build(batch)
        last = list(stages)[-1]
        places = [(self._submitted, stage, stage == last) for stage, tasks in stages.items() for _ in tasks]
        futures = self._client.compute([task for tasks in stages.values() for task in tasks], retries=RETRIES)
        self._place.update({future.key: place for future, place in zip(futures, places, strict=True)})
        self._running.update({future.key: future for future in futures})
        self._left[self._submitted] = len(futures)
        self._submitted += 1
        self._futures.update(futures)

    def __iter__(self) -> Iterator[tuple[Any, str, bool]]:
        for future in self._futures:
            number, stage, is_last = self._place.pop(future.key)
            del self._running[future.key]
            self._left[number] -= 1
            if not self._left[number]:
                del self._left[number]
            yield future, stage, is_last

    def drop(self) -> None:
        """Let go of what is still running: the scheduler drops tasks that nobody waits for."""
        for future in self._running.values():
            future.release()
        self._running.clear()
