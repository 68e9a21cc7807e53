"""Patch table: a GeoParquet dataset with one row per candidate patch, one part file per tile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj

from reben_dask.atomic import atomic_path
from reben_dask.errors import InputError, missing
from reben_dask.formats.columns import (
    BBOX_TYPE,
    PATCH_TABLE,
    STATUS,
    TABLE_CRS,
    TILE,
    Column,
    encode_classes,
    extra_column,
    schema,
)
from reben_dask.formats.dataset import TABLE
from reben_dask.formats.footprints import footprint_bounds, united_bounds


def write_part(
    patches: geopandas.GeoDataFrame, folder: Path, classes: Sequence[str], extra: Sequence[str] = ()
) -> Path:
    """Write the patches of one tile atomically to ``<tile>.parquet`` in ``folder``.

    ``patches`` has its geometry in EPSG:4326; ``classes`` go into the file's metadata; for ``extra`` columns see
    :func:`~reben_dask.formats.columns.extra_column`. Raises ValueError if a column is missing that is not optional.
    """
    table = _to_arrow(patches, [*PATCH_TABLE, *map(extra_column, extra)])
    table = table.replace_schema_metadata({b"geo": _geo_metadata(patches), **encode_classes(classes)})
    folder.mkdir(parents=True, exist_ok=True)
    return _write(table, folder / f"{patches[TILE].iloc[0]}.parquet")


def rewrite_part(part: Path, columns: pd.DataFrame) -> None:
    """Replace columns of a part file atomically; ``columns`` has one row for each row of the file."""
    table = pq.read_table(part, partitioning=None)
    for name in map(str, columns):
        number = table.schema.get_field_index(name)
        table = table.set_column(number, table.schema.field(number), _array(columns[name], table.schema.types[number]))
    _write(table, part)


def read_rows(part: Path, columns: Sequence[str], *, status: str | None = None) -> pa.Table:
    """Read some columns of one part file, optionally only the rows of one ``status``."""
    filters = None if status is None else [(STATUS, "=", status)]
    return pq.read_table(part, columns=list(columns), filters=filters, partitioning=None)


def read_footprints(part: Path, columns: Sequence[str] = ()) -> geopandas.GeoDataFrame:
    """Read the footprints of one part file, with some columns; geometry in EPSG:4326."""
    return geopandas.read_parquet(part, columns=[*columns, "geometry"])


def part_files(folder: Path) -> list[Path]:
    """Part files of a patch table in the order of their tiles."""
    return sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))


def dataset_parts(out: Path) -> list[Path]:
    """Part files of the patch table of a dataset; raises InputError if ``out`` is not a dataset of this program."""
    if not out.exists():
        raise InputError(missing("The dataset", out))
    parts = part_files(out / TABLE)
    if not parts:
        raise InputError(f"{out} is not a dataset of this program ({TABLE} has no parts); give the OUT of a reben run.")
    return parts


def _write(table: pa.Table, path: Path) -> Path:
    with atomic_path(path) as draft:
        pq.write_table(table, draft, compression="zstd")
    return path


def _to_arrow(patches: geopandas.GeoDataFrame, columns: Sequence[Column]) -> pa.Table:
    edges = footprint_bounds(patches.geometry.to_numpy()).T
    arrays: dict[str, pa.Array] = {
        "geometry": pa.array(patches.geometry.to_wkb(), pa.binary()),
        "bbox": pa.StructArray.from_arrays(list(map(pa.array, edges)), fields=list(BBOX_TYPE)),
    }
    for column in columns:
        if column in patches and column not in arrays:
            arrays[column] = _array(patches[column], column.type)
        elif column.optional:
            arrays.setdefault(column, pa.nulls(len(patches), column.type))
    if missing := [column for column in columns if column not in arrays]:
        raise ValueError(
            f"No step computes the column {', '.join(missing)} of the patch table; compute it in patches/candidates.py "
            "or in a task of job/graph.py, or define it as optional in formats/columns.py."
        )
    return pa.Table.from_arrays([arrays[column] for column in columns], schema=schema(columns))


def _array(values: pd.Series[Any], kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind, from_pandas=True)


def _geo_metadata(patches: geopandas.GeoDataFrame) -> bytes:
    covering = {edge: ["bbox", edge] for edge in ("xmin", "ymin", "xmax", "ymax")}
    column = {
        "encoding": "WKB",
        "geometry_types": sorted(patches.geometry.geom_type.unique()),
        "crs": pyproj.CRS.from_user_input(TABLE_CRS).to_json_dict(),
        "bbox": united_bounds(footprint_bounds(patches.geometry.to_numpy())),
        "covering": {"bbox": covering},
    }
    return json.dumps({"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}).encode()
