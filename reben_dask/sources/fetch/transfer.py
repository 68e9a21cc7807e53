"""Transfers of products: in parallel, resumed by ranges, each file checked, with a record of each file's source."""

from __future__ import annotations

import errno
import hashlib
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock
from typing import Any, NamedTuple, Protocol

import requests

from reben_dask import __version__
from reben_dask.atomic import atomic_path, read_json, write_json
from reben_dask.errors import FetchError, OutputError
from reben_dask.formats.dataset import without_credentials
from reben_dask.sources.fetch.catalogue import RemoteProduct
from reben_dask.sources.fetch.contents import Contents, RemoteFile
from reben_dask.sources.fetch.http import Access, HttpClient, HttpStatusError, TransientError
from reben_dask.sources.fetch.provider import Limits
from reben_dask.sources.sentinel2.archive import ALGORITHMS

RECORD_FILE = "fetch-record.json"

MAX_WRONG_SUMS = 3
"""Downloads of one file with a wrong checksum, after which it fails."""

SHA256 = "sha256"

_FORMAT = 1
_RECORD_S = 10.0
"""Time between writes of the record, during which files of finished products are only on disk."""

_PIECE_BYTES = 2**22
_OPEN_PRODUCTS = 2
_SLOW_MARGIN = 1.5
_NOT_SATISFIABLE, _PARTIAL = 416, 206


class FileRecord(NamedTuple):
    """A file that was fetched and checked."""

    path: str
    bytes: int
    sha256: str
    checked: str | None
    """Algorithm of the provider's checksum; ``None`` if it has none."""


class Reporter(Protocol):
    """Receiver of progress, called from several threads."""

    def expect(self, nbytes: int) -> None:
        """Correct the total by a number of bytes."""

    def advance(self, nbytes: int) -> None:
        """Add bytes that were received."""

    def note(self, text: str) -> None:
        """Show a sentence."""


@dataclass
class SpeedMeter:
    """Detector of a provider that has reduced the transfer rate."""

    limits: Limits
    window_s: float = 60.0
    clock: Callable[[], float] = time.monotonic
    _started: float | None = None
    _received: int = 0
    _has_told: bool = False

    def add(self, nbytes: int) -> float | None:
        """Add received bytes; return the rate in bytes/s, once, if a minute was as slow as after the quota."""
        now = self.clock()
        if self._started is None:
            self._started = now
        self._received += nbytes
        elapsed = now - self._started
        if elapsed < self.window_s:
            return None
        rate = self._received / elapsed
        self._started, self._received = now, 0
        if self._has_told or rate > _SLOW_MARGIN * self.limits.slow_bytes_per_s:
            return None
        self._has_told = True
        return rate


@dataclass
class FetchRecord:
    """Source and time of each fetched product, ``OUT/fetch-record.json``."""

    provider: Mapping[str, Any]
    """URLs of the provider."""
    query: Mapping[str, Any]
    products: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By the name of the folder: ``id``, ``source``, ``finished``, ``files`` (path, bytes, sha256, checked)."""
    failed: dict[str, str] = field(default_factory=dict)
    offline: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @classmethod
    def resume(cls, out: Path, provider: Mapping[str, Any], query: Mapping[str, Any]) -> FetchRecord:
        """Make a record for a query, with the finished products of an earlier one in the same folder."""
        earlier = read_json(out / RECORD_FILE)
        products = earlier.get("products") if isinstance(earlier, dict) and earlier.get("format") == _FORMAT else None
        return cls(provider, query, products if isinstance(products, dict) else {})

    def files_of(self, folder: str) -> dict[str, FileRecord]:
        """Files of a finished product, by path; empty for others."""
        try:
            found = [FileRecord(**entry) for entry in self.products[folder]["files"]]
        except (KeyError, TypeError):
            return {}
        return {entry.path: entry for entry in found}

    def add(self, product: RemoteProduct, contents: Contents, files: Sequence[FileRecord]) -> None:
        """Add a finished product."""
        places = [file.address for file in contents.files]
        self.failed.pop(product.name, None)
        self.products[contents.folder] = {
            "id": product.id or product.name,
            "source": without_credentials(
                product.s3 if places and places[0].startswith("s3:") else places[0] if places else ""
            ),
            "finished": _now(),
            "files": [entry._asdict() for entry in sorted(files)],
        }

    def write(self, out: Path) -> None:
        """Write the record into the folder of the products."""
        content = {"format": _FORMAT, "reben_dask": __version__, "written": _now(), **asdict(self)}
        write_json(out / RECORD_FILE, content, indent=1)


class Transfer:
    """Transfer of single files into folders of products.

    Parameters
    ----------
    client : HttpClient
        Client with the number of connections.
    access : Access
        Credentials.
    reporter : Reporter
        Receiver of progress.
    """

    def __init__(self, client: HttpClient, access: Access, reporter: Reporter, meter: SpeedMeter | None = None) -> None:
        self._client, self._access, self._reporter, self._meter = client, access, reporter, meter
        self._lock = Lock()

    def read(self, address: str) -> bytes:
        """Read a small file."""
        return self._client.get(address, self._access)

    def fetch(self, file: RemoteFile, folder: Path, recorded: FileRecord | None = None) -> FileRecord | None:
        """Fetch a file, unless it exists; return its record, ``None`` for an optional file that is missing.

        The file appears under its name once its checksum is right. A part of it stays as a hidden ``.part`` file, from
        which the next call continues.

        Raises
        ------
        FetchError
            If it cannot be fetched, or its checksum was wrong three times.
        OutputError
            If it cannot be written.
        """
        target = folder / file.path
        try:
            if present := _present(file, target, recorded):
                self._reporter.advance(present.bytes)
                return present
            target.parent.mkdir(parents=True, exist_ok=True)
            for _ in range(MAX_WRONG_SUMS):
                self._reporter.advance(_size(_find_part(target, file)))
                part = self._client.retry(lambda: self._append(file, target), lambda: _size(_find_part(target, file)))
                found = _checked(file, part)
                if isinstance(found, FileRecord):
                    part.replace(target)
                    return found
                self._reporter.expect(part.stat().st_size)
                part.unlink()
        except HttpStatusError as error:
            if file.is_optional and error.status in {403, 404}:
                return None
            raise
        except OSError as error:
            reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
            raise OutputError(f"{target} cannot be written ({reason}).") from None
        raise FetchError(f"{file.path} is damaged at the provider: {found}, {MAX_WRONG_SUMS} times in a row.")

    def _append(self, file: RemoteFile, target: Path) -> Path:
        """Request the missing part of a file, once; :class:`TransientError` if it is still not complete."""
        part = _find_part(target, file)
        start = _size(part)
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._client.stream(file.address, self._access, headers) as response:
            total = _total(response)
            wanted = _part_name(target, file, response.headers)
            is_same = part is None or part == wanted
            if response.status_code == _NOT_SATISFIABLE:
                if part is not None and is_same and start == (total if total is not None else file.size):
                    return part
                self._discard(part, start)
                raise TransientError(f"{file.path} is shorter than what was received", 0)
            goes_on = start and response.status_code == _PARTIAL
            if goes_on and (not is_same or not _starts_at(response.headers, start)):
                self._discard(part, start)
                raise TransientError(f"{file.path} has changed at the provider", 0)
            if start and not goes_on:
                self._discard(part, start)
            # Unbuffered: what was received outlives a killed process.
            with wanted.open("ab" if goes_on else "wb", buffering=0) as out:
                for chunk in self._client.chunks(response):
                    out.write(chunk)
                    self._received(len(chunk))
        size, expected = wanted.stat().st_size, total if total is not None else file.size
        if expected is not None and size < expected:
            raise TransientError(f"{file.path} ended after {size:,} of {expected:,} bytes")
        return wanted

    def _discard(self, part: Path | None, start: int) -> None:
        if part is not None:
            part.unlink(missing_ok=True)
            self._reporter.expect(start)

    def _received(self, nbytes: int) -> None:
        self._reporter.advance(nbytes)
        if self._meter is None or not (limits := self._meter.limits).quota_bytes:
            return
        with self._lock:
            rate = self._meter.add(nbytes)
        if rate is not None:
            self._reporter.note(
                f"The provider sends {rate / 1e6:.1f} MB/s. After {limits.quota_bytes / 1e12:g} TB in "
                f"{limits.quota_days} days it slows a user to {limits.slow_bytes_per_s / 1e6:g} MB/s; the "
                "transfer continues, and the same command resumes it later."
            )


@dataclass(eq=False)
class _Open:
    """A product whose files are being fetched."""

    product: RemoteProduct
    contents: Contents
    waiting: deque[RemoteFile]
    running: int = 0
    records: list[FileRecord] = field(default_factory=list)
    is_failed: bool = False

    @property
    def key_file(self) -> RemoteFile | None:
        """File that is fetched last, unless it has been."""
        if any(entry.path == self.contents.key for entry in self.records):
            return None
        return next((file for file in self.contents.files if file.path == self.contents.key), None)


class ProductQueue:
    """Transfer of products, a few at a time; the record lists finished products, and failed ones with the reason.

    A product that fails does not keep others from being fetched.

    Parameters
    ----------
    transfers : mapping of str to Transfer
        Transfer of files, by collection.
    list_contents : callable
        Lists the files of a product.
    record : FetchRecord
        Record to complete.
    out : Path
        Folder of all products.
    reporter : Reporter
        Receiver of progress.
    """

    def __init__(
        self,
        transfers: Mapping[str, Transfer],
        list_contents: Callable[[RemoteProduct], Contents],
        record: FetchRecord,
        out: Path,
        reporter: Reporter,
    ) -> None:
        self._transfers, self._list, self._record = transfers, list_contents, record
        self._out, self._reporter = out, reporter
        self._queue: deque[RemoteProduct] = deque()
        self._open: list[_Open] = []
        self._jobs: dict[Future[Any], tuple[RemoteProduct, _Open | None]] = {}

    def run(self, products: Mapping[RemoteProduct, int], workers: int, stop: Event) -> None:
        """Fetch products, given with their estimated bytes, with a number of threads.

        Raises
        ------
        RebenError
            If the folder cannot be written, or a login is refused.
        KeyboardInterrupt
            After Ctrl-C, once running requests have ended.
        """
        self._queue.extend(products)
        written = time.monotonic()
        pool = ThreadPoolExecutor(workers, thread_name_prefix="fetch")
        try:
            self._start_more(pool, 2 * workers)
            while self._jobs:
                done, _ = wait(self._jobs, return_when=FIRST_COMPLETED)
                for job in done:
                    product, opened = self._jobs.pop(job)
                    if opened is None:
                        opened = self._opened(product, job, products[product])
                    else:
                        self._take(opened, job)
                    if opened and not opened.running and not opened.waiting:
                        self._finish(opened)
                if time.monotonic() - written > _RECORD_S:
                    self._record.write(self._out)
                    written = time.monotonic()
                self._start_more(pool, 2 * workers)
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            self._record.write(self._out)

    def _start_more(self, pool: ThreadPoolExecutor, most: int) -> None:
        """Keep all threads busy: files of open products first, then the lists of the next ones."""
        for opened in self._open:
            folder = opened.contents.folder
            known = self._record.files_of(folder) if opened.waiting else {}
            transfer = self._transfers[opened.product.collection]
            while opened.waiting and len(self._jobs) < most:
                file = opened.waiting.popleft()
                job = pool.submit(transfer.fetch, file, self._out / folder, known.get(file.path))
                self._jobs[job] = (opened.product, opened)
                opened.running += 1
        listing = sum(opened is None for _, opened in self._jobs.values())
        while self._queue and len(self._jobs) < most and listing < _OPEN_PRODUCTS:
            product = self._queue.popleft()
            self._jobs[pool.submit(self._list, product)] = (product, None)
            listing += 1

    def _opened(self, product: RemoteProduct, job: Future[Contents], estimate: int) -> _Open | None:
        """Open a product, its key file left for the end; ``None`` if its files could not be listed."""
        try:
            contents = job.result()
        except FetchError as error:
            self._fail(product, error)
            self._reporter.expect(-estimate)
            return None
        sizes = [file.size or 0 for file in contents.files]
        self._reporter.expect(sum(sizes) - estimate if any(sizes) else 0)
        for name in _key_last(contents):
            # The key file comes last; a manifest need not be requested again after a restart.
            if name != contents.key:
                _write(self._out / contents.folder, name, contents.written[name])
        opened = _Open(product, contents, deque(file for file in contents.files if file.path != contents.key))
        self._open.append(opened)
        return opened

    def _take(self, opened: _Open, job: Future[FileRecord | None]) -> None:
        """Take the result of a file; after a failure the other files of the product are skipped."""
        opened.running -= 1
        try:
            found = job.result()
        except FetchError as error:
            if not opened.is_failed:
                self._fail(opened.product, error)
            opened.is_failed = True
            opened.waiting.clear()
        else:
            opened.records += [found] if found else []

    def _finish(self, opened: _Open) -> None:
        """Fetch the key file of a product once all others are complete, and complete the product after that."""
        contents, folder = opened.contents, self._out / opened.contents.folder
        if not opened.is_failed and (last := opened.key_file):
            opened.waiting.append(last)
            return
        self._open.remove(opened)
        if opened.is_failed:
            # The manifest itself may be wrong: the next run reads it again.
            for name in contents.written:
                (folder / name).unlink(missing_ok=True)
            return
        for name in contents.folders:
            (folder / name).mkdir(parents=True, exist_ok=True)
        opened.records += [_write(folder, name, contents.written[name]) for name in _key_last(contents)]
        for stale in folder.rglob(".*.part"):
            stale.unlink(missing_ok=True)
        self._record.add(opened.product, contents, opened.records)

    def _fail(self, product: RemoteProduct, error: FetchError) -> None:
        self._record.failed[product.name] = without_credentials(str(error))
        self._reporter.note(f"{product.name} could not be fetched: {self._record.failed[product.name]}")


def _key_last(contents: Contents) -> list[str]:
    return sorted(contents.written, key=lambda name: (name == contents.key, name))


def _write(folder: Path, name: str, content: bytes) -> FileRecord:
    path = folder / name
    if not (path.is_file() and path.read_bytes() == content):
        try:
            with atomic_path(path) as draft:
                draft.write_bytes(content)
        except OSError as error:
            raise OutputError(f"{path} cannot be written ({error.strerror}).") from None
    return FileRecord(name, len(content), hashlib.sha256(content).hexdigest(), None)


def _present(file: RemoteFile, target: Path, recorded: FileRecord | None) -> FileRecord | None:
    """Record of an existing, valid file: known from an earlier run, or by its checksum."""
    if not target.is_file():
        return None
    size = target.stat().st_size
    if recorded and recorded.bytes == size:
        return recorded
    if file.checksum is None and file.size != size:
        return None
    found = _checked(file, target)
    return found if isinstance(found, FileRecord) else None


def _checked(file: RemoteFile, path: Path) -> FileRecord | str:
    """Record of a file whose checksum or size is right, else what is wrong."""
    size = path.stat().st_size
    names = {SHA256, *([ALGORITHMS[file.checksum.name]] if file.checksum else [])}
    sums = {name: hashlib.new(name, usedforsecurity=False) for name in names}
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE_BYTES):
            for each in sums.values():
                each.update(piece)
    if file.checksum:
        found = sums[ALGORITHMS[file.checksum.name]].hexdigest()
        if found != file.checksum.digest:
            return f"its {file.checksum.name} is {found[:12]}…, not {file.checksum.digest[:12]}…"
    elif file.size is not None and size != file.size:
        return f"it has {size:,} bytes, not {file.size:,}"
    return FileRecord(file.path, size, sums[SHA256].hexdigest(), file.checksum.name if file.checksum else None)


def _part_name(target: Path, file: RemoteFile, headers: Mapping[str, str]) -> Path:
    """Name of the part of a file; without a checksum it distinguishes versions of the file."""
    version = "" if file.checksum else headers.get("ETag") or headers.get("Last-Modified") or ""
    tag = f".{hashlib.sha256(version.encode()).hexdigest()[:8]}" if version else ""
    return target.with_name(f".{target.name}{tag}.part")


def _find_part(target: Path, file: RemoteFile) -> Path | None:
    if file.checksum:
        path = _part_name(target, file, {})
        return path if path.is_file() else None
    name = re.compile(rf"\.{re.escape(target.name)}(\.[0-9a-f]{{8}})?\.part")
    return min((path for path in target.parent.iterdir() if name.fullmatch(path.name)), default=None)


def _size(part: Path | None) -> int:
    return part.stat().st_size if part else 0


def _total(response: requests.Response) -> int | None:
    """Size of a whole file by the headers of an answer."""
    total = response.headers.get("Content-Range", "").rpartition("/")[2]
    if total.isdigit():
        return int(total)
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() and response.status_code == requests.codes.ok else None


def _starts_at(headers: Mapping[str, str], start: int) -> bool:
    return headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
