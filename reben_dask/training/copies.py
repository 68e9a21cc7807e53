"""Local copies of the tables of a remote dataset, whose cubes are read remotely."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from reben_dask.errors import ReadError
from reben_dask.formats.dataset import METADATA_FILE, RECORD, STATISTICS, TABLE, RunRecord
from reben_dask.sources.remote import read_bytes


@cache
def copy_tables(address: str) -> Path:
    """Copy run record, metadata, patch table and statistics to a folder, which is removed at the end of the process.

    Raises
    ------
    ReadError
        If one of them cannot be read; statistics may be missing.
    """
    folder = Path(tempfile.mkdtemp(prefix="reben-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in (RECORD, METADATA_FILE):
        _copy(address, name, folder)
    record = RunRecord.read(folder)
    failed = {failure.tile for failure in record.failures}
    for tile in record.inputs.tiles:
        if tile.tile not in failed:
            _copy(address, f"{TABLE}/{tile.tile}.parquet", folder)
    try:
        _copy(address, STATISTICS, folder)
    except ReadError:
        return folder
    return folder


def _copy(address: str, name: str, folder: Path) -> None:
    content = read_bytes(f"{address.rstrip('/')}/{name}")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
