"""Labelled patches by number, with bands stacked to one image, and batches of them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from reben_dask.errors import InputError
from reben_dask.formats.bands import MODALITIES, Modality
from reben_dask.formats.columns import SPLITS
from reben_dask.formats.dataset import CUBES, LMDB, METADATA_FILE, STATISTICS, TABLE
from reben_dask.formats.lmdb import find_lmdb
from reben_dask.formats.statistics import BandStatistics, Statistics
from reben_dask.formats.training_run import BandScale
from reben_dask.nomenclature import UNLABELED_CODE
from reben_dask.sources.remote import is_address
from reben_dask.training.copies import copy_tables
from reben_dask.training.metrics import present_classes, region_sizes
from reben_dask.training.readers import LmdbReader, Patch, Reader, View
from reben_dask.training.stacking import PATCH_PX, Stacker
from reben_dask.training.table import IGNORED, ClassOrder, TrainingTable, class_lookup, read_training_table

Sample = dict[str, npt.NDArray[Any]]

Allocate = Callable[[tuple[int, ...], Any], npt.NDArray[Any]]
"""Makes an array of a shape and type, whose values do not matter."""


@dataclass(frozen=True)
class Masks:
    """Form of the masks; see :meth:`Samples.with_masks`."""

    kind: Literal["classes", "codes"]
    class_of_code: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Position of the class of each code, shape ``(65536,)``, negative for codes without a label; if it is needed."""
    ignore_index: int = IGNORED
    min_region_px: int = 0

    @property
    def needs_classes(self) -> bool:
        """True if codes are not enough."""
        return self.kind == "classes" or self.min_region_px > 1


@dataclass(frozen=True)
class Samples:
    """Labelled patches of a dataset by number: a map-style dataset in PyTorch's terms.

    ``samples[number]`` is a dict of arrays with TorchGeo's keys: ``image`` (float32, axes ``(band, y, x)``, 120 x 120
    px: DN of Sentinel-2, dB of Sentinel-1, or normalised values), ``label`` (float32, axes ``(class,)``: 1 for each
    class that the patch carries) and, after :meth:`with_masks`, ``mask`` (int64, axes ``(y, x)``). :meth:`batch` reads
    several patches into one buffer.

    Samples can be pickled, and read in forked and spawned processes.

    Parameters
    ----------
    table : TrainingTable
    reader : Reader
    bands : tuple of str
        Bands of the image, in this order; pixels of coarser ones are repeated.
    folder : Path
        Folder of the metadata, and of ``statistics.json`` and the run record if there are any.
    scales : mapping of str to BandScale, optional
        Mean and standard deviation by band; images are normalised with them.
    masks : Masks, optional
        Form of the masks; reference maps are not read without it.
    """

    table: TrainingTable
    reader: Reader
    bands: tuple[str, ...]
    folder: Path
    scales: Mapping[str, BandScale] | None = None
    masks: Masks | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of ``label``."""
        return self.table.classes

    @property
    def patch_ids(self) -> Sequence[str]:
        """Names of the patches by number."""
        return [str(name) for name in self.table.patch_ids]

    def normalized(self, scales: Mapping[str, BandScale] | None = None) -> Samples:
        """Return the samples with normalised images: ``(value - mean) / std`` of each band, in float32.

        Parameters
        ----------
        scales : mapping of str to BandScale, optional
            Mean and standard deviation by band, such as ``{"B02": BandScale(mean=438.4, std=607.0)}``; by default those
            of the training split in ``statistics.json`` of the dataset.

        Raises
        ------
        InputError
            If a band has no scale.
        """
        found = self.stored_scales() if scales is None else scales
        if found is None:
            raise InputError(
                f"{self.folder} has no {STATISTICS} with all bands; write it with `reben statistics {self.folder}`, or "
                "give the mean and standard deviation of each band."
            )
        if missing := [name for name in self.bands if name not in found]:
            raise InputError(f"The band {missing[0]} has no mean and standard deviation; give those of all bands.")
        return replace(self, scales={name: found[name] for name in self.bands})

    def stored_scales(self) -> dict[str, BandScale] | None:
        """Read mean and standard deviation of the training split from ``statistics.json``; None if it lacks a band."""
        if not (self.folder / STATISTICS).is_file():
            return None
        scales = scales_of(Statistics.read(self.folder).bands, self.bands)
        return scales if len(scales) == len(self.bands) else None

    def with_masks(
        self, kind: Literal["classes", "codes"] = "classes", *, ignore_index: int = IGNORED, min_region_px: int = 0
    ) -> Samples:
        """Return the samples with ``mask``, the reference map.

        Parameters
        ----------
        kind : {"classes", "codes"}
            Position in :attr:`classes`, or land-cover code.
        ignore_index : int
            Value of pixels without a class, for ``kind="classes"``.
        min_region_px : int
            Pixels of the smallest connected region (of one class, 4-neighbourhood) that counts; smaller ones are
            unlabelled in ``mask``, and ``label`` is that of the remaining pixels. SeasoNet's thresholds are 0 (hard),
            100 (medium) and 300 (easy).

        Raises
        ------
        InputError
            If the codes of the classes are not known, as there is neither a run record nor a shipped nomenclature with
            these classes.
        """
        masks = Masks(kind, ignore_index=ignore_index, min_region_px=min_region_px)
        if masks.needs_classes:
            masks = replace(masks, class_of_code=class_lookup(self.folder, self.classes))
        return replace(self, masks=masks)

    def __len__(self) -> int:
        return len(self.table.patch_ids)

    def __getitem__(self, number: int) -> Sample:
        """Read one patch; raises IndexError beyond the last, and InputError if a band or the map is missing."""
        return {name: values[0] for name, values in self.batch([operator.index(number)]).items()}

    def batch(self, numbers: Sequence[int] | npt.NDArray[np.integer[Any]], *, allocate: Allocate = np.empty) -> Sample:
        """Read patches into one buffer: the arrays of a sample with a leading patch axis.

        Parameters
        ----------
        numbers : sequence of int
            Numbers of patches, in any order.
        allocate : callable
            Makes each array from its shape and type, with contiguous axes; ``np.empty`` by default.

        Raises
        ------
        IndexError
            If there is no such number.
        InputError
            If a patch lacks a band, or the reference map.
        """
        patches = self._patches(numbers)
        image = allocate((len(patches), len(self.bands), PATCH_PX, PATCH_PX), np.float32)
        label = allocate((len(patches), len(self.classes)), np.float32)
        label[...] = self.table.labels[np.asarray(numbers, np.int64)]
        batch = {"image": image, "label": label}
        if self.masks is not None:
            batch["mask"] = allocate((len(patches), PATCH_PX, PATCH_PX), np.int64)
        views = self.reader.views(patches, self.bands, with_map=self.masks is not None)
        # Closed at once: an error would keep the reader's lock as long as its traceback lives.
        with closing(views):
            for place, (patch, view) in enumerate(zip(patches, views, strict=True)):
                self._write_image(patch, view, image[place])
                if self.masks is not None:
                    self._write_mask(patch, view, batch["mask"][place], label[place])
        return batch

    def shards(self) -> list[npt.NDArray[np.int64]]:
        """Group the numbers of the patches by the shard of the storage that holds them, in the order of the first."""
        groups: dict[Any, list[int]] = {}
        for number, shard in enumerate(self.reader.shards(self._patches(range(len(self))))):
            groups.setdefault(shard, []).append(number)
        return [np.array(numbers, np.int64) for numbers in groups.values()]

    def holding(self, numbers: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Samples:
        """Return the samples with the shards of some patches in memory, if single patches are slow to read."""
        held = self.reader.holding(self._patches(numbers), self.bands, with_map=self.masks is not None)
        return replace(self, reader=held)

    def _patches(self, numbers: Any) -> list[Patch]:
        ids, partners = self.table.patch_ids, self.table.s1_names
        return [Patch(ids[number], partners[number]) for number in numbers]

    def _write_image(self, patch: Patch, view: View, image: npt.NDArray[np.float32]) -> None:
        try:
            self._stacker.write(view.stacks, image)
        except LookupError as error:
            raise InputError(
                f"The patch {patch.patch_id} has no band {error.args[0]} in this dataset; leave it out of the bands."
            ) from None
        except ValueError as error:
            raise InputError(f"The patch {patch.patch_id} cannot be stacked: {error}.") from None

    def _write_mask(
        self, patch: Patch, view: View, mask: npt.NDArray[np.int64], label: npt.NDArray[np.float32]
    ) -> None:
        masks = self.masks
        if masks is None or view.codes is None:
            raise InputError(f"The patch {patch.patch_id} has no reference map in this dataset; read it without masks.")
        if not masks.needs_classes:
            mask[...] = view.codes
            return
        classes = masks.class_of_code[view.codes]
        if masks.min_region_px > 1:
            classes[region_sizes(classes[None])[0] < masks.min_region_px] = IGNORED
            label[...] = present_classes([classes], len(self.classes))[0]
        if masks.kind == "codes":
            mask[...] = np.where(classes < 0, UNLABELED_CODE, view.codes)
        else:
            mask[...] = np.where(classes < 0, masks.ignore_index, classes)

    @cached_property
    def _stacker(self) -> Stacker:
        return Stacker(self.bands, self.scales)


def lmdb_samples(
    out: str | PathLike[str],
    *,
    split: str | None = None,
    modality: Modality = "S2",
    bands: Sequence[str] | None = None,
    classes: Sequence[str] | ClassOrder = "alphabetical",
) -> Samples:
    """Open the labelled patches of a dataset in its LMDB; flagged ones (snow, cloud or shadow) are left out.

    Parameters
    ----------
    out : path
        Folder with ``metadata.parquet`` and ``lmdb``, one environment or several shards with their index; or an LMDB
        with ``metadata.parquet`` in its folder or beside it, such as a published or a merged one; or their folder.
    split : str, optional
        ``train``, ``validation`` or ``test``; by default all patches.
    modality : {"S2", "S1", "S1+S2"}
        Bands in the order of :data:`~reben_dask.formats.bands.MODALITIES`: B02, B03, B04, B08, B05, B06, B07, B8A, B11,
        B12 for ``S2``; VV, VH for ``S1``; for ``S1+S2`` the ten of ``S2``, then VV and VH.
    bands : sequence of str, optional
        Bands instead of those of the modality, in this order.
    classes : {"alphabetical", "paper"} or sequence of str
        Order of ``label``: by name, as in ConfigILM; by code, as in the papers and in TorchGeo; or the class names
        themselves. The names are those in the metadata; if it has none, those of the shipped nomenclature that
        holds all labels; if several do, that of the recipe that the patch names match.

    Raises
    ------
    InputError
        If there is no metadata, no patch of this split, or no class list.
    """
    lmdb, folder = find_training_data(Path(out))
    return _open(LmdbReader(lmdb), folder, split, bands or MODALITIES[modality], classes)


def cube_samples(
    out: str | PathLike[str],
    *,
    split: str | None = None,
    modality: Modality = "S2",
    bands: Sequence[str] | None = None,
    classes: Sequence[str] | ClassOrder = "alphabetical",
) -> Samples:
    """Open the labelled patches of a dataset in its Zarr store; flagged ones (snow, cloud or shadow) are left out.

    A forked process reads with codecs that take five times as long: give ``DataLoader`` workers
    ``multiprocessing_context="spawn"`` (or ``"forkserver"``). For whole epochs, and from object storage,
    :func:`stream` reads shard by shard.

    Parameters
    ----------
    out : path
        Folder with ``metadata.parquet``, ``patches.parquet`` and ``cubes.zarr``; or the URL (``http``, ``https``,
        ``s3``) of a whole dataset, whose tables are then copied.
    split, modality, bands, classes
        As of :func:`lmdb_samples`.

    Raises
    ------
    InputError
        If there is no metadata, no patch of this split, or no class list.
    """
    from reben_dask.training.zarr_reader import CubeReader  # noqa: PLC0415 - LMDB does without

    folder = copy_tables(str(out)) if is_address(out) else Path(out)
    reader = CubeReader(f"{out}/{CUBES}" if is_address(out) else folder / CUBES, folder / TABLE)
    return _open(reader, folder, split, bands or MODALITIES[modality], classes)


def find_training_data(folder: Path) -> tuple[Path, Path]:
    """Find an LMDB, which need not exist, and the folder of its metadata; see :func:`lmdb_samples`."""
    lmdb = folder / LMDB if (folder / LMDB).is_dir() else find_lmdb(folder) or folder / LMDB
    beside = folder if (folder / METADATA_FILE).is_file() or lmdb != folder else folder.absolute().parent
    return lmdb, beside


def scales_of(statistics: Mapping[str, Mapping[str, BandStatistics]], bands: Sequence[str]) -> dict[str, BandScale]:
    """Return the mean and standard deviation over the training split, of those bands that have them."""
    found = {name: statistics[name].get(SPLITS[0]) for name in bands if name in statistics}
    return {
        name: BandScale(mean=of.mean, std=of.std or 1.0)
        for name, of in found.items()
        if of is not None and of.mean is not None and of.std is not None
    }


def batches(samples: Samples, size: int, *, seed: int | None = None) -> Iterator[Sample]:
    """Yield all samples once in batches: the arrays of :class:`Samples` with a leading patch axis.

    Parameters
    ----------
    samples : Samples
    size : int
        Patches per batch; the last one may have fewer.
    seed : int, optional
        Seed to shuffle with, reproducibly; by default samples keep their order.
    """
    numbers = np.arange(len(samples)) if seed is None else np.random.default_rng(seed).permutation(len(samples))
    for start in range(0, len(samples), size):
        yield samples.batch(numbers[start : start + size])


def _open(
    reader: Reader, folder: Path, split: str | None, bands: Sequence[str], classes: Sequence[str] | ClassOrder
) -> Samples:
    return Samples(read_training_table(folder, split, classes), reader, tuple(bands), folder)
