"""The page as a file: it asks for nothing else, and is read by people and machines that do not see it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import PIL.Image
import pytest
from pages import Tag, read_page, tables

LINKS = ("src", "href", "srcset", "action", "data", "poster", "background", "formaction")


@pytest.fixture(scope="module")
def page(small_run: Path) -> Tag:
    return read_page(small_run / "report" / "index.html")


def test_no_reference_leaves_the_folder(page: Tag, small_run: Path) -> None:
    ids = {tag.attributes["id"] for tag in page.everything() if "id" in tag.attributes}
    for tag in page.everything():
        for name in LINKS:
            target = tag.attributes.get(name)
            if target is None or target.startswith("data:"):
                continue
            assert tag.name == "a", f"<{tag.name} {name}={target[:60]}> would be loaded"
            assert target[1:] in ids if target[0] == "#" else (small_run / "report" / target).is_file()
        assert not [name for name in tag.attributes if name.startswith("on")]
        assert "url(" not in tag.attributes.get("style", "")
    assert not page.all("script")
    (style,) = page.all("style")
    assert not re.search(r"url\(|@import", style.text)
    assert "default-src 'none'" in page.all("meta")[1].attributes["content"]


def test_ids_are_unique_and_images_are_described(page: Tag) -> None:
    ids = [tag.attributes["id"] for tag in page.everything() if "id" in tag.attributes]
    assert len(set(ids)) == len(ids) > 10
    for tag in page.everything():
        for name in ("aria-labelledby", "aria-describedby"):
            assert tag.attributes.get(name, ids[0]) in ids
    images = page.all("img")
    assert len(images) > 15
    for image in images:
        assert len(image.attributes["alt"]) > 10
        assert int(image.attributes["width"]) > 0 < int(image.attributes["height"])


def test_landmarks_heads_and_tables(page: Tag) -> None:
    for name in ("header", "nav", "main", "footer", "h1", "title"):
        assert len(page.all(name)) == 1, name
    levels = [int(tag.name[1]) for tag in page.everything() if re.fullmatch("h[1-6]", tag.name)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    (skip,) = [tag for tag in page.all("a") if tag.attributes.get("class") == "skip"]
    assert skip.attributes["href"] == f"#{page.all('main')[0].attributes['id']}"
    for table in page.all("table"):
        heads = table.all("th")
        assert {head.attributes["scope"] for head in heads} == {"col", "row"}
        assert all(head.text.strip() for head in heads)
        widths = {len(row.children) for row in table.all("tr")}
        assert len(widths) == 1
    assert page.all("html")[0].attributes["lang"] == "en"


def test_nothing_missing_is_printed(page: Tag) -> None:
    shown = [page.text, *(image.attributes["alt"] for image in page.all("img"))]
    assert not [text for text in shown if re.search(r"\b(nan|NaN|NaT|None|NA)\b", text)]
    assert not [row for table in tables(page).values() for row in table[1:] if set(row[1:]) == {"0"}]


@pytest.mark.slow
def test_figures_are_images(small_run: Path) -> None:
    figures = sorted((small_run / "report" / "figures").iterdir())
    for path in figures:
        if path.suffix == ".svg":
            tree = ET.parse(path)  # noqa: S314 - our own
            assert tree.getroot().tag.endswith("svg")
            assert any(tag.tag.endswith("}text") and (tag.text or "").strip() for tag in tree.iter()), "text as curves"
            links = [value for tag in tree.iter() for name, value in tag.attrib.items() if name.endswith("href")]
            assert all(link.startswith(("#", "data:")) for link in links)
        else:
            with PIL.Image.open(path) as image:
                assert image.width >= 1920
                assert len(image.convert("RGB").getcolors(1 << 24)) > 20
