"""Connection to a Dask cluster: by address, scheduler file or Dask's own configuration, or an embedded one."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing import current_process
from pathlib import Path

import dask
from dask.utils import format_bytes, parse_bytes
from distributed import Client, LocalCluster
from distributed.comm import CommClosedError
from distributed.system import MEMORY_LIMIT

from reben_dask.errors import ClusterError
from reben_dask.options import ClusterOptions
from reben_dask.signals import block_sigint, sigint_ignored
from reben_dask.wording import counted

CONNECT_TIMEOUT_S = 10
WORKERS_TIMEOUT_S = 60
"""Time that a job waits for workers, at its start and after it has lost the last one."""

COMFORTABLE_WORKER_BYTES = 3 * 2**30
"""A worker of one thread needs 1.7 GiB for a full tile; with less than this, an embedded cluster has fewer workers."""

CONNECTED = "running"
"""Status of a client that has a scheduler."""

_LAST_PORT = 65_535
_SIGN = "REBEN_DASK_IMPORTED"
"""Variable with the path of a file that a worker writes if it imports the script that starts it."""

_WORKER_SETTINGS = {
    # Tasks last seconds: profiling every 10 ms shows no more, and costs 5 % of a full tile's CPU time.
    "distributed.worker.profile.interval": "100ms",
    # Dask's default returns memory at once, and each buffer of a decoder is mapped and cleared again: another 5 %.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 256 * 2**20,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 32 * 2**20,
}


def address_of(options: ClusterOptions) -> str | None:
    """Address of a running scheduler, from the option or from Dask's configuration."""
    configured: str | None = dask.config.get("scheduler-address", None)
    return options.scheduler or (None if options.scheduler_file else configured)


def is_embedded(options: ClusterOptions) -> bool:
    """Test if a cluster is started for this job alone; :class:`ClusterError` for options that a running one has."""
    running = address_of(options) or options.scheduler_file
    if running and options.embedded:
        raise ClusterError(
            f"Workers, threads, memory and dashboard are those of the scheduler at {running}; omit their options, "
            "or remove scheduler-address from Dask's configuration to use an embedded cluster."
        )
    return not running


def describe(cluster: ClusterOptions | Client) -> str:
    """Describe the workers in one line."""
    if isinstance(cluster, Client):
        return f"those of the client's scheduler at {cluster.scheduler.address}"
    if not is_embedded(cluster):
        return f"those of the scheduler at {address_of(cluster) or cluster.scheduler_file}"
    workers, threads, memory = embedded_size(cluster)
    return f"embedded: {counted(workers, 'worker')} of {counted(threads, 'thread')}, {format_bytes(memory)} each"


@contextmanager
def connect(
    cluster: ClusterOptions | Client, *, quiet: bool = True, resources: Mapping[str, float] | None = None
) -> Iterator[Client]:
    """Use a client, connect to a cluster, or run an embedded one.

    ``quiet`` keeps Dask's own log lines out of the terminal, unless the client is the caller's; each worker of an
    embedded cluster offers ``resources``. Raises :class:`ClusterError` if scheduler or workers are missing.
    """
    with _client(cluster, resources, quiet=quiet) as client:
        try:
            yield client
        except (OSError, CancelledError) as error:
            # A client may not know yet that it has lost its scheduler.
            if client.status == CONNECTED and not isinstance(error, (ConnectionError, CommClosedError)):
                raise
            raise lost_scheduler() from None


def _client(
    cluster: ClusterOptions | Client, resources: Mapping[str, float] | None, *, quiet: bool
) -> AbstractContextManager[Client]:
    if isinstance(cluster, Client):
        return nullcontext(cluster)
    if quiet:
        # Dask gives the second a level of its own.
        for name in ("distributed", "distributed.client"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    return _embedded(cluster, resources, quiet=quiet) if is_embedded(cluster) else _remote(cluster)


def embedded_size(options: ClusterOptions) -> tuple[int, int, int]:
    """Return workers, threads of each, and bytes of memory of each of an embedded cluster."""
    cores = dask.system.CPU_COUNT
    roomy = max(1, int(MEMORY_LIMIT // COMFORTABLE_WORKER_BYTES))
    workers = options.workers or max(1, min(cores // (options.threads or 1), roomy))
    threads = options.threads or max(1, cores // workers)
    return workers, threads, _memory(options.memory_limit) or int(MEMORY_LIMIT * 0.9 // workers)


def loopback_unless_asked(address: str) -> str:
    """Add the loopback host to a dashboard address without one; Dask itself would listen on every interface."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) > _LAST_PORT:
        raise ClusterError(f"{address!r} has no port from 0 to {_LAST_PORT}; write it as :8787, or :0 for any.")
    return f"{host or '127.0.0.1'}:{port}"


@contextmanager
def _embedded(options: ClusterOptions, resources: Mapping[str, float] | None, *, quiet: bool) -> Iterator[Client]:
    workers, threads, memory = embedded_size(options)
    dashboard = loopback_unless_asked(options.dashboard_address or ":8787")
    with _imports_of_script() as is_imported:
        try:
            with dask.config.set(_WORKER_SETTINGS), block_sigint(), warnings.catch_warnings():
                # The job prints where the dashboard is.
                warnings.filterwarnings("ignore", message=r"\s*Port \S+ is already in use")
                cluster = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=threads,
                    memory_limit=memory,
                    resources=dict(resources or {}),
                    processes=True,
                    dashboard_address=dashboard,
                    silence_logs=logging.CRITICAL if quiet else logging.WARNING,
                )
        except (OSError, RuntimeError, ValueError) as error:
            if is_imported():
                raise ClusterError(
                    "Each worker that a script starts imports the script again; put the code that builds the dataset "
                    'below: if __name__ == "__main__":'
                ) from None
            raise ClusterError(
                f"The embedded cluster, with its dashboard at {dashboard}, did not start ({error.__cause__ or error}); "
                "set --dashboard-address to another port, such as :0 for any that is free."
            ) from None
    try:
        with Client(cluster) as client:
            yield client
    finally:
        with sigint_ignored():
            cluster.close()


@contextmanager
def _imports_of_script() -> Iterator[Callable[[], bool]]:
    """Yield a test for a script that started this process, or a worker of it, by importing it again."""
    if current_process().name != "MainProcess":
        if sign := os.environ.get(_SIGN):
            Path(sign).touch()
        yield lambda: True
        return
    with tempfile.TemporaryDirectory() as folder:
        sign = str(Path(folder, "imported"))
        os.environ[_SIGN] = sign
        try:
            yield Path(sign).exists
        finally:
            del os.environ[_SIGN]


@contextmanager
def _remote(options: ClusterOptions) -> Iterator[Client]:
    if options.scheduler_file and not options.scheduler_file.is_file():
        raise ClusterError(
            f"The scheduler file {options.scheduler_file} does not exist; "
            f"start one with: dask scheduler --scheduler-file {options.scheduler_file}"
        )
    address = address_of(options)
    where = address or f"the address in {options.scheduler_file}"
    target = {"address": address} if address else {"scheduler_file": str(options.scheduler_file)}
    try:
        client = Client(**target, timeout=CONNECT_TIMEOUT_S)
    except OSError as error:
        raise ClusterError(
            f"No Dask scheduler answers at {where} within {CONNECT_TIMEOUT_S} s ({type(error).__name__}); "
            "start one with `dask scheduler`, or leave the option out to use an embedded cluster."
        ) from error
    except (ValueError, TypeError, AssertionError, LookupError) as error:
        raise ClusterError(f"{where} is not a usable address of a Dask scheduler ({error}).") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKERS_TIMEOUT_S)
        except TimeoutError:
            raise ClusterError(
                f"The scheduler at {where} has no workers after {WORKERS_TIMEOUT_S} s; "
                f"start some with: dask worker {client.scheduler.address}"
            ) from None
        yield client


def _memory(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        amount = int(parse_bytes(text))
    except ValueError:
        amount = 0
    if amount <= 0:
        raise ClusterError(f"{text!r} is not an amount of memory; write it as 4GiB or 4000MB.")
    return amount


def lost_scheduler() -> ClusterError:
    """Return the error for a scheduler that does not answer."""
    return ClusterError("Lost connection to the scheduler. Check its log and restart it.")


def thread_count(client: Client) -> int:
    """Return the number of threads of all workers."""
    return sum(client.nthreads().values()) or os.cpu_count() or 1
