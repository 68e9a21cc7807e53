"""Telling the ``reben`` page of the scheduler how far a job is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Any, Self

from distributed import Client

from reben_dask.cluster import CONNECTED
from reben_dask.dashboard.boards import TOPIC
from reben_dask.dashboard.plugin import JobsPlugin
from reben_dask.output.state import sentence
from reben_dask.progress import TITLES

GROUPS = {
    "landcover": "sort-landcover",
    "bands": "band",
    "patches": "patches-fused",
    "choice": "images",
}
"""Names of Dask's task groups by stage, where they are not the stage's own: the page has the dashboard's colours."""

_EVERY_S = 1.0
_PATIENCE_S = 5.0
"""How long the end of a job waits for a message that is on its way."""


class Announcer:
    """Tells the page about a job as long as a block runs, and then how it ended.

    It is a :class:`~reben_dask.progress.View` of the job's progress; what it sees it sends once a second, until the
    block ends or the scheduler is lost.

    Parameters
    ----------
    client : Client
        The cluster.
    job : str
        Id of the job.
    facts : mapping
        ``recipe``, ``out`` and number of ``tiles``.
    """

    def __init__(self, client: Client, job: str, facts: Mapping[str, Any]) -> None:
        self._client, self._job, self._facts = client, job, facts
        self._lock, self._stopped = Lock(), Event()
        self._thread = Thread(target=self._tell_regularly, daemon=True)
        self._done: Mapping[str, int] = {}
        self._totals: Mapping[str, int] = {}
        self._tiles: list[tuple[str, str, str]] = []

    def __enter__(self) -> Self:
        self.tell(begin={**self._facts, "client": self._client.id})
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._stopped.set()
        # What is told last must come last.
        self._thread.join(_PATIENCE_S)
        with suppress(OSError):
            self.tell(end=_how(error))

    def show(self, done: Mapping[str, int], totals: Mapping[str, int]) -> None:
        """Keep how far each stage is."""
        self._done, self._totals = done, totals

    def tile(self, name: str, state: str, remark: str) -> None:
        """Keep the state of a tile."""
        with self._lock:
            self._tiles.append((name, state, remark))

    def tell(self, **more: Any) -> None:
        """Send what is new, unless there is no scheduler any more; ``more`` goes with it."""
        with self._lock:
            tiles, self._tiles = self._tiles, []
        if self._client.status == CONNECTED:
            self._client.log_event(TOPIC, {"job": self._job, "stages": self._stages(), "tiles": tiles, **more})

    def _stages(self) -> list[dict[str, Any]]:
        return [
            {"title": TITLES[stage], "group": GROUPS.get(stage, stage), "done": self._done[stage], "total": total}
            for stage, total in self._totals.items()
        ]

    def _tell_regularly(self) -> None:
        with suppress(OSError):
            while not self._stopped.wait(_EVERY_S):
                self.tell()


def _how(error: BaseException | None) -> str:
    """How a job ended, in a sentence; empty if well."""
    if error is None:
        return ""
    return "interrupted" if isinstance(error, KeyboardInterrupt) else sentence(error)


def add_page(client: Client) -> str | None:
    """Have the scheduler serve the page.

    Parameters
    ----------
    client : Client
        The cluster.

    Returns
    -------
    str or None
        Address of the page; ``None`` if the scheduler cannot serve it, most often because this package is not
        installed where it runs. Nothing else depends on it.
    """
    try:
        client.register_plugin(JobsPlugin())
    except Exception:  # noqa: BLE001 - whatever a scheduler raises that cannot unpack the plugin
        return None
    return f"{client.dashboard_link.removesuffix('status')}{TOPIC}"
