"""Real processes that tests watch, stop and kill: the job, and a cluster on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

import psutil
from click.testing import CliRunner
from distributed.utils import json_load_robust

from reben_dask.cli.status import status

TIMEOUT_S = 200
"""Nothing takes as long unless a test fails."""

QUIET = {"COLUMNS": "200", "PYTHONUNBUFFERED": "1"}

DYING = """
import os, re, signal, sys

def die_at(moment, count):
    left = [count]

    def look(text):
        if re.search(moment, text):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    class Watched:
        def __init__(self, stream):
            self._stream = stream

        def write(self, text):
            self._stream.write(text)
            self._stream.flush()
            look(f"say {text}")

        def __getattr__(self, name):
            return getattr(self._stream, name)

    sys.addaudithook(lambda event, args: look(f"rename to {args[1]}") if event == "os.rename" else None)
    sys.stdout = Watched(sys.stdout)

if __name__ == "__main__":
    die_at(sys.argv[1], int(sys.argv[2]))
    from reben_dask.run import run
    run(sys.argv[3:], prog_name="reben run")
"""
"""The job, which kills itself when it says something, or is about to rename something to a name."""


COMMANDS = """
import json, sys
from click.testing import CliRunner
from reben_dask.cli import main
for words in json.loads(sys.argv[1]):
    done = CliRunner().invoke(main, words, prog_name="reben")
    print(json.dumps([done.exit_code, done.stdout, done.stderr]))
"""


def run_commands(
    *commands: Sequence[object], cwd: Path | None = None, **environment: str
) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of commands of ``reben``, which run in one process of their own."""
    line = [sys.executable, "-c", COMMANDS, json.dumps([[str(word) for word in words] for words in commands])]
    variables = {**os.environ, "COLUMNS": "200", **environment}
    done = subprocess.run(line, capture_output=True, text=True, cwd=cwd, env=variables, check=True)
    return [tuple(json.loads(said)) for said in done.stdout.splitlines()]


@dataclass(frozen=True)
class Ended:
    """Outcome of a process."""

    code: int
    said: str
    complained: str

    @property
    def sentence(self) -> str:
        """The one line of an error, without the note that goes before it; fails if there is more than that."""
        assert "Traceback" not in self.said + self.complained, self.complained
        (line,) = self.complained.strip().splitlines()
        assert line.startswith("Error: ")
        return line.removeprefix("Error: ")


class Job:
    """The job, without a report, in a process group of its own; its lines are read as they come."""

    def __init__(self, *arguments: object, dying: tuple[str, int] | None = None, **environment: str) -> None:
        command = [sys.executable, "-m", "reben_dask.run"]
        self._folder = tempfile.TemporaryDirectory()
        if dying:
            script = Path(self._folder.name, "dying.py")
            script.write_text(DYING)
            command = [sys.executable, str(script), dying[0], str(dying[1])]
        self._errors = Path(self._folder.name, "errors")
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [*command, *map(str, arguments), "--no-report"],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **QUIET, **environment},
                start_new_session=True,
            )
        self._said: list[str] = []
        # A job that hangs is a failure of its test, not of all.
        self._timer = Timer(TIMEOUT_S, self._kill)
        self._timer.daemon = True
        self._timer.start()

    def _kill(self) -> None:
        """Kill it with its workers, which hold its output open too."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def lines(self) -> Iterator[str]:
        """Lines as they come."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.append(line)
            yield line

    def until(self, text: str) -> None:
        """Read until a line that has the text; fails if there is none."""
        assert any(text in line for line in self.lines()), f"never said {text!r}: {''.join(self._said)}"

    def workers(self) -> list[psutil.Process]:
        """Processes of the embedded cluster's workers."""
        return [child for child in psutil.Process(self.process.pid).children(recursive=True) if _is_worker(child)]

    def end(self) -> Ended:
        """Read what is left and wait for the end."""
        for _ in self.lines():
            pass
        code = self.process.wait()
        self._timer.cancel()
        ended = Ended(code, "".join(self._said), self._errors.read_text())
        self._folder.cleanup()
        return ended


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(what: Callable[[], Any]) -> Any:
    """Wait until something is true, and give it."""
    deadline = time.monotonic() + TIMEOUT_S
    while not (found := what()):
        assert time.monotonic() < deadline, f"waited {TIMEOUT_S} s in vain"
        time.sleep(0.02)
    return found


@dataclass(frozen=True)
class Cluster:
    """A scheduler and two workers with nannies, started from the shell."""

    file: Path
    address: str
    scheduler: subprocess.Popen[bytes]

    @property
    def options(self) -> list[object]:
        """Options of a job that takes it."""
        return ["--scheduler-file", self.file]


@contextmanager
def loopback_cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster whose processes end with the block."""
    folder.mkdir()
    file = folder / "scheduler.json"
    dask, host = [sys.executable, "-m", "dask"], ["--host", "127.0.0.1", "--no-dashboard"]
    worker = [*dask, "worker", *host, "--scheduler-file", str(file), "--nthreads", "1", "--nworkers", "2"]
    commands = [
        [*dask, "scheduler", *host, "--port", "0", "--scheduler-file", str(file)],
        [*worker, "--local-directory", str(folder), "--death-timeout", "60"],
    ]
    # Without work for most of the time, its processes need not look at their memory ten times a second.
    seldom = {**os.environ, "DASK_DISTRIBUTED__WORKER__MEMORY__MONITOR_INTERVAL": "1s"}
    with (folder / "log").open("w") as log:
        processes = [subprocess.Popen(command, stdout=log, stderr=log, env=seldom) for command in commands]
        try:
            address = json_load_robust(file, timeout=TIMEOUT_S)["address"]
            yield Cluster(file, address, processes[0])
        finally:
            for process in reversed(processes):
                _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    family = [process, *psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []
    for each in family:
        with suppress(psutil.NoSuchProcess):
            each.send_signal(signal.SIGKILL)
    process.wait()


def status_of(out: Path) -> dict[str, Any]:
    """Output of ``reben status`` for a folder; empty without a dataset or job."""
    result = CliRunner().invoke(status, [str(out), "--json"])
    if result.exit_code == 1:
        return {}
    found: dict[str, Any] = json.loads(result.output)
    assert (result.exit_code == 0) == found["is_settled"]
    return found


def require_unfinished(out: Path) -> None:
    """Nothing that is half-written is there as if it were complete."""
    assert not (out / "run" / "record.json").exists()
    found = status_of(out)
    assert not found.get("is_settled")
    assert found.get("finished") is None


def contents(root: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of everything below a folder."""
    paths: Sequence[Path] = sorted(root.rglob("*"))
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in paths}
