"""Looking at the workers before the first task: whether they run the same software, and see the same files."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import dask
from dask.utils import format_bytes
from distributed import Client

from reben_dask import __version__
from reben_dask.errors import ClusterError
from reben_dask.job.plan import Plan

SAME = ("reben_dask", "python")
"""What must be the same: other versions of it are another job."""

ALIKE = ("dask", "distributed", "numpy", "pandas", "pyarrow", "geopandas", "rasterio", "shapely", "xarray", "zarr")
"""What ought to be the same: other versions of it usually work together."""

MISSING = "missing"
_PARENTS_SHOWN = 64


class Sight(NamedTuple):
    """What one process has and sees.

    Parameters
    ----------
    versions : dict of str to str
        Versions of :data:`SAME` and :data:`ALIKE`.
    unseen : list of str
        Those paths that it was asked for and does not see.
    is_writable : bool
        Whether it sees what the client has written to the output folder, and can write there.
    """

    versions: dict[str, str]
    unseen: list[str]
    is_writable: bool


def require_workers(client: Client, plan: Plan, folder: Path) -> list[str]:
    """Make sure that all workers can do the job.

    Parameters
    ----------
    client : Client
        The cluster.
    plan : Plan
        The job.
    folder : Path
        A folder of the output, in which this process can write.

    Returns
    -------
    list of str
        What the user should know, but need not change.

    Raises
    ------
    ClusterError
        Naming the worker that has another version, or does not see an input or the output.
    """
    probe = folder / "probe"
    probe.write_text(folder.name, encoding="utf-8")
    paths = inputs_of(plan)
    seen = client.run(look, paths, str(probe), on_error="return")
    here = look(paths, str(probe))
    notes: dict[str, None] = {}
    for worker, sight in sorted(seen.items()):
        if isinstance(sight, BaseException):
            raise ClusterError(
                f"Worker {worker} cannot run this job ({type(sight).__name__}: {sight}); install the same version of "
                "reben_dask there, in the environment that starts the worker."
            )
        require_same(worker, sight, here)
        notes |= dict.fromkeys(unlike(worker, sight.versions, here.versions))
    return list(notes)


def require_memory(client: Client, needed: Callable[[int], int]) -> None:
    """Refuse before running what cannot fit.

    Dask gives a worker no more tasks while it uses most of its memory: one that needs as much for itself would wait for
    ever.

    Parameters
    ----------
    client : Client
        The cluster.
    needed : callable
        Bytes that a worker needs, by the number of its threads.

    Raises
    ------
    ClusterError
        Naming the worker, what it has and what the job needs.
    """
    share = dask.config.get("distributed.worker.memory.pause", None) or 1.0
    for address, worker in client.scheduler_info(n_workers=-1)["workers"].items():
        threads, limit = worker["nthreads"], worker["memory_limit"]
        if limit and needed(threads) > limit * share:
            raise ClusterError(
                f"Worker {address} may use {format_bytes(limit)}, and Dask pauses it at {share:.0%} of that, but with "
                f"{threads} threads this job needs up to {format_bytes(needed(threads))} there (with one, "
                f"{format_bytes(needed(1))}); give it more memory (--memory-limit) or fewer threads (--threads)."
            )


def inputs_of(plan: Plan) -> list[str]:
    """Paths that every worker must see: single files, and folders of products rather than all products."""
    folders = dict.fromkeys(str(tile.path.parent) for tile in plan.tiles)
    published = plan.published
    files = (plan.landcover.path, plan.countries, *plan.layers.values(), *published.metadata)
    lists = (published.pairs, published.snow_list, published.cloud_list)
    some = [str(plan.tiles[0].path), *list(folders)[:_PARENTS_SHOWN]]
    return some + [str(path) for path in (*files, *lists) if path is not None]


def look(paths: Sequence[str], probe: str) -> Sight:
    """What this process has and sees; ``probe`` is a file that the client has written."""
    return Sight(_versions(), [path for path in paths if not os.path.exists(path)], _is_writable(Path(probe)))  # noqa: PTH110


def require_same(worker: str, sight: Sight, here: Sight) -> None:
    """Raise :class:`ClusterError` if a worker has another version of what must be the same, or sees other files."""
    for name in SAME:
        if sight.versions[name] != here.versions[name]:
            raise ClusterError(
                f"Worker {worker} has {name} {sight.versions[name]}, and this process {here.versions[name]}; "
                "start the workers in the same environment, or one with the same versions."
            )
    if sight.unseen:
        raise ClusterError(
            f"Worker {worker} does not see the input {sight.unseen[0]}; all workers must see the inputs and the output "
            "under the same paths, such as on a network disk that is mounted everywhere."
        )
    if not sight.is_writable:
        raise ClusterError(
            f"Worker {worker} does not see the output folder, or cannot write to it; all workers must see it under the "
            "same path as this process, and be allowed to write there."
        )


def unlike(worker: str, versions: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Sentences about versions that ought to be the same and are not."""
    return [
        f"Worker {worker} has {name} {versions[name]}, and this process {here[name]}; that usually works."
        for name in ALIKE
        if versions[name] != here[name]
    ]


def _versions() -> dict[str, str]:
    found = {"reben_dask": __version__, "python": ".".join(platform.python_version_tuple()[:2])}
    for name in ALIKE:
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
