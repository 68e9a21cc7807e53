"""Running batches of tiles so that the graph and the memory do not grow with the archive."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from dask.delayed import Delayed
from distributed import Client, Future, as_completed

from reben_dask.job.waiting import as_they_end

BATCHES_IN_FLIGHT = 3
BANDS_PER_TILE = 12
RETRIES = 2
"""A network file system may stumble once; an error in a file itself comes back each time."""

Build = Callable[[Sequence[Any]], dict[str, list[Delayed]]]


def batch_size(threads: int) -> int:
    """Tiles of a batch: with all batches in flight, about four tasks wait for each thread."""
    return min(64, max(1, 4 * threads // (BATCHES_IN_FLIGHT * BANDS_PER_TILE)))


class Outcome(NamedTuple):
    """What became of a tile: the result of its task of the last stage, or the error that it ended with."""

    tile: Any
    result: Any = None
    error: BaseException | None = None


def run_batches(
    client: Client, tiles: Sequence[Any], build: Build, size: int, advance: Callable[[str], None]
) -> Iterator[Outcome]:
    """Run the tasks of all tiles, a few batches at a time.

    Parameters
    ----------
    client : Client
        The cluster.
    tiles : sequence
        What to divide into batches.
    build : callable
        Gives the tasks of a batch by stage. The last stage has one task for each tile, in their order, which needs all
        others of that tile.
    size : int
        Tiles of a batch.
    advance : callable
        Called with the stage of each task that is done.

    Yields
    ------
    Outcome
        What became of each tile, as they come.

    Raises
    ------
    ClusterError
        If the scheduler is lost, or all workers are. What is still running is dropped, as it is when the caller stops.
    """
    window = _Window(client, build)
    waiting = deque(tiles[start : start + size] for start in range(0, len(tiles), size))
    try:
        window.fill(waiting)
        for future, place in window:
            advance(place.stage)
            if place.is_last:
                yield _outcome(place.tile, future)
            window.fill(waiting)
    except BaseException:
        window.drop()
        raise


def _outcome(tile: Any, future: Future) -> Outcome:
    if future.status == "error":
        return Outcome(tile, error=future.exception())
    return Outcome(tile, future.result())


class _Place(NamedTuple):
    """Where a task belongs; ``tile`` is that of a task of the last stage."""

    batch: int
    stage: str
    is_last: bool
    tile: Any


class _Window:
    """Batches in flight."""

    def __init__(self, client: Client, build: Build) -> None:
        self._client, self._build = client, build
        self._futures = as_completed()
        self._running: dict[Any, Future] = {}
        self._place: dict[Any, _Place] = {}
        self._left: Counter[int] = Counter()
        self._submitted = 0

    def fill(self, waiting: deque[Sequence[Any]]) -> None:
        """Send batches to the cluster while fewer are running than may be."""
        while waiting and len(self._left) < BATCHES_IN_FLIGHT:
            self._submit(waiting.popleft())

    def _submit(self, batch: Sequence[Any]) -> None:
        stages = self._build(batch)
        last = list(stages)[-1]
        places = [
            _Place(self._submitted, stage, stage == last, batch[number] if stage == last else None)
            for stage, tasks in stages.items()
            for number in range(len(tasks))
        ]
        futures = self._client.compute([task for tasks in stages.values() for task in tasks], retries=RETRIES)
        self._place.update({future.key: place for future, place in zip(futures, places, strict=True)})
        self._running.update({future.key: future for future in futures})
        self._left[self._submitted] = len(futures)
        self._submitted += 1
        self._futures.update(futures)

    def __iter__(self) -> Iterator[tuple[Future, _Place]]:
        for future in as_they_end(self._client, self._futures):
            place = self._place.pop(future.key)
            del self._running[future.key]
            self._left[place.batch] -= 1
            if not self._left[place.batch]:
                del self._left[place.batch]
            yield future, place

    def drop(self) -> None:
        """Let go of what is still running: the scheduler drops tasks that nobody waits for."""
        for future in self._running.values():
            future.release()
        self._running.clear()
