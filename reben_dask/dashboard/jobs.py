"""Page ``reben`` of a scheduler's dashboard: the tiles of its jobs that are done, in progress, rejected or failed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from threading import Event, Lock, Thread
from time import time
from typing import Any, Self

from distributed import Client, Scheduler, SchedulerPlugin
from distributed.utils import color_of
from tornado.web import RequestHandler

from reben_dask.cluster import CONNECTED
from reben_dask.progress import TITLES
from reben_dask.workspace import first_line

TOPIC = "reben"
"""Topic of the events (``client.get_events("reben")``), and name of the page."""

JOBS_KEPT = 8
"""Jobs that the scheduler remembers; the oldest are forgotten."""

GONE = "its client is gone; run the same command again to resume"

GROUPS = {
    "landcover": "sort-landcover",
    "bands": "band",
    "choice": "images",
}
"""Dask's task groups by stage, if named differently; the page uses the dashboard's colours."""

_PERIOD_S = 1.0
_PATIENCE_S = 5.0
"""Maximum wait for pending messages at the end of a job."""

_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_ANYWHERE = rf"(?:/[^/]+)*/{TOPIC}"


# On the scheduler


@dataclass
class Job:
    """State of one job."""

    facts: dict[str, Any]
    """``recipe``, ``out``, number of ``tiles``, and ``client``."""
    started: float
    stages: list[dict[str, Any]] = field(default_factory=list)
    """Each with ``title``, ``group`` (of Dask's tasks), ``done`` and ``total``."""
    changes: list[tuple[str, str, str]] = field(default_factory=list)
    """Name, new state and remark of tiles, in order; a tile without any is waiting."""
    ended: str | None = None
    """Error that ended the job: empty if none, ``None`` while it runs."""
    end: float | None = None

    def stop(self, how: str) -> None:
        """Record the end, unless there is one already."""
        if self.ended is None:
            self.ended, self.end = how, time()


class JobRegistry:
    """Jobs of a scheduler by id, the latest last."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def update(self, message: object) -> None:
        """Record an event (``job``, any of ``begin``, ``stages``, ``tiles``, ``end``); other messages are ignored."""
        if not isinstance(message, Mapping) or "job" not in message:
            return
        name = str(message["job"])
        if "begin" in message:
            self._jobs[name] = Job(dict(message["begin"]), time())
            for old in list(self._jobs)[:-JOBS_KEPT]:
                del self._jobs[old]
        if job := self._jobs.get(name):
            job.stages = list(message.get("stages", job.stages))
            job.changes += [(tile, state, remark) for tile, state, remark in message.get("tiles", ())]
            if "end" in message:
                job.stop(message["end"])

    def mark_disconnected(self, client: str) -> None:
        """Record that a client is gone, which ends its job."""
        for job in self._jobs.values():
            if job.facts.get("client") == client:
                job.stop(GONE)

    def changes_since(self, seen: Mapping[str, int]) -> list[dict[str, Any]]:
        """Return the jobs as JSON, the latest first, with the changes of tiles after the ``seen`` ones."""
        return [
            {
                "job": name,
                **{fact: value for fact, value in job.facts.items() if fact != "client"},
                "seconds": (job.end or time()) - job.started,
                "stages": job.stages,
                "known": min(seen.get(name, 0), len(job.changes)),
                "changes": job.changes[seen.get(name, 0) :],
                "ended": job.ended,
            }
            for name, job in reversed(self._jobs.items())
        ]


class JobsPlugin(SchedulerPlugin):  # type: ignore[misc] # Dask has no types
    """Jobs of a scheduler and their page on its web server; the first job registers it for all."""

    name = TOPIC
    idempotent = True

    def __init__(self) -> None:
        self._registry = JobRegistry()

    def start(self, scheduler: Scheduler) -> None:
        """Add the page, at ``/reben`` beside Dask's own ``/status``."""
        routes: list[tuple[Any, ...]] = [
            (rf"{_ANYWHERE}/?()", FileHandler),
            (rf"{_ANYWHERE}/(page\.css|page\.js)", FileHandler),
            (rf"{_ANYWHERE}/jobs\.json", JobsHandler, {"registry": self._registry}),
        ]
        scheduler.http_application.add_handlers(".*", routes)

    def log_event(self, topic: str, msg: Any) -> None:
        """Record an event."""
        if topic == TOPIC:
            self._registry.update(msg)

    def remove_client(self, scheduler: Scheduler, client: str) -> None:  # noqa: ARG002 - Dask's signature
        """Record that the job of a client has ended with it."""
        self._registry.mark_disconnected(client)


class _Handler(RequestHandler):
    def set_default_headers(self) -> None:
        """Load nothing from elsewhere, and cache nothing: the next job may come with another version."""
        self.set_header("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; "
                        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'")  # fmt: skip
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")


class FileHandler(_Handler):
    """The page, its style and its script."""

    def get(self, name: str) -> None:
        """Send a file of this package."""
        name = name or "page.html"
        self.set_header("Content-Type", f"{_KINDS[name.rpartition('.')[2]]}; charset=utf-8")
        self.finish(files(__package__).joinpath("static", name).read_bytes())


class JobsHandler(_Handler):
    """Data of the page."""

    def initialize(self, registry: JobRegistry) -> None:
        """Set the source of the data."""
        self._registry = registry

    def get(self) -> None:
        """Send the changes that a page lacks; its query names those that it has as ``?seen=JOB:CHANGES``."""
        pairs = (text.rpartition(":") for text in self.get_query_arguments("seen"))
        seen = {job: int(count) for job, _, count in pairs if count.isascii() and count.isdigit()}
        jobs = self._registry.changes_since(seen)
        for job in jobs:
            job["stages"] = [{**stage, "colour": color_of(stage["group"])} for stage in job["stages"]]
        self.finish({"jobs": jobs})


# On the client


class DashboardReporter:
    """View of a job's progress that sends it to the page once a second, and at the end its outcome."""

    def __init__(self, client: Client, job: str, facts: Mapping[str, Any]) -> None:
        self._client, self._job, self._facts = client, job, facts
        self._lock, self._stopped = Lock(), Event()
        self._thread = Thread(target=self._send_loop, daemon=True)
        self._done: Mapping[str, int] = {}
        self._totals: Mapping[str, int] = {}
        self._tiles: list[tuple[str, str, str]] = []

    def __enter__(self) -> Self:
        self.send(begin={**self._facts, "client": self._client.id})
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._stopped.set()
        # The end must be the last message.
        self._thread.join(_PATIENCE_S)
        interrupted = isinstance(error, KeyboardInterrupt)
        with suppress(OSError):
            self.send(end="interrupted" if interrupted else first_line(error) if error else "")

    def show(self, done: Mapping[str, int], totals: Mapping[str, int]) -> None:
        """Keep the steps of each stage."""
        self._done, self._totals = done, totals

    def tile(self, name: str, state: str, remark: str) -> None:
        """Keep the state of a tile."""
        with self._lock:
            self._tiles.append((name, state, remark))

    def send(self, **more: Any) -> None:
        """Send new changes, and ``more``, unless the scheduler is lost."""
        with self._lock:
            tiles, self._tiles = self._tiles, []
        if self._client.status == CONNECTED:
            stages = [
                {"title": TITLES[stage], "group": GROUPS.get(stage, stage), "done": self._done[stage], "total": total}
                for stage, total in self._totals.items()
            ]
            self._client.log_event(TOPIC, {"job": self._job, "stages": stages, "tiles": tiles, **more})

    def _send_loop(self) -> None:
        with suppress(OSError):
            while not self._stopped.wait(_PERIOD_S):
                self.send()


def add_page(client: Client) -> str | None:
    """Have the scheduler serve the page; return its address, ``None`` if this package is not installed there."""
    try:
        client.register_plugin(JobsPlugin())
    except Exception:  # noqa: BLE001 - whatever a scheduler raises that cannot unpickle the plugin
        return None
    return f"{client.dashboard_link.removesuffix('status')}{TOPIC}"
