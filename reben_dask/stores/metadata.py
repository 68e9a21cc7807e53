"""The two metadata files, in the published format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reben_dask.atomic import atomic_path
from reben_dask.formats.columns import KEPT, METADATA, METADATA_SCHEMA, PATCH_ID, encode_classes, fill_flags, flagged
from reben_dask.formats.dataset import FLAGGED_METADATA_FILE, METADATA_FILE
from reben_dask.formats.lmdb import INDEX_FILE
from reben_dask.stores.lmdb import open_environment
from reben_dask.stores.patch_table import read_rows

ROWS_PER_GROUP = 122_880


def write_metadata(parts: Sequence[Path], folder: Path, classes: Sequence[str]) -> tuple[int, int]:
    """Write the two metadata files from the kept patches of a patch table, tile by tile.

    Patch names start with a prefix unique to their tile, so tiles sorted by name give files sorted by ``patch_id``;
    only names of data strips of one tile are interleaved.
    Returns the numbers of rows of the main file and of the one for patches with snow, cloud or shadow.
    """
    groups = _groups(parts)
    clear = _write(folder / METADATA_FILE, (_clear(_kept(group)) for group in groups), classes)
    flagged_rows = _write(folder / FLAGGED_METADATA_FILE, (_flagged(_kept(group)) for group in groups), classes)
    return clear, flagged_rows


def _groups(parts: Sequence[Path]) -> list[list[Path]]:
    """Parts in the order of their names, grouped where their patch names are interleaved."""
    groups: list[list[Path]] = []
    end = ""
    for first, last, part in sorted((*_first_and_last_name(part), part) for part in parts):
        if groups and first < end:
            groups[-1].append(part)
        else:
            groups.append([part])
        end = max(end, last)
    return groups


def copy_metadata(environments: Sequence[Path], merged: Path) -> int:
    """Write the metadata beside LMDB environments into the folder of the merged one: rows of its patches alone.

    Returns the number of rows; 0, with nothing written, if an environment has no metadata beside it, or files differ in
    their columns or class lists.
    """
    folders = list(dict.fromkeys(map(_metadata_folder, environments)))
    if None in folders:
        return 0
    with open_environment(merged) as environment, environment.begin() as transaction:
        keys = pa.array(
            [key.decode(errors="replace") for key in transaction.cursor().iternext(values=False)], pa.string()
        )
    merged_rows = {}
    for name in (METADATA_FILE, FLAGGED_METADATA_FILE):
        tables = [pq.read_table(file) for folder in folders if folder and (file := folder / name).is_file()]
        if not all(table.schema.equals(tables[0].schema, check_metadata=True) for table in tables):
            return 0
        if tables:
            rows = pa.concat_tables(tables).sort_by(PATCH_ID)
            merged_rows[name] = rows.filter(pc.is_in(rows[PATCH_ID], keys))
    count = int(sum(rows.num_rows for rows in merged_rows.values()))
    for name, rows in merged_rows.items() if count else ():
        with atomic_path(merged / name) as draft:
            pq.write_table(rows, draft, compression="zstd", row_group_size=ROWS_PER_GROUP)
    return count


def _metadata_folder(environment: Path) -> Path | None:
    """First folder with metadata from an environment upwards, at most that of its dataset."""
    place = environment.absolute()
    folders = [place, place.parent, *([place.parent.parent] if (place.parent / INDEX_FILE).is_file() else [])]
    return next((folder for folder in folders if (folder / METADATA_FILE).is_file()), None)


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
