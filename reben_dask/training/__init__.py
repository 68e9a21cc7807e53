"""Reading a dataset for training: patches by number, from the LMDB or from the Zarr store, as NumPy arrays.

What :func:`lmdb_samples` and :func:`cube_samples` give is a map-style dataset as PyTorch's ``DataLoader`` takes it;
PyTorch itself is not needed.
"""

from reben_dask.training.readers import close_environments
from reben_dask.training.samples import Samples, batches, cube_samples, lmdb_samples

__all__ = ["Samples", "batches", "close_environments", "cube_samples", "lmdb_samples"]
