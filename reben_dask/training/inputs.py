"""Network inputs: normalised patches of a split, with masks if needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from reben_dask.errors import InputError
from reben_dask.formats.columns import SPLITS
from reben_dask.formats.training_run import BandScale
from reben_dask.patches.statistics import Sums, describe_sums
from reben_dask.training.readers import Patch
from reben_dask.training.samples import Samples, lmdb_samples, scales_of
from reben_dask.training.table import ClassOrder

Advance = Callable[[int], object]


def open_split(
    out: Path, split: str, bands: Sequence[str], classes: Sequence[str] | ClassOrder = "alphabetical"
) -> Samples:
    """Open the clear patches of a split; see :func:`~reben_dask.training.lmdb_samples`."""
    return lmdb_samples(out, split=split, bands=bands, classes=classes)


def band_scales(train: Samples, advance: Advance) -> dict[str, BandScale]:
    """Return the mean and standard deviation of each band over the training split.

    They come from ``statistics.json`` of the dataset; without it, all pixels except nodata are read.

    Parameters
    ----------
    train : Samples
        Training split with the bands.
    advance : callable
        Called with the number of patches that were read.
    """
    if (stored := train.stored_scales()) is not None:
        return stored
    sums = Sums()
    patches = [Patch(*names) for names in zip(train.table.patch_ids, train.table.s1_names, strict=True)]
    with closing(train.reader.views(patches, train.bands)) as views:
        for patch, view in zip(patches, views, strict=True):
            images = {name: image for stack in view.stacks for name, image in zip(*stack, strict=True)}
            if missing := [name for name in train.bands if name not in images]:
                raise InputError(
                    f"The patch {patch.patch_id} has no band {missing[0]}; choose another modality, or bands."
                )
            sums.add(SPLITS[0], {name: images[name] for name in train.bands})
            advance(1)
    scales = scales_of(describe_sums(sums, (), None).bands, train.bands)
    if empty := [name for name in train.bands if name not in scales]:
        raise InputError(f"No training patch of {train.folder} has a valid pixel in {empty[0]}; choose other bands.")
    return scales
