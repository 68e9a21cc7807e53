"""Building of the tiles, each accepted when it is complete, and the LMDB that is filled behind them."""

from __future__ import annotations

from collections import deque
from contextlib import closing

import pandas as pd
from dask.delayed import Delayed
from distributed import Future

from reben_dask.atomic import remove
from reben_dask.cluster import thread_count
from reben_dask.errors import ClusterError, InputError
from reben_dask.formats.columns import KEPT
from reben_dask.formats.dataset import CUBES, LMDB, TABLE
from reben_dask.formats.lmdb import DATA_FILE
from reben_dask.formats.sample_shards import SHARD_FORMS
from reben_dask.job.graph import TileGraph, stage_of
from reben_dask.job.plan import TREE_SUFFIXES, Plan
from reben_dask.job.record import concat_counts, counts_from_json, counts_to_json, sum_counts
from reben_dask.job.scheduling import Attempt, Tasks, Window, batch_size, explain
from reben_dask.job.tasks import append_to_lmdb
from reben_dask.progress import StageProgress
from reben_dask.sources.landcover import SortedMap
from reben_dask.sources.sentinel2 import Tile
from reben_dask.stores.cubes import create_store
from reben_dask.stores.lmdb import TileRange
from reben_dask.workspace import TILES, Output, first_line, require_space

APPENDED = "lmdb-tiles"
"""Stage of the tiles whose values are in the LMDB."""

SUMS = "sums"
"""Hidden folder with the sums of the patches of each tile, or of each environment of the LMDB."""

MAX_INITIAL_FAILURES = 5
"""Failed tiles that end the job if none has succeeded."""


def table_folder(plan: Plan) -> str:
    """Return the folder of part files of finished tiles; global steps make the patch table from them."""
    return "observed.parquet" if plan.needs_global_steps else TABLE


def sums_file(name: str) -> str:
    """Return the relative path of the sums of a tile or an environment; ``name`` is empty for a single one."""
    return f"{SUMS}/{name or LMDB}.npz"


class LmdbAppends:
    """Tasks that append finished tiles to the LMDB, one at a time, beside those of other tiles.

    Their progress is that of the stage ``lmdb``, reported on ``topic``.
    """

    def __init__(self, tasks: Tasks, window: Window, output: Output, progress: StageProgress, topic: str) -> None:
        self._tasks, self._window, self._output = tasks, window, output
        self._progress, self._topic = progress, topic
        self._folder = output.building / LMDB
        if not (self._folder / DATA_FILE).exists():
            output.state.reset_stages(APPENDED)
        self._appended = {name for name in output.state.done(APPENDED) if (output.building / sums_file(name)).exists()}
        self._waiting: deque[tuple[str, int]] = deque()
        self._running: str | None = None
        self._total = 0

    def add(self, tile: str, kept: int) -> None:
        """Append a finished tile with a number of kept patches, after those that were added before."""
        self._total += kept
        self._progress.start("lmdb", self._total)
        if tile in self._appended:
            self._progress.advance("lmdb", kept)
            return
        self._waiting.append((tile, kept))
        if self._running is None:
            self._submit()

    def _submit(self) -> None:
        self._running, kept = self._waiting.popleft()
        piece = TileRange(self._output.patches / f"{self._running}.parquet", 0, kept)
        sums = self._output.work / sums_file(self._running)
        arguments = (self._folder, piece, self._output.cubes, sums, self._topic)
        self._window.follow(self._tasks.submit(f"lmdb-{self._running}", append_to_lmdb, *arguments), self._finish)

    def _finish(self, future: Future) -> None:
        if again := self._tasks.retried(future):
            self._window.follow(again, self._finish)
            return
        self._output.accept(sums_file(str(self._running)))
        self._output.state.mark_done(APPENDED, str(self._running))
        self._running = None
        if self._waiting:
            self._submit()


class TileBuilder:
    """Stage that builds the unfinished tiles; ``appends_to_lmdb`` fills the LMDB behind them."""

    def __init__(
        self,
        tasks: Tasks,
        plan: Plan,
        landcover: SortedMap,
        output: Output,
        progress: StageProgress,
        *,
        appends_to_lmdb: bool,
    ) -> None:
        self._tasks, self._plan, self._output, self._progress = tasks, plan, output, progress
        self._appends_to_lmdb = appends_to_lmdb
        work = output.work
        self._graph = TileGraph(plan, landcover, work / CUBES, work / table_folder(plan), tasks.job)
        self._done = {name: counts_from_json(rows) for name, rows in output.state.done(TILES).items()}
        self._failed: list[tuple[Tile, BaseException, int]] = []
        self._built = 0

    def run(self) -> pd.DataFrame:
        """Build the tiles; return their counts; :class:`RebenError` if none succeeds, or disk or cluster fail."""
        attributes = {"recipe": self._plan.recipe.name, "classes": list(self._plan.nomenclature.classes)}
        for store in (self._output.cubes, self._output.work / CUBES):
            create_store(store, attributes)
        with self._tasks.progress_topic("lmdb", self._progress) as topic:
            self._run(topic)
        if self._failed and not self._done:
            raise _all_failed_error(self._failed[-1][1], len(self._failed))
        for tile, error, attempts in self._failed:
            self._output.state.record_failure(tile.name, error, attempts)
        for name, _, error in self._plan.damaged:
            self._output.state.record_failure(name, error, 1)
        return concat_counts(self._done.values())

    def _run(self, topic: str) -> None:
        size = batch_size(thread_count(self._tasks.client))
        window = Window(self._tasks.client, self._make_tasks, size, self._advance, self._show_retry)
        appends = None
        if self._appends_to_lmdb:
            appends = LmdbAppends(self._tasks, window, self._output, self._progress, topic)
            for name, counts in self._done.items():
                appends.add(name, _kept(counts))
        unfinished = self._unfinished()
        for product, _, damage in self._plan.damaged:
            self._progress.tile(product, "failed", first_line(damage))
        with closing(window.run(unfinished)) as outcomes:
            for outcome in outcomes:
                if outcome.error is None:
                    self._accept(outcome.item, outcome.result)
                    if appends:
                        appends.add(outcome.item.name, _kept(outcome.result))
                    continue
                self._fail(outcome.item, outcome.error, outcome.attempts)
                if len(self._failed) == MAX_INITIAL_FAILURES and not self._done:
                    break
        if appends and self._done:
            self._progress.finish("lmdb")

    def _unfinished(self) -> list[Tile]:
        """Tiles that no earlier attempt has finished."""
        unfinished = []
        for tile in self._plan.tiles:
            if tile.name in self._done:
                self._show_done(tile)
                continue
            unfinished.append(tile)
            # An attempt may have moved them to their places, and ended before it recorded that.
            for path in self._places(tile):
                remove(self._output.building / path)
        return unfinished

    def _fail(self, tile: Tile, error: BaseException, attempts: int) -> None:
        require_space(error, self._output.root)
        reason = explain(error)
        self._failed.append((tile, reason, attempts))
        self._progress.tile(tile.name, "failed", first_line(reason))

    def _make_tasks(self, tile: Tile, attempt: Attempt) -> dict[str, Delayed | Future]:
        self._progress.tile(tile.name, "working")
        return self._graph.tasks(tile, attempt)

    def _advance(self, task: str) -> None:
        if stage := stage_of(task):
            self._progress.advance(stage)

    def _show_retry(self, tile: Tile, error: BaseException) -> None:
        self._progress.tile(tile.name, "again", first_line(explain(error)))

    def _show_done(self, tile: Tile) -> None:
        usable = self._plan.is_usable(tile)
        steps = {"bands": len(self._plan.recipe.bands) * usable, "labels": int(usable), "patches": 1}
        for stage, count in steps.items():
            self._progress.advance(stage, count)
        self._show_end(tile)

    def _show_end(self, tile: Tile) -> None:
        self._progress.tile(tile.name, "done" if self._plan.is_usable(tile) else "rejected")

    def _accept(self, tile: Tile, counts: pd.DataFrame) -> None:
        if not self._built:
            self._reset_later_stages()
        for path in self._places(tile):
            self._output.accept(path)
        self._done[tile.name] = counts
        self._output.state.mark_done(TILES, tile.name, counts_to_json(counts))
        self._show_end(tile)
        self._built += 1

    def _places(self, tile: Tile) -> list[str]:
        cubes = [f"{CUBES}/{tile.name}"] * self._plan.is_usable(tile)
        return [*cubes, f"{table_folder(self._plan)}/{tile.name}.parquet"]

    def _reset_later_stages(self) -> None:
        """Discard results of fewer tiles before the first new tile is recorded."""
        self._output.state.reset_stages("choice", "lmdb", *TREE_SUFFIXES, *SHARD_FORMS)
        for name in ("parts", *self._output.exports, *([] if self._appends_to_lmdb else [LMDB])):
            remove(self._output.building / name)


def _kept(counts: pd.DataFrame) -> int:
    return sum_counts(counts, "status").get(KEPT, 0)


def _all_failed_error(error: BaseException, failed: int) -> Exception:
    if isinstance(error, ClusterError) or (failed == 1 and isinstance(error, Exception)):
        return error
    return InputError(f"None of the first {failed} tiles can be built. The last of them: {error}")
