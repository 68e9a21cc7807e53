"""A finished dataset of this program: each artefact by itself, and all of them together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reben_dask.formats.dataset import FLAGGED_METADATA_FILE, METADATA_FILE
from reben_dask.stores.patch_table import part_files
from reben_dask.verify.context import Context, Settings
from reben_dask.verify.cubes import verify_cubes
from reben_dask.verify.cubes_compared import StorePatches
from reben_dask.verify.cubes_tile import kinds_in
from reben_dask.verify.digest import Digest, cubes_digest, file_digest, folder_digest, work_out
from reben_dask.verify.expected import RECORD, Kind, find_expected
from reben_dask.verify.findings import Check, Report
from reben_dask.verify.lmdb import verify_lmdb
from reben_dask.verify.metadata import verify_metadata
from reben_dask.verify.patch_rows import PatchRows
from reben_dask.verify.table import verify_table
from reben_dask.verify.tables_compared import verify_tables
from reben_dask.verify.trees import forms_of, verify_trees

CUBES, TABLE, LMDB = "cubes.zarr", "patches.parquet", "lmdb"
ARTEFACTS = (CUBES, TABLE, METADATA_FILE, FLAGGED_METADATA_FILE, LMDB, str(RECORD))


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

    metadata = [out / name for name in (METADATA_FILE, FLAGGED_METADATA_FILE) if (out / name).exists()]
    rows, checks = verify_metadata(metadata, expected, own=True) if metadata else (None, [])
    if len(metadata) < 2:
        # What one file alone asks for is not what the dataset must hold.
        rows = None
    report.patches = len(rows or ())
    yield from checks

    required = frozenset({Kind.S2, Kind.MAP} | ({Kind.S1} & kinds_in(cubes)))
    parts = part_files(table) if table.is_dir() else []
    store = StorePatches(cubes, parts, expected.nomenclature, full=settings.full) if cubes.exists() else None
    table_rows = PatchRows(cubes, parts, expected)
    context = Context(
        settings,
        report,
        expected,
        rows,
        own=True,
        required=required,
        store=store,
        row_of=table_rows.row,
        attributes_of=table_rows.attributes,
    )
    if table.exists():
        yield from verify_table(table, record, context)
    if cubes.exists():
        yield from verify_cubes(cubes, parts, context)
    if lmdb.exists():
        yield from verify_lmdb(lmdb, context)
    layout = expected.tree_layout
    forms = forms_of(out, layout)
    exports = _exports(record)
    if exports:
        yield _look_for_exports(out, exports)
    for form in forms:
        # What there is none of was said before.
        yield from verify_trees(form, out, replace(context, report=Report()))
    if forms or any((out / name).exists() for name in layout.tables):
        yield from verify_tables(out, layout, parts)
    if settings.digest:
        jobs: dict[Path, Digest] = {
            out / METADATA_FILE: file_digest,
            out / FLAGGED_METADATA_FILE: file_digest,
            table: lambda path: folder_digest(path, ".parquet"),
            cubes: cubes_digest,
            **{root: form.digest for form in forms for root in form.roots(out, layout).values()},
        }
        yield from work_out(jobs, context)


def _look_for_exports(out: Path, exports: Sequence[str]) -> Check:
    """Whether the trees and tables are there that the run has made; all of them may have gone elsewhere."""
    check, there = Check("Exports of the run", ", ".join(exports)), [name for name in exports if (out / name).exists()]
    if not there:
        check.not_checked = "none is in the dataset's folder"
    else:
        check.add(f"{name} is missing" for name in exports if name not in there)
    return check


def _exports(record: Mapping[str, Any] | None) -> list[str]:
    """Names of the exported trees and tables, as far as the record has them."""
    exports = (record or {}).get("exports")
    return [str(name) for name in exports] if isinstance(exports, list) else []
