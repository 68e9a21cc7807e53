"""The page and its data over HTTP."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from distributed.utils import color_of
from tornado.web import RequestHandler

from reben_dask.dashboard.boards import TOPIC, Boards

_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_ANYWHERE = rf"(?:/[^/]+)*/{TOPIC}"
"""Path of the page, whatever prefix the dashboard has."""


def handlers(boards: Boards) -> list[tuple[Any, ...]]:
    """Routes of the page, as Tornado takes them."""
    return [
        (rf"{_ANYWHERE}/?()", FileHandler),
        (rf"{_ANYWHERE}/(page\.css|page\.js)", FileHandler),
        (rf"{_ANYWHERE}/jobs\.json", JobsHandler, {"boards": boards}),
    ]


class _Handler(RequestHandler):
    def set_default_headers(self) -> None:
        """Load nothing from elsewhere, and keep nothing: the next job may come with another version."""
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
    """What jobs have told."""

    def initialize(self, boards: Boards) -> None:
        """Take what is shown."""
        self._boards = boards

    def get(self) -> None:
        """Send what a page does not know yet; it says what it knows as ``?seen=JOB:CHANGES``, once for each job."""
        pairs = (text.rpartition(":") for text in self.get_query_arguments("seen"))
        seen = {job: int(count) for job, _, count in pairs if count.isascii() and count.isdigit()}
        jobs = self._boards.since(seen)
        for job in jobs:
            job["stages"] = [{**stage, "colour": color_of(stage["group"])} for stage in job["stages"]]
        self.finish({"jobs": jobs})
