"""SIGINT handling: child processes and cleanup phases that ignore Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from threading import current_thread, main_thread


@contextmanager
def block_sigint() -> Iterator[None]:
    """Block SIGINT in processes started in the block, also by its threads: they inherit the mask.

    Ctrl-C is then left to this process, which ends them in order.
    """
    # It unblocks signals where it is started.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def sigint_ignored() -> Iterator[None]:
    """Ignore SIGINT in the block, so that a second Ctrl-C does not interrupt cleanup."""
    before = signal.getsignal(signal.SIGINT)
    ignore_sigint()
    try:
        yield
    finally:
        if current_thread() is main_thread() and before is not None:
            signal.signal(signal.SIGINT, before)


def ignore_sigint() -> None:
    """Ignore SIGINT until the process ends; only the main thread receives it."""
    if current_thread() is main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
