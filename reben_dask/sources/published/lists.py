"""Plain lists of patch names, such as those of BigEarthNet's patches with snow, cloud or shadow."""

from __future__ import annotations

from pathlib import Path

from reben_dask.errors import InputError, missing


def read_names(path: Path) -> frozenset[str]:
    """Read the names of a list.

    Parameters
    ----------
    path : Path
        Text with one name a line, or a CSV with the names in its first column. Names are kept as they are: published
        ones of version 1 have defects (hours without their leading zero, seconds beyond 59), and so have the lists.

    Raises
    ------
    InputError
        If the file cannot be read as text, or a line is not a patch name.
    """
    if not path.exists():
        raise InputError(missing("The list of patches", path))
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The list of patches {path} cannot be read ({error}).") from None
    names = {row: line.split(",")[0].strip().strip('"') for row, line in enumerate(lines, start=1) if line.strip()}
    for row, name in names.items():
        if not name.startswith("S2") or " " in name:
            raise InputError(f"The list of patches {path} has {name!r} in line {row}, which is not a patch name.")
    return frozenset(names.values())
