"""Guard of an external program: run as a script, it ends the program and its children when standard input closes.

A worker may be killed at any moment; the system then closes the pipe that it holds, so the program cannot outlive the
worker. The module needs the standard library only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from threading import Thread

PATH = "/usr/local/bin:/usr/bin:/bin"
KEPT = ("HOME", "USER", "LOGNAME", "TMPDIR", "TZ")
"""Variables that the program gets, besides those of proxies: others, such as ``PYTHONHOME``, break it."""


def clean_environment() -> dict[str, str]:
    """Return the environment of the program."""
    kept = {name: text for name, text in os.environ.items() if name in KEPT or name.lower().endswith("_proxy")}
    return {**kept, "PATH": PATH, "LC_ALL": "C"}


def main(command: list[str]) -> int:
    """Run a command in a session of its own; return its status, 128 + N if the signal N ended it."""
    process = subprocess.Popen(  # noqa: S603 - the caller's command
        command, stdin=subprocess.DEVNULL, env=clean_environment(), start_new_session=True
    )

    def end_with_parent() -> None:
        while os.read(0, 1):
            pass
        _kill(process.pid)

    Thread(target=end_with_parent, daemon=True).start()
    status = process.wait()
    # Its children must not outlive it.
    _kill(process.pid)
    return status if status >= 0 else 128 - status


def _kill(session: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
