"""Labelled Sentinel datasets, built as one distributed Dask job.

Data flows one way: :mod:`reben_dask.sources` reads what others made,
:mod:`reben_dask.patches` decides, :mod:`reben_dask.stores` writes what others read.
"""

__version__ = "0.1.0"
