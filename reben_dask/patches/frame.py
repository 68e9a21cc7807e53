"""Rows of the patch table of one tile: candidates, observed columns, and the decision about each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce

import geopandas as gpd
import pandas as pd

from reben_dask.formats.columns import NODATA, Column
from reben_dask.patches.candidates import Scene, candidate_patches
from reben_dask.patches.decision import decide
from reben_dask.patches.selection import with_season_limits
from reben_dask.recipes import Recipe


def assemble_patches(
    scene: Scene, recipe: Recipe, observed: Iterable[pd.DataFrame], *, pairs_only: bool = False
) -> gpd.GeoDataFrame:
    """Join the candidates of a tile with the columns of all steps, and decide which are kept.

    Parameters
    ----------
    scene : Scene
        Properties of the tile.
    observed : iterable of DataFrame
        Columns of each step, with one row per patch in the order of
        :func:`~reben_dask.patches.candidates.candidate_patches`.
    pairs_only : bool
        Reject patches without a Sentinel-1 partner.

    Returns
    -------
    GeoDataFrame
        One row per candidate, with ``status`` and ``reason`` of :func:`~reben_dask.patches.decision.decide`.
    """
    return decide_patches(candidates_with(scene, recipe, observed), recipe, pairs_only=pairs_only)


def candidates_with(scene: Scene, recipe: Recipe, observed: Iterable[pd.DataFrame]) -> gpd.GeoDataFrame:
    """Join the candidates of a tile with observed columns; arguments as of :func:`assemble_patches`."""
    return reduce(join_columns, observed, candidate_patches(scene, recipe))


def join_columns(patches: gpd.GeoDataFrame, columns: pd.DataFrame) -> gpd.GeoDataFrame:
    """Add columns with one row per patch, in the same order, or replace those of the same name."""
    return patches.assign(**{str(name): columns[name].array for name in columns})


def decide_patches(patches: gpd.GeoDataFrame, recipe: Recipe, *, pairs_only: bool = False) -> gpd.GeoDataFrame:
    """Add ``status`` and ``reason`` by the rules of a recipe."""
    if recipe.images:
        patches = with_season_limits(patches, recipe.images)
    rule = recipe.labeled_fraction
    return decide(patches, labeled_fraction=rule.threshold, comparison=rule.comparison, pairs_only=pairs_only)


def combine_nodata(counts: Sequence[pd.Series[int]]) -> pd.DataFrame:
    """Column ``nodata`` from the NODATA counts of all bands: one pixel in any band is enough."""
    return (reduce(pd.Series.add, counts) > 0).to_frame(NODATA)


def null_columns(patches: int, columns: Iterable[Column]) -> pd.DataFrame:
    """Null columns for patches whose pixels were not read."""
    return pd.DataFrame({str(name): [None] * patches for name in columns}, dtype=object)
