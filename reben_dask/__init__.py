"""Labelled Sentinel datasets, built as one distributed Dask job.

Data flows one way: :mod:`reben_dask.sources` reads, :mod:`reben_dask.patches` decides, :mod:`reben_dask.stores` writes,
and :mod:`reben_dask.job` composes them.

- :func:`reben_dask.job.dataset.make_dataset` builds a dataset, as ``reben run`` does.
- :func:`reben_dask.training.lmdb_samples` and :func:`reben_dask.training.cube_samples` read patches by number, for
  PyTorch or NumPy.
- :func:`reben_dask.sources.sentinel2.open_cube` opens a Sentinel-2 product as lazy xarray cubes.
- :mod:`reben_dask.patches` holds the single decisions on arrays and tables, such as
  :func:`~reben_dask.patches.reference_map.rasterize_map` and :func:`~reben_dask.patches.splits.geographic_split`.
- :func:`reben_dask.verify.verify` checks datasets of this program or another.
"""

__version__ = "0.2.0"
