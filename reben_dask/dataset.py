"""A finished dataset: its patch table, cubes, samples and single patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import dask_geopandas
import pyarrow.compute as pc
import pyarrow.dataset as pds
import xarray as xr

from reben_dask.errors import InputError
from reben_dask.formats.columns import GRID, PATCH_ID, TILE, X, Y
from reben_dask.formats.dataset import CUBES, TABLE, RunRecord
from reben_dask.stores.cube_reader import open_patch
from reben_dask.stores.patch_table import dataset_parts
from reben_dask.training.samples import TEN_METRES, Samples, cube_samples, lmdb_samples


@dataclass(frozen=True)
class Dataset:
    """Dataset in a folder, as :func:`open_dataset` opens it."""

    path: Path

    @cached_property
    def record(self) -> RunRecord:
        """Record of the run that made it: recipe, classes, inputs, counts, versions."""
        return RunRecord.read(self.path)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in alphabetical order."""
        return tuple(self.record.classes)

    @cached_property
    def patches(self) -> dask_geopandas.GeoDataFrame:
        """Patch table as a lazy frame: a row for every candidate, one partition per tile, footprints in EPSG:4326."""
        parts = [str(part) for part in dataset_parts(self.path)]
        return dask_geopandas.read_parquet(parts, split_row_groups=False)

    @cached_property
    def cubes(self) -> xr.DataTree:
        """Cubes of all tiles, lazily: one node per tile, with ``r10m``, ``r20m``, ``r60m`` and ``reference_map``."""
        return xr.open_datatree(self.path / CUBES, engine="zarr", chunks={})

    def samples(
        self,
        *,
        split: str | None = None,
        bands: Sequence[str] = TEN_METRES,
        store: Literal["lmdb", "cubes"] = "lmdb",
    ) -> Samples:
        """Open the labelled patches by number, for PyTorch or NumPy.

        Parameters
        ----------
        split : str, optional
            ``train``, ``validation`` or ``test``; by default all patches.
        bands : sequence of str
            Bands of the image, such as ``B04``, ``VV``; those of 10 m by default.
        store : {"lmdb", "cubes"}
            Store to read from; see :func:`~reben_dask.training.lmdb_samples` and
            :func:`~reben_dask.training.cube_samples`.

        Raises
        ------
        InputError
            If there is no metadata, or no patch of this split.
        """
        return {"lmdb": lmdb_samples, "cubes": cube_samples}[store](self.path, split=split, bands=bands)

    def patch(self, patch_id: str) -> xr.DataTree:
        """Open one patch lazily; see :func:`~reben_dask.stores.cube_reader.open_patch`.

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


def open_dataset(out: str | PathLike[str]) -> Dataset:
    """Open a finished dataset; only its record is read.

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
    dataset = Dataset(Path(out))
    dataset.record  # noqa: B018 - read now, so that a wrong folder is refused here
    return dataset
