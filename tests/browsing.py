"""A real browser, and what pages do in it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver

FLAGS = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"),
    *("disable-component-update", "disable-sync", "disable-dev-shm-usage"),
)
PHONE_PX = 360


@contextmanager
def opened_browser(folder: Path) -> Iterator[webdriver.Chrome]:
    """A browser whose profile is in a folder of its own; without one, tests are skipped, and fail in CI."""
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if chromium is None or driver is None:
        missing = "This machine has no chromium with chromedriver; run: apt-get install chromium chromium-driver"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={folder}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


def open_page(browser: webdriver.Chrome, page: str, *, width: int, scheme: str = "light") -> None:
    """Open a page on a screen of a width, bright or dark."""
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(page)


def requests_of(browser: webdriver.Chrome) -> set[str]:
    """Addresses that were asked for since the log was read last."""
    events: list[dict[str, Any]] = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    # A new browser shows a page of its own first, with documents chrome:// and chrome-untrusted://.
    urls = {params["request"]["url"] for params in sent if not params["documentURL"].startswith("chrome")}
    return {url for url in urls if not url.startswith("data:")}


def widths_of(browser: webdriver.Chrome) -> tuple[int, int, int]:
    """Pixels of the screen, of what the page has of it, and of what it would need."""
    inner, room, needed = browser.execute_script(
        "const page = document.documentElement; return [innerWidth, page.clientWidth, page.scrollWidth]"
    )
    return inner, room, needed


def colours_of(browser: webdriver.Chrome) -> list[int]:
    """Sums of red, green and blue of the ground and of the text."""
    colours = "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]"
    return [sum(map(int, colour[4:-1].split(","))) for colour in browser.execute_script(colours)]
