"""Reading the patches of the published trees, as a worker does it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt

from reben_dask.errors import InputError
from reben_dask.grid import PATCH_SIDE_M
from reben_dask.sources.published.tiff import read_tiff
from reben_dask.sources.published.trees import Kind, PatchFolder, PublishedTree, band_files

Images = dict[str, npt.NDArray[Any]]
"""Pixels of a patch, shape ``(y, x)``, at native resolution by band."""


class Source(NamedTuple):
    """Where patches of one kind are read from."""

    kind: Kind
    root: str


class Entry(NamedTuple):
    """A patch, and the number of its source."""

    source: int
    patch: PatchFolder


def sources_of(trees: Sequence[PublishedTree]) -> tuple[Source, ...]:
    """What a worker has to know of the trees."""
    return tuple(Source(tree.kind, tree.root) for tree in trees)


def inputs_of(trees: Sequence[PublishedTree], made: str) -> dict[str, Any]:
    """What is made from what, by which a conversion that was interrupted is known again."""
    return {"made": made, **{tree.kind.title: str(Path(tree.root).resolve()) for tree in trees}}


def read_patch(source: Source, patch: PatchFolder) -> Images:
    """Read all bands of a patch.

    Returns
    -------
    dict of str to ndarray, shape (y, x)
        Pixels at native resolution by band.

    Raises
    ------
    InputError
        If a file is damaged, or if its image is not of the size and type of its kind; the message names it.
    """
    images = {}
    for band, path in band_files(source.kind, source.root, patch).items():
        pixels = read_tiff(path)
        side = PATCH_SIDE_M // source.kind.resolution_m[band]
        if pixels.shape != (side, side) or pixels.dtype != source.kind.dtype:
            height, width = pixels.shape
            raise InputError(
                f"{path} has {height} x {width} pixels of type {pixels.dtype}, "
                f"where patches of this kind have {side} x {side} of type {source.kind.dtype}."
            )
        images[band] = pixels
    return images
