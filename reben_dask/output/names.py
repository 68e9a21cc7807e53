"""Names of what a job makes."""

from __future__ import annotations

from reben_dask.stores.metadata import METADATA, SNOW_CLOUD_METADATA

RECORD_FILE = "record.json"

ARTEFACTS = ("cubes.zarr", "patches.parquet", METADATA, SNOW_CLOUD_METADATA, "lmdb", "run")
"""Everything that a job makes, in the order in which it is published; the run record comes last."""

BUILDING = ".building"
LOCK = ".lock"
STATE = "state"
