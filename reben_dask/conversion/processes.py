"""One function in several processes: a few tasks at a time are under way, however many there are.

Each process has a pipe of its own and nothing else in common with the others, so that it ends when whoever gave it work
is gone, even if that was killed. They are spawned: a process that was forked after libraries have started threads may
hang.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar, cast

from reben_dask.errors import RebenError

T = TypeVar("T")
R = TypeVar("R")

TASKS_PER_PROCESS = 2
"""One that is worked on, and one that is waiting, so that nobody has to wait for the next."""


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_processes(function: Callable[[T], R], tasks: Iterable[T], processes: int) -> Generator[R]:
    """Call a function for each task, in processes of their own.

    Parameters
    ----------
    function : callable
        Takes a task, gives its result; a function of a module, or a partial of one.
    tasks : iterable
        Small descriptions of what there is to do. They are taken as they are needed: two for each process are under
        way, and no more results than that are in memory.
    processes : int
        Number of processes. They are ended when this generator is.

    Yields
    ------
    object
        Results, in the order in which they are ready.

    Raises
    ------
    RebenError
        If the function raised one, or if a process was ended by something else.
    RuntimeError
        If the function raised anything else, with its traceback.
    """
    team: dict[Connection, SpawnProcess] = {}
    rest = iter(tasks)
    try:
        # No more of them than there are tasks.
        for task in islice(rest, processes):
            connection, team[connection] = _start(function)
            _give(connection, task)
        yield from _exchange(team, rest)
    finally:
        for connection, process in team.items():
            connection.close()
            process.terminate()
        for process in team.values():
            process.join()


def _start(function: Callable[[Any], Any]) -> tuple[Connection, SpawnProcess]:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, function), daemon=True)
    process.start()
    theirs.close()
    return ours, process


def _give(connection: Connection, task: Any) -> None:
    # That a process has ended is found out when its results are asked for.
    with suppress(OSError):
        connection.send(task)


def _exchange(team: dict[Connection, SpawnProcess], tasks: Iterator[Any]) -> Iterator[Any]:
    """Each process has been given one task."""
    under_way = dict.fromkeys(team, 1)
    for _ in range(1, TASKS_PER_PROCESS):
        # The tasks last: one that is taken is given.
        for connection, task in zip(team, tasks, strict=False):
            _give(connection, task)
            under_way[connection] += 1
    while busy := [connection for connection, number in under_way.items() if number]:
        for ready in cast("list[Connection]", wait(busy)):
            try:
                result, error = ready.recv()
            except (EOFError, OSError):
                raise RebenError(_how_it_ended(team[ready])) from None
            if error is not None:
                raise error
            under_way[ready] -= 1
            for task in islice(tasks, 1):
                _give(ready, task)
                under_way[ready] += 1
            yield result


def _how_it_ended(process: SpawnProcess) -> str:
    process.join()
    return (
        f"A worker process ended before its work was done (exit code {process.exitcode}), as the system does it when "
        "memory runs out; give the same command again, perhaps with fewer --workers."
    )


def _serve(connection: Connection, function: Callable[[Any], Any]) -> None:
    # Ctrl-C is for the process that gives the work.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with connection, suppress(EOFError, OSError):
        while True:
            task = connection.recv()
            connection.send(_outcome(function, task))


def _outcome(function: Callable[[Any], Any], task: Any) -> tuple[Any, Exception | None]:
    try:
        return function(task), None
    except RebenError as error:
        return None, error
    except Exception:  # noqa: BLE001 - whatever it is, it is raised again where it is seen
        return None, RuntimeError(traceback.format_exc())
