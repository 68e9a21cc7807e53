"""The tables of a dataset's trees, line by line beside those that its patch table gives."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from reben_dask.formats.trees import TreeLayout
from reben_dask.stores.trees import write_tables
from reben_dask.verify.findings import Check, collect
from reben_dask.wording import counted


def verify_tables(out: Path, layout: TreeLayout, parts: Sequence[Path]) -> Iterator[Check]:
    """Check the tables of a layout.

    They are written once more, into a temporary folder, from the patch table.

    Parameters
    ----------
    out : Path
        The dataset.
    layout : TreeLayout
        Which tables there are, and how they are written.
    parts : sequence of Path
        Part files of the patch table.

    Yields
    ------
    Check
        One for all tables, if the layout has any.
    """
    if not layout.tables:
        return
    check, lines = Check("Tables of the trees as in the patch table"), 0
    with tempfile.TemporaryDirectory(prefix="reben-verify-") as folder, collect(check):
        write_tables(layout, parts, Path(folder))
        wanted = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        for path in wanted:
            name = path.relative_to(folder).as_posix()
            if (out / name).is_file():
                with collect(check, name):
                    lines += _compare(out / name, path, name, check)
            else:
                check.problem(f"{name} is missing")
        names = {path.relative_to(folder).as_posix() for path in wanted}
        check.add(f"{name} is no table of the layout" for name in _in_folders(out, layout) if name not in names)
    check.summary = f"{', '.join(layout.tables)}; {counted(lines, 'line')}"
    yield check


def _in_folders(out: Path, layout: TreeLayout) -> list[str]:
    """Files in those tables that are folders; hidden ones are nobody's business."""
    paths = (path for name in layout.tables if (out / name).is_dir() for path in sorted((out / name).iterdir()))
    return [path.relative_to(out).as_posix() for path in paths if not path.name.startswith(".")]


def _compare(found: Path, wanted: Path, name: str, check: Check) -> int:
    """Compare two files; gives the number of lines."""
    number = 0
    with found.open(encoding="utf-8", newline="") as there, wanted.open(encoding="utf-8", newline="") as must:
        for line, right in zip_longest(there, must):
            number += 1
            if line != right:
                check.problem(f"{name}, line {number:,}, {_difference(line, right)}")
    return number


def _difference(line: str | None, right: str | None) -> str:
    if line is None:
        return "is missing"
    if right is None:
        return f"is {line.rstrip()!r}, and there must be no further line"
    found, wanted = _cells(line), _cells(right)
    if len(found) == len(wanted) > 1 and found != wanted:
        column = next(place for place, cell in enumerate(wanted) if found[place] != cell)
        return f"has {found[column]!r} in column {column + 1}, not {wanted[column]!r}"
    return f"is {line.rstrip()!r}, not {right.rstrip()!r}"


def _cells(line: str) -> list[str]:
    return next(csv.reader([line]), [])
