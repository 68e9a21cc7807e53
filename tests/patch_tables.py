"""Patch tables that no job has made, written without the package."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

DEFAULTS = {
    "status": "kept",
    "reason": None,
    "split": "train",
    "epsg": 32633,
    "side": 1200,
    "sensing_time": pd.Timestamp("2018-07-25T10:00:31.024Z"),
}
TYPES = {"epsg": pa.int32(), "labels": pa.list_(pa.string()), "sensing_time": pa.timestamp("us", tz="UTC")}
METRES = ("minx", "maxx", "maxy")


def dataset(folder: Path, rows: pd.DataFrame, classes: Sequence[str]) -> Path:
    """A dataset of nothing but a patch table, with a part for each tile; columns may be missing (see DEFAULTS)."""
    rows = rows.assign(**{name: value for name, value in DEFAULTS.items() if name not in rows})
    rows = rows.assign(maxx=rows["minx"] + rows["side"]).drop(columns="side")
    if "tile" not in rows:
        rows = rows.assign(tile="T33UVP")
    if "patch_id" not in rows:
        rows = rows.assign(patch_id=[f"{tile}_{row}" for row, tile in enumerate(rows["tile"])])
    (folder / "patches.parquet").mkdir(parents=True)
    for tile, part in rows.groupby("tile"):
        write_part(folder / "patches.parquet" / f"{tile}.parquet", part, classes)
    return folder


def write_part(path: Path, rows: pd.DataFrame, classes: Sequence[str]) -> None:
    columns = {
        name: pa.array(rows[name], pa.int64() if name in METRES else TYPES.get(name, pa.string()), from_pandas=True)
        for name in rows
    }
    table = pa.table(columns).replace_schema_metadata({b"reben:classes": json.dumps(list(classes))})
    pq.write_table(table, path)
