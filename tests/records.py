"""Run records of small datasets, written as a job writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reben_dask.formats.dataset import FORMAT, RecordedInputs, RecordedMap, RecordedTile, RunRecord


def write_record(folder: Path, tiles: tuple[RecordedTile, ...] = (), **content: Any) -> None:
    """Write a run record into a folder ``run``."""
    folder.mkdir(parents=True, exist_ok=True)
    given = {
        "format": FORMAT,
        "finished": "2026-01-01T00:00:00+00:00",
        "recipe": {"name": "reben"},
        "classes": (),
        "class_of_code": {},
        "inputs": RecordedInputs(tiles=tiles, landcover=RecordedMap()),
        **content,
    }
    RunRecord(**given).write(folder)
