"""Dataset card (Markdown) and Croissant metadata (MLCommons, version 1.0) of a dataset."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from pyarrow import types

from reben_dask.atomic import write_text
from reben_dask.formats.columns import KEPT, METADATA, PATCH_ID, SPLIT, SPLITS, STATUS, Column
from reben_dask.formats.dataset import (
    CARD,
    CATALOGUE,
    CROISSANT,
    CUBES,
    DESCRIPTIONS,
    FLAGGED_METADATA_FILE,
    LMDB,
    METADATA_FILE,
    TABLE,
    RunRecord,
)
from reben_dask.patches.decision import REASONS
from reben_dask.stores.terms import (
    CLC_TERMS,
    COPERNICUS_TERMS,
    PROGRAM_TERMS,
    attributions,
    is_synthetic,
    years_of,
)
from reben_dask.tables import Table
from reben_dask.wording import counted

_RECORD_SETS = {METADATA_FILE: "patches", FLAGGED_METADATA_FILE: "patches-apart"}
_FILE_SETS = (
    ("patch-table", TABLE, "*.parquet", "application/x-parquet"),
    ("cubes", CUBES, "**", "application/vnd+zarr"),
    ("catalogue", CATALOGUE, "*.parquet", "application/x-parquet"),
    ("lmdb", LMDB, "**", "application/octet-stream"),
)

_DATA_TYPES = (
    (types.is_boolean, "sc:Boolean"),
    (types.is_integer, "sc:Integer"),
    (types.is_floating, "sc:Float"),
    (types.is_temporal, "sc:DateTime"),
)
"""Types of Croissant fields; others are text."""


def write_card(folder: Path, record: RunRecord) -> Path:
    """Write ``dataset_card.md`` into the folder of a dataset."""
    counts = record.counts.get(SPLIT, {})
    content = {
        "kept": record.counts.get(STATUS, {}).get(KEPT, 0),
        "splits": Table("", ["split", "patches"], [[split, counts.get(split, 0)] for split in SPLITS]),
        "artefacts": DESCRIPTIONS,
        "reasons": REASONS,
        "copernicus_terms": COPERNICUS_TERMS,
        "clc_terms": CLC_TERMS,
    }
    return _write(folder / CARD, _render(f"{CARD}.j2", record, content))


def write_croissant(folder: Path, record: RunRecord) -> Path:
    """Write ``croissant.json`` into the folder of a dataset."""
    content = {
        "license": PROGRAM_TERMS if is_synthetic(record) else COPERNICUS_TERMS,
        "files": [
            {
                "name": name,
                "id": key,
                "description": DESCRIPTIONS[name],
                "bytes": (folder / name).stat().st_size,
                "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
            }
            for name, key in _RECORD_SETS.items()
        ],
        "file_sets": [
            {"id": key, "description": DESCRIPTIONS[name], "format": kind, "pattern": f"{name}/{pattern}"}
            for key, name, pattern, kind in _FILE_SETS
        ],
        "columns": METADATA,
        "key": PATCH_ID,
    }
    described = json.loads(_render(f"{CROISSANT}.j2", record, content))
    return _write(folder / CROISSANT, json.dumps(described, indent=2, ensure_ascii=False) + "\n")


def _render(template: str, record: RunRecord, content: dict[str, Any]) -> str:
    common = {
        "record": record,
        "years": years_of(record),
        "attributions": attributions(record),
        "is_synthetic": is_synthetic(record),
    }
    return _environment().get_template(template).render(**common, **content)


def _write(path: Path, text: str) -> Path:
    write_text(path, text)
    return path


@cache
def _environment() -> Environment:
    environment = Environment(  # noqa: S701 - Markdown and JSON are no HTML
        loader=PackageLoader("reben_dask.stores", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"counted": counted, "data_type": _data_type, "is_list": _is_list}
    return environment


def _data_type(column: Column) -> str:
    kind = column.type.value_type if _is_list(column) else column.type
    return next((name for is_of, name in _DATA_TYPES if is_of(kind)), "sc:Text")


def _is_list(column: Column) -> bool:
    return bool(types.is_list(column.type))
