"""Patch tables that no job has made, written as a job writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import pandas as pd
import shapely

from reben_dask.formats.columns import patch_table_schema
from reben_dask.stores.patch_table import write_part

DEFAULTS = {
    "tile": "T33UVP",
    "status": "kept",
    "reason": None,
    "split": "train",
    "epsg": 32633,
    "side": 1200,
    "sensing_time": pd.Timestamp("2018-07-25T10:00:31.024Z"),
}


def dataset(folder: Path, rows: pd.DataFrame, classes: Sequence[str]) -> Path:
    """A dataset of nothing but a patch table, with a part for each tile; columns may be missing (see DEFAULTS)."""
    rows = rows.assign(**{name: value for name, value in DEFAULTS.items() if name not in rows})
    if "patch_id" not in rows:
        rows = rows.assign(patch_id=[f"{tile}_{row}" for row, tile in enumerate(rows["tile"])])
    rows = rows.assign(maxx=rows["minx"] + rows["side"], miny=rows["maxy"] - rows["side"])
    for _, part in rows.groupby("tile"):
        squares = gpd.GeoSeries(shapely.box(part.minx, part.miny, part.maxx, part.maxy), part.index, part.epsg.iloc[0])
        patches = gpd.GeoDataFrame(part, geometry=squares.to_crs(4326))
        extra = [name for name in rows if name.startswith("split_")]
        write_part(with_nulls(patches, extra), folder / "patches.parquet", classes, extra)
    return folder


def with_nulls(patches: gpd.GeoDataFrame, extra: Sequence[str] = ()) -> gpd.GeoDataFrame:
    """Patches with a null for each column of the patch table that a test does not need."""
    missing = [name for name in patch_table_schema(extra).names if name not in {*patches, "geometry", "bbox"}]
    return patches.assign(**{name: pd.Series([None] * len(patches), patches.index, object) for name in missing})
