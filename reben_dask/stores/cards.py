"""Dataset card (Markdown with the front matter of Hugging Face) and Croissant metadata (MLCommons, version 1.0)."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from pyarrow import types

from reben_dask.atomic import write_text
from reben_dask.formats.columns import METADATA, PATCH_ID, REASON, SPLIT, SPLITS, UNASSIGNED, Column
from reben_dask.formats.dataset import (
    CARD,
    CARD_KEY,
    CATALOGUE,
    CROISSANT,
    CUBES,
    DESCRIPTIONS,
    FLAGGED_METADATA_FILE,
    LMDB,
    METADATA_FILE,
    STATISTICS,
    TABLE,
    RunRecord,
)
from reben_dask.formats.sample_shards import GROUPS, PARQUET, SHARD_FORMS
from reben_dask.formats.statistics import ALL, Statistics
from reben_dask.patches.decision import REASONS
from reben_dask.patches.overlaps import conflict_note
from reben_dask.stores.statistics import band_table, class_table
from reben_dask.stores.terms import (
    CLC_TERMS,
    COPERNICUS_TERMS,
    PROGRAM_TERMS,
    attributions,
    is_corine,
    is_synthetic,
    years_of,
)
from reben_dask.tables import Cell, Table
from reben_dask.wording import counted

_RECORD_SETS = {METADATA_FILE: "patches", FLAGGED_METADATA_FILE: "patches-apart"}
_CLEAR, _FLAGGED = "clear", "flagged"
_FILE_SETS = (
    ("patch-table", TABLE, "*.parquet", "application/x-parquet"),
    ("cubes", CUBES, "**", "application/vnd+zarr"),
    ("catalogue", CATALOGUE, "*.parquet", "application/x-parquet"),
    ("lmdb", LMDB, "**", "application/octet-stream"),
)
_EXPORTED = {".zst": ("Archive of the tree", "application/zstd"), ".csv": ("Table of the tree", "text/csv")}
_FOLDERS = {False: ("GeoTIFFs of the tree", "image/tiff"), True: ("Tables of the tree", "text/csv")}
"""Description and format of exported files by the end of their names, and of folders without and with tables."""

_KEYWORDS = ("Sentinel-2", "land cover", "multi-label classification", "semantic segmentation")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGEST_SIZE = "1M<n<10M"
"""Size categories of Hugging Face."""

_DATA_TYPES = (
    (types.is_boolean, "sc:Boolean"),
    (types.is_integer, "sc:Integer"),
    (types.is_floating, "sc:Float"),
    (types.is_temporal, "sc:DateTime"),
)
"""Types of Croissant fields; others are text."""


def write_card(folder: Path, record: RunRecord) -> Path:
    """Write ``README.md`` into the folder of a dataset; its front matter is that of dataset cards of Hugging Face."""
    counts = _count_patches(folder)
    rejected = record.counts.get(REASON, {})
    known = {REASONS[reason]: rejected[reason] for reason in REASONS if rejected.get(reason)}
    statistics = Statistics.read(folder) if (folder / STATISTICS).is_file() else None
    content = {
        "front_matter": _front_matter(folder, record, counts),
        "bands": statistics and band_table(statistics, [ALL]),
        "classes": statistics and class_table(statistics),
        "kept": _total(counts),
        "splits": _split_table(counts),
        "conflicts": conflict_note(record.counts),
        "artefacts": {**DESCRIPTIONS, **{name: text for name, (text, _) in _exported(folder, record).items()}},
        "reasons": known | {reason: count for reason, count in rejected.items() if reason not in REASONS},
        "copernicus_terms": COPERNICUS_TERMS,
        "clc_terms": CLC_TERMS,
    }
    return _write(folder / CARD, _render(f"{CARD}.j2", record, content))


def write_croissant(folder: Path, record: RunRecord) -> Path:
    """Write ``croissant.json`` into the folder of a dataset."""
    counts = _count_patches(folder)
    sets = [(key, DESCRIPTIONS[name], kind, f"{name}/{pattern}") for key, name, pattern, kind in _FILE_SETS]
    sets.append((STATISTICS, DESCRIPTIONS[STATISTICS], "application/json", STATISTICS))
    sets += [
        (name, description, kind, name if Path(name).suffix in _EXPORTED else f"{name}/**")
        for name, (description, kind) in _exported(folder, record).items()
    ]
    content = {
        "license": PROGRAM_TERMS if is_synthetic(record) else COPERNICUS_TERMS,
        "kept": _total(counts),
        "keywords": _KEYWORDS,
        "files": [
            {
                "name": name,
                "id": key,
                "description": f"{DESCRIPTIONS[name]} ({sum(found.values()):,}), one row each",
                "bytes": (folder / name).stat().st_size,
                "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
            }
            for (name, key), found in zip(_RECORD_SETS.items(), counts.values(), strict=True)
        ],
        "file_sets": [dict(zip(("id", "description", "format", "pattern"), each, strict=True)) for each in sets],
        "columns": METADATA,
        "key": PATCH_ID,
    }
    described = json.loads(_render(f"{CROISSANT}.j2", record, content))
    return _write(folder / CROISSANT, json.dumps(described, indent=2, ensure_ascii=False) + "\n")


def _count_patches(folder: Path) -> dict[str, Counter[str | None]]:
    """Patches of each metadata file by split; ``None`` for those in no split."""
    names = (METADATA_FILE, FLAGGED_METADATA_FILE)
    columns = (pq.read_table(folder / name, columns=[SPLIT])[SPLIT] for name in names)
    return {key: Counter(column.to_pylist()) for key, column in zip((_CLEAR, _FLAGGED), columns, strict=True)}


def _total(counts: dict[str, Counter[str | None]]) -> int:
    return sum(found.total() for found in counts.values())


def _split_table(counts: dict[str, Counter[str | None]]) -> Table:
    """Table of splits without empty rows and columns."""
    numbers = {split: [found[split] for found in counts.values()] for split in (*SPLITS, None)}
    rows: list[list[Cell]]
    rows = [[split or UNASSIGNED, *found, sum(found)] for split, found in numbers.items()]
    return Table("", ["split", *counts, "all"], rows).with_total().without_zero_rows().without_zero_columns()


def _exported(folder: Path, record: RunRecord) -> dict[str, tuple[str, str]]:
    """Describe each exported file or folder, with its format."""
    shards = {name: SHARD_FORMS[name] for name in record.exports if name in SHARD_FORMS}
    tables = {name: any((folder / name).glob("*.csv")) for name in record.exports if name not in shards}
    found = {name: _EXPORTED.get(Path(name).suffix, _FOLDERS[has_tables]) for name, has_tables in tables.items()}
    trees = {name: (f"{what} {record.recipe.get('tree', '')}", kind) for name, (what, kind) in found.items()}
    return trees | {name: (form.description, form.media_type) for name, form in shards.items()}


def _sample_files(folder: Path) -> list[dict[str, str]]:
    """Return splits of the exported rows with images, and patterns of their files."""
    name, suffix = PARQUET.name, PARQUET.suffix
    return [
        {"split": group, "path": f"{name}/{group}-*{suffix}"}
        for group in GROUPS
        if any((folder / name).glob(f"{group}-*{suffix}"))
    ]


def _front_matter(folder: Path, record: RunRecord, counts: dict[str, Counter[str | None]]) -> str:
    """YAML of a dataset card; ``configs`` list the tables for ``load_dataset``."""
    licence = {"license": "other", "license_name": "copernicus-sentinel-data", "license_link": COPERNICUS_TERMS}
    size = next((name for limit, name in _SIZES if _total(counts) < limit), _LARGEST_SIZE)
    files = zip((_CLEAR, _FLAGGED), _RECORD_SETS, strict=True)
    # load_dataset fails for a split without rows.
    splits = [{"split": name, "path": path} for name, path in files if counts[name]]
    tables = {"patches": splits, "candidates": [{"split": "candidates", "path": f"{TABLE}/*.parquet"}]}
    tables |= {"images": _sample_files(folder)} if PARQUET.name in record.exports else {}
    configs: list[dict[str, Any]] = [
        {"config_name": name, "data_files": paths} for name, paths in tables.items() if paths
    ]
    configs[0]["default"] = True
    content = {
        "pretty_name": record.title,
        **({"license": "mit"} if is_synthetic(record) else licence),
        "task_categories": ["image-classification", "image-segmentation"],
        "size_categories": [size],
        "tags": [*_KEYWORDS],
        "configs": configs,
        CARD_KEY: {"version": record.versions.get("reben_dask", ""), "recipe": record.recipe.get("name", "")},
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1_000).rstrip("\n")


def _render(template: str, record: RunRecord, content: dict[str, Any]) -> str:
    common = {
        "record": record,
        "years": years_of(record),
        "attributions": attributions(record),
        "is_synthetic": is_synthetic(record),
        "is_corine": is_corine(record),
    }
    return _environment().get_template(template).render(**common, **content)


def _write(path: Path, text: str) -> Path:
    write_text(path, text)
    return path


@cache
def _environment() -> Environment:
    environment = Environment(  # noqa: S701 - Markdown and JSON are not HTML
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
