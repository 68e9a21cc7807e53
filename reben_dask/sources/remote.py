"""Remote files and stores: ``http``, ``https`` and ``s3`` URLs."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import Request, urlopen

from reben_dask.errors import ReadError
from reben_dask.formats.dataset import without_credentials

if TYPE_CHECKING:
    from zarr.abc.store import Store

SCHEMES = ("http", "https", "s3")

MAX_BYTES = 256 * 2**20
"""Limit for documents, far above pages of items; larger ones are not read."""

TIMEOUT_S, ATTEMPTS = 60, 5
PAUSE_S = 1.0
"""Pause before the second attempt; each further one is twice as long."""

SAS_TOKENS = "https://planetarycomputer.microsoft.com/api/sas/v1/token"
"""Service of the Planetary Computer that gives anyone a token for its files; ``PC_SDK_SAS_URL`` replaces it."""

_BLOBS = ".blob.core.windows.net"
_TOKEN_MARGIN = timedelta(minutes=5)


class _MissingError(ReadError):
    """Nothing at the URL."""


def is_address(text: object) -> bool:
    """Test if a text is a URL, not a path."""
    scheme, separator, _ = str(text).partition("://")
    return bool(separator) and scheme.lower() in SCHEMES


def without_secrets(location: object) -> str:
    """Path, or URL without user, password and query; the item after ``#`` stays."""
    base, mark, item = str(location).rpartition("#")
    return f"{without_credentials(base)}#{item}" if mark else without_credentials(item)


def read_bytes(address: str) -> bytes:
    """Read a document at a URL.

    Raises
    ------
    ReadError
        If it cannot be read after several attempts, or is larger than :data:`MAX_BYTES`.
    """
    content = _read_s3(address) if urlsplit(address).scheme.lower() == "s3" else _read_http(address)
    if len(content) > MAX_BYTES:
        limit = f"the limit of {MAX_BYTES // 2**20} MiB for a document"
        raise ReadError(f"{without_credentials(address)} is larger than {limit}; check the URL.")
    return content


def _read_http(address: str) -> bytes:
    headers = {"User-Agent": "reben_dask", "Accept": "application/geo+json, application/json;q=0.9, */*;q=0.8"}
    pause = PAUSE_S
    for attempt in range(1, ATTEMPTS + 1):
        try:
            # The scheme is one of SCHEMES.
            request = Request(signed(address), headers=headers)  # noqa: S310
            with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                content: bytes = answer.read(MAX_BYTES + 1)
                return content
        except HTTPError as error:
            cause, is_final = f"HTTP status {error.code}", error.code < 500 and error.code != 429
        except (OSError, HTTPException) as error:
            cause, is_final = str(error) or type(error).__name__, False
        if is_final or attempt == ATTEMPTS:
            break
        time.sleep(pause)
        pause *= 2
    attempts = f", after {attempt} attempts" * (attempt > 1)
    kind = _MissingError if cause.endswith(" 404") else ReadError
    raise kind(f"{without_credentials(address)} cannot be read ({without_credentials(cause)}{attempts}).")


def _read_s3(address: str) -> bytes:
    import obstore  # noqa: PLC0415 - of the extra `remote`
    from obstore.exceptions import BaseError  # noqa: PLC0415
    from obstore.store import from_url  # noqa: PLC0415

    folder, _, name = address.rpartition("/")
    try:
        return bytes(obstore.get(from_url(folder), name).bytes())
    except (BaseError, OSError) as error:
        cause = str(error).splitlines()[0]
    raise ReadError(f"{without_credentials(address)} cannot be read ({without_credentials(cause)}).")


def zarr_store(address: str) -> Store:
    """Open a Zarr store at a URL, read-only."""
    from obstore.store import from_url  # noqa: PLC0415 - of the extra `remote`
    from zarr.storage import ObjectStore  # noqa: PLC0415 - as above

    if urlsplit(address).scheme.lower() == "s3":
        return ObjectStore(from_url(address), read_only=True)
    # Plain http is used in local networks and in tests.
    return ObjectStore(from_url(address, client_options={"allow_http": True}), read_only=True)


def gdal_path(address: str) -> str:
    """Path under which GDAL opens a file at a URL."""
    parts = urlsplit(address)
    return f"/vsis3/{parts.netloc}{parts.path}" if parts.scheme.lower() == "s3" else f"/vsicurl/{signed(address)}"


def gdal_s3_options() -> dict[str, str]:
    """GDAL's options for the variables ``AWS_ENDPOINT_URL`` and ``AWS_SKIP_SIGNATURE``, which other libraries read."""
    endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL", ""))
    is_unsigned = os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("true", "1", "yes")
    options = {"AWS_NO_SIGN_REQUEST": "YES"} if is_unsigned else {}
    if not endpoint.netloc or "AWS_S3_ENDPOINT" in os.environ:
        return options
    is_secure = endpoint.scheme.lower() != "http"
    return options | {
        "AWS_S3_ENDPOINT": f"{endpoint.netloc}{endpoint.path.rstrip('/')}",
        "AWS_HTTPS": "YES" if is_secure else "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
    }


def signed(address: str) -> str:
    """Add the Planetary Computer's token to the URL of one of its files; others stay as they are."""
    parts = urlsplit(address)
    if not (parts.hostname or "").endswith(_BLOBS) or parts.query:
        return address
    container = parts.path.strip("/").partition("/")[0]
    token = _valid_token(f"{(parts.hostname or '').removesuffix(_BLOBS)}/{container}")
    return urlunsplit(parts._replace(query=token))


def _valid_token(container: str) -> str:
    token, expires = _token(container)
    if expires < datetime.now(UTC) + _TOKEN_MARGIN:
        _token.cache_clear()
        token, _ = _token(container)
    return token


@lru_cache(maxsize=64)
def _token(container: str) -> tuple[str, datetime]:
    """Token for the files of a container, and its end; empty if the service knows none."""
    service = os.environ.get("PC_SDK_SAS_URL", SAS_TOKENS)
    try:
        answer = json.loads(_read_http(f"{service}/{container}"))
        return str(answer["token"]), datetime.fromisoformat(answer["msft:expiry"])
    except (_MissingError, ValueError, KeyError, TypeError):
        return "", datetime.max.replace(tzinfo=UTC)
