"""Trees of published patches: a folder for each patch, a file for each image, at any depth.

Version 2 keeps the patches in folders of their tile or scene, version 1 side by side.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt

from reben_dask.errors import InputError, missing
from reben_dask.formats.bands import FURTHER_BANDS, PUBLISHED_BANDS, REFERENCE_MAP, S1_BANDS, Band, ImageKind
from reben_dask.sources.published.tiff import read_tiff

IMAGES: Mapping[ImageKind, Mapping[str, Band]] = {
    ImageKind.S2: PUBLISHED_BANDS,
    ImageKind.S1: S1_BANDS,
    ImageKind.MAP: {REFERENCE_MAP.name: REFERENCE_MAP},
}
"""Images that every patch has; their files are named ``<patch>_<image>.tif``."""

EXAMPLES = {
    ImageKind.S2: "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57",
    ImageKind.S1: "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_26_57",
    ImageKind.MAP: "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57",
}
LISTINGS_AT_ONCE = 8
"""Number of threads; listings of network disks and uncached disks mostly wait."""

FOLDERS_AT_ONCE = 64
_SHOWN = 3
_PATCH = re.compile(r"(S[12])[A-D]_[0-9A-Z_]+_\d{1,4}_\d{1,4}")


class Folder(NamedTuple):
    """A folder of a tree: the folder that holds it, its name, and the names of its contents."""

    above: str
    name: str
    is_patch: bool
    folders: list[str]
    files: list[str]

    @property
    def path(self) -> str:
        """Path of the folder."""
        return os.path.join(self.above, self.name)  # noqa: PTH118 - millions of times


class PublishedPatch(NamedTuple):
    """The images of one kind of a patch, in a folder of its name."""

    kind: ImageKind
    above: str
    """Folder that holds the patch's own."""
    name: str

    def path(self, image: str) -> str:
        """Path of the file of an image."""
        return os.path.join(self.above, self.name, f"{self.name}_{image}.tif")  # noqa: PTH118 - millions of times


@dataclass(frozen=True)
class PublishedTree:
    """A tree of published patches of one kind."""

    kind: ImageKind
    root: str
    """Its folder, absolute."""
    patches: Sequence[PublishedPatch]
    """In the order of their names; each has all images of the tree."""
    further: tuple[str, ...] = ()
    """Bands beside the published ones, in a tree that this program exported."""
    archives: tuple[str, ...] = ()
    """Archives that hold the patches, whose ``above`` is one of them; without any, they are folders."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands of Sentinel-2 in this tree."""
        return (*PUBLISHED_BANDS, *self.further) if self.kind is ImageKind.S2 else ()


def _is_followed(link: os.DirEntry[str], top: str) -> bool:
    """Test for a link to a file; raises InputError if a link leads out of the tree."""
    target, allowed = os.path.realpath(link.path), os.path.realpath(top)
    if os.path.exists(target) and os.path.commonpath([target, allowed]) != allowed:  # noqa: PTH110
        raise InputError(
            f"{link.path} is a link that leads out of {top}, to {target}; give its target folder, "
            "or replace the link by a copy."
        )
    return os.path.isfile(target)  # noqa: PTH113


def walk_patch_folders(
    root: str | os.PathLike[str],
    is_patch: Callable[[str, int], bool],
    is_other: Callable[[str], bool] = lambda _: False,
    *,
    order: Callable[[str], Any] = str,
    is_followed: Callable[[os.DirEntry[str], str], bool] = _is_followed,
    on_error: Callable[[InputError], object] | None = None,
) -> Iterator[Folder]:
    """Walk over the folders of a tree down to those of patches, with the names of their files.

    Folders come in order, depth first, those of patches right after the folder that holds them. Hidden files and
    folders are skipped.

    Parameters
    ----------
    root : path
        Folder of the tree, which may be a link.
    is_patch : callable
        Test for the folder of a patch, by its name and its depth below the root.
    is_other : callable
        Test for a folder to skip, by its name.
    order : callable
        Key by which the names in a folder are sorted.
    is_followed : callable
        Test for a link to follow, to a folder or in the folder of a patch; others are skipped. The second argument is
        the absolute root. By default links to files are followed, and one that leads out of the tree is an error.
    on_error : callable
        Called with the error of an unreadable folder, which is then skipped. By default it is raised.

    Raises
    ------
    InputError
        If a folder cannot be read, or a link leads out of the tree.
    """
    top = os.path.abspath(root)  # noqa: PTH100 - links above the root stay as given by the user
    look = partial(_list, top, is_followed)

    def sound(listed: Iterable[Folder | InputError]) -> Iterator[Folder]:
        for found in listed:
            if isinstance(found, Folder):
                yield found
            elif on_error is None:
                raise found
            else:
                on_error(found)

    waiting = [(*os.path.split(top), 1)]
    with ThreadPoolExecutor(LISTINGS_AT_ONCE) as pool:
        while waiting:
            above, name, depth = waiting.pop()
            for folder in sound(look(above, [name], is_patch=False)):
                yield folder
                names = sorted(folder.folders, key=order)
                patches = [name for name in names if is_patch(name, depth)]
                batches = [
                    patches[start : start + FOLDERS_AT_ONCE] for start in range(0, len(patches), FOLDERS_AT_ONCE)
                ]
                for start in range(0, len(batches), LISTINGS_AT_ONCE):
                    found = pool.map(
                        partial(look, folder.path, is_patch=True), batches[start : start + LISTINGS_AT_ONCE]
                    )
                    yield from sound(chain.from_iterable(found))
                below = [name for name in names if not is_patch(name, depth) and not is_other(name)]
                waiting += [(folder.path, name, depth + 1) for name in reversed(below)]


def find_patches(root: Path, kind: ImageKind) -> PublishedTree:
    """Find the patches of a published tree.

    Parameters
    ----------
    root : Path
        Folder of the tree; patch folders of other kinds in it are skipped.
    kind : ImageKind
        Kind of its patches.

    Raises
    ------
    InputError
        If there are none, if a folder lacks files (named) that every patch or the first one has, if a patch occurs
        twice, or as :func:`walk_patch_folders`.
    """
    if not root.exists():
        raise InputError(missing(f"The tree of {kind.value}", root))
    if not root.is_dir():
        raise InputError(f"The tree of {kind.value} {root} is not a folder.")
    patches: list[PublishedPatch] = []
    incomplete: list[tuple[str, list[str]]] = []
    sensor, further = EXAMPLES[kind][:2], tuple[str, ...]()
    for above, name, is_patch, _, files in walk_patch_folders(
        root, lambda name, _: is_patch_name(name, sensor), is_patch_name
    ):
        if not is_patch:
            continue
        there = frozenset(files)
        if not patches and kind is ImageKind.S2:
            further = tuple(band for band in FURTHER_BANDS if f"{name}_{band}.tif" in there)
        patches.append(PublishedPatch(kind, above, name))
        if lacking := sorted(image for image in (*IMAGES[kind], *further) if f"{name}_{image}.tif" not in there):
            incomplete.append((name, lacking))
    if not patches:
        raise no_patches(kind, str(root))
    patches.sort(key=lambda patch: (patch.name, patch.above))
    _require_once(patches, root)
    require_complete(incomplete, kind, f"{len(patches):,} patches of {kind.value} in {root}")
    return PublishedTree(kind, os.path.abspath(root), patches, further)  # noqa: PTH100


def read_patch(patch: PublishedPatch) -> dict[str, npt.NDArray[Any]]:
    """Read the images of a patch, further bands included.

    Returns
    -------
    dict of str to ndarray, shape (y, x)
        Pixels at native resolution by image.

    Raises
    ------
    InputError
        If a file is damaged, or if its image does not have the size and type of its kind; the message names the file.
    """
    images = {}
    further = FURTHER_BANDS.items() if patch.kind is ImageKind.S2 else ()
    there = [(name, band) for name, band in further if os.path.exists(patch.path(name))]  # noqa: PTH110
    for name, band in (*IMAGES[patch.kind].items(), *there):
        path = patch.path(name)
        images[name] = pixels = read_tiff(path)
        require_image(pixels, band, path)
    return images


def require_image(pixels: npt.NDArray[Any], band: Band, path: str) -> None:
    """Raise :class:`InputError` if an image, of a file named ``path``, does not have the size and type of its band."""
    side = band.side_px()
    if pixels.shape != (side, side) or pixels.dtype != band.dtype:
        height, width = pixels.shape
        raise InputError(
            f"{path} has {height} x {width} pixels of type {pixels.dtype}, "
            f"where patches of this kind have {side} x {side} of type {band.dtype}."
        )


def no_patches(kind: ImageKind, place: str) -> InputError:
    """Return the error for a folder or archive without patches of a kind."""
    return InputError(
        f"No patches of {kind.value} found in {place}; expected folders such as {EXAMPLES[kind]}, "
        f"with files such as {EXAMPLES[kind]}_{next(iter(IMAGES[kind]))}.tif."
    )


def is_patch_name(name: str, sensor: str = "") -> bool:
    """Check for the name of a patch folder, of one sensor or of any."""
    found = _PATCH.fullmatch(name)
    return found is not None and sensor in ("", found[1])


def _list(
    top: str, is_followed: Callable[[os.DirEntry[str], str], bool], above: str, names: Sequence[str], *, is_patch: bool
) -> list[Folder | InputError]:
    """List folders, or return the errors of unreadable ones."""
    found: list[Folder | InputError] = []
    for name in names:
        folder = Folder(above, name, is_patch, [], [])
        try:
            for entry in _entries(folder.path):
                is_link = entry.is_symlink()
                is_folder = os.path.isdir(entry.path) if is_link else entry.is_dir()  # noqa: PTH112
                if not (is_link and (is_folder or is_patch)) or is_followed(entry, top):
                    (folder.folders if is_folder else folder.files).append(entry.name)
        except InputError as error:
            found.append(error)
        else:
            found.append(folder)
    return found


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """List the contents of a folder that are not hidden."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read ({error.strerror}).") from None


def _require_once(patches: Sequence[PublishedPatch], root: Path) -> None:
    for first, second in pairwise(patches):
        if first.name == second.name:
            places = " and ".join(repr(os.path.relpath(patch.above, root)) for patch in (first, second))
            raise InputError(f"The patch {first.name} is in {root} twice, in {places}; remove one of them.")


def require_complete(incomplete: Sequence[tuple[str, list[str]]], kind: ImageKind, of_what: str) -> None:
    """Raise :class:`InputError` that names patches with the images they lack, if there are any."""
    if not incomplete:
        return
    shown = [
        f"{name} lacks {'all files' if len(lacking) == len(IMAGES[kind]) > 1 else ', '.join(lacking)}"
        for name, lacking in incomplete[:_SHOWN]
    ]
    more = f" and {len(incomplete) - _SHOWN:,} more" if len(incomplete) > _SHOWN else ""
    raise InputError(
        f"{len(incomplete):,} of {of_what} are incomplete: {'; '.join(shown)}{more}. "
        "Download them again, or remove their folders."
    )
