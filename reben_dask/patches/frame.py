"""Patches as a distributed frame: one partition per tile, to which each step adds columns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import dask
import dask.dataframe as dd
import dask_geopandas
import geopandas as gpd
import pandas as pd
from dask.delayed import Delayed

from reben_dask.formats.columns import NODATA
from reben_dask.patches.candidates import Scene, candidate_patches, no_candidates
from reben_dask.patches.decision import decide
from reben_dask.patches.selection import with_season_limits
from reben_dask.recipes import Recipe


def candidate_frame(scenes: Sequence[Scene], recipe: Recipe) -> dask_geopandas.GeoDataFrame:
    """Lazy candidate patches, one partition per tile; see :func:`~reben_dask.patches.candidates.candidate_patches`."""
    with dask.config.set({"dataframe.convert-string": False}):
        frame = dd.from_map(
            candidate_patches,
            scenes,
            recipe=recipe,
            meta=no_candidates(recipe),
            enforce_metadata=False,
            label="patches",
        )
    return dask_geopandas.from_dask_dataframe(frame)


def with_columns(
    patches: dask_geopandas.GeoDataFrame, columns: Sequence[Delayed], meta: pd.DataFrame
) -> dask_geopandas.GeoDataFrame:
    """Append the columns that one task per tile returns.

    ``patches`` has one partition per tile. Each of ``columns`` is a frame with one row per patch in name order;
    ``meta`` is an empty frame with their columns and dtypes.
    """
    with dask.config.set({"dataframe.convert-string": False}):
        observed = dd.from_delayed(list(columns), meta=meta, verify_meta=False)
    joined_meta = _side_by_side(patches._meta, meta)  # noqa: SLF001 - dask has no public name for it
    return patches.map_partitions(_side_by_side, observed, meta=joined_meta, align_dataframes=False)


def with_decision(
    patches: dask_geopandas.GeoDataFrame, recipe: Recipe, *, pairs_only: bool = False
) -> dask_geopandas.GeoDataFrame:
    """Add ``status`` and ``reason``; see :func:`~reben_dask.patches.decision.decide`."""
    if recipe.images:
        patches = patches.map_partitions(with_season_limits, recipe.images)
    rule = {"labeled_fraction": recipe.labeled_fraction.threshold, "comparison": recipe.labeled_fraction.comparison}
    return patches.map_partitions(decide, **rule, pairs_only=pairs_only)


def combine_nodata(counts: Sequence[pd.Series[int]]) -> pd.DataFrame:
    """Column ``nodata`` from the NODATA counts of all bands: one pixel in any band is enough."""
    return (reduce(pd.Series.add, counts) > 0).to_frame(NODATA)


def _side_by_side(patches: gpd.GeoDataFrame, columns: pd.DataFrame) -> gpd.GeoDataFrame:
    return patches.assign(**{str(name): columns[name].array for name in columns})
