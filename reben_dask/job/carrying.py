"""Errors of tasks on their way to the client.

A client that cannot unpack an error waits for the task for ever. Errors of GDAL cannot be unpacked, nor can one with a
traceback of a thousand frames; an error also takes along whatever it was raised from. Tasks therefore raise plain
errors, which say the same.
"""

from __future__ import annotations

import errno
import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reben_dask.errors import RebenError
from reben_dask.output.space import is_full_disk

_NOTE_LINES = 40


@dataclass(frozen=True)
class Carrying:
    """A task whose errors reach the client.

    Parameters
    ----------
    function : callable
        The task.
    """

    function: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task."""
        try:
            return self.function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - it is raised again
            plain = plain_error(error)
        # Outside the handler: otherwise the error would be taken along as the context of the plain one.
        raise plain


def plain_error(error: Exception) -> Exception:
    """An error that says the same and can be sent: no cause, no context, and its traceback as a note.

    Parameters
    ----------
    error : Exception
        What a task has raised.

    Returns
    -------
    Exception
        Of the same type where that can be packed and unpacked, else :class:`RuntimeError`. If a full disk is at the
        bottom of it, an :class:`OSError` that says so.
    """
    if is_full_disk(error):
        return OSError(errno.ENOSPC, "No space left on device")
    plain = type(error)(str(error)) if isinstance(error, RebenError) else _copied(error)
    lines = "".join(traceback.format_exception(error)).splitlines()
    plain.add_note("\n".join(lines[-_NOTE_LINES:]))
    return plain


def _copied(error: Exception) -> Exception:
    try:
        copy = type(error)(*error.args)
        # Bytes of this process, a moment old.
        unpacked = pickle.loads(pickle.dumps(copy))  # noqa: S301
    except Exception:  # noqa: BLE001 - errors of libraries may do anything when they are copied
        unpacked = None
    if type(unpacked) is type(error) and str(unpacked) == str(error):
        return copy
    return RuntimeError(f"{type(error).__name__}: {error}")
