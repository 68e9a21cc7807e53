"""Conversion of the published trees: the runner of its tasks, and the LMDB.

Tasks run in this process for small trees, otherwise on an embedded cluster, in a bounded window. Each
reads and writes a batch of patches; only counts and messages are transferred.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, groupby, islice
from pathlib import Path
from pickle import dumps, loads
from typing import Any, NamedTuple
from uuid import uuid4

import dask
import numpy.typing as npt
from dask.system import CPU_COUNT
from distributed import Client
from distributed.scheduler import KilledWorker

from reben_dask.cluster import connect
from reben_dask.errors import ClusterError, InputError, OutputError
from reben_dask.formats.bands import ImageKind
from reben_dask.formats.dataset import LMDB
from reben_dask.formats.lmdb import DATA_FILE, encode_bands, encode_reference_map, reference_map_key, value_bytes
from reben_dask.job.scheduling import Attempt, Window, batches, make_task
from reben_dask.options import ClusterOptions
from reben_dask.sources.published.archives import SeenPatches, decode_patch, read_archive
from reben_dask.sources.published.trees import PublishedPatch, PublishedTree, read_patch
from reben_dask.stores.lmdb import (
    is_on_network_disk,
    map_bytes_for,
    put,
    shared_environment,
    value_pages_bytes,
)
from reben_dask.stores.lmdb_pages import require_sound_pages
from reben_dask.workspace import Workspace

SMALL = 4_096
"""Maximum number of patches for which a cluster does not repay its start."""

PATCHES_PER_TASK = 256
"""Patches of a task, and of a transaction: at most 41 MB of values."""

TASKS_PER_WORKER = 4
"""Tasks of a worker in each batch of the window."""

FAILURES = 100
"""Maximum number of damaged files, or of blocks with one, in a conversion."""

_SETTINGS = {
    # Workers of another scheduler may see neither the trees nor this disk.
    "scheduler-address": None,
    # Tasks are short and small: together, these defaults cost a fifth of the CPU time.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.nanny.pre-spawn-environ.MALLOC_ARENA_MAX": 1,
}

Run = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[tuple[Any, Any]]]
"""Calls a function for each task; yields task and result, in any order."""

Count = Callable[[int], None]


@contextmanager
def task_runner(patches: int, workers: int | None = None) -> Iterator[Run]:
    """Run tasks in this process, or on an embedded cluster if there are many patches.

    Parameters
    ----------
    patches : int
        Patches of all trees.
    workers : int, optional
        Processes of the cluster; by default one for each core.
    """
    if patches <= SMALL:
        yield _run_here
        return
    options = ClusterOptions(workers=workers or CPU_COUNT, threads=1)
    with dask.config.set(_SETTINGS), connect(options) as client:
        yield partial(_run_on, client)


def _run_here(function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return ((task, function(task)) for task in tasks)


def _run_on(client: Client, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    name = getattr(function, "func", function).__name__.strip("_")

    def make_tasks(task: Any, attempt: Attempt) -> dict[str, Any]:
        return {name: make_task(f"{name}-{uuid4().hex}-{attempt.number}", partial(_call, function, task))}

    try:
        for outcome in Window(client, make_tasks, TASKS_PER_WORKER * len(client.nthreads())).run(tasks):
            if outcome.error is not None:
                raise outcome.error
            yield outcome.item, loads(outcome.result)  # noqa: S301 - bytes of a worker
    except (ClusterError, KilledWorker):
        # Name the options of this command, not those of a job.
        raise ClusterError(
            "The workers of the conversion were killed, or have been paused for a minute, most likely because they ran "
            "out of memory; run the same command again to resume, with fewer --workers or more free memory."
        ) from None


def _call(function: Callable[[Any], Any], task: Any) -> bytes:
    """Return the result as bytes: Dask sends each item of a list in a frame of its own."""
    return dumps(function(task))


def inputs_of(trees: Sequence[PublishedTree], made: str, archives: Sequence[PublishedArchive] = ()) -> dict[str, Any]:
    """Return the inputs of a conversion as JSON."""
    inputs: dict[str, Any] = {"format": made}
    inputs |= {f"tree of {tree.kind.value}": str(Path(tree.root).resolve()) for tree in trees}
    for kind, path in archives:
        size = path.stat().st_size if path.exists() else None
        inputs.setdefault(f"archives of {kind.value}", []).append([str(path.resolve()), size])
    return inputs


def incomplete(what: str, building: Path) -> str:
    """Describe a conversion that is incomplete."""
    return f"{what} All others are kept in {building}: run the same command again to resume."


class PublishedArchive(NamedTuple):
    """Archive of published patches of one kind."""

    kind: ImageKind
    path: Path


def convert_to_lmdb(
    trees: Sequence[PublishedTree],
    destination: Path,
    run: Run,
    advance: Count = lambda _: None,
    *,
    archives: Sequence[PublishedArchive] = (),
    advance_archives: Count = lambda _: None,
) -> int:
    """Write or resume an LMDB environment with the values of all patches, as rico-hdl does.

    Archives are read in this process, each once and from its beginning; values of an earlier attempt are skipped.

    Parameters
    ----------
    trees : sequence of PublishedTree
        At most one of each kind.
    destination : Path
        Folder of the environment, on a local disk, which appears when it is complete.
    run : callable
        Runs tasks, see :func:`task_runner`.
    advance : callable
        Called with numbers of entries of the trees when they are on disk.
    archives : sequence of PublishedArchive
        Archives of other kinds, several of a kind if they have different patches.
    advance_archives : callable
        Called with numbers of megabytes of the archives that have been read.

    Returns
    -------
    int
        Number of entries.

    Raises
    ------
    InputError
        If files are damaged or do not match their kind; all other entries are kept for the next attempt.
    OutputError
        If there is something at ``destination``, if it lies on a network disk, or if an earlier attempt is damaged or
        was made from other inputs.
    """
    if is_on_network_disk(destination):
        raise OutputError(
            f"{destination} lies on a network disk, where LMDB must not be written; "
            "give a folder on a local disk, and copy it when it is complete."
        )
    patches = list(heapq.merge(*(tree.patches for tree in trees), key=_key))
    with Workspace(destination).resumed(inputs_of(trees, "LMDB", archives)) as workspace:
        folder, map_bytes = workspace.building / LMDB, map_bytes_for(lmdb_bytes(trees))
        missing, others = _missing(folder, map_bytes, patches)
        if others and not archives:
            raise _shrunk(folder)
        advance(len(patches) - len(missing))
        failures: list[str] = []
        tasks = batches(missing, PATCHES_PER_TASK)
        for _, (written, damaged) in run(partial(_write_values, folder, map_bytes), tasks):
            advance(written)
            failures += damaged
            if len(failures) >= FAILURES:
                break
        entries = len(patches)
        try:
            for kind, of_kind in groupby(archives, lambda archive: archive.kind):
                paths = [archive.path for archive in of_kind]
                entries += _write_archives(paths, kind, folder, map_bytes, failures, advance_archives)
        except InputError as error:
            raise InputError(incomplete(str(error), workspace.building)) from None
        if failures:
            many = f"{len(failures):,} of {entries:,} entries could not be made; the first: "
            raise InputError(incomplete((many if len(failures) > 1 else "") + failures[0], workspace.building))
        if _entries(folder, map_bytes) != entries:
            raise _shrunk(folder)
        workspace.release(folder)
    return entries


def lmdb_bytes(trees: Sequence[PublishedTree]) -> int:
    """Estimate the size of the LMDB of the given trees."""
    return sum(len(tree.patches) * value_pages_bytes(value_bytes(tree.kind, tree.bands)) for tree in trees)


def _missing(folder: Path, map_bytes: int, patches: Sequence[PublishedPatch]) -> tuple[list[PublishedPatch], int]:
    """Patches that an earlier attempt has not written, and the number of entries of other patches."""
    if (folder / DATA_FILE).exists():
        try:
            require_sound_pages(folder / DATA_FILE)
        except InputError as error:
            raise OutputError(f"The unfinished LMDB {folder} is damaged ({error}); delete it.") from None
    with shared_environment(folder, map_bytes) as environment, environment.begin(buffers=True) as transaction:
        cursor = transaction.cursor()
        missing = [patch for patch in patches if not cursor.set_key(_key(patch))]
        return missing, environment.stat()["entries"] - (len(patches) - len(missing))


def _entries(folder: Path, map_bytes: int) -> int:
    with shared_environment(folder, map_bytes) as environment:
        return int(environment.stat()["entries"])


def _shrunk(folder: Path) -> OutputError:
    return OutputError(
        f"{folder.parent} holds entries that are no longer in the inputs; delete it, or give another folder."
    )


def _write_values(folder: Path, map_bytes: int, patches: Sequence[PublishedPatch]) -> tuple[int, list[str]]:
    """Write the values of some patches; return their number, and the errors of the others."""
    items, failures = [], []
    for patch in patches:
        try:
            images = read_patch(patch)
        except InputError as error:
            failures.append(str(error))
        else:
            items.append((_key(patch), _value(patch, images)))
    # Opened by each task: a process must not have it open twice, and nothing is left to close at its end.
    with shared_environment(folder, map_bytes) as environment:
        put(environment, items)
    return len(items), failures


def _write_archives(
    paths: Sequence[Path], kind: ImageKind, folder: Path, map_bytes: int, failures: list[str], advance: Count
) -> int:
    """Write the values of patches in archives of a kind, and add the errors of others; return the number of patches.

    Beyond ``FAILURES`` errors, the rest is not read.
    """
    seen, patches = SeenPatches(), 0
    found = chain.from_iterable(read_archive(path, kind, advance) for path in paths)
    with shared_environment(folder, map_bytes) as environment:
        while (batch := list(islice(found, PATCHES_PER_TASK))) and len(failures) < FAILURES:
            with environment.begin() as transaction:
                missing = [archived for archived in batch if transaction.get(_key(archived.patch)) is None]
            items = []
            for archived in batch:
                seen.add(archived.patch)
            for archived in missing:
                try:
                    items.append((_key(archived.patch), _value(archived.patch, decode_patch(archived))))
                except InputError as error:
                    failures.append(str(error))
            put(environment, items)
            patches += len(batch)
    return patches


def _value(patch: PublishedPatch, images: Mapping[str, npt.NDArray[Any]]) -> bytes:
    return encode_reference_map(*images.values()) if patch.kind is ImageKind.MAP else encode_bands(images)


def _key(patch: PublishedPatch) -> bytes:
    return (reference_map_key(patch.name) if patch.kind is ImageKind.MAP else patch.name).encode()
