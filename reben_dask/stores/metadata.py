"""The two metadata files, in the published format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reben_dask.formats.columns import KEPT, METADATA, METADATA_SCHEMA, PATCH_ID, encode_classes, fill_flags, flagged
from reben_dask.formats.dataset import FLAGGED_METADATA_FILE, METADATA_FILE
from reben_dask.stores.patch_table import read_rows

ROWS_PER_GROUP = 122_880


def write_metadata(parts: Sequence[Path], folder: Path, classes: Sequence[str]) -> tuple[int, int]:
    """Write the two metadata files from the kept patches of a patch table, tile by tile.

    Patch names start with a prefix unique to their tile, so tiles sorted by name give files sorted by ``patch_id``;
    only names of data strips of one tile lie among each other.
    Returns the numbers of rows of the main file and of the one for patches with snow, cloud or shadow.
    """
    groups = _groups(parts)
    clear = _write(folder / METADATA_FILE, (_clear(_kept(group)) for group in groups), classes)
    flagged_rows = _write(folder / FLAGGED_METADATA_FILE, (_flagged(_kept(group)) for group in groups), classes)
    return clear, flagged_rows


def _groups(parts: Sequence[Path]) -> list[list[Path]]:
    """Parts in the order of their names, those together whose names lie among each other."""
    groups: list[list[Path]] = []
    end = ""
    for first, last, part in sorted((*_first_and_last_name(part), part) for part in parts):
        if groups and first < end:
            groups[-1].append(part)
        else:
            groups.append([part])
        end = max(end, last)
    return groups


def _first_and_last_name(part: Path) -> tuple[str, str]:
    found = pc.min_max(read_rows(part, [PATCH_ID])[PATCH_ID]).as_py()
    return found["min"] or "", found["max"] or ""


def _kept(parts: Sequence[Path]) -> pa.Table:
    tables = [read_rows(part, METADATA, status=KEPT).select(list(METADATA)) for part in parts]
    rows = pa.concat_tables(table.replace_schema_metadata(None) for table in tables)
    return fill_flags(rows.sort_by(PATCH_ID))


def _clear(rows: pa.Table) -> pa.Table:
    return rows.filter(pc.invert(flagged(rows)))


def _flagged(rows: pa.Table) -> pa.Table:
    return rows.filter(flagged(rows))


def _write(path: Path, tables: Iterable[pa.Table], classes: Sequence[str]) -> int:
    schema = METADATA_SCHEMA.with_metadata(encode_classes(classes))
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in _regroup(tables):
            writer.write_table(group.cast(schema), row_group_size=ROWS_PER_GROUP)
            count += group.num_rows
    return count


def _regroup(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Row groups of one size, whatever the sizes of the tiles: the bytes depend on the rows alone."""
    waiting = METADATA_SCHEMA.empty_table()
    for table in tables:
        waiting = pa.concat_tables([waiting, table])
        while waiting.num_rows >= ROWS_PER_GROUP:
            yield waiting.slice(0, ROWS_PER_GROUP).combine_chunks()
            waiting = waiting.slice(ROWS_PER_GROUP)
    if waiting.num_rows:
        yield waiting.combine_chunks()
