"""What a page is made of: paragraphs, tables, figures and patches, in sections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure


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
    narrow : callable, optional
        Draws it for a narrow screen.
    in_page : bool
        Whether the page shows it, or shows the same in another way and only links it.
    """

    kind: ClassVar[str] = "picture"
    name: str
    caption: str
    alt: str
    draw: Callable[[], Figure]
    narrow: Callable[[], Figure] | None = None
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
