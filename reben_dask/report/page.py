"""How a page becomes one HTML file that asks for no other, with the files of its figures beside it."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.image import imsave

from reben_dask import __version__
from reben_dask.drawing import FAINT, GRID, INK, house_style, image_bytes
from reben_dask.report.blocks import Page, Picture

FIGURES = "figures"
PAGE = "index.html"

_PX_PER_INCH = 96
_MOST_SVG_BYTES = 1_000_000
_DARK = {INK: "#e4e8ec", FAINT: "#a3adb7", GRID: "#3a434c"}


@dataclass(frozen=True)
class _Image:
    """An image as it stands in the page, with its size in pixels of the screen, and another for narrow screens."""

    data: str
    width: int
    height: int
    narrow: _Image | None = None


@dataclass
class _Files:
    """Images of the pictures of a page, by the names of their files."""

    folder: Path
    shown: dict[str, _Image] = field(default_factory=dict)

    def save(self, picture: Picture) -> None:
        drawn = _Drawn(picture.draw)
        (self.folder / f"{picture.name}.svg").write_bytes(drawn.svg)
        (self.folder / f"{picture.name}.png").write_bytes(drawn.png)
        if picture.in_page:
            self.shown[picture.name] = drawn.in_page(_Drawn(picture.narrow).in_page() if picture.narrow else None)


class _Drawn:
    """A figure as files, each made when it is asked for first."""

    def __init__(self, draw: Callable[[], Figure]) -> None:
        with house_style():
            self._figure = draw()

    @cached_property
    def svg(self) -> bytes:
        with house_style():
            return image_bytes(self._figure, "svg")

    @cached_property
    def png(self) -> bytes:
        with house_style():
            return image_bytes(self._figure, "png")

    def in_page(self, narrow: _Image | None = None) -> _Image:
        width, height = (round(side * _PX_PER_INCH) for side in self._figure.get_size_inches())
        is_small = len(self.svg) <= _MOST_SVG_BYTES
        data = _data_uri("svg+xml", _for_both_modes(self.svg)) if is_small else _data_uri("png", self.png)
        return _Image(data, width, height, narrow)


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
    style = f"<style>#patch_1 path{{fill:none!important}}@media (prefers-color-scheme:dark){{{turned}}}</style>"
    return re.sub(rb"(<svg [^>]*>)", lambda head: head[1] + style.encode(), svg, count=1)


def _turned(old: str, new: str) -> str:
    return "".join(f'[style*="{key}: {old}"]{{{key}:{new}!important}}' for key in ("fill", "stroke"))
