"""The page in a real browser: what it loads, how wide it is on a phone, the dark, and the keyboard."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

FLAGS = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"),
    *("disable-component-update", "disable-sync", "disable-dev-shm-usage"),
)
PHONE_PX = 360
BRIGHT, DARK = 600, 200
"""Sums of red, green and blue."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if chromium is None or driver is None:
        pytest.skip("no chromium with chromedriver on this machine (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.fixture(params=["dataset", "comparison"])
def page(request: pytest.FixtureRequest, demo_run: Path, compared_demo: tuple[Path, Path, str]) -> str:
    return {"dataset": demo_run / "report" / "index.html", "comparison": compared_demo[0] / "index.html"}[
        request.param
    ].as_uri()


def _open(browser: webdriver.Chrome, page: str, *, width: int, scheme: str = "light") -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(page)


def _requests(browser: webdriver.Chrome) -> set[str]:
    events: list[dict[str, Any]] = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    # A new browser shows a page of its own first.
    urls = {params["request"]["url"] for params in sent if not params["documentURL"].startswith("chrome://")}
    return {url for url in urls if not url.startswith("data:")}


def test_only_the_file_itself_is_loaded_without_complaint(browser: webdriver.Chrome, page: str) -> None:
    browser.get_log("performance"), browser.get_log("browser")
    _open(browser, page, width=1200)
    assert _requests(browser) == {page}
    assert browser.get_log("browser") == []
    loaded = "return [...document.images].map(image => image.complete && image.naturalWidth > 0)"
    assert all(browser.execute_script(loaded))


@pytest.mark.parametrize("width", [PHONE_PX, 1200])
def test_nothing_is_wider_than_the_screen(browser: webdriver.Chrome, page: str, width: int) -> None:
    """Also with everything unfolded; what is wide has a scroll bar of its own, which the keyboard reaches."""
    _open(browser, page, width=width)
    browser.execute_script("document.querySelectorAll('details').forEach(part => part.open = true)")
    inner, room, needed = browser.execute_script(
        "const page = document.documentElement; return [innerWidth, page.clientWidth, page.scrollWidth]"
    )
    assert inner == width
    assert needed <= room
    wide = "return [...document.querySelectorAll('body *')].filter(e => e.scrollWidth > e.clientWidth + 1 && "
    wide += "getComputedStyle(e).overflowX == 'auto').map(e => e.tabIndex)"
    assert set(browser.execute_script(wide)) <= {0}


def test_dark_pages_are_dark(browser: webdriver.Chrome, page: str) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        _open(browser, page, width=1200, scheme=scheme)
        colours = "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]"
        found = browser.execute_script(colours)
        grounds[scheme] = [sum(map(int, colour[4:-1].split(","))) for colour in found]
    assert grounds["light"][0] > BRIGHT and grounds["light"][1] < DARK  # noqa: PT018
    assert grounds["dark"][0] < DARK and grounds["dark"][1] > BRIGHT  # noqa: PT018


def test_the_keyboard_goes_to_the_content(browser: webdriver.Chrome, page: str) -> None:
    _open(browser, page, width=1200)
    browser.find_element("tag name", "body").send_keys(Keys.TAB)
    skip = browser.switch_to.active_element
    assert skip.text == "Skip to the content"
    assert skip.rect["x"] >= 0
    skip.send_keys(Keys.ENTER)
    assert browser.switch_to.active_element.tag_name == "main"
