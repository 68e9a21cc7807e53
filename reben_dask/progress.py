"""Progress by stage: bars on a terminal or below a notebook cell, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from threading import Lock
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

TITLES = {
    "l2a": "L1C to L2A",
    "landcover": "Sort land cover",
    "bands": "Bands to Zarr",
    "labels": "Reference maps and labels",
    "patches": "Patch table",
    "choice": "Select images and splits",
    "metadata": "Metadata files",
    "lmdb": "LMDB",
    "geotiff": "GeoTIFF",
    "samples": "Shards of samples",
    "archives": "Read archives (MB)",
    "merge": "Merge LMDB",
    "verify-table": "Check patch table",
    "verify-overlaps": "Check overlaps of tiles",
    "verify-lmdb": "Check LMDB",
    "verify-cubes": "Check Zarr cubes",
    "verify-trees": "Check GeoTIFF trees",
    "verify-archives": "Check archives",
    "verify-samples": "Check shards of samples",
    "verify-digest": "Digests",
    "statistics": "Band statistics",
    "train": "Train",
    "validate": "Validate",
    "evaluate": "Evaluate",
}
TILE_STATES = ("working", "again", "done", "rejected", "failed")
"""States of a started tile: in progress, to be retried, finished, finished but rejected for its quality, failed."""

_WIDTH = 30
"""Width of a notebook bar in characters."""

_LINES = 10
"""Lines per stage without a terminal."""


def console() -> Console:
    """Return the terminal; paths and names are printed unchanged, in a notebook as plain text."""
    # Notebooks ask for colours in the environment, which rich takes for a terminal.
    return Console(markup=False, emoji=False, soft_wrap=True, force_jupyter=False, force_terminal=sys.stdout.isatty())


class View(Protocol):
    """Additional display of progress."""

    def show(self, done: Mapping[str, int], totals: Mapping[str, int]) -> None:
        """Show the completed steps and the total of each stage."""

    def tile(self, name: str, state: str, remark: str) -> None:
        """Show the state of a tile."""


class Cell:
    """Bars below a notebook cell, redrawn when one of them has grown."""

    def __init__(self) -> None:
        from IPython.display import display  # noqa: PLC0415 - only in a notebook

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
        """Ignore tiles."""


def cells_of_notebook() -> list[Cell]:
    """Return a view in a notebook, none elsewhere."""
    return [Cell()] if Console().is_jupyter else []


class StageProgress:
    """Display of the progress of each stage; a context manager.

    ``totals`` has the steps of each stage in display order. If one of ``views`` is a notebook cell, nothing is printed.
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
        """Add a stage and start it; return the function that advances it."""
        self._totals[name], self._done[name] = total, 0
        self._ids[name] = self._bars.add_task(TITLES[name], total=total)
        return partial(self.advance, name)

    def start(self, stage: str, total: int) -> None:
        """Start the clock of a stage, and set its number of steps."""
        self._totals[stage] = total
        self._bars.update(self._ids[stage], total=total)
        self._bars.start_task(self._ids[stage])

    def advance(self, stage: str, steps: int = 1) -> None:
        """Add completed steps."""
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
        """Set the state of a tile, one of :data:`TILE_STATES`; ``remark`` is its error."""
        for view in self._views:
            view.tile(name, state, remark)
        if state == "again":
            self._console.print(f"{name} failed and will be retried: {remark}", highlight=False)

    def finish(self, stage: str) -> None:
        """Complete a stage, even if some steps were not reported."""
        if self._totals[stage]:
            self.advance(stage, self._totals[stage] - self._done[stage])


class ByteProgress:
    """Display of a transfer in bytes, with its rate and the time left; a context manager."""

    def __init__(self, console: Console, title: str, total: int) -> None:
        self._console, self._title, self._total = console, title, total
        self._done = self._shown = 0
        self._started = time.monotonic()
        self._lock = Lock()
        columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), *columns, console=console, disable=not console.is_terminal
        )
        self._id = self._bar.add_task(title, total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def expect(self, nbytes: int) -> None:
        """Correct the total by a number of bytes."""
        with self._lock:
            self._total += nbytes
        self._bar.update(self._id, total=self._total)

    def advance(self, nbytes: int) -> None:
        """Add bytes that were received; prints at most ten lines where there is no terminal."""
        with self._lock:
            self._done += nbytes
            total = max(self._total, self._done, 1)
            is_due = _LINES * self._done // total > self._shown
            self._shown = max(self._shown, _LINES * self._done // total)
        self._bar.update(self._id, completed=self._done)
        if is_due and not self._console.is_terminal:
            rate = self._done / max(time.monotonic() - self._started, 1e-3)
            left = (total - self._done) / rate / 60
            self._console.print(
                f"{self._title}: {self._done / 1e9:,.2f} of {total / 1e9:,.2f} GB, {rate / 1e6:,.1f} MB/s, "
                f"{left:,.0f} min left",
                highlight=False,
            )

    def note(self, text: str) -> None:
        """Print a sentence above the bar."""
        self._console.print(text, style="yellow", highlight=False)
