"""GeoTIFF trees as loose files: folders of tiles or scenes, in them a folder for each patch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path

from reben_dask.stores.batches import batched
from reben_dask.verify.findings import Check, one_sentence
from reben_dask.verify.trees_folder import PatchFolder, is_tiff

THREADS = 4
"""On a network disk, and on one that is not in memory yet, reading is mostly waiting."""

_AT_ONCE = 64


def loose_folders(root: Path, most_bytes: int, check: Check, left_over: Check) -> Iterator[PatchFolder]:
    """Patch folders of a tree with their files, in the order of their paths.

    Parameters
    ----------
    root : Path
        Folder of the tree.
    most_bytes : int
        Larger files are not read.
    check : Check
        Told of folders that cannot be read.
    left_over : Check
        Told of files that are in no patch folder.
    """
    uppers = _folders(root, check, left_over)
    folders = chain.from_iterable(_folders(upper, check, left_over) for upper in uppers)
    with ThreadPoolExecutor(THREADS) as pool:
        for batch in batched(folders, _AT_ONCE):
            for folder in pool.map(partial(_read, most_bytes=most_bytes), batch):
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


def _read(folder: Path, most_bytes: int) -> PatchFolder | str:
    try:
        files = {path.name: _read_file(path, most_bytes) for path in folder.iterdir() if is_tiff(path.name)}
    except OSError as error:
        return f"{folder.name} {one_sentence(error)}"
    return PatchFolder(folder.parent.name, folder.name, files)


def _read_file(path: Path, most_bytes: int) -> bytes | str:
    try:
        size = path.stat().st_size
        return f"has {size:,} bytes, which is no image of a patch" if size > most_bytes else path.read_bytes()
    except OSError as error:
        return f"cannot be read ({one_sentence(error)})"
