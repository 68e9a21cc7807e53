"""Layouts of folders in which datasets are published, by the name that a recipe gives them (``tree``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reben_dask.formats.trees.bigearthnet_v1 import bigearthnet_v1
from reben_dask.formats.trees.bigearthnet_v2 import bigearthnet_v2
from reben_dask.formats.trees.layout import Contents, Tree, TreeLayout
from reben_dask.formats.trees.seasonet import seasonet

__all__ = ["LAYOUTS", "Contents", "Tree", "TreeLayout"]

LAYOUTS: Mapping[str, Callable[[Contents], TreeLayout]] = {
    "bigearthnet-v1": bigearthnet_v1,
    "bigearthnet-v2": bigearthnet_v2,
    "seasonet": seasonet,
}
"""To add a layout, write a module for it here, and name it in this table and in the recipe's model."""
