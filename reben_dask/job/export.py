"""The tasks of an export to GeoTIFF: one for each tile, and for archives a last one that joins what those have made.

Each task may be repeated without harm.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from distributed import get_worker

from reben_dask.formats.trees import Tree
from reben_dask.stores.trees import ARCHIVE_SUFFIX, join_parts, patch_folders, write_parts, write_tree


def export_tile_tree(root: Path, drafts: Path, trees: Sequence[Tree], part: Path, store: Path, topic: str) -> None:
    """Write the loose files of one tile.

    Parameters
    ----------
    root : Path
        Folder in which the trees are, such as that of the dataset.
    drafts : Path
        Folder on the same disk, for folders of patches that are not complete.
    trees : sequence of Tree
        The trees to write; each has its folder, even if the tile has no patch in it.
    part : Path
        The tile's part file of the patch table.
    store : Path
        The Zarr store.
    topic : str
        Where the client hears how many patches of a tree have been written.
    """
    advance = _teller(topic)
    for tree in trees:
        (root / tree.name).mkdir(parents=True, exist_ok=True)
        write_tree(patch_folders(store, part, tree), root, advance, drafts=drafts)


def export_tile_archive(parts: Path, trees: Sequence[Tree], part: Path, store: Path, topic: str) -> None:
    """Write one tile's parts of the archives.

    Parameters
    ----------
    parts : Path
        Folder of the parts of all tiles, for :func:`join_archives`.
    trees, part, store, topic
        As of :func:`export_tile_tree`.
    """
    advance = _teller(topic)
    for tree in trees:
        write_parts(patch_folders(store, part, tree), parts, part.stem, advance)


def join_archives(root: Path, trees: Sequence[Tree], parts: Path) -> list[Path]:
    """Join the parts of all tiles to the archives ``<tree>.tar.zst``, and delete them.

    One tree follows the other, so that no more than the parts of one are on disk twice.

    Parameters
    ----------
    root : Path
        Folder of the archives, which are not there yet.
    trees : sequence of Tree
        The trees; each has its archive, even if it is empty.
    parts : Path
        Folder of the parts.

    Returns
    -------
    list of Path
        The archives.
    """
    names = [tree.name for tree in trees]
    archives = [root / f"{name}{ARCHIVE_SUFFIX}" for name in names]
    for name, archive in zip(names, archives, strict=True):
        # An attempt that was interrupted may have deleted some parts already, after it had finished the archive.
        if not archive.exists():
            join_parts(parts, name, archive)
        shutil.rmtree(parts / name, ignore_errors=True)
    return archives


def _teller(topic: str) -> Callable[[int], None]:
    worker = get_worker()
    return lambda patches: worker.log_event(topic, patches)
