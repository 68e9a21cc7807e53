"""Tasks on a cluster: a bounded window of batches, single tasks, retries, and lost workers."""

from __future__ import annotations

import errno
import pickle
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any, NamedTuple

from dask.delayed import Delayed
from distributed import Client, Future, as_completed
from distributed.scheduler import KilledWorker

from reben_dask.cluster import WORKERS_TIMEOUT_S, lost_scheduler
from reben_dask.errors import ClusterError, RebenError
from reben_dask.progress import StageProgress
from reben_dask.workspace import is_full_disk

BATCHES_IN_FLIGHT = 3
BANDS_PER_TILE = 12
RETRIES = 2
"""Retries of a failed task, for faults of a network disk."""

SUBMISSIONS = 3
"""Submissions of a task that ends its workers; each time, the scheduler tries several."""

_POLL_S, _LOOK_S = 0.02, 5.0
"""Periods in s of looking for completed tasks and, while there are none, for running workers."""

_NOTE_LINES = 40

Build = Callable[[Sequence[Any]], dict[str, list[Delayed]]]


@dataclass(frozen=True)
class PicklableErrors:
    """Wrapper of a task whose errors survive pickling.

    A client waits for ever for an error that it cannot unpickle, such as GDAL's, or one with a thousand frames.
    """

    function: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task."""
        try:
            return self.function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - it is raised again
            plain = picklable_error(error)
        # Outside the handler, or the error would become the context of the plain one.
        raise plain


def picklable_error(error: Exception) -> Exception:
    """Copy an error without cause and context, as :class:`RuntimeError` if need be; full disks as :class:`OSError`."""
    if is_full_disk(error):
        return OSError(errno.ENOSPC, "No space left on device")
    plain = type(error)(str(error)) if isinstance(error, RebenError) else _copied(error)
    lines = "".join(traceback.format_exception(error)).splitlines()
    plain.add_note("\n".join(lines[-_NOTE_LINES:]))
    return plain


def _copied(error: Exception) -> Exception:
    try:
        copy = type(error)(*error.args)
        unpickled = pickle.loads(pickle.dumps(copy))  # noqa: S301 - bytes of this process
    except Exception:  # noqa: BLE001 - errors of libraries may do anything when they are copied
        unpickled = None
    if type(unpickled) is type(error) and str(unpickled) == str(error):
        return copy
    return RuntimeError(f"{type(error).__name__}: {error}")


def batch_size(threads: int) -> int:
    """Return the tiles of a batch, for about four waiting tasks per thread with all batches in flight."""
    return min(64, max(1, 4 * threads // (BATCHES_IN_FLIGHT * BANDS_PER_TILE)))


class Outcome(NamedTuple):
    """Result of a tile's last task, or its error."""

    tile: Any
    result: Any = None
    error: BaseException | None = None


class _Place(NamedTuple):
    future: Future
    batch: int
    stage: str
    tile: Any


def run_batches(
    client: Client, tiles: Sequence[Any], build: Build, size: int, advance: Callable[[str], None]
) -> Iterator[Outcome]:
    """Run the tasks of all tiles in a bounded window of batches; yield an outcome per tile.

    ``build`` returns the tasks of a batch by stage; the last stage has one task per tile, in their order, which needs
    all others of that tile. ``advance`` is called with the stage of each completed task. If the caller stops, running
    tasks are dropped. Raises :class:`ClusterError` if the scheduler or all workers are lost.
    """
    waiting = deque(enumerate(tiles[start : start + size] for start in range(0, len(tiles), size)))
    completed = as_completed()
    running: dict[Any, _Place] = {}
    left: Counter[int] = Counter()

    def fill() -> None:
        while waiting and len(left) < BATCHES_IN_FLIGHT:
            number, batch = waiting.popleft()
            stages = build(batch)
            last = list(stages)[-1]
            futures = client.compute([task for tasks in stages.values() for task in tasks], retries=RETRIES)
            places = [
                (number, stage, batch[position] if stage == last else None)
                for stage, tasks in stages.items()
                for position in range(len(tasks))
            ]
            running.update({future.key: _Place(future, *place) for future, place in zip(futures, places, strict=True)})
            left[number] = len(futures)
            completed.update(futures)

    try:
        fill()
        for future in iter_completed(client, completed):
            place = running.pop(future.key)
            left[place.batch] -= 1
            if not left[place.batch]:
                del left[place.batch]
            advance(place.stage)
            if place.tile is not None:
                yield _outcome(place.tile, future)
            # Results that are not needed any more are not held while others are awaited.
            del future, place
            fill()
    except BaseException:
        for place in running.values():
            place.future.release()
        raise


def _outcome(tile: Any, future: Future) -> Outcome:
    if future.status == "error":
        return Outcome(tile, error=future.exception())
    return Outcome(tile, future.result())


class _Sent(NamedTuple):
    name: str
    function: Any
    args: tuple[Any, ...]
    submission: int


class Tasks:
    """Single tasks of one job, whose id is in their keys."""

    def __init__(self, client: Client, job: str) -> None:
        self.client, self.job = client, job
        self._sent: dict[str, _Sent] = {}

    def submit(self, name: str, function: Any, *args: Any) -> Future:
        """Submit a task."""
        return self._submit(_Sent(name, function, args, 1))

    def run(self, name: str, function: Any, *args: Any) -> Any:
        """Submit a task and wait for its result."""
        return next(self.results([self.submit(name, function, *args)]))[1]

    def results(self, futures: list[Future]) -> Iterator[tuple[str, Any]]:
        """Yield name and result of tasks as they complete; raise the first error, or :class:`ClusterError`, at once."""
        waiting = as_completed(futures)
        for future in iter_completed(self.client, waiting):
            sent = self._sent.pop(future.key)
            try:
                result = future.result()
            except KilledWorker as error:
                if sent.submission == SUBMISSIONS:
                    raise explain(error) from None
                waiting.add(self._submit(sent._replace(submission=sent.submission + 1)))
            else:
                yield sent.name, result

    def wait(self, futures: list[Future]) -> None:
        """Wait for all tasks, as :meth:`results` does."""
        for _ in self.results(futures):
            pass

    @contextmanager
    def progress_topic(self, stage: str, progress: StageProgress) -> Iterator[str]:
        """Provide a topic on which tasks report their steps of a stage."""
        topic = f"{stage}-{self.job}"
        self.client.subscribe_topic(topic, lambda event: progress.advance(stage, event[1]))
        try:
            yield topic
        finally:
            self.client.unsubscribe_topic(topic)

    def _submit(self, sent: _Sent) -> Future:
        key = f"{sent.name}-{self.job}" + f"-{sent.submission}" * (sent.submission > 1)
        self._sent[key] = sent
        return self.client.submit(PicklableErrors(sent.function), *sent.args, key=key, retries=RETRIES)


def iter_completed(client: Client, futures: as_completed) -> Iterator[Future]:
    """Yield futures as they complete; :class:`ClusterError` without running workers for a minute, or scheduler."""
    look = seen = monotonic()
    while not futures.is_empty():
        if futures.has_ready():
            future = next(futures)
            if future.status == "cancelled":  # all are when the scheduler is lost
                raise lost_scheduler()
            yield future
            look = seen = monotonic()
            continue
        sleep(_POLL_S)
        if monotonic() - look > _LOOK_S:
            states = _worker_states(client)
            look = monotonic()
            seen = look if "running" in states else seen
            if look - seen > WORKERS_TIMEOUT_S:
                raise _no_running_workers(client, states)


def _worker_states(client: Client) -> list[str]:
    try:
        return [worker["status"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]
    except OSError:
        raise lost_scheduler() from None


def _no_running_workers(client: Client, states: list[str]) -> ClusterError:
    where = client.scheduler.address
    if states:
        return ClusterError(
            f"All {len(states)} workers of the scheduler at {where} have been paused for {WORKERS_TIMEOUT_S} s because "
            "they are out of memory; give them more (--memory-limit), or fewer threads (--threads)."
        )
    return ClusterError(
        f"The scheduler at {where} has had no workers for {WORKERS_TIMEOUT_S} s; see in their logs why they ended, and "
        "start others. For an embedded cluster, run the same command again to resume."
    )


def explain(error: BaseException) -> BaseException:
    """Return the error of a task; one that ended several workers most likely ran out of memory."""
    if not isinstance(error, KilledWorker):
        return error
    return ClusterError(
        f"The task {error.task} ended every worker that tried it, most likely because it ran out of memory; "
        "give workers more (--memory-limit), or fewer threads (--threads)."
    )
