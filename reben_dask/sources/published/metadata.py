"""Metadata files as reBEN publishes them, as this program writes them, and as others rewrite them.

Text may be large, a view or categories, flags may be 0 and 1, and ``patch_id`` may be the index of pandas.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types

from reben_dask.errors import InputError, missing
from reben_dask.formats.columns import FLAGS, METADATA, PATCH_ID, PUBLISHED_METADATA
from reben_dask.formats.dataset import FLAGGED_METADATA_FILE, METADATA_FILE

_TYPES = {str(column): column.type for column in METADATA}
_COMPARE = {">": pc.greater, "<": pc.less}


def metadata_files(path: Path, *, clear_only: bool = False) -> list[Path]:
    """Find the metadata files at a path: a file, or both files of a folder (a dataset, or a download).

    Raises
    ------
    InputError
        If there is none.
    """
    if path.is_file():
        return [path]
    names = (METADATA_FILE,) if clear_only else (METADATA_FILE, FLAGGED_METADATA_FILE)
    found = [path / name for name in names if (path / name).is_file()]
    if not path.exists():
        raise InputError(missing("The metadata file", path))
    if not found:
        raise InputError(f"{path} is not a metadata file, nor a folder with {METADATA_FILE}.")
    return found


def read_metadata(
    files: Sequence[Path], columns: Sequence[str] = PUBLISHED_METADATA, tile: str | None = None
) -> pd.DataFrame:
    """Read metadata files.

    Parameters
    ----------
    files : sequence of Path
        Parquet files.
    columns : sequence of str
        Columns to read, by default the published ones.
    tile : str, optional
        Only the patches of this tile; files that are ordered by name are then read in part.

    Returns
    -------
    DataFrame
        Rows of all files, one after the other.

    Raises
    ------
    InputError
        If a file cannot be read or lacks a column.
    """
    return pd.concat([_read(file, columns, tile) for file in files], ignore_index=True)


def require_metadata(files: Sequence[Path]) -> int:
    """Check metadata files, reading no values but numeric flags; return the number of their rows.

    Raises
    ------
    InputError
        Naming the file, the column, and what is wrong with it.
    """
    rows = 0
    for file in files:
        parquet = _opened(file, PUBLISHED_METADATA)
        rows += parquet.metadata.num_rows
        numbers = [str(name) for name in FLAGS if types.is_integer(parquet.schema_arrow.field(name).type)]
        _conform(parquet.read(numbers), file)
    return rows


def _opened(file: Path, columns: Sequence[str]) -> pq.ParquetFile:
    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        hint = "; metadata are read from Parquet, not from CSV" if file.suffix == ".csv" else ""
        raise InputError(f"The metadata file {file} cannot be read ({error}){hint}.") from None
    found = parquet.schema_arrow
    if missing := [name for name in columns if name not in found.names]:
        raise InputError(f"The metadata file {file} has no column {', '.join(missing)}.")
    for name in columns:
        wanted = _TYPES.get(name)
        if wanted is not None and not _is_like(found.field(name).type, wanted):
            raise InputError(
                f"The metadata file {file} has {name} as {found.field(name).type}, not as {wanted}; write that column "
                "again with this type."
            )
    return parquet


def _read(file: Path, columns: Sequence[str], tile: str | None) -> pd.DataFrame:
    found = _opened(file, columns).schema_arrow
    # "`" follows "_" in ASCII: between them are the names that start with the tile's and an underscore.
    filters = [(str(PATCH_ID), ">", f"{tile}_"), (str(PATCH_ID), "<", f"{tile}`")] if tile else None
    # Arrow compares plain text only; other types are converted first.
    pushed = filters if filters and found.field(PATCH_ID).type in (pa.string(), pa.large_string()) else None
    names = list(dict.fromkeys([*columns, *([PATCH_ID] if filters else [])]))
    try:
        table = pq.read_table(file, columns=names, filters=pushed, partitioning=None)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"The metadata file {file} cannot be read ({error}).") from None
    table = _conform(table, file)
    if filters and not pushed:
        table = table.filter(pc.and_(*(_COMPARE[sign](table[name], value) for name, sign, value in filters)))
    frame: pd.DataFrame = table.select(list(columns)).to_pandas()
    return frame


def _conform(table: pa.Table, file: Path) -> pa.Table:
    """Convert columns to the published types, without pandas' index; :class:`InputError` if a flag is not 0 or 1."""
    for number, name in enumerate(table.column_names):
        column, wanted = table[name], _TYPES.get(name)
        if wanted is None or column.type == wanted:
            continue
        if types.is_integer(column.type):
            if other := [value for value in pc.unique(column).to_pylist() if value not in (0, 1, None)]:
                raise InputError(
                    f"The metadata file {file} has {other[0]} in {name}; a flag is true or false, or 1 or 0."
                )
        elif types.is_dictionary(column.type) and column.type.value_type != wanted:
            column = pa.chunked_array([pa.array(column.to_pylist(), wanted)])
        table = table.set_column(number, name, column.cast(wanted))
    return table.replace_schema_metadata(None)


def _is_like(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Test if values of a type can be read as those of the published one."""
    if types.is_dictionary(found):
        return not types.is_list(wanted) and _is_like(found.value_type, wanted)
    if types.is_null(found):
        return True
    if types.is_list(wanted):
        is_list = types.is_list(found) or types.is_large_list(found)
        return is_list and _is_like(found.value_type, wanted.value_type)
    if types.is_boolean(wanted):
        return bool(types.is_boolean(found) or types.is_integer(found))
    return bool(types.is_string(found) or types.is_large_string(found) or types.is_string_view(found))
