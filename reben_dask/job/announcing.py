"""Telling the ``reben`` page of the scheduler how far a job is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Event, Lock, Thread
from typing import Any

from distributed import Client

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

_CONNECTED = "running"


class Announcer:
    """What a job has to tell, until it is told; a :class:`~reben_dask.progress.View` of its progress.

    Parameters
    ----------
    client : Client
        The cluster.
    job : str
        Id of the job.
    """

    def __init__(self, client: Client, job: str) -> None:
        self._client, self._job = client, job
        self._lock, self._stopped = Lock(), Event()
        self._thread = Thread(target=self._tell_regularly, daemon=True)
        self._stages: list[dict[str, Any]] = []
        self._tiles: list[tuple[str, str, str]] = []

    def show(self, done: Mapping[str, int], totals: Mapping[str, int]) -> None:
        """Keep how far each stage is."""
        self._stages = [
            {"title": TITLES[stage], "group": GROUPS.get(stage, stage), "done": done[stage], "total": total}
            for stage, total in totals.items()
        ]

    def tile(self, name: str, state: str, remark: str) -> None:
        """Keep the state of a tile."""
        with self._lock:
            self._tiles.append((name, state, remark))

    def tell(self, **more: Any) -> None:
        """Send what is new, unless there is no scheduler any more; ``more`` goes with it."""
        with self._lock:
            tiles, self._tiles = self._tiles, []
        if self._client.status == _CONNECTED:
            self._client.log_event(TOPIC, {"job": self._job, "stages": self._stages, "tiles": tiles, **more})

    def start(self) -> None:
        """Send what is new every second, until :meth:`stop` is called or the scheduler is lost."""
        self._thread.start()

    def stop(self) -> None:
        """Send nothing any more of one's own accord: what is told last must come last."""
        self._stopped.set()
        self._thread.join(_PATIENCE_S)

    def _tell_regularly(self) -> None:
        with suppress(OSError):
            while not self._stopped.wait(_EVERY_S):
                self.tell()


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


@contextmanager
def announced(client: Client, job: str, facts: Mapping[str, Any]) -> Iterator[Announcer]:
    """Tell the page about a job as long as the block runs, and then how it ended.

    Parameters
    ----------
    client : Client
        The cluster.
    job : str
        Id of the job.
    facts : mapping
        ``recipe``, ``out`` and number of ``tiles``.
    """
    announcer = Announcer(client, job)
    announcer.tell(begin={**facts, "client": client.id})
    announcer.start()
    how = ""
    try:
        yield announcer
    except BaseException as error:
        how = "interrupted" if isinstance(error, KeyboardInterrupt) else sentence(error)
        raise
    finally:
        announcer.stop()
        with suppress(OSError):
            announcer.tell(end=how)
