"""One job at a time in a folder: real processes, which end as processes do."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import wait_for

from reben_dask import locks
from reben_dask.errors import OutputError
from reben_dask.locks import UNSUPPORTED, Lock, supports_record_locks

RACERS = 12

HOLD = """
import sys
from pathlib import Path
from reben_dask.locks import Lock

path = Path(sys.argv[1])
with Lock(path, path.parent).held("theirs"):
    print("mine", flush=True)
    sys.stdin.read()
"""

KILLED = """
import fcntl, os, signal, sys
from pathlib import Path
from reben_dask.locks import Lock

def refuse(*_):
    raise OSError(37, os.strerror(37))

fcntl.flock = refuse
path = Path(sys.argv[1])
with Lock(path, path.parent).held("theirs"):
    os.kill(os.getpid(), signal.SIGKILL)
"""

RACE = """
import sys
from pathlib import Path
from reben_dask.errors import OutputError
from reben_dask.locks import Lock

path = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    with Lock(path, path.parent).held("one of many"):
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
def path(tmp_path: Path) -> Path:
    return tmp_path / ".lock"


@pytest.fixture
def lock(path: Path) -> Lock:
    return Lock(path, path.parent)


def _written(path: Path, host: str, pid: int, job: str) -> None:
    """Remains of a job that was killed."""
    path.touch()
    note = {"host": host, "pid": pid, "job": job}
    path.with_name(".lock.json").write_text(json.dumps(note))


def test_a_folder_is_owned_while_the_block_runs(lock: Lock, path: Path) -> None:
    assert lock.owner() is None
    with lock.held("ours"):
        assert str(lock.owner()) == f"{socket.gethostname()} {os.getpid()} ours"
        with pytest.raises(OutputError, match=f"{os.getpid()} ours; last heartbeat .+ UTC.+delete {path}"):
            _hold(lock)
        assert lock.owner() is not None
    assert lock.owner() is None
    assert list(path.parent.iterdir()) == []


def test_the_heartbeat_is_renewed(lock: Lock, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "HEARTBEAT_S", 0.01)
    note = path.with_name(".lock.json")
    with lock.held("ours"):
        os.utime(note, (0, 0))
        wait_for(lambda: note.stat().st_mtime > 0)
        found = lock.owner()
        assert found is not None
        assert found.heartbeat.year > 1970


def test_the_lock_of_another_process_is_respected_while_it_lives(lock: Lock, path: Path) -> None:
    with _holding(path) as process:
        assert str(lock.owner()) == f"{socket.gethostname()} {process.pid} theirs"
        with pytest.raises(OutputError, match=f"{process.pid} theirs"):
            _hold(lock)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert path.exists()
        assert lock.owner() is None
        with lock.held("ours"):
            assert str(lock.owner()) == f"{socket.gethostname()} {os.getpid()} ours"


def test_a_process_that_has_its_number_now_is_not_taken_for_the_owner(lock: Lock, path: Path) -> None:
    _written(path, socket.gethostname(), os.getpid(), "of before")
    assert lock.owner() is None
    _hold(lock)


def test_the_lock_of_another_host_is_respected_until_it_is_deleted(lock: Lock, path: Path) -> None:
    _written(path, "elsewhere", 1, "theirs")
    assert str(lock.owner()) == "elsewhere 1 theirs"
    with pytest.raises(OutputError, match="elsewhere 1 theirs"):
        _hold(lock)
    assert str(lock.owner()) == "elsewhere 1 theirs"
    path.unlink()
    assert lock.owner() is None
    _hold(lock)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"host": "elsewhere"}'])
def test_an_owner_that_has_not_said_who_it_is(lock: Lock, path: Path, text: str) -> None:
    with _holding(path):
        path.with_name(".lock.json").write_text(text)
        with pytest.raises(OutputError, match="not known"):
            _hold(lock)


@pytest.mark.slow
def test_of_many_processes_one_is_the_owner(lock: Lock, path: Path) -> None:
    _written(path, socket.gethostname(), 1, "of an earlier job")
    racers = [_start(RACE, path) for _ in range(RACERS)]
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
    assert lock.owner() is None


def test_asking_for_the_owner_does_not_block_a_job(lock: Lock, path: Path) -> None:
    """Another process asks again and again, while one job after the other takes the folder."""
    ask = "import sys; from pathlib import Path; from reben_dask.locks import Lock; print('ready', flush=True)\n"
    ask += "while True: Lock(Path(sys.argv[1]), Path()).owner()"
    with _start(ask, path) as asking:
        assert asking.stdout is not None
        try:
            assert asking.stdout.readline() == "ready\n"
            for _ in range(300):
                _hold(lock)
        finally:
            asking.kill()


# Disks without locks


@pytest.fixture(params=sorted(UNSUPPORTED))
def without_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the operating system refuse locks, as some network and FUSE disks do."""

    def refuse(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(fcntl, "lockf", refuse)


@pytest.mark.usefixtures("without_locks")
def test_a_disk_without_locks_has_an_owner_file(lock: Lock, path: Path) -> None:
    with lock.held("ours") as note:
        assert note is not None
        assert note.startswith(f"The disk of {path.parent} supports no locks (")
        assert str(lock.owner()) == f"{socket.gethostname()} {os.getpid()} ours"
        with pytest.raises(OutputError, match=f"{os.getpid()} ours; .+ delete {path} and {path}.owner"):
            _hold(lock)
    assert lock.owner() is None
    assert list(path.parent.iterdir()) == []


def test_there_is_no_note_with_locks(lock: Lock) -> None:
    with lock.held("ours") as note:
        assert note is None


@pytest.mark.usefixtures("without_locks")
def test_an_owner_file_of_a_process_that_has_ended_does_not_count(lock: Lock, path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, path], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert path.with_name(".lock.owner").exists()
    assert lock.owner() is None
    _hold(lock)


def test_a_lock_that_fails_for_another_reason_is_an_error(lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        _hold(lock)


@pytest.mark.usefixtures("without_locks")
def test_record_locks_are_missed_where_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not supports_record_locks(tmp_path / "file")


def test_a_file_that_is_locked_is_no_disk_without_locks(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    hold = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX); print('mine', flush=True); input()"
    with _start(hold, file) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "mine\n"
        assert supports_record_locks(file)
        process.kill()
    assert supports_record_locks(tmp_path / "no such file")


def _hold(lock: Lock) -> None:
    with lock.held("another"):
        pass
