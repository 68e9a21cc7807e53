"""Checks of the workers before the first task: memory, versions, and access to the same files."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import dask
from dask.utils import format_bytes
from distributed import Client

from reben_dask import __version__
from reben_dask.environment import library_problem
from reben_dask.errors import ClusterError
from reben_dask.job.plan import Plan, needs_jpeg2000
from reben_dask.sources.vector_files import is_gdal_path

SAME = ("reben_dask", "python")
"""Software whose versions must agree."""

SIMILAR = ("dask", "distributed", "numpy", "pandas", "pyarrow", "geopandas", "rasterio", "shapely", "xarray", "zarr")
"""Software whose versions may differ, with a note."""

MISSING = "missing"
_FOLDERS_CHECKED = 64


class WorkerEnvironment(NamedTuple):
    """Environment of one process: versions, inputs that it lacks, and its access to the output."""

    versions: dict[str, str]
    missing_paths: list[str]
    is_writable: bool
    """True if it can write to the client's output folder."""
    problem: str | None = None
    """Sentence about coordinate systems or images that it cannot read."""


def require_workers(client: Client, plan: Plan, folder: Path) -> list[str]:
    """Check all workers, which must write to ``folder``; return notes, :class:`ClusterError` naming an unfit worker."""
    probe = folder / "probe"
    probe.write_text(folder.name, encoding="utf-8")
    paths = _paths_of(plan)
    jpeg2000 = needs_jpeg2000(plan.tiles)
    found = client.run(inspect_worker, paths, str(probe), jpeg2000=jpeg2000, on_error="return")
    here = inspect_worker(paths, str(probe), jpeg2000=jpeg2000)
    notes: dict[str, None] = {}
    for worker, environment in sorted(found.items()):
        if isinstance(environment, BaseException):
            raise ClusterError(
                f"Worker {worker} cannot run this job ({type(environment).__name__}: {environment}); install the same "
                "version of reben_dask there, in the environment that starts the worker, with the same Dask settings."
            )
        notes |= dict.fromkeys(check_environment(worker, environment, here))
    return list(notes)


def require_memory(client: Client, needed: Callable[[int], int]) -> None:
    """Refuse a job that does not fit its workers, which Dask would pause forever; ``needed`` maps threads to bytes."""
    share = dask.config.get("distributed.worker.memory.pause", None) or 1.0
    for address, worker in client.scheduler_info(n_workers=-1)["workers"].items():
        threads, limit = worker["nthreads"], worker["memory_limit"]
        if limit and needed(threads) > limit * share:
            raise ClusterError(
                f"Worker {address} may use {format_bytes(limit)}, and Dask pauses it at {share:.0%} of that, but with "
                f"{threads} threads this job needs up to {format_bytes(needed(threads))} there (with one, "
                f"{format_bytes(needed(1))}); give it more memory (--memory-limit) or fewer threads (--threads)."
            )


def _paths_of(plan: Plan) -> list[str]:
    """Paths that every worker must see: single files, and folders of products instead of all products."""
    folders = dict.fromkeys(str(tile.path.parent) for tile in plan.tiles)
    published = plan.published
    files = (
        plan.landcover.path,
        plan.countries and plan.countries.file.location,
        *plan.layers.values(),
        *published.metadata,
    )
    lists = (published.pairs, published.snow_list, published.cloud_list)
    some = [str(plan.tiles[0].path), *list(folders)[:_FOLDERS_CHECKED]]
    # Paths of GDAL are seen by GDAL alone.
    return some + [str(path) for path in (*files, *lists) if path is not None and not is_gdal_path(str(path))]


def inspect_worker(paths: Sequence[str], probe: str, *, jpeg2000: bool = False) -> WorkerEnvironment:
    """Inspect this process; ``probe`` is a file that the client has written."""
    missing_paths = [path for path in paths if not os.path.exists(path)]  # noqa: PTH110
    return WorkerEnvironment(_versions(), missing_paths, _is_writable(Path(probe)), library_problem(jpeg2000=jpeg2000))


def check_environment(worker: str, environment: WorkerEnvironment, here: WorkerEnvironment) -> list[str]:
    """Compare a worker with this process; return notes, :class:`ClusterError` if it cannot do the job."""
    versions, expected = environment.versions, here.versions
    for name in SAME:
        if versions[name] != expected[name]:
            raise ClusterError(
                f"Worker {worker} has {name} {versions[name]}, and this process {expected[name]}; start the workers in "
                "the same environment, or one with the same versions."
            )
    if environment.missing_paths:
        raise ClusterError(
            f"Worker {worker} does not see the input {environment.missing_paths[0]}; all workers must see the inputs "
            "and the output under the same paths, such as on a network disk that is mounted everywhere."
        )
    if not environment.is_writable:
        raise ClusterError(
            f"Worker {worker} does not see the output folder, or cannot write to it; all workers must see it under the "
            "same path as this process, and be allowed to write there."
        )
    if environment.problem:
        raise ClusterError(f"Worker {worker} cannot do the work: {environment.problem}")
    return [
        f"Worker {worker} has {name} {versions[name]}, and this process {expected[name]}; that usually works."
        for name in SIMILAR
        if versions[name] != expected[name]
    ]


def _versions() -> dict[str, str]:
    found = {"reben_dask": __version__, "python": ".".join(platform.python_version_tuple()[:2])}
    for name in SIMILAR:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = MISSING
    return found


def _is_writable(probe: Path) -> bool:
    try:
        if probe.read_text(encoding="utf-8") != probe.parent.name:
            return False
        mine = probe.with_name(f"probe-{platform.node()}-{os.getpid()}")
        mine.touch()
        mine.unlink()
    except OSError:
        return False
    return True
