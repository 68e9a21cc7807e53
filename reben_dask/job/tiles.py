"""Building all tiles: those that are finished are left alone, those that cannot be built are set aside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from reben_dask.cluster import thread_count
from reben_dask.errors import ClusterError, InputError
from reben_dask.formats.dataset import TABLE
from reben_dask.job.graph import batch_graph
from reben_dask.job.plan import Plan
from reben_dask.job.submit import Tasks
from reben_dask.job.tally import add_up, from_rows, to_rows
from reben_dask.job.waiting import explained
from reben_dask.job.window import Outcome, batch_size, run_batches
from reben_dask.output.files import remove
from reben_dask.output.folder import Output
from reben_dask.output.space import require_space
from reben_dask.output.state import TILES_STAGE, sentence
from reben_dask.progress import StageProgress
from reben_dask.sources.landcover import SortedMap
from reben_dask.sources.sentinel2 import Tile
from reben_dask.stores.cubes import create_store

ATTEMPTS = 3
"""How often a tile is tried, the others in between: what a network disk or a full worker has done passes."""

HOPELESS = 5
"""So many tiles that cannot be built, and none that can, end the job: something is wrong with all of them."""


def table_folder(plan: Plan) -> str:
    """Name of the folder for the part files of finished tiles; a second look makes the patch table from them."""
    return "observed.parquet" if plan.looks_again else TABLE


class TileBuilder:
    """Builds the tiles of a job that are not finished.

    Parameters
    ----------
    tasks : Tasks
        The cluster.
    plan : Plan
        The job.
    landcover : SortedMap
        The map.
    output : Output
        Where finished tiles are kept and noted.
    progress : StageProgress
        Told of each task that is done.
    """

    def __init__(self, tasks: Tasks, plan: Plan, landcover: SortedMap, output: Output, progress: StageProgress) -> None:
        self._tasks, self._plan, self._landcover = tasks, plan, landcover
        self._output, self._progress = output, progress
        self._done: dict[str, Any] = output.state.done(TILES_STAGE)
        self._built = 0

    def run(self) -> pd.DataFrame:
        """Build what is missing; gives the tallies of all tiles but those that were set aside.

        Raises
        ------
        RebenError
            If not one tile can be built, if the disk is full, or if the cluster is lost.
        """
        for store in (self._output.cubes, self._output.work / "cubes.zarr"):
            create_store(store, {"recipe": self._plan.recipe.name, "classes": list(self._plan.nomenclature.classes)})
        self._tell_of_done()
        waiting = [tile for tile in self._plan.tiles if tile.name not in self._done]
        for tile in waiting:
            self._remove_remains(tile)
        failed: dict[str, BaseException] = {}
        for attempt in range(1, ATTEMPTS + 1):
            failed = dict(self._attempt(waiting, attempt))
            waiting = [tile for tile in waiting if tile.name in failed]
        self._set_aside(failed)
        return add_up(map(from_rows, self._done.values()))

    def _tell_of_done(self) -> None:
        for tile in self._plan.tiles:
            if tile.name in self._done:
                usable = self._plan.is_usable(tile)
                self._progress.advance("bands", len(self._plan.recipe.bands) * usable)
                self._progress.advance("labels", int(usable))
                self._progress.advance("patches")
                self._progress.tile(tile.name, "done")

    def _attempt(self, tiles: Sequence[Tile], attempt: int) -> Iterator[tuple[str, BaseException]]:
        """Names and errors of the tiles that cannot be built."""
        failed = 0
        for tile, result, error in self._outcomes(tiles, attempt):
            if error is None:
                self._keep(tile, result)
                continue
            require_space(error, self._output.root)
            reason = explained(error)
            self._progress.tile(tile.name, "again" if attempt < ATTEMPTS else "failed", sentence(reason))
            yield tile.name, reason
            failed += 1
            if failed == HOPELESS and not self._done:
                raise _hopeless(reason, failed)

    def _outcomes(self, tiles: Sequence[Tile], attempt: int) -> Iterator[Outcome]:
        work = self._output.work

        def build(batch: Sequence[Any]) -> dict[str, list[Any]]:
            for tile in batch:
                self._progress.tile(tile.name, "working")
            cubes, table = work / "cubes.zarr", work / table_folder(self._plan)
            # A scheduler remembers a task that failed by its name.
            job = f"{self._tasks.job}-{attempt}"
            return batch_graph(self._plan, batch, self._landcover, cubes=cubes, table=table, job=job).stages

        size = batch_size(thread_count(self._tasks.client))
        return run_batches(self._tasks.client, tiles, build, size, self._progress.advance)

    def _remove_remains(self, tile: Tile) -> None:
        """Remove what an attempt moved to its place, and was interrupted before it took note of it."""
        for path in self._places(tile):
            remove(self._output.building / path)

    def _keep(self, tile: Tile, tally: pd.DataFrame) -> None:
        if not self._built:
            _forget_later_stages(self._output)
        for path in self._places(tile):
            self._output.keep(path)
        self._done[tile.name] = to_rows(tally)
        self._output.state.mark(TILES_STAGE, tile.name, self._done[tile.name])
        self._progress.tile(tile.name, "done")
        self._built += 1

    def _places(self, tile: Tile) -> list[str]:
        """What tasks make of a tile."""
        cubes = [f"cubes.zarr/{tile.name}"] * self._plan.is_usable(tile)
        return [*cubes, f"{table_folder(self._plan)}/{tile.name}.parquet"]

    def _set_aside(self, failed: dict[str, BaseException]) -> None:
        if failed and not self._done:
            raise _hopeless(next(iter(failed.values())), len(failed))
        for name, error in failed.items():
            self._output.state.set_aside(name, error, ATTEMPTS)


def _forget_later_stages(output: Output) -> None:
    """What an earlier attempt has made of all tiles it had is of no use to one that has more of them.

    This comes before the first of those is noted: whoever goes on after an interruption could not tell any more.
    """
    output.state.unmark("choice", "lmdb", "geotiff", "geotiff-archives")
    for name in ("lmdb", "parts", *output.exports):
        remove(output.building / name)


def _hopeless(error: BaseException, failed: int) -> Exception:
    """The error of one tile for a job none of whose tiles can be built."""
    if failed == 1 and isinstance(error, Exception):
        return error
    if isinstance(error, ClusterError):
        return error
    return InputError(f"None of the first {failed} tiles can be built. The last of them: {error}")
