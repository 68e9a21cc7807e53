"""One job at a time in a folder: real processes, which end as processes do."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reben_dask.errors import OutputError
from reben_dask.output.lock import owned, owner

RACERS = 12

HOLD = """
import sys
from pathlib import Path
from reben_dask.output.lock import owned

with owned(Path(sys.argv[1]), "theirs"):
    print("mine", flush=True)
    sys.stdin.read()
"""

RACE = """
import sys
from pathlib import Path
from reben_dask.errors import OutputError
from reben_dask.output.lock import owned

print("ready", flush=True)
sys.stdin.readline()
try:
    with owned(Path(sys.argv[1]), "one of many"):
        print("mine", flush=True)
        sys.stdin.readline()
except OutputError:
    print("refused", flush=True)
"""


def _start(script: str, lock: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(lock)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@contextmanager
def _holding(lock: Path) -> Iterator[subprocess.Popen[str]]:
    with _start(HOLD, lock) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "mine\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / ".lock"


def test_a_folder_is_owned_while_the_block_runs(lock: Path) -> None:
    assert owner(lock) is None
    with owned(lock, "ours"):
        assert owner(lock) == f"{socket.gethostname()} {os.getpid()} ours"
        with pytest.raises(OutputError, match=f"{os.getpid()} ours.+delete {lock}"), owned(lock, "another"):
            pass
        assert owner(lock) is not None
    assert owner(lock) is None
    assert not lock.exists()


def test_the_lock_of_another_process_is_respected_while_it_lives(lock: Path) -> None:
    with _holding(lock) as process:
        assert owner(lock) == f"{socket.gethostname()} {process.pid} theirs"
        with pytest.raises(OutputError, match=f"{process.pid} theirs"), owned(lock, "ours"):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert lock.exists()
        assert owner(lock) is None
        with owned(lock, "ours"):
            assert owner(lock) == f"{socket.gethostname()} {os.getpid()} ours"


def test_a_process_that_has_its_number_now_is_not_taken_for_the_owner(lock: Path) -> None:
    lock.write_text(f"{socket.gethostname()} {os.getpid()} of before")
    assert owner(lock) is None
    with owned(lock, "ours"):
        pass


def test_the_lock_of_another_host_is_respected_until_it_is_deleted(lock: Path) -> None:
    lock.write_text("elsewhere 1 theirs")
    assert owner(lock) == "elsewhere 1 theirs"
    with pytest.raises(OutputError, match="elsewhere 1 theirs"), owned(lock, "ours"):
        pass
    assert lock.read_text() == "elsewhere 1 theirs"
    lock.unlink()
    with owned(lock, "ours"):
        pass


def test_an_owner_that_has_not_said_who_it_is(lock: Path) -> None:
    with _holding(lock):
        lock.write_text("")
        with pytest.raises(OutputError, match="not known"), owned(lock, "ours"):
            pass


def test_of_many_processes_one_is_the_owner(lock: Path) -> None:
    lock.write_text(f"{socket.gethostname()} 1 of an earlier job")
    racers = [_start(RACE, lock) for _ in range(RACERS)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    said = [racer.stdout.readline().strip() for racer in racers if racer.stdout]
    for racer in racers:
        racer.communicate("\n")
    assert sorted(said) == ["mine", *["refused"] * (RACERS - 1)]
    assert owner(lock) is None


def test_asking_for_the_owner_keeps_nobody_from_it(lock: Path) -> None:
    """Many ask, again and again, while one job after the other takes the folder."""
    ask = "import sys; from pathlib import Path; from reben_dask.output.lock import owner; print('ready', flush=True)\n"
    ask += "while True: owner(Path(sys.argv[1]))"
    with _start(ask, lock) as asking:
        assert asking.stdout is not None
        try:
            assert asking.stdout.readline() == "ready\n"
            for _ in range(300):
                with owned(lock, "ours"):
                    pass
        finally:
            asking.kill()
