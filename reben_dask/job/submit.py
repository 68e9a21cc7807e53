"""Single tasks of a job, besides those of the graph of its tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from distributed import Client, Future, as_completed

from reben_dask.progress import StageProgress


class Tasks:
    """Single tasks of one job; its id keeps their names apart from those of other jobs on the cluster."""

    def __init__(self, client: Client, job: str) -> None:
        self.client, self.job = client, job

    def submit(self, name: str, function: Any, *args: Any, **kwargs: Any) -> Future:
        """Send a task to the cluster."""
        return self.client.submit(function, *args, **kwargs, key=f"{name}-{self.job}")

    def run(self, name: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Send a task to the cluster and wait for its result."""
        return self.submit(name, function, *args, **kwargs).result()

    def wait(self, futures: Sequence[Future]) -> None:
        """Wait for all of them; the error of the first that fails is raised as soon as it is known."""
        for future in as_completed(futures):
            future.result()

    @contextmanager
    def heard(self, stage: str, progress: StageProgress) -> Iterator[str]:
        """A topic on which tasks tell how much of a stage they have done."""
        topic = f"{stage}-{self.job}"
        self.client.subscribe_topic(topic, lambda event: progress.advance(stage, event[1]))
        try:
            yield topic
        finally:
            self.client.unsubscribe_topic(topic)
