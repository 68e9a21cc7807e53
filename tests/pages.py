"""Contents of a page, read by Python's own HTML parser; and datasets to make pages of."""

from __future__ import annotations

import base64
import io
import shutil
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import PIL.Image

_VOID = {"meta", "link", "img", "source", "br", "hr", "input", "wbr"}


@dataclass
class Tag:
    """An element: its name, attributes, and all text in it."""

    name: str
    attributes: dict[str, str]
    text: str = ""
    children: list[Tag] = field(default_factory=list)

    def all(self, name: str) -> list[Tag]:
        """Elements of a name in it, at any depth, in their order."""
        return [tag for child in self.children for tag in ([child] if child.name == name else []) + child.all(name)]

    def everything(self) -> list[Tag]:
        """All elements in it."""
        return [tag for child in self.children for tag in (child, *child.everything())]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Tag("root", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Tag(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in _VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().name == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data


def read_page(path: Path) -> Tag:
    """Parse a page; every element must be closed where it should be."""
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == [reader.root], f"<{reader.open[-1].name}> is not closed"
    return reader.root


def tables(page: Tag) -> dict[str, list[list[str]]]:
    """Cells of each table by its caption, the row of heads first."""
    found = {}
    for table in page.all("table"):
        (caption,) = table.all("caption")
        rows = [[cell.text.strip() for cell in row.children] for row in table.all("tr")]
        assert caption.text.strip() not in found
        found[caption.text.strip()] = rows
    return found


def table(page: Tag, beginning: str) -> list[list[str]]:
    """Cells of the one table whose caption begins so."""
    (rows,) = [rows for caption, rows in tables(page).items() if caption.startswith(beginning)]
    return rows


def counts(rows: list[list[str]]) -> dict[str, list[int]]:
    """Numbers of each row by its head."""
    return {name: [int(cell.replace(",", "")) for cell in cells] for name, *cells in rows[1:]}


def pixels(image: Tag) -> np.ndarray:
    """Pixels of an image in a page, shape ``(y, x, 3)``."""
    kind, _, data = image.attributes["src"].partition(";base64,")
    assert kind == "data:image/png"
    with PIL.Image.open(io.BytesIO(base64.b64decode(data))) as opened:
        return np.asarray(opened.convert("RGB"))


def linked(out: Path, folder: Path) -> Path:
    """A dataset whose table, cubes and statistics are those of another, and whose record is its own."""
    folder.mkdir()
    for name in ("patches.parquet", "cubes.zarr", "statistics.json"):
        (folder / name).symlink_to(out / name, target_is_directory=(out / name).is_dir())
    shutil.copytree(out / "run", folder / "run")
    return folder
