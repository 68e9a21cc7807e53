"""Progress by stage: bars on a terminal, plain lines everywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

TITLES = {
    "landcover": "Sort land cover",
    "bands": "Bands to Zarr",
    "labels": "Reference maps and labels",
    "patches": "Patch table",
    "metadata": "Metadata files",
    "lmdb": "LMDB",
}
_LINES_PER_STAGE = 10


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

    def begin(self, stage: str) -> None:
        """Start the clock of a stage."""
        self._bars.start_task(self._ids[stage])

    def advance(self, stage: str) -> None:
        """One more task of a stage is done."""
        self._done[stage] += 1
        self.begin(stage)
        self._bars.advance(self._ids[stage])
        done, total = self._done[stage], self._totals[stage]
        if not self._console.is_terminal and done * _LINES_PER_STAGE // total > (done - 1) * _LINES_PER_STAGE // total:
            self._console.print(f"{TITLES[stage]}: {done} of {total}", highlight=False)
