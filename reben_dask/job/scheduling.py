"""Tasks on a cluster: a bounded window of items, single tasks, their only retry, and lost workers."""

from __future__ import annotations

import ctypes
import errno
import sys
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from time import monotonic
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import dask
import pyarrow as pa
from dask.delayed import Delayed, delayed
from distributed import Client, Future, get_worker
from distributed.protocol.pickle import dumps, loads
from distributed.scheduler import KilledWorker

from reben_dask.cluster import WORKERS_TIMEOUT_S, lost_scheduler
from reben_dask.errors import ClusterError, ProgramError, ReadError, RebenError
from reben_dask.progress import StageProgress
from reben_dask.workspace import is_full_disk

T = TypeVar("T")

ATTEMPTS = 2
"""Maximum runs of a task whose error may be due to its worker; the second is on another worker."""

NO_RESOURCES: Mapping[str, float] = MappingProxyType({})

BATCHES_IN_FLIGHT = 3
BANDS_PER_TILE = 12

_LOOK_S = 5.0
"""Period in s of checks for running workers while no task completes."""

_NOTE_LINES = 40

_MALLOC_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
"""Function of glibc; ``None`` elsewhere."""


# Errors


def run_task(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function on a worker, and raise its error in a form that survives pickling.

    A client waits forever for an error with a thousand frames, and loses the type of one that has GDAL's as its cause.
    """
    try:
        return function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - it is raised again
        plain = plain_error(error)
    finally:
        _release_memory()
    # Outside the handler, or the error would become the context of the plain one.
    raise plain


def _release_memory() -> None:
    """Return freed memory to the system, which Arrow and glibc would keep: 300 MB after the sorting of a map."""
    pa.default_memory_pool().release_unused()
    if _MALLOC_TRIM is not None:
        _MALLOC_TRIM(0)


def plain_error(error: Exception) -> Exception:
    """Copy an error without cause, context and traceback, whose last lines become a note.

    Errors of this package and :class:`OSError` keep their type, others become :class:`RuntimeError`.
    """
    plain: Exception
    if is_full_disk(error):
        plain = OSError(errno.ENOSPC, "No space left on device")
    elif isinstance(error, RebenError):
        plain = type(error)(str(error))
    elif isinstance(error, OSError):
        plain = OSError(str(error))
    else:
        plain = RuntimeError(f"{type(error).__name__}: {error}")
    lines = "".join(traceback.format_exception(error)).splitlines()
    plain.add_note("\n".join(lines[-_NOTE_LINES:]))
    vars(plain)["worker"] = _address_of_worker()
    return plain


def is_transient(error: BaseException | None) -> bool:
    """Check if a task may succeed on another worker; errors of input and full disks never pass."""
    return isinstance(error, (OSError, ReadError, ProgramError, KilledWorker)) and not is_full_disk(error)


def explain(error: BaseException) -> BaseException:
    """Return the error of a task; one that ended several workers most likely ran out of memory."""
    if not isinstance(error, KilledWorker):
        return error
    return ClusterError(
        f"The task {error.task} ended every worker that tried it, most likely because it ran out of memory; "
        "give workers more (--memory-limit), or fewer threads (--threads)."
    )


def _address_of_worker() -> str | None:
    try:
        return str(get_worker().address)
    except ValueError:
        return None


def capable_workers(client: Client, resources: Mapping[str, float] = NO_RESOURCES) -> dict[str, dict[str, Any]]:
    """Describe the workers that offer some resources, by address."""
    workers: dict[str, dict[str, Any]] = client.scheduler_info(n_workers=-1)["workers"]
    return {
        address: worker
        for address, worker in workers.items()
        if all(worker.get("resources", {}).get(name, 0) >= amount for name, amount in resources.items())
    }


def _away_from(client: Client, errors: Iterable[BaseException | None]) -> Any:
    """Prefer workers other than those where tasks failed, in a context that applies to new tasks."""
    bad = {getattr(error, "worker", None) for error in errors}
    others = sorted(set(client.nthreads()) - bad)
    return dask.annotate(workers=others, allow_other_workers=True) if others else nullcontext()


def task_key(name: str, job: str, attempt: int = 1) -> str:
    """Key of a task; a scheduler treats tasks with the same key as one, so it ends with the job and a later attempt."""
    return f"{name}-{job}" + f"-{attempt}" * (attempt > 1)


def make_task(key: str, function: Callable[..., Any], *tasks: Any) -> Delayed:
    """Make a lazy task that calls a function with :func:`run_task`.

    Bind what holds no tasks to the function (``partial``): Dask searches every field of every argument for some.
    """
    return delayed(run_task, pure=True)(_Packed(dumps(function)), *tasks, dask_key_name=key)


@dataclass(frozen=True)
class _Packed:
    """A function with what is bound to it, as bytes: a scheduler would unpickle and pickle it for each task."""

    content: bytes

    def __call__(self, *tasks: Any) -> Any:
        return loads(self.content)(*tasks)


# A window of items


class Attempt(NamedTuple):
    """Attempt at an item: its number, and the tasks that succeeded in an earlier one."""

    number: int = 1
    finished: Mapping[str, Future] = MappingProxyType({})


MakeTasks = Callable[[Any, Attempt], Mapping[str, Delayed | Future]]
"""Returns the tasks of an item by name: independent ones, and last the one that needs them and returns the result.

Tasks in ``finished`` are returned as they are; others have the number of the attempt in their keys.
"""


class Outcome(NamedTuple):
    """Result of an item's last task, or the first error of its tasks."""

    item: Any
    result: Any = None
    error: BaseException | None = None
    attempts: int = 1


@dataclass
class _Running:
    item: Any
    attempt: Attempt
    futures: dict[str, Future]
    open: int


def batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Divide a sequence into batches, the last one with the remainder."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def batch_size(threads: int) -> int:
    """Return the tiles of a batch, for about four waiting tasks per thread with all batches in flight."""
    return min(64, max(1, 4 * threads // (BATCHES_IN_FLIGHT * BANDS_PER_TILE)))


@dataclass
class Window:
    """Items in progress on a cluster, a few batches at a time: neither graph nor memory grows with their number.

    ``on_task`` is called with the name of each task that completes, ``on_retry`` with an item and the error for which
    it is retried. ``resources`` of Dask are those that each task takes from its worker.
    """

    client: Client
    make_tasks: MakeTasks
    size: int
    on_task: Callable[[str], None] = lambda _: None
    on_retry: Callable[[Any, BaseException], None] = lambda _item, _error: None
    resources: Mapping[str, float] = field(default_factory=dict)
    _running: dict[int, _Running] = field(default_factory=dict)
    _places: dict[str, tuple[int, str]] = field(default_factory=dict)
    _followers: dict[str, Callable[[Future], None]] = field(default_factory=dict)
    _completed: Completed = field(init=False)

    def __post_init__(self) -> None:
        self._completed = Completed(self.client, resources=self.resources)

    def run(self, items: Iterable[Any]) -> Generator[Outcome]:
        """Run the tasks of all items; yield an outcome for each.

        If the caller stops, running tasks are dropped. Raises :class:`ClusterError` if the scheduler or all workers are
        lost.
        """
        waiting = deque(enumerate(items))
        try:
            self._fill(waiting)
            for future in self._completed:
                if follow := self._followers.pop(future.key, None):
                    follow(future)
                elif outcome := self._settle(future):
                    yield outcome
                # Release results before waiting for others.
                del future
                self._fill(waiting)
        finally:
            for running in self._running.values():
                for future in running.futures.values():
                    future.release()

    def follow(self, future: Future, then: Callable[[Future], None]) -> None:
        """Have ``then`` called with another future when it completes, between two outcomes."""
        self._followers[future.key] = then
        self._completed.add(future)

    def _fill(self, waiting: deque[tuple[int, Any]]) -> None:
        while waiting and len(self._running) <= (BATCHES_IN_FLIGHT - 1) * self.size:
            batch = [waiting.popleft() for _ in range(min(self.size, len(waiting)))]
            self._submit({number: (item, Attempt()) for number, item in batch})

    def _submit(self, items: Mapping[int, tuple[Any, Attempt]]) -> None:
        built = {number: self.make_tasks(item, attempt) for number, (item, attempt) in items.items()}
        places = [
            (number, name, task)
            for number, tasks in built.items()
            for name, task in tasks.items()
            if not isinstance(task, Future)
        ]
        futures = self.client.compute([task for _, _, task in places], resources=dict(self.resources))
        for number, (item, attempt) in items.items():
            self._running[number] = _Running(item, attempt, dict(attempt.finished), 0)
        for (number, name, _), future in zip(places, futures, strict=True):
            self._running[number].futures[name] = future
            self._running[number].open += 1
            self._places[future.key] = number, name
        self._completed.add(*futures)

    def _settle(self, future: Future) -> Outcome | None:
        number, name = self._places.pop(future.key)
        running = self._running[number]
        running.open -= 1
        if running.attempt.number == 1:
            self.on_task(name)
        if running.open:
            return None
        del self._running[number]
        *independent, last = running.futures.values()
        failed = [each for each in independent if each.status == "error"] or [last] * (last.status == "error")
        if not failed:
            return Outcome(running.item, last.result())
        errors = [each.exception() for each in failed]
        lasting = [error for error in errors if not is_transient(error)]
        attempt = running.attempt.number
        if lasting or attempt == ATTEMPTS:
            return Outcome(running.item, error=(lasting or errors)[0], attempts=attempt)
        self.on_retry(running.item, errors[0])
        finished = {name: each for name, each in running.futures.items() if each.status == "finished"}
        # Dask also sends tasks that may run elsewhere to workers without their resources, where they wait forever.
        with nullcontext() if self.resources else _away_from(self.client, errors):
            self._submit({number: (running.item, Attempt(attempt + 1, finished))})
        return None


# Single tasks


class _Sent(NamedTuple):
    name: str
    function: Any
    args: tuple[Any, ...]
    attempt: int


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

    def results(self, futures: Sequence[Future]) -> Iterator[tuple[str, Any]]:
        """Yield name and result of tasks as they complete; raise the first error, or :class:`ClusterError`, at once."""
        completed = Completed(self.client, *futures)
        for future in completed:
            if again := self.retried(future):
                completed.add(again)
            else:
                yield self._sent.pop(future.key).name, future.result()

    def retried(self, future: Future) -> Future | None:
        """Submit a failed task again if its error may be due to its worker; raise any other error."""
        if future.status != "error":
            return None
        error, sent = future.exception(), self._sent.pop(future.key)
        if not is_transient(error) or sent.attempt == ATTEMPTS:
            raise explain(error)
        with _away_from(self.client, [error]):
            return self._submit(sent._replace(attempt=sent.attempt + 1))

    def wait(self, futures: Sequence[Future]) -> None:
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
        key = task_key(sent.name, self.job, sent.attempt)
        self._sent[key] = sent
        return self.client.submit(run_task, sent.function, *sent.args, key=key)


# Waiting


class Completed:
    """Futures in the order in which they complete; others may be added while it is iterated over.

    ``resources`` are those that the tasks need.
    """

    def __init__(self, client: Client, *futures: Future, resources: Mapping[str, float] = NO_RESOURCES) -> None:
        self._client, self._left, self._resources = client, 0, resources
        self._queue: SimpleQueue[Future] = SimpleQueue()
        self.add(*futures)

    def add(self, *futures: Future) -> None:
        """Add futures."""
        self._left += len(futures)
        for future in futures:
            future.add_done_callback(self._queue.put)

    def __iter__(self) -> Iterator[Future]:
        """Yield futures; :class:`ClusterError` without running workers for a minute, or without the scheduler."""
        seen = monotonic()
        while self._left:
            try:
                future = self._queue.get(timeout=_LOOK_S)
            except Empty:
                seen = self._look_for_workers(seen)
                continue
            if future.status == "cancelled":  # all are when the scheduler is lost
                raise lost_scheduler()
            self._left -= 1
            seen = monotonic()
            yield future
            del future

    def _look_for_workers(self, seen: float) -> float:
        """Return the time at which a worker was last seen running."""
        try:
            workers = capable_workers(self._client, self._resources).values()
        except OSError:
            raise lost_scheduler() from None
        states, now = [worker["status"] for worker in workers], monotonic()
        if "running" in states:
            return now
        if now - seen > WORKERS_TIMEOUT_S:
            raise _no_running_workers(self._client, states, self._resources)
        return seen


def _no_running_workers(client: Client, states: list[str], resources: Mapping[str, float]) -> ClusterError:
    where = client.scheduler.address
    offering = f" that offer {', '.join(resources)}" * bool(resources)
    if states:
        return ClusterError(
            f"All {len(states)} workers{offering} of the scheduler at {where} have been paused for {WORKERS_TIMEOUT_S} "
            "s because they are out of memory; give them more (--memory-limit), or fewer threads (--threads)."
        )
    return ClusterError(
        f"The scheduler at {where} has had no workers{offering} for {WORKERS_TIMEOUT_S} s; see in their logs why they "
        "ended, and start others. For an embedded cluster, run the same command again to resume."
    )
