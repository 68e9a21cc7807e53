"""Errors that a user can act on.

A message is one or two sentences: the value that is wrong, the limit it breaks, and the next step.
The command line prints it alone; ``--debug`` adds the traceback.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

_NEIGHBOURS = 2000


class RebenError(Exception):
    """Error that the user can fix."""


class InputError(RebenError):
    """A product, map or table that cannot be used as it is."""


class ReadError(InputError):
    """An image that cannot be decoded, of a product without checksums: its file, or only its disk, may be at fault."""


class SetupError(RebenError):
    """Software or settings of a machine with which this program cannot work."""


class RecipeError(RebenError):
    """A recipe that is not valid, or asks for something that does not exist."""


class OutputError(RebenError):
    """An output folder that cannot be written, or that holds something already."""


class ClusterError(RebenError):
    """A Dask cluster that cannot be reached, or cannot do the work."""


def missing(what: str, path: str | os.PathLike[str]) -> str:
    """Describe a path that does not exist, and the one that may have been meant; ``what`` starts the sentence.

    Examples
    --------
    >>> missing("The land-cover map", "no/such/map.gpkg")
    'The land-cover map no/such/map.gpkg does not exist.'
    """
    near = _nearest(Path(path))
    return f"{what} {path} does not exist" + (f"; did you mean {near}?" if near else ".")


def _nearest(path: Path) -> Path | None:
    """Existing path that differs in one name, relative if the given one is."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - links stay as they are
    known = next(parent for parent in absolute.parents if parent.is_dir())
    wrong, *rest = absolute.relative_to(known).parts or ("",)
    try:
        names = [entry.name for entry in islice(known.iterdir(), _NEIGHBOURS)]
    except OSError:
        return None
    found = (known.joinpath(name, *rest) for name in get_close_matches(wrong, names, cutoff=0.75))
    near = next((candidate for candidate in found if candidate != absolute and candidate.exists()), None)
    return near if near is None or path.is_absolute() else Path(os.path.relpath(near))
