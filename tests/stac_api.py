"""A stand-in of a STAC API on loopback, with its files and anonymous signatures that end."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

CONFORMS = ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]


@dataclass
class StacApi:
    """State of the stand-in, and what was asked of it."""

    files: dict[str, bytes]
    """Content by path."""
    items: list[dict[str, Any]] = field(default_factory=list)
    signature_uses: int | None = None
    """Requests after which a signature is denied; ``None`` needs none."""
    requests: Counter[str] = field(default_factory=Counter)
    searches: list[dict[str, Any]] = field(default_factory=list)
    signatures: Counter[str] = field(default_factory=Counter)
    """Uses of each signature."""
    address: str = ""


def item_of(
    name: str, start: str, bounds: tuple[float, ...], hrefs: dict[str, str], **properties: Any
) -> dict[str, Any]:
    """Make an item."""
    west, south, east, north = bounds
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": list(bounds),
        "properties": {"datetime": start, **properties},
        "links": [],
        "assets": {key: {"href": href} for key, href in hrefs.items()},
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    api: StacApi

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - of the base class
        pass

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.api.searches.append(query)
        self._json({"type": "FeatureCollection", "features": self.api.items, "links": []})

    def do_GET(self) -> None:
        api, parts = self.api, urlsplit(self.path)
        api.requests[parts.path] += 1
        if parts.path == "/stac":
            links = [
                {
                    "rel": "search",
                    "href": f"{api.address}/stac/search",
                    "method": "POST",
                    "type": "application/geo+json",
                }
            ]
            links += [{"rel": rel, "href": f"{api.address}/stac"} for rel in ("self", "root")]
            about = {"type": "Catalog", "id": "a", "description": "a", "stac_version": "1.0.0"}
            self._json(about | {"links": links, "conformsTo": CONFORMS})
        elif parts.path.startswith("/sas/"):
            signature = f"sig=secret-signature-{len(api.signatures)}"
            api.signatures[signature] = 0
            self._json(
                {"token": signature, "msft:expiry": f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"}
            )
        elif api.signature_uses is not None and not self._may_use(parts.query):
            self._answer(403, b"")
        elif parts.path in api.files:
            self._answer(200, api.files[parts.path], ETag=f'"{hash(api.files[parts.path])}"')
        else:
            self._answer(404, b"")

    def _may_use(self, signature: str) -> bool:
        is_known = signature in self.api.signatures
        self.api.signatures[signature] += is_known
        return is_known and self.api.signatures[signature] <= (self.api.signature_uses or 0)

    def _json(self, content: Any) -> None:
        self._answer(200, json.dumps(content).encode(), **{"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serve_stac(files: dict[str, bytes], signature_uses: int | None = None) -> Iterator[StacApi]:
    """Serve files and, once they are added, items that refer to them."""
    api = StacApi(files, signature_uses=signature_uses)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": api}))
    server.daemon_threads = True
    api.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
