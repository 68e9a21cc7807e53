"""Tasks that do nothing, in the place of those that read pixels and write stores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd

from reben_dask.job import graph, tasks
from reben_dask.job.tasks import map_columns
from reben_dask.patches.reference_map import unlabeled_map
from reben_dask.patches.scl import scl_fractions


def ingest_band(_tile: Any, band: str, _store: Any, layouts: Any, **_: Any) -> pd.Series:
    """No pixel is NODATA."""
    return pd.Series(np.zeros(layouts[0].grid.size, np.int32), name=band)


def classify_scene(_tile: Any, grids: Any, rule: Any) -> pd.DataFrame:
    """A clear sky."""
    return scl_fractions(np.full(grids[0].shape_px_yx(20), 4, np.uint8), grids[0], rule)


def label_tile(_store: Any, layouts: Any, rule: Any, *_: Any) -> pd.DataFrame:
    """Arable land everywhere."""
    grid = layouts[0].grid
    rasterized = unlabeled_map(grid)
    rasterized.codes[:] = 211
    return map_columns(rasterized, grid, rule)


def write_patches(*arguments: Any, **options: Any) -> pd.DataFrame:
    """Rows of the patch table, which are counted and not written."""
    with mock.patch.object(tasks, "write_part"):
        return tasks.write_patches(*arguments, **options)


@contextmanager
def in_place_of_work() -> Iterator[None]:
    """Build graphs of these tasks."""
    functions = (ingest_band, classify_scene, label_tile, write_patches)
    with mock.patch.multiple(graph, **{function.__name__: function for function in functions}):
        yield
