"""Patches of a split as a network takes them: normalised as in the training, with masks where they are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from math import fsum, sqrt
from pathlib import Path

import numpy as np

from reben_dask.errors import InputError
from reben_dask.formats.bands import BANDS, S1_BANDS
from reben_dask.formats.training_run import BandScale
from reben_dask.training.readers import Patch
from reben_dask.training.samples import Samples, lmdb_samples
from reben_dask.training.table import ClassOrder

Advance = Callable[[int], object]


def open_split(
    out: Path, split: str, bands: Sequence[str], classes: Sequence[str] | ClassOrder = "alphabetical"
) -> Samples:
    """Open the clear patches of a split; see :func:`~reben_dask.training.lmdb_samples`."""
    return lmdb_samples(out, split=split, bands=bands, classes=classes)


def band_scales(train: Samples, advance: Advance) -> dict[str, BandScale]:
    """Return the mean and standard deviation of each band over the training split.

    They come from ``statistics.json`` of the dataset; without it, all pixels are read, nodata left out.

    Parameters
    ----------
    train : Samples
        Training split; its bands count.
    advance : callable
        Called with the number of patches that were read.
    """
    if (stored := train.stored_scales()) is not None:
        return stored
    sums: dict[str, list[tuple[int, float, float]]] = {name: [] for name in train.bands}
    patches = [Patch(*names) for names in zip(train.table.patch_ids, train.table.s1_names, strict=True)]
    with closing(train.reader.views(patches, train.bands)) as views:
        for patch, view in zip(patches, views, strict=True):
            images = {name: image for stack in view.stacks for name, image in zip(*stack, strict=True)}
            for name, parts in sums.items():
                if name not in images:
                    raise InputError(
                        f"The patch {patch.patch_id} has no band {name}; choose another modality, or bands."
                    )
                values = images[name][~(BANDS | S1_BANDS)[name].is_nodata(images[name])].astype(np.float64)
                parts.append((values.size, float(values.sum()), float(np.square(values).sum())))
            advance(1)
    return {name: _scale(parts) for name, parts in sums.items()}


def _scale(parts: Sequence[tuple[int, float, float]]) -> BandScale:
    count, total, squares = (fsum(column) for column in zip(*parts, strict=True))
    mean = total / count
    return BandScale(mean=mean, std=sqrt(max(squares / count - mean * mean, 0.0)) or 1.0)
