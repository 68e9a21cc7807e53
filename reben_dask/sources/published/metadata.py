"""Metadata files as reBEN publishes them, and as this program writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from reben_dask.errors import InputError, missing
from reben_dask.formats.columns import PATCH_ID, PUBLISHED_METADATA
from reben_dask.formats.dataset import FLAGGED_METADATA_FILE, METADATA_FILE


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
    # "`" follows "_" in ASCII: between them are the names that start with the tile's and an underscore.
    filters = [(str(PATCH_ID), ">", f"{tile}_"), (str(PATCH_ID), "<", f"{tile}`")] if tile else None
    return pd.concat([_read(file, columns, filters) for file in files], ignore_index=True)


def require_metadata(files: Sequence[Path]) -> int:
    """Check that files are metadata files, reading no rows; return the number of their rows.

    Raises
    ------
    InputError
        Naming the file and what it lacks.
    """
    return sum(_opened(file, PUBLISHED_METADATA).metadata.num_rows for file in files)


def _opened(file: Path, columns: Sequence[str]) -> pq.ParquetFile:
    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"The metadata file {file} cannot be read ({error}).") from None
    missing = [name for name in columns if name not in parquet.schema_arrow.names]
    if missing:
        raise InputError(f"The metadata file {file} has no column {', '.join(missing)}.")
    return parquet


def _read(file: Path, columns: Sequence[str], filters: list[tuple[str, str, str]] | None) -> pd.DataFrame:
    _opened(file, columns)
    try:
        table = pq.read_table(file, columns=list(columns), filters=filters, partitioning=None)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"The metadata file {file} cannot be read ({error}).") from None
    frame: pd.DataFrame = table.to_pandas()
    return frame
