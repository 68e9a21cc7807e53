"""The page that a scheduler serves, in a real browser, while a job tells how far it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from browsing import PHONE_PX, colours_of, open_page, requests_of, widths_of
from distributed import Client, LocalCluster
from processes import loopback_cluster, wait_for
from selenium import webdriver

from reben_dask.dashboard.jobs import GONE, DashboardReporter, add_page
from reben_dask.progress import TILE_STATES

TILES = {
    "T33UVP": "done",
    "T33UWP": "working",
    "T33UXP": "again",
    "<b>T33UYP</b>": "failed",
    "T33UZP": "rejected",
}
ERROR = "InputError: B02_10m.jp2 is <i>damaged</i>"
FACTS = {"recipe": "reBEN", "out": "/data/<u>out</u>", "tiles": 6}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    cluster = LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0")
    with cluster, Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def page(client: Client) -> str:
    page = add_page(client)
    assert page is not None
    assert page == client.dashboard_link.replace("/status", "/reben")
    return page


@pytest.fixture
def job(client: Client, page: str, request: pytest.FixtureRequest) -> Iterator[str]:  # noqa: ARG001 - the page is there
    """A job that has told of some tiles, and runs."""
    with DashboardReporter(client, request.node.name, FACTS) as reporter:
        reporter.show({"bands": 12, "labels": 0, "choice": 0}, {"bands": 48, "labels": 4, "choice": 0})
        for name, state in TILES.items():
            reporter.tile(name, "working", "")
            reporter.tile(name, state, ERROR if state in {"again", "failed"} else "")
        reporter.send()
        yield request.node.name


def _jobs(page: str, query: str = "") -> list[dict[str, Any]]:
    with urlopen(f"{page}/jobs.json{query}", timeout=60) as answer:  # noqa: S310 - on loopback
        return json.load(answer)["jobs"]  # type: ignore[no-any-return]


def _texts(browser: webdriver.Chrome, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map(each => each.textContent)"
    return browser.execute_script(script, selector)  # type: ignore[no-any-return]


def _open(browser: webdriver.Chrome, page: str, **options: Any) -> None:
    open_page(browser, page, **{"width": 1200, **options})
    wait_for(lambda: _texts(browser, "article"))


def test_data_come_in_pieces(page: str, job: str) -> None:
    latest, *_ = _jobs(page)
    assert latest["job"] == job
    assert [change[1] for change in latest["changes"] if change[1] != "working"] == [
        "done",
        "again",
        "failed",
        "rejected",
    ]
    latest, *_ = _jobs(page, f"?seen={job}:6&seen=unknown:3&seen=&seen=x:y")
    assert (latest["known"], len(latest["changes"])) == (6, 4)


def test_every_state_has_a_colour_and_a_word(browser: webdriver.Chrome, page: str, job: str) -> None:  # noqa: ARG001
    _open(browser, page)
    words = browser.execute_script("return Object.keys(STATES)")
    assert {*TILE_STATES, "waiting"} == {*words}
    colour = "const i = document.createElement('i'); i.className = arguments[0]; document.body.append(i);"
    colour += "return getComputedStyle(i).getPropertyValue('--state')"
    assert len({browser.execute_script(colour, state) for state in words}) == len(words)


def test_what_is_shown(browser: webdriver.Chrome, page: str, job: str) -> None:  # noqa: ARG001
    _open(browser, page)
    article = "article:first-of-type"
    assert _texts(browser, f"{article} h2") == [FACTS["out"]]
    (facts,) = _texts(browser, f"{article} .facts")
    assert facts.startswith("reBEN, 6 tiles, 0:0")
    assert facts.endswith(": running")
    assert _texts(browser, f"{article} .stages th") == ["Bands to Zarr", "Reference maps and labels"]
    assert _texts(browser, f"{article} .stages td:last-child") == ["12 of 48", "0 of 4"]
    legend = [
        "1 done",
        "1 rejected for its quality",
        "1 in progress",
        "1 failed, to be retried",
        "1 failed",
        "1 waiting",
    ]
    assert _texts(browser, f"{article} .legend li") == legend
    squares = "return [...document.querySelectorAll('article:first-of-type .tiles i')].map(i => i.className)"
    assert browser.execute_script(squares) == [*TILES.values(), "waiting"]
    assert _texts(browser, f"{article} dt") == ["T33UXP will be retried", "<b>T33UYP</b> failed"]
    assert _texts(browser, f"{article} dd") == [ERROR, ERROR]


def test_it_follows_the_job(browser: webdriver.Chrome, client: Client, page: str) -> None:
    first = "article:first-of-type"
    with DashboardReporter(client, "followed", FACTS | {"tiles": 1}) as reporter:
        _open(browser, page)
        wait_for(lambda: _texts(browser, f"{first} .legend") == ["1 waiting"])
        # Sent without being asked to.
        reporter.tile("T33UVP", "done", "")
        wait_for(lambda: _texts(browser, f"{first} .legend") == ["1 done"])
    wait_for(lambda: _texts(browser, f"{first} .facts")[0].endswith(": finished"))
    with pytest.raises(KeyboardInterrupt), DashboardReporter(client, "stopped", FACTS):
        raise KeyboardInterrupt
    wait_for(lambda: _texts(browser, f"{first} .facts")[0].endswith(": interrupted"))


def test_a_job_whose_client_is_gone(client: Client, page: str) -> None:
    with Client(client.scheduler.address) as other:
        add_page(other)
        left = DashboardReporter(other, "left alone", FACTS)
        left.__enter__()
    wait_for(lambda: _jobs(page)[0]["ended"] == GONE)


def test_nothing_comes_from_elsewhere_and_nothing_complains(
    browser: webdriver.Chrome,
    page: str,
    job: str,  # noqa: ARG001
) -> None:
    browser.get_log("performance"), browser.get_log("browser")
    _open(browser, page)
    assert {url.partition("?")[0] for url in requests_of(browser)} == {
        page,
        *(f"{page}/{name}" for name in ("page.css", "page.js", "jobs.json")),
    }
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser: webdriver.Chrome, page: str, job: str, scheme: str) -> None:  # noqa: ARG001
    _open(browser, page, width=PHONE_PX, scheme=scheme)
    inner, room, needed = widths_of(browser)
    assert needed <= room <= inner == PHONE_PX
    ground, text = colours_of(browser)
    assert (ground > text) == (scheme == "light")


@pytest.mark.parametrize("path", ["", "/", "/page.css", "/page.js"])
def test_dask_may_serve_it_under_a_prefix(page: str, path: str) -> None:
    root = page.removesuffix("/reben")
    with urlopen(f"{root}/proxy/8787/reben{path}", timeout=60) as answer, urlopen(page + path, timeout=60) as plain:  # noqa: S310
        assert answer.read() == plain.read()
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/../pages.py", "/page.html/", "/%2e%2e/pages.py", "/boards.py"])
def test_nothing_else_is_served(page: str, path: str) -> None:
    with pytest.raises(HTTPError, match="404"):
        urlopen(page + path, timeout=60)  # noqa: S310


def test_a_page_whose_scheduler_is_gone_says_so(browser: webdriver.Chrome, tmp_path: Path) -> None:
    with loopback_cluster(tmp_path / "cluster") as cluster:
        with Client(scheduler_file=str(cluster.file)) as client:
            page = add_page(client)
        assert page is not None
        open_page(browser, page, width=1200)
        wait_for(lambda: _texts(browser, "#none"))
        assert not browser.find_element("id", "lost").is_displayed()
    wait_for(browser.find_element("id", "lost").is_displayed)


def test_a_scheduler_without_this_package_does_without_the_page(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpack(_: bytes) -> None:
        raise ModuleNotFoundError("No module named 'reben_dask'")

    monkeypatch.setattr("distributed.scheduler.loads", unpack)
    assert add_page(client) is None
