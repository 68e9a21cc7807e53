"""How figures look, and how they become files: colours, fonts, and images that are the same at every call."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from reben_dask.errors import InputError, OutputError

SUFFIXES = (".png", ".svg")

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours that people with any colour vision can tell apart (Okabe and Ito 2008, Color Universal Design)."""

INK, FAINT, GRID = "#23292f", "#6a727a", "#e1e4e8"
"""Text and axes, what stands behind them, and lines of a grid."""

_DPI = 200
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.color": INK,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 20,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "svg.hashsalt": "reben_dask",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Fonts, colours and lines of all figures; hold it while a figure is drawn and saved."""
    with mpl.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, which finds room for everything in it."""
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))


def plain(name: str) -> str:
    """A name as a label; matplotlib takes dollars for formulas, and hides what begins with an underscore."""
    return name.lstrip("_").replace("$", r"\$")


def image_bytes(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """A figure as a PNG or SVG image; the same figure gives the same bytes."""
    if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        # Finding room takes as long as drawing, and would be done anew for each image.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    buffer = io.BytesIO()
    metadata: dict[str, Any] | None = {"Date": None} if kind == "svg" else None
    figure.savefig(buffer, format=kind, dpi=_DPI, metadata=metadata)
    return buffer.getvalue()


def require_image_name(path: Path) -> None:
    """Make sure that a figure can be saved under a name, before anything is computed for it.

    Raises
    ------
    InputError
        If ``path`` has an ending that is not drawn.
    OutputError
        If there is a folder at ``path``.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"The plot {path} ends in {path.suffix or 'nothing'}; give a name that ends in .png or .svg.")
    if path.is_dir():
        raise OutputError(f"The plot {path} is a folder; give the name of a file.")


def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure as a file ``.png`` or ``.svg``, whole or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    unfinished = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(image_bytes(figure, "svg" if path.suffix.lower() == ".svg" else "png"))
        unfinished.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}).") from None
    finally:
        unfinished.unlink(missing_ok=True)
