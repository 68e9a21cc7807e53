"""Credentials: from the environment, netrc or the keyring, and what they give access to.

They are never arguments of the command line, and appear in no message or record.
"""

from __future__ import annotations

import netrc
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from reben_dask.errors import FetchError, InputError, RebenError
from reben_dask.sources.fetch.http import Access, HttpClient, OpenAccess
from reben_dask.sources.fetch.provider import Provider

USERNAME, PASSWORD, TOTP = "CDSE_USERNAME", "CDSE_PASSWORD", "CDSE_TOTP"
ACCESS_KEY, SECRET_KEY = "CDSE_S3_ACCESS_KEY", "CDSE_S3_SECRET_KEY"
"""Variables of the environment."""

BUCKET = "eodata"
_REGION = "default"
_CLIENT_ID = "cdse-public"
_SIGNED_FOR = timedelta(hours=1)
_MARGIN_S = 30.0
"""Time before its end at which a token is renewed, at most a fifth of its life."""

_CODE = re.compile(r"[a-z_]{1,40}")


class LoginError(RebenError):
    """Login that the provider refuses; it is not repeated, as accounts are locked after several."""


@dataclass(frozen=True)
class Login:
    """User of the token service."""

    username: str = field(repr=False)
    password: str = field(repr=False)
    totp: str | None = field(default=None, repr=False)
    """Code of the second factor, for accounts that have one; valid for about 30 s."""


@dataclass(frozen=True)
class S3Keys:
    """Keys of the S3 service."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)


def find_keys(environment: Mapping[str, str]) -> S3Keys | None:
    """Return the S3 keys in the environment; :class:`InputError` if there is one without the other."""
    names = (ACCESS_KEY, SECRET_KEY)
    given = [name for name in names if environment.get(name)]
    if len(given) == 1:
        raise InputError(f"{given[0]} is set, but not {next(name for name in names if name not in given)}; set both.")
    return S3Keys(*(environment[name] for name in names)) if given else None


def find_login(host: str, environment: Mapping[str, str]) -> Login | None:
    """Find the login for a host in the environment, in netrc, or in the keyring.

    Parameters
    ----------
    host : str
        Host of the token service: machine in netrc, and service in the keyring.
    environment : mapping
        Variables; ``NETRC`` names another file than ``~/.netrc``.

    Raises
    ------
    InputError
        If there is a user without a password, or netrc is damaged.
    """
    username, password, totp = (environment.get(name) or None for name in (USERNAME, PASSWORD, TOTP))
    if username and password:
        return Login(username, password, totp)
    found = _in_netrc(host, environment) or _in_keyring(host, username)
    if found and (username is None or username == found[0]):
        return Login(*found, totp)
    if username or password:
        given, lacking = (USERNAME, PASSWORD) if username else (PASSWORD, USERNAME)
        raise InputError(f"{given} is set, but not {lacking}; set both.")
    return None


def open_access(provider: Provider, collection: str, client: HttpClient, environment: Mapping[str, str]) -> Access:
    """Open the access to files of a provider: S3 keys, else a login; or signatures of the Planetary Computer.

    Raises
    ------
    InputError
        If the provider needs credentials and there are none.
    """
    if not provider.needs_login:
        if provider.kind == "planetary-computer" and provider.token:
            return SignatureAccess(client, f"{provider.token}/{provider.spec(collection).stac}")
        return OpenAccess()
    keys = find_keys(environment)
    if keys and provider.s3_endpoint:
        return S3Access(provider.s3_endpoint, keys)
    if not provider.token:
        return OpenAccess()
    host = urlsplit(provider.token).hostname or ""
    login = find_login(host, environment)
    if login is None:
        raise InputError(
            f"Files of this provider need a login; set {USERNAME} and {PASSWORD} (or {ACCESS_KEY} and {SECRET_KEY}) in "
            f"the environment, or add the machine {host} to ~/.netrc or the keyring. An account is free: "
            "https://dataspace.copernicus.eu"
        )
    return TokenAccess(client, provider.token, login)


class TokenAccess:
    """Access token of an OpenID service, renewed by its refresh token.

    A login opens one of at most 100 sessions of a user, so that it is repeated only once the refresh token has ended.
    """

    def __init__(self, client: HttpClient, address: str, login: Login) -> None:
        self._client, self._address, self._login = client, address, login
        self._lock = Lock()
        self._token = self._refresh = ""
        self._ends = self._refresh_ends = 0.0
        self._refusal: LoginError | None = None

    def sign(self, address: str) -> tuple[str, dict[str, str]]:
        """Return the URL, and a header with a valid token."""
        with self._lock:
            if time.monotonic() >= self._ends:
                self._grant()
            return address, {"Authorization": f"Bearer {self._token}"}

    def renew(self, url: str, headers: Mapping[str, str]) -> bool:  # noqa: ARG002 - of Access
        """Replace a token that was denied, unless that has happened already."""
        with self._lock:
            if headers.get("Authorization") == f"Bearer {self._token}":
                self._ends = 0.0
        return True

    def _grant(self) -> None:
        if self._refusal:
            raise self._refusal
        if self._refresh and time.monotonic() < self._refresh_ends:
            status, answer = self._post(grant_type="refresh_token", refresh_token=self._refresh)
            if self._accept(status, answer):
                return
        form = {"grant_type": "password", "username": self._login.username, "password": self._login.password}
        if self._login.totp:
            form["totp"] = self._login.totp
        status, answer = self._post(**form)
        if not self._accept(status, answer):
            code = str(answer.get("error", "")) if isinstance(answer, dict) else ""
            why = f", {code}" if _CODE.fullmatch(code) else ""
            self._refusal = LoginError(
                f"The login at {urlsplit(self._address).hostname} was refused ({status}{why}); check {USERNAME} and "
                f"{PASSWORD}, and {TOTP} (a new code) for an account with two factors."
            )
            raise self._refusal

    def _post(self, **form: str) -> tuple[int, Any]:
        return self._client.post_form(self._address, {"client_id": _CLIENT_ID, **form})

    def _accept(self, status: int, answer: Any) -> bool:
        if status != 200 or not isinstance(answer, dict) or not answer.get("access_token"):
            return False
        now = time.monotonic()
        self._token, self._refresh = str(answer["access_token"]), str(answer.get("refresh_token") or "")
        self._ends, self._refresh_ends = (
            now + life - min(_MARGIN_S, life / 5)
            for life in (float(answer.get(key) or least) for key, least in _LIFE_S.items())
        )
        return True


_LIFE_S = {"expires_in": 60, "refresh_expires_in": 600}
"""Lives of both tokens in an answer, and what they are at least, in seconds."""


class SignatureAccess:
    """Anonymous signature of the Planetary Computer, a query that ends after about an hour."""

    def __init__(self, client: HttpClient, address: str) -> None:
        self._client, self._address = client, address
        self._lock = Lock()
        self._query, self._ends = "", datetime.now(UTC)

    def sign(self, address: str) -> tuple[str, dict[str, str]]:
        """Return the URL with a valid signature."""
        with self._lock:
            if not self._query or datetime.now(UTC) >= self._ends - timedelta(seconds=_MARGIN_S):
                self._request()
            return f"{address}{'&' if urlsplit(address).query else '?'}{self._query}", {}

    def renew(self, url: str, headers: Mapping[str, str]) -> bool:  # noqa: ARG002 - of Access
        """Replace a signature that was denied, unless that has happened already."""
        with self._lock:
            if url.endswith(self._query):
                self._query = ""
        return True

    def _request(self) -> None:
        answer = self._client.get_json(self._address)
        try:
            self._query, self._ends = str(answer["token"]), datetime.fromisoformat(answer["msft:expiry"])
        except (KeyError, TypeError, ValueError):
            raise FetchError(f"{self._address} answered without a token.") from None


class S3Access:
    """Signed URLs of an S3 service, valid for an hour."""

    def __init__(self, endpoint: str, keys: S3Keys) -> None:
        from obstore.store import S3Store  # noqa: PLC0415 - in the extra `fetch`

        self._options: dict[str, Any] = {
            "endpoint": endpoint,
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "region": _REGION,
            "virtual_hosted_style_request": False,
            "client_options": {"allow_http": endpoint.startswith("http:")},
        }
        self._make = S3Store
        self._stores: dict[str, Any] = {}
        self._lock = Lock()

    def sign(self, address: str) -> tuple[str, dict[str, str]]:
        """Return the signed URL of ``s3://bucket/key``; other URLs are returned as they are."""
        import obstore  # noqa: PLC0415 - as above

        if not address.startswith("s3://"):
            return address, {}
        bucket, key = split_s3(address)
        signed: str = obstore.sign(self._store(bucket), "GET", key, _SIGNED_FOR)
        return signed, {}

    def renew(self, url: str, headers: Mapping[str, str]) -> bool:  # noqa: ARG002 - of Access
        """Return ``True``: each request gets a new signature."""
        return True

    def list_below(self, address: str) -> list[tuple[str, int]]:
        """List the objects below a prefix: path relative to it, and size in bytes."""
        import obstore  # noqa: PLC0415 - as above
        from obstore.exceptions import BaseError  # noqa: PLC0415 - as above

        bucket, prefix = split_s3(address)
        try:
            pages = list(obstore.list(self._store(bucket), prefix))
        except BaseError as error:
            raise FetchError(f"{address} cannot be listed ({type(error).__name__}).") from None
        start = f"{prefix.rstrip('/')}/"
        found = ((str(entry["path"]), int(entry["size"])) for page in pages for entry in page)
        return [(path.removeprefix(start), size) for path, size in found if path.startswith(start)]

    def _store(self, bucket: str) -> Any:
        with self._lock:
            if bucket not in self._stores:
                self._stores[bucket] = self._make(bucket, **self._options)
            return self._stores[bucket]


def split_s3(address: str) -> tuple[str, str]:
    """Split ``s3://bucket/key``."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    return bucket, key


def _in_netrc(host: str, environment: Mapping[str, str]) -> tuple[str, str] | None:
    path = Path(environment.get("NETRC") or Path.home() / ".netrc")
    if not path.is_file():
        return None
    try:
        found = netrc.netrc(str(path)).hosts.get(host)
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError) as error:
        where = f", line {error.lineno}" if isinstance(error, netrc.NetrcParseError) and error.lineno else ""
        raise InputError(
            f"{path}{where} cannot be read as netrc; correct it, or set {USERNAME} and {PASSWORD}."
        ) from None
    return (found[0], found[2]) if found and found[0] and found[2] else None


def _in_keyring(host: str, username: str | None) -> tuple[str, str] | None:
    try:
        import keyring  # noqa: PLC0415 - in the extra `fetch`
        from keyring.errors import KeyringError  # noqa: PLC0415 - as above
    except ModuleNotFoundError:
        return None
    try:
        found = keyring.get_credential(host, username)
    except KeyringError:
        return None
    return (found.username, found.password) if found and found.username and found.password else None
