"""Progress by stage: bars on a terminal, bars below the cell of a notebook, plain lines everywhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from threading import Lock
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

TITLES = {
    "landcover": "Sort land cover",
    "bands": "Bands to Zarr",
    "labels": "Reference maps and labels",
    "patches": "Patch table",
    "choice": "Images and sets",
    "metadata": "Metadata files",
    "lmdb": "LMDB",
    "geotiff": "GeoTIFF",
    "merge": "Merge LMDB",
    "verify-table": "Check patch table",
    "verify-lmdb": "Check LMDB",
    "verify-cubes": "Check Zarr cubes",
    "verify-trees": "Check GeoTIFF trees",
    "verify-archives": "Check archives",
    "verify-digest": "Digests",
}
TILE_STATES = ("working", "again", "done", "failed")
"""States of a tile that is not waiting any more: in work, failed but to be tried again, finished, given up."""

_WIDTH = 30
"""Characters of a bar in a notebook."""

_LINES = 10
"""Lines of each stage where there is no terminal."""


def console() -> Console:
    """The terminal; paths and names are printed as they are, on one line, and in a notebook as one piece of text."""
    # Notebooks ask for colours in the environment, which rich takes for a terminal, here and in every command below.
    return Console(markup=False, emoji=False, soft_wrap=True, force_jupyter=False, force_terminal=sys.stdout.isatty())


class View(Protocol):
    """Something that shows how far a job is, besides the terminal."""

    def show(self, done: Mapping[str, int], totals: Mapping[str, int]) -> None:
        """Steps of each stage have been done, of so many."""

    def tile(self, name: str, state: str, remark: str) -> None:
        """A tile is in another state."""


class Cell:
    """Bars below the cell of a notebook, drawn anew in their place when one of them has grown."""

    def __init__(self) -> None:
        from IPython.display import display  # noqa: PLC0415 - is there in a notebook, and only there

        self._full: dict[str, int] = {}
        self._handle: Any = display({"text/plain": ""}, raw=True, display_id=True)

    def show(self, done: Mapping[str, int], totals: Mapping[str, int]) -> None:
        """Draw a bar for each stage that has steps."""
        full = {stage: _WIDTH * done[stage] // total for stage, total in totals.items() if total}
        if full != self._full:
            self._full = full
            lines = (
                f"{TITLES[stage]:<26}{'█' * length}{'░' * (_WIDTH - length)} {done[stage]:>6,} of {totals[stage]:,}"
                for stage, length in full.items()
            )
            self._handle.update({"text/plain": "\n".join(lines)}, raw=True)

    def tile(self, name: str, state: str, remark: str) -> None:
        """Bars have no tiles."""


def cells_of_notebook() -> list[Cell]:
    """Where to draw bars: one place in a notebook, none elsewhere."""
    return [Cell()] if Console().is_jupyter else []


class StageProgress:
    """Shows how far each stage is; used as a context manager.

    Parameters
    ----------
    console : Console
        Where to show it.
    totals : mapping of str to int
        Tasks of each stage, in the order in which stages are shown.
    *views : View
        What shows it too. Where one is the cell of a notebook, nothing is printed.
    """

    def __init__(self, console: Console, totals: Mapping[str, int], *views: View) -> None:
        self._console, self._totals, self._views = console, dict(totals), views
        self._prints = not console.is_terminal and not any(isinstance(view, Cell) for view in views)
        self._done = dict.fromkeys(totals, 0)
        # Workers' messages arrive in the thread of Dask's event loop.
        self._lock = Lock()
        self._bars = Progress(
            TextColumn("{task.description:<26}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._ids = {
            stage: self._bars.add_task(TITLES[stage], total=count, start=False) for stage, count in totals.items()
        }

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def stage(self, name: str, total: int) -> Callable[[int], None]:
        """Begin a stage that was not known before; gives what is told of steps that are done."""
        self._totals[name], self._done[name] = total, 0
        self._ids[name] = self._bars.add_task(TITLES[name], total=total)
        return partial(self.advance, name)

    def begin(self, stage: str, total: int | None = None) -> None:
        """Start the clock of a stage, and say how much it is if that was not known before."""
        if total is not None:
            self._totals[stage] = total
            self._bars.update(self._ids[stage], total=total)
        self._bars.start_task(self._ids[stage])

    def advance(self, stage: str, steps: int = 1) -> None:
        """Some more of a stage is done."""
        with self._lock:
            before, total = self._done[stage], self._totals[stage]
            self._done[stage] = done = min(before + steps, total)
        self._bars.start_task(self._ids[stage])
        self._bars.update(self._ids[stage], completed=done)
        for view in self._views:
            view.show(self._done, self._totals)
        if self._prints and total and _LINES * done // total > _LINES * before // total:
            self._console.print(f"{TITLES[stage]}: {done:,} of {total:,}", highlight=False)

    def tile(self, name: str, state: str, remark: str = "") -> None:
        """A tile is in another state, one of :data:`TILE_STATES`; ``remark`` says why it failed."""
        for view in self._views:
            view.tile(name, state, remark)
        if state == "again":
            self._console.print(f"{name} failed, and is tried again: {remark}", highlight=False)

    def finish(self, stage: str) -> None:
        """All of a stage is done, whether or not each step was heard of."""
        if self._totals[stage]:
            self.advance(stage, self._totals[stage] - self._done[stage])
