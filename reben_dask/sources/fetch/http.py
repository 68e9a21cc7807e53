"""HTTP requests with retries: bounded connections, redirects, and answers that ask to wait.

Built on requests, which comes with pystac-client. HTTP stores of obstore take fixed headers, so that a token of ten
minutes cannot be renewed, drop credentials at a redirect to another host, and hide ``Retry-After``. obstore signs
URLs of S3 instead, so that one client resumes and retries everything.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Condition, Event, local
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import urljoin, urlsplit

import requests

from reben_dask import __version__
from reben_dask.errors import FetchError
from reben_dask.formats.dataset import without_credentials

ATTEMPTS = 10
"""Attempts without a new byte, after which a request fails."""

MAX_DENIALS = 5
"""Denied attempts without a new byte, after which access fails."""

MAX_TEXT_BYTES = 64 * 2**20
"""Limit for catalogue pages, manifests and metadata."""

CHUNK_BYTES = 2**16
"""Maximum number of bytes lost of a truncated body."""

_FIRST_WAIT_S, _LONGEST_WAIT_S, _LONGEST_ASKED_S = 0.1, 60.0, 600.0
_CONNECT_S, _READ_S = 30, 60
_MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_DENIED = {401, 403}
_ABSENT = {404, 410}
_BUSY = {408, 425, 429, 500, 502, 503, 504}
_TOO_MANY = 429
_SUCCESSES = 20
"""Requests without a refusal after which one more connection is tried."""

T = TypeVar("T")


class TransientError(Exception):
    """Failure of one attempt that the next may not have; ``wait_s`` is the wait that the server asked for."""

    def __init__(self, message: str, wait_s: float | None = None, *, is_denial: bool = False) -> None:
        super().__init__(message)
        self.wait_s, self.is_denial = wait_s, is_denial


class StoppedError(Exception):
    """Interruption by the user."""


class Access(Protocol):
    """Credentials of requests."""

    def sign(self, address: str) -> tuple[str, dict[str, str]]:
        """Return the URL to request, and headers; both may hold credentials."""

    def renew(self, url: str, headers: Mapping[str, str]) -> bool:
        """Replace credentials that were denied; ``False`` if there are no others."""


class OpenAccess:
    """Access without credentials."""

    def sign(self, address: str) -> tuple[str, dict[str, str]]:
        """Return the URL unchanged."""
        return address, {}

    def renew(self, url: str, headers: Mapping[str, str]) -> bool:  # noqa: ARG002 - of Access
        """Return ``False``."""
        return False


class Connections:
    """Bounded number of simultaneous requests; one less after each refusal, one more after 20 successes."""

    def __init__(self, limit: int) -> None:
        self._limit = self._most = limit
        self._active = self._successes = 0
        self._changed = Condition()

    @property
    def limit(self) -> int:
        """Current number of simultaneous requests."""
        return self._limit

    def __enter__(self) -> Self:
        with self._changed:
            self._changed.wait_for(lambda: self._active < self._limit)
            self._active += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._active -= 1
            self._changed.notify()

    def refused(self) -> None:
        """Record an answer 429."""
        with self._changed:
            self._limit, self._successes = max(1, self._limit - 1), 0

    def succeeded(self) -> None:
        """Record an answer with a body."""
        with self._changed:
            self._successes += 1
            if self._successes >= _SUCCESSES and self._limit < self._most:
                self._limit, self._successes = self._limit + 1, 0
                self._changed.notify()


class HttpClient:
    """Client of one provider.

    Parameters
    ----------
    connections : int
        Number of simultaneous requests.
    stop : Event, optional
        Ends waits and transfers with :class:`StoppedError` once it is set.
    """

    def __init__(self, connections: int = 1, stop: Event | None = None) -> None:
        self.connections = Connections(connections)
        self.stop = stop or Event()
        self._local = local()

    def get(self, address: str, access: Access | None = None) -> bytes:
        """Read a small resource; :class:`FetchError` if it cannot be read, or is larger than 64 MiB."""

        def read() -> bytes:
            with self.stream(address, access) as response:
                body = bytearray()
                for chunk in self.chunks(response):
                    body += chunk
                    if len(body) > MAX_TEXT_BYTES:
                        limit = f"the limit of {MAX_TEXT_BYTES // 2**20} MiB"
                        raise FetchError(f"{_shown(address)} is larger than {limit}.")
                return bytes(body)

        return self.retry(read)

    def get_json(self, address: str, access: Access | None = None) -> Any:
        """Read a JSON document; an answer cut short is requested again."""

        def read() -> Any:
            body = self.get(address, access)
            try:
                return json.loads(body)
            except ValueError:
                raise TransientError(f"{_shown(address)} answered with something that is not JSON") from None

        return self.retry(read)

    def post_form(self, address: str, form: Mapping[str, str]) -> tuple[int, Any]:
        """Post a form; return status and JSON answer, ``None`` if it is not JSON. Redirects are not followed."""

        def post() -> tuple[int, Any]:
            try:
                response = self._session.post(
                    address, data=form, timeout=(_CONNECT_S, _READ_S), allow_redirects=False, headers=_HEADERS
                )
            except requests.RequestException as error:
                raise TransientError(f"{_shown(address)} cannot be reached ({_cause(error)})") from None
            if response.status_code in _BUSY:
                raise TransientError(f"{_shown(address)} answered {response.status_code}", _asked_wait(response))
            try:
                return response.status_code, response.json()
            except ValueError:
                return response.status_code, None

        return self.retry(post)

    @contextmanager
    def stream(
        self, address: str, access: Access | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[requests.Response]:
        """Request a resource once, with its redirects; :class:`TransientError`, or :class:`FetchError` for good.

        A response with status 416 is returned as it is.
        """
        with self.connections:
            response = self._send(address, access or OpenAccess(), dict(headers or {}))
            with response:
                yield response

    def chunks(self, response: requests.Response) -> Iterator[bytes]:
        """Yield the body in pieces of at most 64 KiB; :class:`TransientError` if it is cut short."""
        pieces = response.iter_content(CHUNK_BYTES)
        while True:
            if self.stop.is_set():
                raise StoppedError
            try:
                piece = next(pieces, None)
            except requests.RequestException as error:
                raise TransientError(f"{_shown(response.url)} was cut short ({_cause(error)})") from None
            if piece is None:
                return
            yield piece

    def retry(self, attempt: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """Call a function until it succeeds; attempts are counted from 0 when ``progress`` has grown.

        Raises
        ------
        FetchError
            After 10 attempts without progress, or 5 that were denied.
        StoppedError
            If the client was stopped.
        """
        failures = denials = 0
        best = progress()
        while True:
            try:
                return attempt()
            except TransientError as error:
                if (now := progress()) > best:
                    failures, denials, best = 0, 0, now
                failures += 1
                denials += error.is_denial
                if failures >= ATTEMPTS or denials >= MAX_DENIALS:
                    tried = denials if denials >= MAX_DENIALS else failures
                    raise FetchError(f"{error}, {tried} times in a row.") from None
                wait_s = error.wait_s if error.wait_s is not None else _FIRST_WAIT_S * 2 ** (failures - 1)
                if self.stop.wait(min(wait_s, _LONGEST_WAIT_S if error.wait_s is None else _LONGEST_ASKED_S)):
                    raise StoppedError from None

    @property
    def _session(self) -> requests.Session:
        # Sessions are not made for several threads.
        if not hasattr(self._local, "session"):
            session = requests.Session()
            # Otherwise requests replaces the header of a token by a password from netrc.
            session.auth = lambda request: request
            self._local.session = session
        found: requests.Session = self._local.session
        return found

    def _send(self, address: str, access: Access, headers: dict[str, str]) -> requests.Response:
        url, own = access.sign(address)
        signed = url
        for _ in range(_MAX_REDIRECTS + 1):
            try:
                response = self._session.get(
                    url,
                    headers={**_HEADERS, **headers, **own},
                    stream=True,
                    allow_redirects=False,
                    timeout=(_CONNECT_S, _READ_S),
                )
            except requests.RequestException as error:
                raise TransientError(f"{_shown(address)} cannot be reached ({_cause(error)})") from None
            if response.status_code not in _REDIRECTS:
                return self._judged(response, address, access, (signed, own))
            target = urljoin(url, response.headers.get("Location", ""))
            response.close()
            if urlsplit(target).scheme not in {"http", "https"}:
                raise FetchError(f"{_shown(address)} redirects to {_shown(target)}, which is not an http or https URL.")
            # Catalogues redirect to hosts that need the token; it must reach no host of others.
            if not is_same_site(url, target):
                own = {}
            url = target
        raise FetchError(f"{_shown(address)} redirects more than {_MAX_REDIRECTS} times.")

    def _judged(
        self, response: requests.Response, address: str, access: Access, used: tuple[str, Mapping[str, str]]
    ) -> requests.Response:
        status = response.status_code
        if response.ok or status == requests.codes.requested_range_not_satisfiable:
            self.connections.succeeded()
            return response
        response.close()
        if status in _BUSY:
            if status == _TOO_MANY:
                self.connections.refused()
            raise TransientError(f"{_shown(address)} answered {status}", _asked_wait(response))
        if status in _DENIED and access.renew(*used):
            raise TransientError(f"{_shown(address)} denied access ({status})", 0, is_denial=True)
        raise _failure(status, address)


def is_same_site(one: str, other: str) -> bool:
    """Test if credentials for one URL may be sent to another.

    Both have the same host, the same domain above it, or are on this machine; and no encryption is lost.
    """
    before, after = urlsplit(one), urlsplit(other)
    if before.scheme == "https" and after.scheme != "https":
        return False
    hosts = (before.hostname or "", after.hostname or "")
    if hosts[0] == hosts[1] or all(map(_is_loopback, hosts)):
        return True
    above = [host.partition(".")[2] for host in hosts]
    return above[0] == above[1] and "." in above[0] and not any(map(_is_address, hosts))


class HttpStatusError(FetchError):
    """Answer that no retry changes."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


_HEADERS = {"User-Agent": f"reben_dask/{__version__}", "Accept-Encoding": "identity"}


def _failure(status: int, address: str) -> HttpStatusError:
    if status in _DENIED:
        return HttpStatusError(f"{_shown(address)} denied access ({status}); check the credentials.", status)
    if status in _ABSENT:
        return HttpStatusError(f"{_shown(address)} does not exist ({status}).", status)
    return HttpStatusError(f"{_shown(address)} answered {status}.", status)


def _asked_wait(response: requests.Response) -> float | None:
    """Seconds of ``Retry-After``, a number or a date."""
    text = response.headers.get("Retry-After", "").strip()
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _shown(address: str) -> str:
    """URL without keys and signatures."""
    return without_credentials(address)


def _cause(error: requests.RequestException) -> str:
    """Short name of an error; its text may repeat a signed URL."""
    return type(error).__name__
