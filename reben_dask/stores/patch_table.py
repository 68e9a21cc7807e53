"""The patch table: a GeoParquet dataset with one row per candidate patch, one part file per tile."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj

from reben_dask.patches.candidates import TABLE_CRS

if TYPE_CHECKING:
    import geopandas

CLASSES_KEY = b"reben:classes"
"""Key of the Parquet metadata that holds the class names, as a JSON list in alphabetical order."""

_BBOX = pa.struct([(name, pa.float64()) for name in ("xmin", "ymin", "xmax", "ymax")])

SCHEMA = pa.schema(
    [
        ("patch_id", pa.string()),
        ("tile", pa.string()),
        ("x", pa.int32()),
        ("y", pa.int32()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("labeled_fraction", pa.float64()),
        ("split", pa.string()),
        ("country", pa.string()),
        ("season", pa.string()),
        ("sensing_time", pa.timestamp("us", tz="UTC")),
        ("snow_fraction", pa.float64()),
        ("cloud_fraction", pa.float64()),
        ("shadow_fraction", pa.float64()),
        ("contains_seasonal_snow", pa.bool_()),
        ("contains_cloud_or_shadow", pa.bool_()),
        ("s1_name", pa.string()),
        ("s2v1_name", pa.string()),
        ("failed_quality", pa.string()),
        ("nodata", pa.bool_()),
        ("epsg", pa.int32()),
        ("minx", pa.int64()),
        ("miny", pa.int64()),
        ("maxx", pa.int64()),
        ("maxy", pa.int64()),
        ("geometry", pa.binary()),
        ("bbox", _BBOX),
    ]
)
"""Columns of the patch table. ``minx`` to ``maxy`` are exact metres in the system ``epsg``; ``geometry`` is WKB in
EPSG:4326 with ``bbox`` as its covering (GeoParquet 1.1)."""


def write_part(patches: geopandas.GeoDataFrame, folder: Path, classes: Sequence[str]) -> Path:
    """Write the patches of one tile as a part file; it appears under its name when it is complete.

    Parameters
    ----------
    patches : GeoDataFrame
        Rows of one tile, geometry in EPSG:4326. Columns of :data:`SCHEMA` that are missing are written as null.
    folder : Path
        The dataset.
    classes : sequence of str
        Class names, kept in the file's metadata.

    Returns
    -------
    Path
        The part file, ``<tile>.parquet``.
    """
    table = _to_arrow(patches)
    table = table.replace_schema_metadata({b"geo": _geo_metadata(patches), CLASSES_KEY: json.dumps(list(classes))})
    path = folder / f"{patches['tile'].iloc[0]}.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(table, unfinished, compression="zstd")
    return unfinished.replace(path)


def read_rows(part: Path, columns: Sequence[str], *, status: str | None = None) -> pa.Table:
    """Read some columns of one part file, optionally only the rows of one ``status``."""
    filters = None if status is None else [("status", "=", status)]
    return pq.read_table(part, columns=list(columns), filters=filters, partitioning=None)


def part_files(folder: Path) -> list[Path]:
    """Part files of a patch table in the order of their tiles, which is the order of patch names."""
    return sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))


def _to_arrow(patches: geopandas.GeoDataFrame) -> pa.Table:
    bounds = patches.geometry.bounds
    computed = {
        "geometry": pa.array(patches.geometry.to_wkb(), pa.binary()),
        "bbox": pa.StructArray.from_arrays([pa.array(bounds[name]) for name in bounds], fields=list(_BBOX)),
    }
    arrays = [
        computed[field.name] if field.name in computed else _column(patches, field.name, field.type) for field in SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _column(patches: pd.DataFrame, name: str, kind: pa.DataType) -> pa.Array:
    if name not in patches:
        return pa.nulls(len(patches), kind)
    return pa.array(patches[name], kind, from_pandas=True)


def _geo_metadata(patches: geopandas.GeoDataFrame) -> bytes:
    covering = {edge: ["bbox", edge] for edge in ("xmin", "ymin", "xmax", "ymax")}
    column = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": pyproj.CRS.from_user_input(TABLE_CRS).to_json_dict(),
        "bbox": [float(edge) for edge in patches.total_bounds],
        "covering": {"bbox": covering},
    }
    return json.dumps({"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}).encode()
