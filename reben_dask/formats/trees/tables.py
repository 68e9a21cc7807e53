"""Tables about all patches, written from the patch table part by part, so that memory does not grow with it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

from reben_dask.formats.trees.layout import IN_CUBE
from reben_dask.patches.decision import KEPT
from reben_dask.patches.splits import SPLITS
from reben_dask.stores.patch_table import read_rows

SETS = dict(zip(SPLITS, ("train", "val", "test"), strict=True))
"""What the older datasets call the sets."""


def kept_rows(parts: Iterable[Path], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Kept patches of all parts, one part after the other, each in the order of its cubes."""
    for part in parts:
        rows = read_rows(part, [*dict.fromkeys((*columns, *IN_CUBE))], status=KEPT)
        yield from rows.sort_by([(name, "ascending") for name in IN_CUBE]).to_pylist()


@contextmanager
def new_tables(root: Path, paths: Mapping[str, str]) -> Iterator[dict[str, TextIO]]:
    """Open text files below a folder; they appear under their names when all are complete.

    Parameters
    ----------
    root : Path
        The folder.
    paths : mapping of str to str
        Path of each file below it.

    Yields
    ------
    dict of str to file
        The files, by the same keys.
    """
    with tempfile.TemporaryDirectory(dir=root, prefix=".tables.") as scratch, ExitStack() as files:
        drafts = {key: Path(scratch) / key for key in paths}
        yield {key: files.enter_context(draft.open("w", encoding="utf-8", newline="")) for key, draft in drafts.items()}
        files.close()
        for key, draft in drafts.items():
            (root / paths[key]).parent.mkdir(exist_ok=True)
            draft.replace(root / paths[key])
