"""The page: what stands in it, and how it becomes one HTML file that asks for no other."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.image import imsave

from reben_dask import __version__
from reben_dask.drawing import FAINT, GRID, INK, house_style, image_bytes

FIGURES = "figures"
PAGE = "index.html"

_PX_PER_INCH = 96
_MOST_SVG_BYTES = 1_000_000
_DARK = {INK: "#e4e8ec", FAINT: "#a3adb7", GRID: "#3a434c"}


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str
    is_note: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of texts under a caption; the first of each row says what the row is.

    Parameters
    ----------
    caption : str
        A sentence that says what is counted.
    columns : sequence of str
        Their heads.
    rows : sequence of sequence of str
        Their cells.
    words : int
        So many of the columns, from the left, hold words; others hold numbers, and stand to the right.
    folded : bool
        Whether the table is shown when it is asked for.
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    folded: bool = False


@dataclass(frozen=True)
class Picture:
    """A figure, and the files that it is saved as.

    Parameters
    ----------
    name : str
        Name of the files.
    caption, alt : str
        What it shows: for everybody, and for those who do not see it.
    draw : callable
        Draws it.
    is_wide : bool
        Whether it is too wide for a phone, and can be moved sideways there.
    in_page : bool
        Whether the page shows it, or shows the same in another way and only links it.
    """

    kind: ClassVar[str] = "picture"
    name: str
    caption: str
    alt: str
    draw: Callable[[], Figure]
    is_wide: bool = False
    in_page: bool = True


@dataclass(frozen=True)
class Code:
    """Lines of a file, shown when they are asked for."""

    kind: ClassVar[str] = "code"
    title: str
    text: str


@dataclass(frozen=True)
class Sample:
    """One patch: its images, and the legend of its reference map.

    Parameters
    ----------
    title, subtitle : str
        Its name, and what there is to say of it.
    images : sequence of (str, str, ndarray of uint8)
        Caption, alternative text and pixels of shape ``(y, x, 3)``.
    labels : sequence of str
        Its labels.
    legend : sequence of (str, str)
        Colour and name of each code in the map.
    """

    title: str
    subtitle: str
    images: Sequence[tuple[str, str, npt.NDArray[np.uint8]]]
    labels: Sequence[str]
    legend: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Gallery:
    """Patches beside each other."""

    kind: ClassVar[str] = "gallery"
    samples: Sequence[Sample]


Block = Text | Table | Picture | Code | Gallery


@dataclass(frozen=True)
class Section:
    """A part of the page with a title of its own; ``key`` is its address in the page."""

    key: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """Everything that a page says.

    Parameters
    ----------
    title, subtitle : str
        What it is about.
    facts : sequence of (str, str)
        The figures that one looks for first, by what they are.
    sections : sequence of Section
        Its parts.
    source : str
        The command that makes it again.
    """

    title: str
    subtitle: str
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    source: str


@dataclass(frozen=True)
class _Image:
    """An image as it stands in the page, with its size in pixels of the screen."""

    data: str
    width: int
    height: int


@dataclass
class _Files:
    """Images of the pictures of a page, by the names of their files."""

    folder: Path
    shown: dict[str, _Image] = field(default_factory=dict)

    def save(self, picture: Picture) -> None:
        with house_style():
            figure = picture.draw()
            svg, png = image_bytes(figure, "svg"), image_bytes(figure, "png")
        (self.folder / f"{picture.name}.svg").write_bytes(svg)
        (self.folder / f"{picture.name}.png").write_bytes(png)
        if picture.in_page:
            width, height = (round(side * _PX_PER_INCH) for side in figure.get_size_inches())
            is_small = len(svg) <= _MOST_SVG_BYTES
            data = _data_uri("svg+xml", _for_both_modes(svg)) if is_small else _data_uri("png", png)
            self.shown[picture.name] = _Image(data, width, height)


def write_page(page: Page, folder: Path) -> None:
    """Write a page and the files of its figures into a folder that exists."""
    files = _Files(folder / FIGURES)
    files.folder.mkdir()
    for section in page.sections:
        for block in section.blocks:
            if isinstance(block, Picture):
                files.save(block)
    text = _environment().get_template("page.html.j2").render(
        page=page, images=files.shown, css=_css(), figures=FIGURES, version=__version__
    )  # fmt: skip
    (folder / PAGE).write_text(text, encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        loader=PackageLoader("reben_dask.report", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["pixels"] = lambda pixels: _data_uri("png", _png(pixels))
    return environment


def _css() -> Markup:
    # Our own file: it has no sign that HTML would take for its own.
    style = resources.files("reben_dask.report") / "templates" / "page.css"
    return Markup(style.read_text(encoding="utf-8"))  # noqa: S704


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    imsave(buffer, pixels, format="png")
    return buffer.getvalue()


def _for_both_modes(svg: bytes) -> bytes:
    """A figure without its white ground, whose ink turns light where the reader prefers dark pages."""
    turned = "".join(_turned(dark, light) for dark, light in _DARK.items())
    style = (
        "<style>#patch_1 path{fill:none!important}"
        f"@media (prefers-color-scheme:dark){{{turned}}}@media print{{{_unturned(_DARK)}}}</style>"
    )
    return re.sub(rb"(<svg [^>]*>)", lambda head: head[1] + style.encode(), svg, count=1)


def _turned(old: str, new: str) -> str:
    return "".join(f'[style*="{key}: {old}"]{{{key}:{new}!important}}' for key in ("fill", "stroke"))


def _unturned(colours: Mapping[str, str]) -> str:
    return "".join(_turned(colour, colour) for colour in colours)
