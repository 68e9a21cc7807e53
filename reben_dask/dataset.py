"""A finished dataset: its patch table, cubes, samples and single patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import dask_geopandas
import pandas as pd
import pyarrow.compute as pc
import pyarrow.dataset as pds
import xarray as xr

from reben_dask.analysis.legend import Legend, legend_of
from reben_dask.analysis.statistics import find_statistics
from reben_dask.errors import InputError
from reben_dask.formats.bands import Modality
from reben_dask.formats.columns import GRID, KEPT, LABELS, PATCH_ID, SPLIT, TILE, X, Y
from reben_dask.formats.dataset import CUBES, METADATA_FILE, RECORD, TABLE, RunRecord
from reben_dask.formats.lmdb import is_lmdb
from reben_dask.formats.statistics import Statistics
from reben_dask.sources.remote import is_address
from reben_dask.stores.lazy_cubes import open_cubes, open_patch
from reben_dask.stores.patch_table import dataset_parts, read_rows
from reben_dask.training.copies import copy_tables
from reben_dask.training.samples import Samples, cube_samples, find_training_data, lmdb_samples
from reben_dask.training.table import ClassOrder

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Dataset:
    """Dataset in a folder, as :func:`open_dataset` opens it."""

    path: Path
    """Its folder, or the folder with copies of its tables."""
    address: str | None = None
    """Its URL, if it is remote; only tables and samples are read from there."""

    @cached_property
    def record(self) -> RunRecord:
        """Record of the run that made it: recipe, classes, inputs, counts, versions."""
        return RunRecord.read(self.path)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in alphabetical order."""
        return tuple(self.record.classes) if (self.path / RECORD).is_file() else self.samples().classes

    @cached_property
    def legend(self) -> Legend:
        """Names and colours of the values of reference maps, for :func:`~reben_dask.map_colours`."""
        return legend_of(self.record)

    @cached_property
    def statistics(self) -> Statistics:
        """Statistics by band and split, and by class, such as ``statistics.bands["B04"]["train"].mean``."""
        return find_statistics(self.path)

    @cached_property
    def patches(self) -> dask_geopandas.GeoDataFrame:
        """Patch table as a lazy frame: a row for every candidate, one partition per tile, footprints in EPSG:4326."""
        parts = [str(part) for part in dataset_parts(self.path)]
        return dask_geopandas.read_parquet(parts, split_row_groups=False)

    @cached_property
    def cubes(self) -> xr.DataTree:
        """Cubes of all tiles, lazily: one node per tile; see :func:`~reben_dask.stores.lazy_cubes.open_cubes`."""
        return open_cubes(self.path / CUBES)

    def samples(
        self,
        *,
        split: str | None = None,
        modality: Modality = "S2",
        bands: Sequence[str] | None = None,
        store: Literal["lmdb", "cubes"] | None = None,
        classes: Sequence[str] | ClassOrder = "alphabetical",
    ) -> Samples:
        """Open the labelled patches by number, for PyTorch or NumPy.

        Parameters
        ----------
        split : str, optional
            ``train``, ``validation`` or ``test``; by default all patches.
        modality : {"S2", "S1", "S1+S2"}
            Bands of the image: ``S2`` has B02, B03, B04, B08, B05, B06, B07, B8A, B11, B12; ``S1`` has VV, VH;
            ``S1+S2`` has the bands of ``S2``, then those of ``S1``.
        bands : sequence of str, optional
            Bands instead of those of the modality, in this order, such as ``("B04", "VV")``.
        store : {"lmdb", "cubes"}, optional
            Store to read from, by default the LMDB if there is one; see :func:`~reben_dask.training.lmdb_samples` and
            :func:`~reben_dask.training.cube_samples`.
        classes : {"alphabetical", "paper"} or sequence of str
            Order of ``label``: by name, by code as in the papers, or the class names themselves.

        Returns
        -------
        Samples
            Raw, without masks; see :meth:`~reben_dask.training.Samples.normalized` and
            :meth:`~reben_dask.training.Samples.with_masks`.

        Raises
        ------
        InputError
            If there is no metadata, or no patch of this split.
        """
        place = self.address or self.path
        if store is None:
            store = "lmdb" if self.address is None and is_lmdb(find_training_data(self.path)[0]) else "cubes"
        open_samples = {"lmdb": lmdb_samples, "cubes": cube_samples}[store]
        return open_samples(place, split=split, modality=modality, bands=bands, classes=classes)

    def patch(self, patch_id: str) -> xr.DataTree:
        """Open one patch lazily; see :func:`~reben_dask.stores.lazy_cubes.open_patch`.

        Raises
        ------
        InputError
            If there is no such patch, or the store does not hold it.
        """
        columns = [PATCH_ID, TILE, GRID, X, Y]
        table = pds.dataset([str(part) for part in dataset_parts(self.path)], format="parquet")
        rows: list[dict[str, Any]] = table.to_table(columns, filter=pc.field(PATCH_ID) == patch_id).to_pylist()
        if not rows:
            ids = table.to_table([PATCH_ID])[PATCH_ID].to_pylist()
            near = get_close_matches(patch_id, ids, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the first is {min(ids)}."
            raise InputError(f"{self.path / TABLE} has no patch {patch_id}; {hint}")
        return open_patch(self.path, rows[0])

    def class_table(self) -> pd.DataFrame:
        """Count the kept patches of each split that carry each class; a patch counts once for each of its labels."""
        from reben_dask.analysis.counts import class_table  # noqa: PLC0415 - measuring is imported when it is used

        rows = [read_rows(part, [LABELS, SPLIT], status=KEPT).to_pandas() for part in dataset_parts(self.path)]
        return class_table(pd.concat(rows, ignore_index=True))

    def split_correlation(self) -> pd.DataFrame:
        """Measure distance and similarity between test and training patches, for each split strategy.

        Strategies that the dataset has no column for are computed. Distances are in metres, shares from 0 to 1.
        """
        found = self._correlation()
        return pd.DataFrame({split.title: split.measures() for split in found.splits}).T

    def plot_correlation(self) -> Figure:
        """Draw :meth:`split_correlation`: distances to the nearest training patch, and similarity by distance."""
        from reben_dask.analysis.plots import draw_correlation  # noqa: PLC0415 - needs Matplotlib

        return draw_correlation({self.path.name: self._correlation()})

    def plot_funnel(self) -> Figure:
        """Draw the number of candidates that each rule rejects."""
        from reben_dask.report.views import view_funnel  # noqa: PLC0415 - needs Matplotlib

        return view_funnel(self.path)

    def plot_classes(self) -> Figure:
        """Draw the share of the patches of each split that carry each class."""
        from reben_dask.report.views import view_classes  # noqa: PLC0415 - needs Matplotlib

        return view_classes(self.path)

    def plot_splits(self) -> Figure:
        """Draw the tile with most kept patches under each split strategy; missing strategies are computed."""
        from reben_dask.report.views import view_splits  # noqa: PLC0415 - needs Matplotlib

        return view_splits(self.path)

    def plot_patches(self, patch_ids: Sequence[str]) -> Figure:
        """Draw patches in natural colour, each above its reference map in the colours of :attr:`legend`."""
        from reben_dask.report.views import view_patches  # noqa: PLC0415 - needs Matplotlib

        return view_patches(self.path, patch_ids)

    def _correlation(self) -> Any:
        from reben_dask.analysis.correlation import spatial_correlation  # noqa: PLC0415 - as above
        from reben_dask.report.comparison import read_with_strategies  # noqa: PLC0415

        return spatial_correlation(read_with_strategies(self.path))


def open_dataset(out: str | PathLike[str]) -> Dataset:
    """Open a finished dataset; only its record is read.

    Parameters
    ----------
    out : path
        Folder of a dataset; or its URL (``http``, ``https``, ``s3``), from which the tables are copied; or an LMDB
        in rico-hdl's layout with ``metadata.parquet`` in or beside it, or their folder, which has samples only.

    Raises
    ------
    InputError
        If the folder holds no complete dataset of this version.

    Examples
    --------
    >>> import reben_dask as rb
    >>> dataset = rb.open_dataset("dataset")  # doctest: +SKIP
    >>> len(dataset.samples(split="train"))  # doctest: +SKIP
    3100
    """
    if is_address(out):
        return Dataset(copy_tables(str(out)), address=str(out))
    dataset = Dataset(Path(out))
    lmdb, folder = find_training_data(dataset.path)
    if (dataset.path / RECORD).is_file() or not (is_lmdb(lmdb) and (folder / METADATA_FILE).is_file()):
        dataset.record  # noqa: B018 - read now, so that a wrong folder is refused here
    return dataset
