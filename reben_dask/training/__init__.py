"""Training access to a dataset: patches by number, from the LMDB or the Zarr store, as NumPy arrays.

:func:`lmdb_samples` and :func:`cube_samples` return map-style datasets for PyTorch's ``DataLoader``; PyTorch itself is
not required. :mod:`reben_dask.training.loaders` has datasets of tensors, which need it.
"""

from reben_dask.formats.training_run import BandScale
from reben_dask.training.readers import close_environments
from reben_dask.training.samples import Samples, batches, cube_samples, lmdb_samples
from reben_dask.training.streams import stream

__all__ = ["BandScale", "Samples", "batches", "close_environments", "cube_samples", "lmdb_samples", "stream"]
