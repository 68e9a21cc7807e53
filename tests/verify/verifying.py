"""A whole verification, for tests to look at."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from reben_dask.verify import Report, Settings, verify


def verified(path: Path, *metadata: Path, **settings: bool) -> Report:
    """The report of a verification that has come to its end."""
    report = Report()
    deque(verify(path, metadata, Settings(**settings), report), maxlen=0)
    return report


def problems_of(path: Path, *metadata: Path, **settings: bool) -> dict[str, str]:
    """Examples of the problems of each check that has any."""
    checks = verified(path, *metadata, **settings).checks
    return {check.title: "; ".join(check.examples) for check in checks if check.problems}
