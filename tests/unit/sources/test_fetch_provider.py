"""Providers and credentials: files, environment, netrc and keyring, and what is never shown."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from reben_dask.errors import InputError
from reben_dask.sources.fetch import PROVIDERS, load_provider
from reben_dask.sources.fetch.access import S3Access, S3Keys, find_keys, find_login, open_access
from reben_dask.sources.fetch.http import Connections, HttpClient, OpenAccess, is_same_site
from reben_dask.sources.fetch.provider import Limits
from reben_dask.sources.fetch.transfer import SpeedMeter

HOST = "identity.dataspace.copernicus.eu"


def test_known_providers() -> None:
    assert load_provider("cdse") is PROVIDERS["cdse"]
    assert PROVIDERS["cdse"].nodes == "https://download.dataspace.copernicus.eu/odata/v1"
    with pytest.raises(InputError, match="has no collection s1"):
        PROVIDERS["earth-search"].spec("s1")


@pytest.mark.parametrize("end", ["", "/", "/odata/v1", "/odata/v1/Products"])
def test_a_file_of_a_provider(tmp_path: Path, end: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"kind: cdse\ncatalogue: http://127.0.0.1:1{end}\n")
    provider = load_provider(str(path))
    assert provider.odata == provider.nodes == "http://127.0.0.1:1/odata/v1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: cdse\nurl: http://a", "url"),
        ("kind: other\ncatalogue: http://a", "kind"),
        ("kind: cdse\ncatalogue: ftp://a", "https://"),
        ("kind: cdse\ncatalogue: https://me:secret@a", "no user, password"),
        ("kind: cdse", "neither catalogue nor stac"),
        ("- 1", "no keys"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_wrong_file_of_a_provider(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as error:
        load_provider(str(path))
    assert str(path) in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(("name", "said"), [("csde", "There is no provider"), ("no.yaml", "does not exist")])
def test_no_provider_of_that_name(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_provider(name)


def test_credentials_of_the_environment(tmp_path: Path) -> None:
    nowhere = {"NETRC": str(tmp_path / "none")}
    login = find_login(HOST, {"CDSE_USERNAME": "me", "CDSE_PASSWORD": "word", "CDSE_TOTP": "123", **nowhere})
    assert login
    assert (login.username, login.password, login.totp) == ("me", "word", "123")
    assert find_login(HOST, nowhere) is None
    with pytest.raises(InputError, match="CDSE_PASSWORD"):
        find_login(HOST, {"CDSE_USERNAME": "me", **nowhere})
    keys = find_keys({"CDSE_S3_ACCESS_KEY": "a", "CDSE_S3_SECRET_KEY": "b"})
    assert keys == S3Keys("a", "b")
    assert "'a'" not in repr(keys)
    assert "word" not in repr(login)
    with pytest.raises(InputError, match="CDSE_S3_SECRET_KEY; set both"):
        find_keys({"CDSE_S3_ACCESS_KEY": "a"})


def test_credentials_of_netrc(tmp_path: Path) -> None:
    file = tmp_path / "netrc"
    file.write_text(f"machine {HOST} login me password word\n")
    file.chmod(0o600)
    login = find_login(HOST, {"NETRC": str(file)})
    assert login
    assert (login.username, login.password) == ("me", "word")
    assert find_login("elsewhere", {"NETRC": str(file)}) is None
    file.write_text(f"machine {HOST} login me passwort secret\n")
    with pytest.raises(InputError, match="line") as error:
        find_login(HOST, {"NETRC": str(file)})
    assert "secret" not in str(error.value)


def test_credentials_of_the_keyring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept = {HOST: SimpleNamespace(username="me", password="word")}  # noqa: S106
    stand_in, errors = ModuleType("keyring"), ModuleType("keyring.errors")
    stand_in.get_credential = lambda host, user: kept.get(host) if user in {None, "me"} else None
    errors.KeyringError = RuntimeError
    monkeypatch.setitem(sys.modules, "keyring", stand_in)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    nowhere = {"NETRC": str(tmp_path / "none")}
    login = find_login(HOST, {"CDSE_USERNAME": "me", **nowhere})
    assert login
    assert (login.username, login.password) == ("me", "word")
    assert find_login("elsewhere", nowhere) is None


def test_keys_come_before_a_login(tmp_path: Path) -> None:
    nowhere = {"NETRC": str(tmp_path / "none")}
    keys = {"CDSE_S3_ACCESS_KEY": "a", "CDSE_S3_SECRET_KEY": "b"}
    assert isinstance(open_access(PROVIDERS["cdse"], "l2a", HttpClient(), keys | nowhere), S3Access)
    assert isinstance(open_access(PROVIDERS["earth-search"], "l2a", HttpClient(), nowhere), OpenAccess)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://catalogue.dataspace.copernicus.eu/a", "https://download.dataspace.copernicus.eu/b", True),
        ("https://download.dataspace.copernicus.eu/a", "https://download.dataspace.copernicus.eu:8443/b", True),
        ("https://download.dataspace.copernicus.eu/a", "http://download.dataspace.copernicus.eu/b", False),
        ("https://download.dataspace.copernicus.eu/a", "https://copernicus.eu.evil.org/b", False),
        ("https://example.org/a", "https://evil.org/b", False),
        ("https://10.0.0.1/a", "https://11.0.0.1/b", False),
        ("http://127.0.0.1:1/a", "http://localhost:2/b", True),
        ("http://127.0.0.1:1/a", "http://evil.org/b", False),
    ],
)
def test_where_credentials_may_go(one: str, other: str, *, same: bool) -> None:
    assert is_same_site(one, other) == same


def test_connections_shrink_at_a_refusal_and_grow_again() -> None:
    connections = Connections(4)
    for _ in range(5):
        connections.refused()
    assert connections.limit == 1
    for _ in range(40):
        connections.succeeded()
    assert connections.limit == 3
    for _ in range(100):
        connections.succeeded()
    assert connections.limit == 4


def test_slow_mode_is_recognised_once() -> None:
    now = [0.0]
    meter = SpeedMeter(Limits(4, 20e6, 12e12, 30, 1e6), clock=lambda: now[0])
    told = []
    for rate in (*[80e6] * 90, *[1e6] * 200):
        now[0] += 1
        told.append(meter.add(int(rate)))
    assert [round(rate / 1e6) for rate in told if rate] == [1]
    assert not any(told[:120])
