"""Errors of tasks reach the client, whatever they are; nobody waits for ever."""

from __future__ import annotations

import errno
import pickle
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rasterio
from distributed import Client

from reben_dask.errors import InputError, OutputError, RebenError
from reben_dask.job.scheduling import Tasks, plain_error, run_task

WAIT_S = 60


class TwoArguments(Exception):  # noqa: N818 - as libraries call theirs
    """Cannot be unpacked: it is made from two arguments and keeps one."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what} because of {why}")


def read_nothing() -> None:
    rasterio.open("/no/such/file.tif").close()


def explain_nothing() -> None:
    try:
        read_nothing()
    except rasterio.errors.RasterioIOError:
        raise InputError("The file is not there.")  # noqa: B904 - the context is what this is about


def fall(depth: int = 0) -> int:
    return fall(depth + 1) + 1


def two_arguments() -> None:
    raise TwoArguments("this", "that")


def full_disk() -> None:
    raise RuntimeError("something could not be written") from OSError(errno.ENOSPC, "No space left on device")


FAULTS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (read_nothing, OSError, "/no/such/file.tif: No such file or directory"),
    (explain_nothing, InputError, "The file is not there."),
    (fall, RuntimeError, "RecursionError: maximum recursion depth exceeded"),
    (two_arguments, RuntimeError, "TwoArguments: this because of that"),
    (full_disk, OSError, "No space left on device"),
    (lambda: {}["key"], RuntimeError, "KeyError: 'key'"),
]


@pytest.mark.parametrize(("function", "kind", "said"), FAULTS)
def test_plain_errors_say_the_same(function: Callable[[], Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(Exception) as caught:
        function()
    plain = plain_error(caught.value)
    assert isinstance(plain, kind)
    assert said in str(plain)
    assert plain.__cause__ is plain.__context__ is plain.__traceback__ is None
    assert str(pickle.loads(pickle.dumps(plain))) == str(plain)  # noqa: S301


@pytest.mark.parametrize("kind", [InputError, OutputError])
def test_the_traceback_is_kept_as_a_note(kind: type[RebenError]) -> None:
    def fail() -> None:
        raise kind("a sentence")

    with pytest.raises(kind) as caught:
        run_task(fail)
    assert str(caught.value) == "a sentence"
    assert "in fail" in "".join(traceback.format_exception(caught.value))


def test_results_are_those_of_the_function() -> None:
    assert run_task(divmod, 7, 2) == (3, 1)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as client:
        yield client


@pytest.mark.parametrize(("function", "kind", "said"), FAULTS)
def test_every_error_reaches_the_client(
    client: Client, function: Callable[[], Any], kind: type[Exception], said: str
) -> None:
    """Without its wrapper, that of a file that is not there, or of a thousand calls, would leave the client waiting."""
    name = f"fault-{FAULTS.index((function, kind, said))}"
    with pytest.raises(kind) as caught:
        Tasks(client, "x").run(name, function)
    assert said in str(caught.value)
