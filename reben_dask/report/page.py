"""HTML pages in one self-contained file, with copies of the figures in files beside it, published atomically."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.image import imsave

from reben_dask import __version__
from reben_dask.atomic import atomic_path
from reben_dask.drawing import ABSENT, FAINT, GRID, INK, PRESENT, STRATEGY_COLOURS, house_style, image_bytes
from reben_dask.errors import OutputError
from reben_dask.report.figures import NARROW, WIDE
from reben_dask.wording import counted

FIGURES = "figures"
PAGE = "index.html"
_OWN = {PAGE, FIGURES}

_PX_PER_INCH = 96
_MOST_SVG_BYTES = 1_000_000
_DARK = {
    INK: "#e4e8ec",
    FAINT: "#a3adb7",
    GRID: "#3a434c",
    PRESENT: "#a9b8c6",
    ABSENT: "#4d5863",
    STRATEGY_COLOURS["stratified"]: "#e4e8ec",
}
"""Colours of figures in dark mode."""


@dataclass(frozen=True)
class Page:
    """Contents of a page."""

    template: str
    """Name of the template, which extends ``page.html.j2``."""
    kind: str
    """Phrase above the title: the subject of the page."""
    title: str
    subtitle: str
    facts: Mapping[str, str]
    """Key figures by name."""
    sections: Mapping[str, str]
    """Section titles by their key in the template and in links."""
    source: str
    """Command that makes the page."""
    content: Mapping[str, Any]
    """Variables of the template."""
    figures: Mapping[str, Callable[..., Figure]] = field(default_factory=dict)
    """Drawing functions, which take a ``width`` in inches, by file name."""
    linked_figures: Mapping[str, Callable[..., Figure]] = field(default_factory=dict)
    """The same for figures saved beside the page and not shown in it."""


class _Image(NamedTuple):
    """Image for a ``src``, with its size in CSS pixels."""

    data: str
    width: int
    height: int


def require_place(folder: Path) -> None:
    """Check that ``folder`` is empty, missing or an older report; raises OutputError otherwise."""
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise OutputError(f"{folder} is not a folder; move it elsewhere to make room for the report.")
    if foreign := sorted(path.name for path in folder.iterdir() if path.name not in _OWN):
        raise OutputError(
            f"{folder} holds {foreign[0]}, which is not part of a report and would be lost; move it elsewhere."
        )


def publish_page(page: Page, folder: Path) -> Path:
    """Write a page into a folder atomically, in place of an older report, and return its path.

    Raises OutputError if there is something else at ``folder``, or it cannot be written.
    """
    require_place(folder)
    try:
        with atomic_path(folder) as draft:
            (draft / FIGURES).mkdir(parents=True)
            text = _render(page, draft / FIGURES)
            (draft / PAGE).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"The report {folder} cannot be written ({error.strerror}).") from None
    return folder / PAGE


def _render(page: Page, folder: Path) -> str:
    """Render a page as HTML, with its figures saved in a folder."""
    for name, draw in page.linked_figures.items():
        _save(draw, folder / name)
    images = {
        name: {"wide": _save(draw, folder / name), "narrow": _shown(draw, NARROW)}
        for name, draw in page.figures.items()
    }
    # Own file without HTML special characters.
    style = Markup((resources.files(__package__) / "templates" / "page.css").read_text(encoding="utf-8"))  # noqa: S704
    template = _environment().get_template(page.template)
    return template.render(page=page, images=images, css=style, version=__version__, folder=FIGURES, **page.content)


@house_style()
def _save(draw: Callable[..., Figure], path: Path) -> _Image:
    figure = draw(width=WIDE)
    svg, png = image_bytes(figure, "svg"), image_bytes(figure, "png")
    path.with_name(f"{path.name}.svg").write_bytes(svg)
    path.with_name(f"{path.name}.png").write_bytes(png)
    return _embedded(figure, svg, png)


@house_style()
def _shown(draw: Callable[..., Figure], width: float) -> _Image:
    figure = draw(width=width)
    svg = image_bytes(figure, "svg")
    return _embedded(figure, svg, b"" if len(svg) <= _MOST_SVG_BYTES else image_bytes(figure, "png"))


def _embedded(figure: Figure, svg: bytes, png: bytes) -> _Image:
    """Embed a figure as SVG, or as PNG if the SVG is large."""
    width, height = (round(side * _PX_PER_INCH) for side in figure.get_size_inches())
    is_small = len(svg) <= _MOST_SVG_BYTES
    return _Image(_data_uri("svg+xml", _for_both_modes(svg)) if is_small else _data_uri("png", png), width, height)


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
    environment.filters |= {
        "number": lambda value: f"{value:,}",
        "percent": lambda value: f"{value:.0%}",
        "counted": counted,
        "pixels": lambda pixels: _data_uri("png", _png(pixels)),
    }
    return environment


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    imsave(buffer, pixels, format="png")
    return buffer.getvalue()


def _for_both_modes(svg: bytes) -> bytes:
    """Remove the white background of a figure, and use light ink in dark mode."""
    turned = "".join(
        f'[style*="{key}: {light.lower()}"]{{{key}:{dark}!important}}'
        for light, dark in _DARK.items()
        for key in ("fill", "stroke")
    )
    style = f"<style>#patch_1 path{{fill:none!important}}@media (prefers-color-scheme:dark){{{turned}}}</style>"
    return re.sub(rb"(<svg [^>]*>)", lambda head: head[1] + style.encode(), svg, count=1)
