"""Labelled Sentinel datasets, built as one distributed Dask job.

Data flows one way: :mod:`reben_dask.sources` reads what others made, :mod:`reben_dask.patches` decides,
:mod:`reben_dask.stores` writes what others read, and :mod:`reben_dask.job` knows the way from the first to the last.

Where to begin
--------------
- :func:`reben_dask.job.dataset.make_dataset` builds a dataset, as ``reben run`` does.
- :func:`reben_dask.training.lmdb_samples` and :func:`reben_dask.training.cube_samples` give its patches by number, for
  PyTorch or NumPy.
- :func:`reben_dask.sources.sentinel2.open_cube` opens a Sentinel-2 product as lazy xarray cubes.
- :func:`reben_dask.patches.reference_map.rasterize_map`, :func:`reben_dask.patches.splits.geographic_split` and their
  neighbours in :mod:`reben_dask.patches` are the single decisions, on arrays and tables.
- :func:`reben_dask.verify.verify` checks what was written, by this program or another.
"""

__version__ = "0.1.0"
