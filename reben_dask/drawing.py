"""House style of figures, and reproducible image files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from reben_dask.atomic import atomic_path
from reben_dask.errors import InputError, OutputError

SUFFIXES = (".png", ".svg")

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colour-blind safe palette (Okabe and Ito 2008, Color Universal Design)."""

SPLIT_COLOURS = {"train": COLOURS[0], "validation": COLOURS[4], "test": COLOURS[2]}
STRATEGY_COLOURS = {"geographic": COLOURS[1], "grid": COLOURS[3], "random": COLOURS[5], "stratified": COLOURS[6]}
NO_SPLIT_COLOUR = "#9aa1a8"
PRESENT, ABSENT = "#56636f", "#b4bac1"
"""Colours of presence (kept, gained) and absence (rejected, lost)."""

INK, FAINT, GRID = "#23292f", "#6a727a", "#e1e4e8"
"""Colours of text and axes, secondary text, and grid lines."""

FONT_PT = 12
"""Text size of a page, at 96 pixels per inch."""

_DPI, _MIN_PNG_PX = 200, 1920
_STYLE = {
    # SVG keeps text as text; a reader without DejaVu falls back to a narrower font.
    "svg.fonttype": "none",
    # Hinted text has another width at each resolution, and the layout is computed at one.
    "text.hinting": "none",
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": FONT_PT,
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
    "legend.fontsize": FONT_PT,
    "svg.hashsalt": "reben_dask",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Apply the fonts, colours and lines of all figures, while a figure is drawn and saved."""
    with mpl.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float, *, compress: bool = False) -> Figure:
    """Make an empty figure of a size in inches, with automatic layout; ``compress`` moves rows of images together."""
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, compress=compress)
    return Figure(figsize=(width, height), layout=layout)


def plain(name: str) -> str:
    """Escape a name as a label: matplotlib reads dollars as formulas, and hides names with a leading underscore."""
    return name.lstrip("_").replace("$", r"\$")


def image_bytes(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """Render a figure as PNG, at least 1,920 pixels wide, or SVG; the same figure gives the same bytes."""
    if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        # The layout takes as long as drawing, and would be computed again for each image.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    buffer = io.BytesIO()
    metadata: dict[str, Any] | None = {"Date": None} if kind == "svg" else None
    dpi = max(_DPI, -(-_MIN_PNG_PX // figure.get_figwidth())) if kind == "png" else _DPI
    figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def require_image_name(path: Path) -> None:
    """Check early that a figure can be saved at ``path``.

    Raises InputError for suffixes other than ``.png`` and ``.svg``, OutputError if ``path`` is a folder.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"The plot {path} ends in {path.suffix or 'nothing'}; give a name that ends in .png or .svg.")
    if path.is_dir():
        raise OutputError(f"The plot {path} is a folder; give the name of a file.")


def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure as ``.png`` or ``.svg``, atomically; raises OutputError if it cannot be written."""
    content = image_bytes(figure, "svg" if path.suffix.lower() == ".svg" else "png")
    try:
        with atomic_path(path) as draft:
            draft.write_bytes(content)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}).") from None
