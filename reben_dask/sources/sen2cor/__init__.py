"""Atmospheric correction of Sentinel-2 L1C products with ESA's sen2cor, an external program."""

from reben_dask.sources.sen2cor.products import Level1C, find_l1c
from reben_dask.sources.sen2cor.program import Correction, Installation, correct, inspect_program

__all__ = ["Correction", "Installation", "Level1C", "correct", "find_l1c", "inspect_program"]
