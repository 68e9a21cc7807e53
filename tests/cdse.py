"""A stand-in of the Copernicus Data Space on loopback: catalogue, files of products, tokens; with seeded faults."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import shapely
import yaml

USER, PASSWORD = "someone@example.org", "correct horse battery staple"
_PIECE = 2**16
_CONDITIONS = {
    "start": r"ContentDate/Start gt (\S+)",
    "end": r"ContentDate/Start lt (\S+)",
    "mission": r"Collection/Name eq '([^']+)'",
    "kind": r"Name eq 'productType' and \S+ eq '([^']+)'",
    "tile": r"Name eq 'tileId' and \S+ eq '([^']+)'",
    "cloud": r"Name eq 'cloudCover' and \S+ le ([\d.]+)",
    "area": r"SRID=4326;(POLYGON\([^']+)'",
}


@dataclass(frozen=True)
class Product:
    """A product of the stand-in, with its files by path; folders that were empty are not among them."""

    name: str
    files: Mapping[str, bytes]
    kind: str = "S2MSI2A"
    cloud: float = 1.0
    is_online: bool = True
    bounds: tuple[float, float, float, float] = (16.0, 52.0, 17.5, 53.0)

    @property
    def id(self) -> str:
        """Identifier, made of the name."""
        text = hashlib.md5(self.name.encode(), usedforsecurity=False).hexdigest()
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

    @property
    def start(self) -> datetime:
        """Start of sensing in the name."""
        return datetime.strptime(re.search(r"_(\d{8}T\d{6})_", self.name)[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)

    @property
    def tile(self) -> str:
        """MGRS tile in the name; empty for Sentinel-1."""
        found = re.search(r"_T(\d{2}[A-Z]{3})_", self.name)
        return found[1] if found else ""

    @property
    def s3(self) -> str:
        """Key of its folder in the bucket."""
        return f"Sentinel-2/MSI/{self.start:%Y/%m/%d}/{self.name}.SAFE"

    def row(self) -> dict[str, Any]:
        """Row of the catalogue."""
        attributes = {"productType": self.kind, "tileId": self.tile, "cloudCover": self.cloud}
        return {
            "Id": self.id,
            "Name": f"{self.name}.SAFE",
            "ContentLength": sum(map(len, self.files.values())),
            "Online": self.is_online,
            "S3Path": f"/eodata/{self.s3}",
            "ContentDate": {"Start": f"{self.start:%Y-%m-%dT%H:%M:%S}.024000Z"},
            "GeoFootprint": json.loads(shapely.to_geojson(shapely.box(*self.bounds))),
            "Checksum": [],
            "Attributes": [{"Name": name, "Value": value} for name, value in attributes.items()],
        }


@dataclass
class Faults:
    """Shares of requests that go wrong, decided by seed, path and number of the request."""

    seed: int = 0
    busy: float = 0
    """429 or 503, with or without ``Retry-After``."""
    cut: float = 0
    """Body that ends in the middle."""
    wrong: float = 0
    """A flipped byte."""
    token_uses: int = 1_000_000
    """Requests after which a token is denied, although it should live on."""
    bytes_per_s: float | None = None
    """Rate of each connection."""
    connections: int = 4

    def draw(self, *of: object) -> float:
        """Draw a number from 0 to 1."""
        text = repr((self.seed, *of)).encode()
        return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64


@dataclass
class Cdse:
    """State of the stand-in, and what was asked of it."""

    products: list[Product]
    faults: Faults = field(default_factory=Faults)
    max_skip: int = 10_000
    tokens: dict[str, int] = field(default_factory=dict)
    """Uses that are left of each token."""
    logins: int = 0
    refreshes: int = 0
    refused: int = 0
    """Logins that were refused."""
    requests: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    """Bytes of each file that were sent."""
    flipped: Counter[str] = field(default_factory=Counter)
    """Bytes of bodies with a flipped byte, by file."""
    busiest: int = 0
    watch: Callable[[str, int], None] = lambda _name, _number: None
    """Called with a file and the bytes that were sent of it, after each piece."""
    catalogue: str = ""
    download: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    active: int = 0

    def __post_init__(self) -> None:
        self.by_id = {product.id: product for product in self.products}
        self.rows = sorted(((product, product.row()) for product in self.products), key=lambda pair: pair[0].start)

    def provider(self, folder: Path, **more: str) -> Path:
        """Write the file that describes it as a provider."""
        addresses = {"catalogue": f"{self.catalogue}/odata/v1", "download": f"{self.catalogue}/odata/v1"}
        path = folder / "provider.yaml"
        path.write_text(yaml.safe_dump({"kind": "cdse", **addresses, "token": f"{self.catalogue}/token", **more}))
        return path

    def found(self, filters: str) -> list[dict[str, Any]]:
        """Rows that a filter lets pass, by time."""
        wanted = {name: match[1] for name, text in _CONDITIONS.items() if (match := re.search(text, filters))}
        area = shapely.from_wkt(wanted["area"]) if "area" in wanted else None
        start, end = (datetime.fromisoformat(wanted[name]) for name in ("start", "end"))
        return [
            row
            for product, row in self.rows
            if start < datetime.fromisoformat(row["ContentDate"]["Start"]) < end
            and product.kind == wanted["kind"]
            and wanted["mission"] == f"SENTINEL-{product.name[1]}"
            and product.tile == wanted.get("tile", product.tile)
            and product.cloud <= float(wanted.get("cloud", 100))
            and (area is None or area.intersects(shapely.box(*product.bounds)))
        ]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    cdse: Cdse
    is_download = False

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - of the base class
        pass

    def do_POST(self) -> None:
        form = {key: values[0] for key, values in parse_qs(self._body()).items()}
        cdse = self.cdse
        is_refresh = form.get("grant_type") == "refresh_token" and form.get("refresh_token", "").startswith("refresh-")
        if not is_refresh and (form.get("username"), form.get("password")) != (USER, PASSWORD):
            with cdse.lock:
                cdse.refused += 1
            self._answer(401, json.dumps({"error": "invalid_grant", "error_description": form.get("username")}))
            return
        with cdse.lock:
            cdse.refreshes += is_refresh
            cdse.logins += not is_refresh
            number = cdse.logins + cdse.refreshes
            cdse.tokens[f"secret-token-{number}"] = cdse.faults.token_uses
        answer = {"access_token": f"secret-token-{number}", "refresh_token": f"refresh-{number}", "expires_in": 600}
        self._answer(200, json.dumps(answer | {"refresh_expires_in": 3600}))

    def do_GET(self) -> None:
        cdse, parts = self.cdse, urlsplit(self.path)
        with cdse.lock:
            cdse.requests[parts.path] += 1
            number = cdse.requests[parts.path]
        if cdse.faults.draw("busy", parts.path, number) < cdse.faults.busy:
            status = 429 if number % 2 else 503
            waits = ({"Retry-After": "0"}, {}, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})
            self._answer(status, "", **waits[number % 3])
        elif parts.path == "/odata/v1/Products":
            self._search({key: values[0] for key, values in parse_qs(parts.query).items()})
        elif match := re.fullmatch(r"/odata/v1/Products\(([^)]+)\)/(.*)", parts.path):
            self._files(cdse.by_id[match[1]], match[2])
        else:
            self._answer(404, "")

    def _search(self, query: dict[str, str]) -> None:
        skip, top = int(query.get("$skip", 0)), int(query.get("$top", 20))
        if skip > self.cdse.max_skip:
            self._answer(422, json.dumps({"detail": f"skip must be at most {self.cdse.max_skip}"}))
            return
        rows = self.cdse.found(query["$filter"])
        answer: dict[str, Any] = {"value": rows[skip : skip + top]}
        if skip + top < len(rows):
            more = urlencode(query | {"$skip": str(skip + top)})
            answer["@odata.nextLink"] = f"{self.cdse.catalogue}/odata/v1/Products?{more}"
        self._answer(200, json.dumps(answer))

    def _files(self, product: Product, rest: str) -> None:
        names = [unquote(name) for name in re.findall(r"Nodes\(([^)]+)\)", rest)]
        if rest.endswith("/Nodes"):
            self._list(product, "/".join(names[1:]))
            return
        if not self.is_download:
            self._answer(302, "", Location=f"{self.cdse.download}{self.path}")
            return
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        with self.cdse.lock:
            left = self.cdse.tokens.get(token, 0)
            self.cdse.tokens[token] = left - 1
        if left <= 0:
            self._answer(401, "")
            return
        if rest == "$value":  # a zip file that is another one each time
            self._answer(200, f"zip {time.monotonic()}")
            return
        path = "/".join(names[1:])
        if path not in product.files or not product.is_online:
            self._answer(404, "")
            return
        with self.cdse.lock:
            self.cdse.active += 1
            self.cdse.busiest = max(self.cdse.busiest, self.cdse.active)
            is_refused = self.cdse.active > self.cdse.faults.connections
        try:
            if is_refused:
                self._answer(429, "", **{"Retry-After": "0"})
            else:
                self._send(product, path)
        finally:
            with self.cdse.lock:
                self.cdse.active -= 1

    def _list(self, product: Product, folder: str) -> None:
        start = f"{folder}/" if folder else ""
        inside = [path.removeprefix(start) for path in product.files if path.startswith(start)]
        names = Counter(path.partition("/")[0] for path in inside)
        nodes = [
            {
                "Name": name,
                "ContentLength": len(product.files.get(f"{start}{name}", b"")),
                "ChildrenNumber": 0 if f"{start}{name}" in product.files else number,
            }
            for name, number in names.items()
        ]
        self._answer(200, json.dumps({"result": nodes}))

    def _send(self, product: Product, path: str) -> None:
        """Send a file, or a part of it; perhaps with a flipped byte, and perhaps not to its end."""
        cdse, content = self.cdse, product.files[path]
        name = f"{product.name}/{path}"
        number = cdse.requests[urlsplit(self.path).path]
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        if start >= len(content) and start:
            self._answer(416, "", **{"Content-Range": f"bytes */{len(content)}"})
            return
        body = content[start:]
        if body and cdse.faults.draw("wrong", name, number) < cdse.faults.wrong:
            body = bytes([body[0] ^ 1]) + body[1:]
            with cdse.lock:
                cdse.flipped[name] += len(content)
        length = len(body)
        if cdse.faults.draw("cut", name, number) < cdse.faults.cut:
            body = body[: length // 2]
        self.send_response(206 if asked else 200)
        with cdse.lock:
            cdse.statuses[206 if asked else 200] += 1
        self.send_header("Content-Length", str(length))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        for place in range(0, len(body), _PIECE):
            piece = body[place : place + _PIECE]
            try:
                self.wfile.write(piece)
            except OSError:
                self.close_connection = True
                return
            with cdse.lock:
                cdse.sent[name] += len(piece)
            cdse.watch(name, cdse.sent[name])
            if cdse.faults.bytes_per_s:
                time.sleep(len(piece) / cdse.faults.bytes_per_s)
        if len(body) < length:
            self.close_connection = True

    def _body(self) -> str:
        return self.rfile.read(int(self.headers["Content-Length"])).decode()

    def _answer(self, status: int, text: str, **headers: str) -> None:
        with self.cdse.lock:
            self.cdse.statuses[status] += 1
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients are killed

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        # What is in the buffers of a killed client counts as sent.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
        return connection, address


@contextmanager
def serve_cdse(products: list[Product], faults: Faults | None = None, *, max_skip: int = 10_000) -> Iterator[Cdse]:
    """Serve products on two hosts of this machine: the catalogue sends whoever asks for a file to the other one."""
    cdse = Cdse(products, faults or Faults(), max_skip)
    servers = [
        _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"cdse": cdse, "is_download": is_download}))
        for is_download in (False, True)
    ]
    cdse.catalogue = f"http://127.0.0.1:{servers[0].server_port}"
    cdse.download = f"http://localhost:{servers[1].server_port}"
    for server in servers:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield cdse
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def make_product(name: str, *, nbytes: int = 2000, seed: int = 0, **more: Any) -> Product:
    """Make a product of random bytes with a manifest, and files that a job does not read."""
    mgrs, time_of = re.search(r"_T(\d{2}[A-Z]{3})_", name)[1], name.split("_")[2]
    level = name.split("_")[1].removeprefix("MSI")
    granule = f"GRANULE/{level}_T{mgrs}_A012345_{time_of}"
    image = f"T{mgrs}_{time_of}"
    if level == "L2A":
        bands = {10: "B02 B03 B04 B08 TCI AOT WVP", 20: "B02 B05 B06 B07 B8A B11 B12 SCL TCI", 60: "B01 B02 B09 SCL"}
        images = [f"R{side}m/{image}_{band}_{side}m.jp2" for side, names in bands.items() for band in names.split()]
    else:
        names = "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B10 B11 B12 TCI"
        images = [f"{image}_{band}.jp2" for band in names.split()]
    paths = [
        f"MTD_MSI{level}.xml",
        "INSPIRE.xml",
        f"{granule}/MTD_TL.xml",
        f"{granule}/QI_DATA/MSK_CLDPRB_20m.jp2",
        "DATASTRIP/DS_ESRI_20180507T120000_S20180507T100029/MTD_DS.xml",
        *(f"{granule}/IMG_DATA/{path}" for path in images),
    ]
    files = {path: _random_bytes(f"{seed} {name} {path}", nbytes) for path in paths}
    return Product(name, files | {"manifest.safe": manifest_of(files)}, f"S2MSI{level[1:]}", **more)


def manifest_of(files: Mapping[str, bytes]) -> bytes:
    """Make a manifest, with MD5 for one half of the files and SHA3-256 for the other."""
    entries = []
    for number, (path, content) in enumerate(files.items()):
        name, algorithm = (("MD5", "md5"), ("SHA3-256", "sha3_256"))[number % 2]
        digest = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest().upper()
        entries.append(
            f'<dataObject><byteStream mimeType="x" size="{len(content)}">'
            f'<fileLocation locatorType="URL" href="./{path}"/>'
            f'<checksum checksumName="{name}">{digest}</checksum></byteStream></dataObject>'
        )
    listed = "".join(entries)
    return (
        f'<?xml version="1.0"?><xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1"><dataObjectSection>{listed}'
        "</dataObjectSection></xfdu:XFDU>"
    ).encode()


def product_of_folder(folder: Path, **more: Any) -> Product:
    """Serve the files of a ``.SAFE`` folder."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return Product(folder.name.removesuffix(".SAFE"), files, **more)


def _random_bytes(text: str, number: int) -> bytes:
    return hashlib.shake_128(text.encode()).digest(number)
