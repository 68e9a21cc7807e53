"""Names of what a job makes."""

from __future__ import annotations

from reben_dask.stores.croissant import CROISSANT
from reben_dask.stores.dataset_card import CARD
from reben_dask.stores.metadata import METADATA, SNOW_CLOUD_METADATA
from reben_dask.stores.patch_table import TABLE

RECORD_FILE = "record.json"

ARTEFACTS = ("cubes.zarr", TABLE, METADATA, SNOW_CLOUD_METADATA, "lmdb", CARD, CROISSANT, "run")
"""Everything that a job makes, in the order in which it is published; the run record comes last."""

REPORT = "report"
"""The page about the dataset, which is made of it afterwards; one of an earlier dataset does not stay."""

ORIGIN, FAILURES = "origin", "failures"
"""Keys of the run record that a later job reads."""

BUILDING = ".building"
LOCK = ".lock"
STATE = "state"
