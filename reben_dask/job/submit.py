"""Single tasks of a job, besides those of the graph of its tiles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from distributed import Client, Future, as_completed
from distributed.scheduler import KilledWorker

from reben_dask.job.carrying import Carrying
from reben_dask.job.waiting import as_they_end, explained
from reben_dask.job.window import RETRIES
from reben_dask.progress import StageProgress

ATTEMPTS = 3
"""How often a task is sent that ends its workers; each time, the scheduler tries several."""


class _Sent(NamedTuple):
    """A task as it was sent, to send it again."""

    name: str
    function: Any
    args: tuple[Any, ...]
    attempt: int


class Tasks:
    """Single tasks of one job; its id keeps their names apart from those of other jobs on the cluster."""

    def __init__(self, client: Client, job: str) -> None:
        self.client, self.job = client, job
        self._sent: dict[str, _Sent] = {}

    def submit(self, name: str, function: Any, *args: Any) -> Future:
        """Send a task to the cluster."""
        return self._submit(_Sent(name, function, args, 1))

    def run(self, name: str, function: Any, *args: Any) -> Any:
        """Send a task to the cluster and wait for its result."""
        return next(self.results([self.submit(name, function, *args)]))[1]

    def results(self, futures: list[Future]) -> Iterator[tuple[str, Any]]:
        """Name and result of each task, as they come; the error of the first that fails is raised at once.

        Raises
        ------
        ClusterError
            If the scheduler or all workers are lost, or a task has ended all workers that tried it.
        """
        waiting = as_completed(futures)
        for future in as_they_end(self.client, waiting):
            sent = self._sent.pop(future.key)
            try:
                result = future.result()
            except KilledWorker as error:
                if sent.attempt == ATTEMPTS:
                    raise explained(error) from None
                waiting.add(self._submit(sent._replace(attempt=sent.attempt + 1)))
            else:
                yield sent.name, result

    def wait(self, futures: list[Future]) -> None:
        """Wait for all of them; errors are those of :meth:`results`."""
        for _ in self.results(futures):
            pass

    @contextmanager
    def heard(self, stage: str, progress: StageProgress) -> Iterator[str]:
        """A topic on which tasks tell how much of a stage they have done."""
        topic = f"{stage}-{self.job}"
        self.client.subscribe_topic(topic, lambda event: progress.advance(stage, event[1]))
        try:
            yield topic
        finally:
            self.client.unsubscribe_topic(topic)

    def _submit(self, sent: _Sent) -> Future:
        key = f"{sent.name}-{self.job}" + f"-{sent.attempt}" * (sent.attempt > 1)
        self._sent[key] = sent
        return self.client.submit(Carrying(sent.function), *sent.args, key=key, retries=RETRIES)
