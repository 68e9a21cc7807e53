"""Costs of 125, 1,000 and 10,000 tiles besides their pixels: planning, graph, scheduler, client.

The planning code and the graphs are real, over an archive of real metadata files; tasks do nothing. Scheduler and
workers are processes of their own. ``make bench-scale`` runs it.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from archive import make_archive, make_landcover
from distributed import Client
from distributed.diagnostics.plugin import SchedulerPlugin
from measure import machine
from nothing import in_place_of_work

from reben_dask.job.graph import TileGraph
from reben_dask.job.plan import Plan, make_plan
from reben_dask.job.record import concat_counts, sum_counts
from reben_dask.job.scheduling import Attempt, Window
from reben_dask.recipes import load_recipe
from reben_dask.sources.landcover import SortedMap, open_landcover, sort_landcover

POLYGONS = 200_000
"""CORINE Land Cover 2018 has 2.4 million."""

BATCH = 64
"""Tiles of a batch on any cluster of 576 threads or more."""

WORKERS = 2
MEBI = 2**20


def main() -> None:
    """Measure each number of tiles in a process of its own, so that memory is that of one of them; print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tiles", type=int, nargs="*", default=[125, 1_000, 10_000])
    parser.add_argument("--batch", type=int, default=BATCH, help="tiles of a batch")
    parser.add_argument("--polygons", type=int, default=POLYGONS, help="polygons of the map")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="folder for the figures")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(_measure(options.tiles[0], options.batch, options.polygons)))
        return
    results = []
    settings = ["--batch", str(options.batch), "--polygons", str(options.polygons)]
    print(f"{'tiles':>7}{'plan s':>9}{'graph ms/tile':>15}{'tasks':>10}{'at once':>9}{'scheduler ms/task':>19}", end="")
    print(f"{'scheduler MiB':>15}{'client MiB':>12}{'wall s':>8}")
    for tiles in options.tiles:
        done = subprocess.run(
            [sys.executable, __file__, str(tiles), *settings, "--alone"],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        results.append(found)
        print(f"{tiles:>7,}{found['plan_s']:>9.1f}{found['graph_ms_per_tile']:>15.1f}{found['tasks']:>10,}", end="")
        print(f"{found['tasks_at_once']:>9,}{found['scheduler_ms_per_task']:>19.3f}", end="")
        print(f"{found['scheduler_peak_bytes'] / MEBI:>15,.0f}{found['client_peak_bytes'] / MEBI:>12,.0f}", end="")
        print(f"{found['wall_s']:>8.0f}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "scale.json"
    made = datetime.now(UTC).isoformat(timespec="seconds")
    file.write_text(json.dumps({"made": made, "machine": machine(), "tiles": results}, indent=2) + "\n")
    print(f"\nSaved as {file}")


def _measure(tiles: int, batch: int, polygons: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        products = make_archive(folder / "archive", tiles)
        landcover = make_landcover(folder / "map.gpkg", polygons)
        sorted_map = sort_landcover(open_landcover(str(landcover)), folder / "map.parquet")
        start = time.perf_counter()
        plan = make_plan(s2=[str(products)], landcover=str(sorted_map.folder), recipe=load_recipe("reben"))
        planning = {"tiles": len(plan.usable), "patches": plan.candidates, "plan_s": time.perf_counter() - start}
        with in_place_of_work(), _cluster(folder) as (client, scheduler):
            found = _Run(plan, sorted_map, client, scheduler, batch).run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {**planning, **found, "client_peak_bytes": peak}


class _Run:
    """All batches of a plan, one after the other through the window of the job."""

    def __init__(self, plan: Plan, landcover: SortedMap, client: Client, scheduler: psutil.Process, batch: int) -> None:
        self.plan, self.client, self.scheduler, self.batch = plan, client, scheduler, batch
        self.graph = TileGraph(plan, landcover, Path("nowhere"), Path("nowhere"), job="scale")
        self.building_s, self.at_once, self.graph_bytes = 0.0, 0, 0

    def run(self) -> dict[str, Any]:
        before, start = self._cpu(), time.perf_counter()
        results = Window(self.client, self._build, self.batch).run(self.plan.tiles)
        tallies = concat_counts(self._watched(results))
        wall, cpu = time.perf_counter() - start, self._cpu() - before
        if sum_counts(tallies, "status") != {"kept": len(self.plan.tiles)}:
            raise RuntimeError(f"not every patch came back: {sum_counts(tallies, 'status')}")
        tasks = self.client.run_on_scheduler(_tasks_seen)
        return {
            "graph_ms_per_tile": 1e3 * self.building_s / len(self.plan.tiles),
            "graph_bytes_of_a_tile": self.graph_bytes,
            "tasks": tasks,
            "tasks_at_once": self.at_once,
            "scheduler_ms_per_task": 1e3 * cpu / tasks,
            "scheduler_peak_bytes": self.client.run_on_scheduler(_peak_bytes),
            "wall_s": wall,
        }

    def _build(self, tile: Any, attempt: Attempt) -> Any:
        start = time.perf_counter()
        tasks = self.graph.tasks(tile, attempt)
        self.building_s += time.perf_counter() - start
        if not self.graph_bytes:
            self.graph_bytes = len(pickle.dumps(dict(tasks["patches"].__dask_graph__())))
        return tasks

    def _watched(self, results: Iterator[Any]) -> Iterator[Any]:
        for number, outcome in enumerate(results):
            if number % self.batch == 0:
                self.at_once = max(self.at_once, self.client.run_on_scheduler(_tasks_known))
            if outcome.error is not None:
                raise outcome.error
            yield outcome.result

    def _cpu(self) -> float:
        times = self.scheduler.cpu_times()
        return float(times.user + times.system)


@contextmanager
def _cluster(folder: Path) -> Iterator[tuple[Client, psutil.Process]]:
    file = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    # Scheduler and workers import the tasks that do nothing.
    paths = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": paths}
    scheduler = subprocess.Popen(
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file], **quiet
    )
    worker = [*dask, "worker", "--host", "127.0.0.1", "--scheduler-file", file, "--nthreads", "1", "--no-dashboard"]
    workers = [subprocess.Popen([*worker, "--local-directory", folder], **quiet) for _ in range(WORKERS)]
    try:
        with Client(scheduler_file=str(file)) as client:
            client.run_on_scheduler(_count_tasks)
            client.wait_for_workers(WORKERS)
            yield client, psutil.Process(scheduler.pid)
    finally:
        for process in (*workers, scheduler):
            process.terminate()
        for process in (*workers, scheduler):
            process.wait()


def _count_tasks(dask_scheduler: Any) -> None:
    dask_scheduler.add_plugin(_Counter(), name="counter")


def _tasks_seen(dask_scheduler: Any) -> int:
    return int(dask_scheduler.plugins["counter"].finished)


def _tasks_known(dask_scheduler: Any) -> int:
    return len(dask_scheduler.tasks)


def _peak_bytes(dask_scheduler: Any) -> int:
    del dask_scheduler
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class _Counter(SchedulerPlugin):
    """Counts tasks that finish."""

    finished = 0

    def transition(self, _key: Any, _start: Any, finish: Any, *_: Any, **__: Any) -> None:
        self.finished += finish == "memory"


if __name__ == "__main__":
    main()
