"""``metadata.parquet`` and its companion for snow, cloud and shadow, as the published dataset has them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reben_dask.patches.decision import KEPT
from reben_dask.stores.patch_table import CLASSES_KEY, read_rows

METADATA = "metadata.parquet"
SNOW_CLOUD_METADATA = "metadata_for_patches_with_snow_cloud_or_shadow.parquet"

SCHEMA = pa.schema(
    [
        ("patch_id", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("split", pa.string()),
        ("country", pa.string()),
        ("s1_name", pa.string()),
        ("s2v1_name", pa.string()),
        ("contains_seasonal_snow", pa.bool_()),
        ("contains_cloud_or_shadow", pa.bool_()),
    ]
)
"""Columns and types of the published files; readers need the two flags as real bools."""

ROWS_PER_GROUP = 122_880


def write_metadata(parts: Sequence[Path], folder: Path, classes: Sequence[str]) -> tuple[int, int]:
    """Write the two metadata files from the kept patches of a patch table.

    Tiles are read one after the other, so that memory does not grow with their number.

    Parameters
    ----------
    parts : sequence of Path
        Part files. A patch name begins with what tells its tile from all others, so that the files are ordered by
        ``patch_id`` if the tiles are, and the rows of each.
    folder : Path
        Where the files go.
    classes : sequence of str
        Class names, kept in the files' metadata.

    Returns
    -------
    (int, int)
        Rows of the main file, and of the one for patches with snow, cloud or shadow.
    """
    ordered = sorted(parts, key=_first_name)
    clear = _write(folder / METADATA, (_kept(part, apart=False) for part in ordered), classes)
    apart = _write(folder / SNOW_CLOUD_METADATA, (_kept(part, apart=True) for part in ordered), classes)
    return clear, apart


def _first_name(part: Path) -> str:
    return pc.min(read_rows(part, ["patch_id"])["patch_id"]).as_py() or ""


def _kept(part: Path, *, apart: bool) -> pa.Table:
    rows = read_rows(part, SCHEMA.names, status=KEPT).select(SCHEMA.names).sort_by("patch_id")
    flags = (pc.fill_null(rows[name], False) for name in ("contains_seasonal_snow", "contains_cloud_or_shadow"))
    snow, cloud = flags
    rows = rows.set_column(6, SCHEMA.field(6), snow).set_column(7, SCHEMA.field(7), cloud)
    flagged = pc.or_(snow, cloud)
    return rows.filter(flagged if apart else pc.invert(flagged)).replace_schema_metadata(None)


def _write(path: Path, tables: Iterable[pa.Table], classes: Sequence[str]) -> int:
    schema = SCHEMA.with_metadata({CLASSES_KEY: json.dumps(list(classes))})
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in _regroup(tables):
            writer.write_table(group.cast(schema), row_group_size=ROWS_PER_GROUP)
            count += group.num_rows
    return count


def _regroup(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Row groups of one size, whatever the sizes of the tiles: the bytes depend on the rows alone."""
    waiting = SCHEMA.empty_table()
    for table in tables:
        waiting = pa.concat_tables([waiting, table])
        while waiting.num_rows >= ROWS_PER_GROUP:
            yield waiting.slice(0, ROWS_PER_GROUP).combine_chunks()
            waiting = waiting.slice(ROWS_PER_GROUP)
    if waiting.num_rows:
        yield waiting.combine_chunks()
