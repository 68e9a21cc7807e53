"""The page in a real browser: what it loads, how wide it is on a phone, the dark, and the keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsing import PHONE_PX, colours_of, open_page, requests_of, widths_of
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

BRIGHT, DARK = 600, 200
"""Sums of red, green and blue."""


@pytest.fixture(params=["dataset", "comparison"])
def page(request: pytest.FixtureRequest, small_run: Path, compared_runs: tuple[Path, Path, str]) -> str:
    return {"dataset": small_run / "report" / "index.html", "comparison": compared_runs[0] / "index.html"}[
        request.param
    ].as_uri()


def test_only_the_file_itself_is_loaded_without_complaint(browser: webdriver.Chrome, page: str) -> None:
    browser.get_log("performance"), browser.get_log("browser")
    open_page(browser, page, width=1200)
    assert requests_of(browser) == {page}
    assert browser.get_log("browser") == []
    loaded = "return [...document.images].map(image => image.complete && image.naturalWidth > 0)"
    assert all(browser.execute_script(loaded))


@pytest.mark.parametrize("width", [PHONE_PX, 1200])
def test_nothing_is_wider_than_the_screen(browser: webdriver.Chrome, page: str, width: int) -> None:
    """Also with everything unfolded; what is wide has a scroll bar of its own, which the keyboard reaches."""
    open_page(browser, page, width=width)
    browser.execute_script("document.querySelectorAll('details').forEach(part => part.open = true)")
    inner, room, needed = widths_of(browser)
    assert inner == width
    assert needed <= room
    wide = "return [...document.querySelectorAll('body *')].filter(e => e.scrollWidth > e.clientWidth + 1 && "
    wide += "getComputedStyle(e).overflowX == 'auto').map(e => e.tabIndex)"
    assert set(browser.execute_script(wide)) <= {0}


def test_figures_of_several_panels_are_high_on_a_phone(browser: webdriver.Chrome, page: str) -> None:
    shapes = {}
    for width in (PHONE_PX, 1200):
        open_page(browser, page, width=width)
        image = 'const image = document.querySelector(\'img[alt^="Maps of one tile"], img[alt^="Two panels"]\');'
        shapes[width] = browser.execute_script(f"{image} return [image.clientWidth, image.clientHeight]")
    assert shapes[1200][0] > 1.5 * shapes[1200][1]
    assert shapes[1200][0] > 800
    assert shapes[PHONE_PX][1] > 1.5 * shapes[PHONE_PX][0]
    assert shapes[PHONE_PX][0] > PHONE_PX / 2


@pytest.mark.parametrize(("width", "least"), [(1280, 1000), (PHONE_PX, 0.9 * PHONE_PX)])
def test_figures_take_the_width_of_the_page(browser: webdriver.Chrome, page: str, width: int, least: float) -> None:
    open_page(browser, page, width=width)
    script = "return [...document.querySelectorAll('figure picture img')].map(image => image.clientWidth)"
    assert min(browser.execute_script(script)) >= least


def test_dark_pages_are_dark(browser: webdriver.Chrome, page: str) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        open_page(browser, page, width=1200, scheme=scheme)
        grounds[scheme] = colours_of(browser)
    assert grounds["light"][0] > BRIGHT and grounds["light"][1] < DARK  # noqa: PT018
    assert grounds["dark"][0] < DARK and grounds["dark"][1] > BRIGHT  # noqa: PT018


def test_the_keyboard_goes_to_the_content(browser: webdriver.Chrome, page: str) -> None:
    open_page(browser, page, width=1200)
    browser.find_element("tag name", "body").send_keys(Keys.TAB)
    skip = browser.switch_to.active_element
    assert skip.text == "Skip to the content"
    assert skip.rect["x"] >= 0
    skip.send_keys(Keys.ENTER)
    assert browser.switch_to.active_element.tag_name == "main"
