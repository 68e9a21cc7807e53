"""One function in several processes: every result once, few tasks under way, and nobody is left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial

import psutil
import pytest

from reben_dask.conversion.processes import TASKS_PER_PROCESS, available_cores, in_processes
from reben_dask.errors import InputError, RebenError

SIZE = 300_000


def _grow(size: int, number: int) -> tuple[int, int, bytes]:
    return number, os.getpid(), bytes([number % 256]) * size


def _fail(kind: str, number: int) -> int:
    if number == 3:
        if kind == "input":
            raise InputError("the file a.tif is damaged")
        if kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ZeroDivisionError("unexpected")
    return number


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("tasks", [0, 1, 2, 25])
def test_every_task_has_one_result(tasks: int, processes: int) -> None:
    results = sorted(in_processes(partial(_grow, SIZE), range(tasks), processes))
    assert [(number, content) for number, _, content in results] == [
        (number, bytes([number]) * SIZE) for number in range(tasks)
    ]
    assert os.getpid() not in {pid for _, pid, _ in results}
    assert len({pid for _, pid, _ in results}) <= processes


def test_tasks_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    received = 0
    for _ in in_processes(partial(_grow, 1), tasks(), 2):
        received += 1
        assert len(taken) <= received + 2 * TASKS_PER_PROCESS
    assert received == len(taken) == 50


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("input", InputError, r"^the file a\.tif is damaged$"),
        ("killed", RebenError, r"ended before its work was done \(exit code -9\)"),
        ("other", RuntimeError, r"(?s)Traceback .+ZeroDivisionError: unexpected"),
    ],
)
def test_what_goes_wrong_in_a_process_is_raised_here(kind: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        list(in_processes(partial(_fail, kind), range(9), 2))


def test_an_error_of_the_tasks_is_theirs() -> None:
    def tasks() -> Iterator[int]:
        yield from range(5)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        list(in_processes(partial(_grow, 1), tasks(), 2))


def test_processes_end_when_nobody_wants_more() -> None:
    results = in_processes(partial(_grow, SIZE), range(10**6), 2)
    pids = {next(results)[1] for _ in range(5)}
    results.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_cores() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
