"""Commands of the files in ``deploy/`` as real processes, with loopback in the place of other hosts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from distributed.utils import json_load_robust

TIMEOUT_S = 240
HERE = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
"""Variables with which a command is that of the environment of the tests."""

_PORTS = {r"^(--port=)?8786$": r"\g<1>0", r"^(--dashboard-address=)?:87\d\d$": r"\g<1>127.0.0.1:0"}


class Cluster(NamedTuple):
    """Addresses of a scheduler and of its dashboard."""

    address: str
    dashboard: str


def on_loopback(words: Sequence[str], replaced: Mapping[str, str] | None = None) -> list[str]:
    """A command with any free port of loopback, and with other names of paths and hosts."""
    told = list(words)
    for pattern, replacement in _PORTS.items():
        told = [re.sub(pattern, replacement, word) for word in told]
    for name, other in (replaced or {}).items():
        told = [word.replace(name, other) for word in told]
    return told


def wait_until(holds: Callable[[], Any], what: str) -> None:
    """Wait for what other processes do."""
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {TIMEOUT_S} s"
        time.sleep(0.05)


@contextmanager
def running(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], stop: int = signal.SIGTERM
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is told to end by a signal, and has to end."""
    with (folder / f"{Path(command[0]).name}.log").open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
        try:
            yield process
        finally:
            process.send_signal(stop)
            process.wait(TIMEOUT_S)


@contextmanager
def cluster(
    scheduler: Sequence[str],
    workers: Sequence[Sequence[str]],
    folder: Path,
    environment: Mapping[str, str],
    stop: int = signal.SIGTERM,
) -> Iterator[Cluster]:
    """A scheduler, and workers that find it by the variable of their environment."""
    file = folder / "scheduler.json"
    host = ["--host", "127.0.0.1"]
    with ExitStack() as stack:
        stack.enter_context(running([*scheduler, *host, "--scheduler-file", str(file)], folder, environment, stop))
        told = json_load_robust(file, timeout=TIMEOUT_S)
        known = {**environment, "DASK_SCHEDULER_ADDRESS": told["address"]}
        for worker in workers:
            stack.enter_context(running([*worker, *host], folder, known, stop))
        yield Cluster(told["address"], f"127.0.0.1:{told['services']['dashboard']}")


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> str:
    """Run a command that has to succeed, and give what it prints."""
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
