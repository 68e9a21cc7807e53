"""GeoTIFF trees as loose files: a folder for each patch, in those of tiles, scenes or grids, where there are such."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path

from reben_dask.stores.batches import batched
from reben_dask.verify.findings import Check, one_sentence
from reben_dask.verify.trees_folder import PatchFolder
from reben_dask.verify.trees_walk import Walk

THREADS = 4
"""On a network disk, and on one that is not in memory yet, reading is mostly waiting."""

_AT_ONCE = 64


def loose_folders(root: Path, walk: Walk, check: Check, left_over: Check) -> Iterator[PatchFolder]:
    """Patch folders of a tree with their files, folder by folder, and in each in the order of the walk.

    Parameters
    ----------
    root : Path
        Folder of the tree.
    walk : Walk
        Where its patch folders are, and what of them is read.
    check : Check
        Told of folders that cannot be read.
    left_over : Check
        Told of files that are in no patch folder.
    """
    uppers: Iterable[Path] = [root]
    for _ in range(walk.depth - 1):
        uppers = chain.from_iterable(_folders(upper, check, left_over) for upper in uppers)
    ordered = (sorted(_folders(upper, check, left_over), key=lambda path: walk.rank(path.name)) for upper in uppers)
    with ThreadPoolExecutor(THREADS) as pool:
        for batch in batched(chain.from_iterable(ordered), _AT_ONCE):
            for folder in pool.map(partial(_read, root=root, walk=walk), batch):
                if isinstance(folder, str):
                    check.problem(folder)
                else:
                    yield folder


def is_bare(root: Path) -> bool:
    """Whether there is nothing at all in a tree."""
    return not any(root.iterdir())


def _folders(folder: Path, check: Check, left_over: Check) -> Iterable[Path]:
    """Folders in a folder, in the order of their names. Hidden files are nobody's business."""
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        check.problem(f"{folder.name}: {one_sentence(error)}")
        return []
    folders = [path for path in entries if path.is_dir()]
    if len(folders) < len(entries):
        left_over.add(f"{folder.name}/{path.name}" for path in entries if not path.is_dir())
    return folders


def _read(folder: Path, root: Path, walk: Walk) -> PatchFolder | str:
    try:
        paths = [path for path in folder.iterdir() if walk.is_read(path.name)]
        files = {path.name: _read_file(path, walk.most_bytes) for path in paths}
    except OSError as error:
        return f"{folder.name} cannot be read ({one_sentence(error)})"
    return PatchFolder("" if folder.parent == root else folder.parent.name, folder.name, files)


def _read_file(path: Path, most_bytes: int) -> bytes | str:
    try:
        size = path.stat().st_size
        return f"has {size:,} bytes, which is no image of a patch" if size > most_bytes else path.read_bytes()
    except OSError as error:
        return f"cannot be read ({one_sentence(error)})"
