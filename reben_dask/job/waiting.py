"""Waiting for tasks: never for ones that nobody works on any more."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic, sleep

from distributed import Client, Future, as_completed
from distributed.scheduler import KilledWorker

from reben_dask.cluster import WORKERS_TIMEOUT_S, lost_scheduler
from reben_dask.errors import ClusterError

_POLL_S, _LOOK_S = 0.02, 5.0
"""How often the client looks for tasks that have ended, and, while none do, whether there are workers."""

_WORKING = "running"
"""State of a worker that takes tasks."""


def as_they_end(client: Client, futures: as_completed) -> Iterator[Future]:
    """Futures as they end, with results or errors, as long as there is someone who works on them.

    Parameters
    ----------
    client : Client
        The cluster.
    futures : as_completed
        The futures; more may be added meanwhile.

    Raises
    ------
    ClusterError
        If for a minute there have been no workers, or only paused ones, or if the scheduler is lost.
    """
    look = seen = monotonic()
    while not futures.is_empty():
        if futures.has_ready():
            yield _known(next(futures))
            look = seen = monotonic()
            continue
        sleep(_POLL_S)
        if monotonic() - look > _LOOK_S:
            states = _worker_states(client)
            look = monotonic()
            seen = look if _WORKING in states else seen
            if look - seen > WORKERS_TIMEOUT_S:
                raise _nobody_works(client, states)


def _known(future: Future) -> Future:
    """A client that loses its scheduler takes its tasks for cancelled."""
    if future.status == "cancelled":
        raise lost_scheduler()
    return future


def _worker_states(client: Client) -> list[str]:
    try:
        return [worker["status"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]
    except OSError:
        raise lost_scheduler() from None


def _nobody_works(client: Client, states: list[str]) -> ClusterError:
    where = client.scheduler.address
    if states:
        return ClusterError(
            f"All {len(states)} workers of the scheduler at {where} have been paused for {WORKERS_TIMEOUT_S} s, for "
            "want of memory; give them more (--memory-limit), or fewer threads (--threads)."
        )
    return ClusterError(
        f"The scheduler at {where} has had no workers for {WORKERS_TIMEOUT_S} s; see in their logs why they ended, and "
        "start others. An embedded cluster has new ones when the same command is given again."
    )


def explained(error: BaseException) -> BaseException:
    """The error of a task; one that has ended several workers says what to change, which is nearly always memory."""
    if not isinstance(error, KilledWorker):
        return error
    return ClusterError(
        f"The task {error.task} ended every worker that tried it, most likely for want of memory; "
        "give workers more (--memory-limit), or fewer threads (--threads)."
    )
