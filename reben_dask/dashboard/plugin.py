"""The scheduler's part: it hears what jobs tell, and serves the page."""

from __future__ import annotations

from typing import Any

from distributed import Scheduler, SchedulerPlugin

from reben_dask.dashboard.boards import TOPIC, Boards
from reben_dask.dashboard.pages import handlers


class JobsPlugin(SchedulerPlugin):  # type: ignore[misc] # Dask tells no types
    """Keeps what jobs tell under the topic ``reben``, and adds the page to the scheduler's web server.

    The first job on a scheduler registers it; those after it find it there.

    Examples
    --------
    >>> client.register_plugin(JobsPlugin())  # doctest: +SKIP
    """

    name = TOPIC
    idempotent = True

    def __init__(self) -> None:
        self._boards = Boards()

    def start(self, scheduler: Scheduler) -> None:
        """Add the page, at ``/reben`` beside Dask's own ``/status``."""
        scheduler.http_application.add_handlers(".*", handlers(self._boards))

    def log_event(self, topic: str, msg: Any) -> None:
        """Hear an event."""
        if topic == TOPIC:
            self._boards.hear(msg)

    def remove_client(self, scheduler: Scheduler, client: str) -> None:  # noqa: ARG002 - Dask's signature
        """Note that the job of a client has ended with it."""
        self._boards.lost(client)
