"""A server of files with ranges, as object storage has them, and with faults on request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Served:
    """Address of a folder, what was asked for, and answers instead of files."""

    root: Path
    address: str = ""
    asked: list[str] = field(default_factory=list)
    answers: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)
    """Status and body by path; the first is given and removed, then the file."""
    token: str | None = None
    """Query that each request needs."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, served: Served, *arguments: object) -> None:
        self.served = served
        super().__init__(*arguments)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.served.asked.append(self.path)
        if waiting := self.served.answers.get(parts.path):
            self._answer(*waiting.pop(0))
            return
        if self.served.token and self.served.token not in parse_qs(parts.query).get("sig", []):
            self._answer(403, b"signature needed")
            return
        file = self.served.root / unquote(parts.path).strip("/")
        if not file.is_file():
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        content = file.read_bytes()
        if given := self.headers.get("Range"):
            start, _, end = given.removeprefix("bytes=").partition("-")
            if start:
                first, last = int(start), min(int(end or len(content) - 1), len(content) - 1)
            else:
                first, last = max(0, len(content) - int(end)), len(content) - 1
            headers = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
            self._answer(206 if first < len(content) else 416, content[first : last + 1], headers)
            return
        self._answer(200, content)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Accept-Ranges": "bytes", "ETag": '"0"', **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def serving(root: Path) -> Iterator[Served]:
    """Serve a folder on loopback while the block runs."""
    served = Served(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, served))
    served.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
