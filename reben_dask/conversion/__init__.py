"""Conversion: from the published trees of GeoTIFFs to an LMDB or a Zarr store, in processes of its own.

No Dask: what there is to do is many small files, read once and written once.
"""
