"""Verification: whether a dataset is complete and consistent.

Checks read what other rooms write; nothing but the command line knows this room. Problems are collected, not raised:
data that cannot be read are one more problem.
"""

from reben_dask.verify.context import Settings, silent
from reben_dask.verify.findings import Check, Report
from reben_dask.verify.verification import verify

__all__ = ["Check", "Report", "Settings", "silent", "verify"]
