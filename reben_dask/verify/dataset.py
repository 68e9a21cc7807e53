"""A finished dataset of this program: each artefact by itself, and all of them together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from reben_dask.stores.metadata import METADATA, SNOW_CLOUD_METADATA
from reben_dask.stores.patch_table import part_files
from reben_dask.verify.context import Context, Settings
from reben_dask.verify.cubes import verify_cubes
from reben_dask.verify.cubes_compared import StorePatches
from reben_dask.verify.cubes_tile import kinds_in
from reben_dask.verify.digest import Digest, cubes_digest, file_digest, folder_digest, work_out
from reben_dask.verify.expected import KNOWN_TREE, RECORD, Kind, find_expected
from reben_dask.verify.findings import Check, Report
from reben_dask.verify.lmdb import verify_lmdb
from reben_dask.verify.metadata import verify_metadata
from reben_dask.verify.table import verify_table
from reben_dask.verify.trees import forms_of, verify_trees

CUBES, TABLE, LMDB = "cubes.zarr", "patches.parquet", "lmdb"
ARTEFACTS = (CUBES, TABLE, METADATA, SNOW_CLOUD_METADATA, LMDB, str(RECORD))


def is_dataset(path: Path) -> bool:
    """Whether a folder is, or was, a dataset of this program: it has what nothing else has."""
    return any((path / name).exists() for name in (CUBES, TABLE, RECORD))


def verify_dataset(out: Path, settings: Settings, report: Report) -> Iterator[Check]:
    """Check a finished dataset, artefact by artefact."""
    table, cubes, lmdb = (out / name for name in (TABLE, CUBES, LMDB))
    artefacts = Check("Artefacts", ", ".join(ARTEFACTS))
    artefacts.add(f"{name} is missing" for name in ARTEFACTS if not (out / name).exists())
    record, expected = find_expected([out], artefacts)
    yield artefacts

    metadata = [out / name for name in (METADATA, SNOW_CLOUD_METADATA) if (out / name).exists()]
    rows, checks = verify_metadata(metadata, expected, own=True) if metadata else (None, [])
    if len(metadata) < 2:
        # What one file alone asks for is not what the dataset must hold.
        rows = None
    report.patches = len(rows or ())
    yield from checks

    required = frozenset({Kind.S2, Kind.MAP} | ({Kind.S1} & kinds_in(cubes)))
    parts = part_files(table) if table.is_dir() else []
    store = StorePatches(cubes, parts, full=settings.full) if cubes.exists() else None
    context = Context(settings, report, expected, rows, own=True, required=required, store=store)
    if table.exists():
        yield from verify_table(table, record, context)
    if cubes.exists():
        yield from verify_cubes(cubes, parts, context)
    if lmdb.exists():
        yield from verify_lmdb(lmdb, context)
    forms = forms_of(out) if expected.tree == KNOWN_TREE else []
    for form in forms:
        # What there is none of was said before.
        yield from verify_trees(form, out, replace(context, report=Report()))
    if expected.tree != KNOWN_TREE and (exports := _exports(record)):
        reason = f"only trees of the layout {KNOWN_TREE} can be verified, and these have the layout {expected.tree}"
        yield Check(", ".join(exports), not_checked=reason)
    if settings.digest:
        jobs: dict[Path, Digest] = {
            out / METADATA: file_digest,
            out / SNOW_CLOUD_METADATA: file_digest,
            table: lambda path: folder_digest(path, ".parquet"),
            cubes: cubes_digest,
            **{root: form.digest for form in forms for root in form.roots(out).values()},
        }
        yield from work_out(jobs, context)


def _exports(record: Mapping[str, Any] | None) -> list[str]:
    """Names of the exported trees and tables, as far as the record has them."""
    exports = (record or {}).get("exports")
    return [str(name) for name in exports] if isinstance(exports, list) else []
