"""Reports as folders that appear when they are complete, and take the place of older ones."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reben_dask.errors import OutputError
from reben_dask.report.blocks import Page
from reben_dask.report.page import FIGURES, PAGE, write_page

REPORT = "report"
"""Name of the folder in a dataset."""

_OWN = {PAGE, FIGURES}


def require_place(folder: Path) -> None:
    """Make sure that a report can stand at ``folder``: there is nothing there, or an older report.

    Raises
    ------
    OutputError
        If there is anything else.
    """
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise OutputError(f"{folder} is not a folder; move it, and the report can stand there.")
    if foreign := sorted(path.name for path in folder.iterdir() if path.name not in _OWN):
        raise OutputError(
            f"{folder} holds {foreign[0]}, which is not part of a report, and would be lost; move it elsewhere."
        )


def publish_page(page: Page, folder: Path) -> Path:
    """Write a page into a folder, which takes the place of an older report when it is complete.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    OutputError
        If there is something else at ``folder``, or it cannot be written.
    """
    require_place(folder)
    try:
        with _aside(folder) as (new, old):
            new.mkdir(parents=True)
            write_page(page, new)
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
    except OSError as error:
        raise OutputError(f"The report {folder} cannot be written ({error.strerror}).") from None
    return folder / PAGE


@contextmanager
def _aside(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Where a report is made, and where an older one waits until it is; both are gone afterwards."""
    new, old = (folder.with_name(f".{folder.name}.{what}-{os.getpid()}") for what in ("new", "old"))
    try:
        yield new, old
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        for remains in (new, old):
            shutil.rmtree(remains, ignore_errors=True)
