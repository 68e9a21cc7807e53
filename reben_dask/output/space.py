"""What to say when a disk is full, whoever noticed it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reben_dask.errors import OutputError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FULL_TEXTS = ("No space left on device", "Disk quota exceeded")


@contextmanager
def explaining_full_disk(root: Path) -> Iterator[None]:
    """Errors of a full disk become an :class:`OutputError` that names the output folder."""
    try:
        yield
    except Exception as error:
        require_space(error, root)
        raise


def require_space(error: BaseException, root: Path) -> None:
    """Raise :class:`OutputError` if what has happened is a full disk, on which nothing else would fare better.

    Parameters
    ----------
    error : BaseException
        What has happened. Libraries that write files in C tell of a full disk in their own words.
    root : Path
        The output folder.
    """
    if is_full_disk(error):
        raise OutputError(
            f"There is no space left on the disk of {root}, or where workers keep temporary files; make some room "
            "there."
        ) from None


def is_full_disk(error: BaseException) -> bool:
    """Whether an error, or what it was raised from, says that a disk is full."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        if any(text in str(cause) for text in _FULL_TEXTS):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
