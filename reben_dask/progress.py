"""Progress by stage: bars on a terminal, plain lines everywhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from threading import Lock
from typing import Self

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
_LINES = 10
"""Lines of each stage where there is no terminal."""


def console() -> Console:
    """The terminal; paths and names are printed as they are, on one line."""
    return Console(markup=False, emoji=False, soft_wrap=True)


class StageProgress:
    """Shows how far each stage is; used as a context manager.

    Parameters
    ----------
    console : Console
        Where to show it.
    totals : mapping of str to int
        Tasks of each stage, in the order in which stages are shown.
    """

    def __init__(self, console: Console, totals: Mapping[str, int]) -> None:
        self._console, self._totals = console, dict(totals)
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
        if total and not self._console.is_terminal and _LINES * done // total > _LINES * before // total:
            self._console.print(f"{TITLES[stage]}: {done:,} of {total:,}", highlight=False)

    def finish(self, stage: str) -> None:
        """All of a stage is done, whether or not each step was heard of."""
        if self._totals[stage]:
            self.advance(stage, self._totals[stage] - self._done[stage])
