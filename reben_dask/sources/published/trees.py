"""Finding the patches of the published trees: one folder a patch, one file a band.

Folders are told apart by their names, and each is listed once; no file is looked at. Version 2 keeps the patches in
folders of their tile or scene, version 1 side by side; here they may lie at any depth.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from reben_dask.errors import InputError, missing
from reben_dask.formats.bands import BAND_RESOLUTION_M

LISTINGS_AT_ONCE = 8
"""Threads: on a network disk, and on one that is not in memory yet, a listing is mostly waiting."""

PATCHES_AT_ONCE = 256

_SHOWN = 3
_ANY_PATCH = re.compile(r"S[12][A-D]_[0-9A-Z_]+_\d{1,4}_\d{1,4}")


@dataclass(frozen=True)
class Kind:
    """One of the published trees.

    Parameters
    ----------
    title : str
        What it holds.
    pattern : re.Pattern
        Names of its patch folders.
    example : str
        One of them.
    resolution_m : dict of str to int
        Bands of each patch, and their resolution in metres. Files are named ``<folder>_<band>.tif``.
    dtype : str
        Type of the pixels.
    """

    title: str
    pattern: re.Pattern[str]
    example: str
    resolution_m: Mapping[str, int]
    dtype: str


_S2_PATCH = re.compile(r"S2[A-D]_[0-9A-Z_]+_\d{1,4}_\d{1,4}")
_S2_EXAMPLE = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57"

S2 = Kind("Sentinel-2", _S2_PATCH, _S2_EXAMPLE, BAND_RESOLUTION_M, "uint16")
S1 = Kind(
    "Sentinel-1",
    re.compile(r"S1[A-D]_[0-9A-Z_]+_\d{1,4}_\d{1,4}"),
    "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_26_57",
    {"VH": 10, "VV": 10},
    "float32",
)
MAPS = Kind("reference map", _S2_PATCH, _S2_EXAMPLE, {"reference_map": 10}, "uint16")


class PatchFolder(NamedTuple):
    """Where a patch lies: the folder below the root that holds the patch's own, and the name of its own."""

    parent: str
    name: str


@dataclass(frozen=True)
class PublishedTree:
    """A tree of published patches.

    Parameters
    ----------
    kind : Kind
        What it holds.
    root : str
        Its folder, absolute.
    patches : sequence of PatchFolder
        Its patches, in the order of their names; each has all of its bands.
    """

    kind: Kind
    root: str
    patches: Sequence[PatchFolder]


def band_files(kind: Kind, root: str, patch: PatchFolder) -> dict[str, str]:
    """Paths of the files of a patch by band."""
    stem = os.path.join(root, *patch, patch.name)  # noqa: PTH118 - millions of times
    return {band: f"{stem}_{band}.tif" for band in kind.resolution_m}


def find_patches(root: Path, kind: Kind) -> PublishedTree:
    """Find the patches of a published tree.

    Parameters
    ----------
    root : Path
        Folder of the tree.
    kind : Kind
        Which of the trees it is.

    Returns
    -------
    PublishedTree
        All patches, in the order of their names.

    Raises
    ------
    InputError
        If there are none, if a folder misses bands (named), if a patch is there twice, if a link leads out of the tree,
        or if a folder cannot be read. Other links to folders are not followed: what they lead to is found anyway.
    """
    if not root.exists():
        raise InputError(missing(f"The {kind.title} path", root))
    if not root.is_dir():
        raise InputError(f"The {kind.title} path {root} is not a folder.")
    # Links above the root stay as they are: they are the user's own.
    top = os.path.abspath(root)  # noqa: PTH100
    with ThreadPoolExecutor(LISTINGS_AT_ONCE) as pool:
        patches = sorted(_walk(top, kind, pool), key=lambda patch: (patch.name, patch.parent))
        if not patches:
            raise InputError(
                f"No {kind.title} patch found in {root}; expected folders such as {kind.example}, "
                f"with files such as {kind.example}_{next(iter(kind.resolution_m))}.tif."
            )
        _require_once(patches, root)
        batches = [patches[start : start + PATCHES_AT_ONCE] for start in range(0, len(patches), PATCHES_AT_ONCE)]
        _require_complete(
            [found for batch in pool.map(lambda batch: _incomplete(top, kind, batch), batches) for found in batch],
            kind,
            f"of {len(patches):,} {kind.title} patches in {root}",
        )
    return PublishedTree(kind, top, patches)


def _walk(top: str, kind: Kind, pool: ThreadPoolExecutor) -> Iterator[PatchFolder]:
    level = [""]
    while level:
        below = []
        for parent, names in zip(level, pool.map(lambda folder: _folders_in(top, folder), level), strict=True):
            for name in names:
                if kind.pattern.fullmatch(name):
                    yield PatchFolder(parent, name)
                elif not _ANY_PATCH.fullmatch(name):
                    below.append(os.path.join(parent, name))  # noqa: PTH118
        level = below


def _folders_in(top: str, folder: str) -> list[str]:
    """Names of the folders in a folder, without hidden ones."""
    found = []
    for entry in _entries(os.path.join(top, folder)):  # noqa: PTH118
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            found.append(entry.name)
        elif entry.is_symlink() and os.path.isdir(entry.path):  # noqa: PTH112
            _require_inside(entry, top)
    return found


def _incomplete(top: str, kind: Kind, patches: Iterable[PatchFolder]) -> list[tuple[str, list[str]]]:
    """Names of the patches that miss bands, and of the bands."""
    found = []
    for patch in patches:
        expected = {f"{patch.name}_{band}.tif": band for band in kind.resolution_m}
        for entry in _entries(os.path.join(top, *patch)):  # noqa: PTH118
            if entry.name not in expected:
                continue
            if entry.is_file(follow_symlinks=False):
                del expected[entry.name]
            elif entry.is_symlink() and os.path.isfile(entry.path):  # noqa: PTH113
                _require_inside(entry, top)
                del expected[entry.name]
        if expected:
            found.append((patch.name, sorted(expected.values())))
    return found


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read ({error.strerror}).") from None


def _require_inside(link: os.DirEntry[str], top: str) -> None:
    target, allowed = os.path.realpath(link.path), os.path.realpath(top)
    if os.path.commonpath([target, allowed]) != allowed:
        raise InputError(
            f"{link.path} is a link that leads out of {top}, to {target}; give the folder that it leads to, "
            "or put a copy in its place."
        )


def _require_once(patches: Sequence[PatchFolder], root: Path) -> None:
    for first, second in pairwise(patches):
        if first.name == second.name:
            places = " and ".join(repr(patch.parent or ".") for patch in (first, second))
            raise InputError(f"The patch {first.name} is in {root} twice, in {places}; remove one of them.")


def _require_complete(incomplete: Sequence[tuple[str, list[str]]], kind: Kind, of_what: str) -> None:
    if not incomplete:
        return
    shown = [
        f"{name} misses {'all bands' if len(bands) == len(kind.resolution_m) > 1 else ', '.join(bands)}"
        for name, bands in incomplete[:_SHOWN]
    ]
    more = f" and {len(incomplete) - _SHOWN:,} more" if len(incomplete) > _SHOWN else ""
    raise InputError(
        f"{len(incomplete):,} {of_what} are not complete: {'; '.join(shown)}{more}. "
        "Download them again, or remove their folders."
    )
