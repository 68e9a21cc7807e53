"""Ctrl-C: who hears of it, and when it has nothing to interrupt any more."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from threading import current_thread, main_thread


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes that are started meanwhile leave Ctrl-C to this one, which ends them in good order.

    So do those that threads started meanwhile will start later, in the place of workers that have ended: a mask is
    inherited.
    """
    # Where it is started it opens ears again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """What is at its end is left to end; another Ctrl-C would only break off the cleaning up."""
    before = signal.getsignal(signal.SIGINT)
    ignore_interrupts()
    try:
        yield
    finally:
        if _hears_of_them() and before is not None:
            signal.signal(signal.SIGINT, before)


def ignore_interrupts() -> None:
    """Hear of no Ctrl-C any more: the process is at its end."""
    if _hears_of_them():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _hears_of_them() -> bool:
    """Only the main thread does."""
    return current_thread() is main_thread()
