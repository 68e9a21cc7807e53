"""A finished dataset of this program: each artefact by itself, and all of them together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from reben_dask.stores.lmdb_merge import find_environments
from reben_dask.stores.metadata import METADATA, SNOW_CLOUD_METADATA
from reben_dask.stores.patch_table import part_files
from reben_dask.verify.cubes import has_radar, verify_cubes
from reben_dask.verify.digest import cubes_digest, file_digest, folder_digest
from reben_dask.verify.expected import RECORD, Expected, Kind, expected_of, published, read_record
from reben_dask.verify.findings import Check, Report, collect
from reben_dask.verify.lmdb import verify_lmdb
from reben_dask.verify.metadata import verify_metadata
from reben_dask.verify.patch_folder import SUFFIX
from reben_dask.verify.pixels import verify_pixels
from reben_dask.verify.settings import Settings
from reben_dask.verify.table import verify_table
from reben_dask.verify.tree import tree_roots, verify_tree

CUBES, TABLE, LMDB = "cubes.zarr", "patches.parquet", "lmdb"
ARTEFACTS = (CUBES, TABLE, METADATA, SNOW_CLOUD_METADATA, LMDB, str(RECORD))
DIGEST_STAGE = "verify-digest"


def is_dataset(path: Path) -> bool:
    """Whether a folder is, or was, a dataset of this program: it has what nothing else has."""
    return any((path / name).exists() for name in (CUBES, TABLE, RECORD))


def verify_dataset(out: Path, settings: Settings, report: Report) -> Iterator[Check]:
    """Check a finished dataset.

    Parameters
    ----------
    out : Path
        Folder of the dataset.
    settings : Settings
        How deep, and whom to tell of progress.
    report : Report
        Told the number of patches, and the digests.

    Yields
    ------
    Check
        One after the other, as they are finished.
    """
    radar = frozenset([Kind.S1]) if has_radar(out / CUBES) else frozenset()
    own = replace(settings, own=True, required=frozenset([Kind.S2, Kind.MAP]) | radar)
    artefacts = Check("Artefacts", ", ".join(ARTEFACTS))
    artefacts.add(f"{name} is missing" for name in ARTEFACTS if not (out / name).exists())
    record, expected = _read_record(out, artefacts)
    yield artefacts

    metadata = [out / name for name in (METADATA, SNOW_CLOUD_METADATA) if (out / name).exists()]
    rows, checks = verify_metadata(metadata, expected, own=True) if metadata else (None, [])
    if len(metadata) < 2:
        # What one file alone asks for is not what the dataset must hold.
        rows = None
    report.patches = 0 if rows is None else len(rows)
    yield from checks

    table, cubes, lmdb = (out / name for name in (TABLE, CUBES, LMDB))
    if table.exists():
        yield from verify_table(table, rows, expected, record, own)
    # The digest of an LMDB is a by-product of the walk over its entries.
    yield from verify_lmdb(lmdb, rows, expected, replace(own, full=False), report) if lmdb.exists() else ()
    parts = part_files(table) if table.is_dir() else []
    if cubes.exists():
        yield from verify_cubes(cubes, parts, expected, own)
        yield from verify_pixels(cubes, parts, _environments(lmdb), expected, own)
    if tree_roots(out):
        yield from verify_tree(out, rows, expected, own, Report())
    if settings.digest:
        yield from _digests(out, settings, report)


def _read_record(out: Path, check: Check) -> tuple[dict[str, Any] | None, Expected]:
    """The run record, where it can be read; and what it says of patches, or else what the published format says."""
    if (out / RECORD).exists():
        with collect(check, RECORD):
            record = read_record(out / RECORD)
            return record, expected_of(record)
    return None, published()


def _environments(lmdb: Path) -> list[Path]:
    with collect(Check("told of when the entries were read")):
        return find_environments([lmdb])
    return []


def _digests(out: Path, settings: Settings, report: Report) -> Iterator[Check]:
    check = Check("Digests")
    known, report.digests = report.digests, {}
    jobs: dict[str, Callable[[Path], str]] = {
        METADATA: file_digest,
        SNOW_CLOUD_METADATA: file_digest,
        TABLE: lambda path: folder_digest(path, ".parquet"),
        CUBES: cubes_digest,
        **{root.name: tree_digest for root in tree_roots(out).values()},
    }
    settings.progress.begin(DIGEST_STAGE, len(jobs))
    for name, job in jobs.items():
        if (out / name).exists():
            with collect(check, name):
                report.digests[name] = job(out / name)
        settings.progress.advance(DIGEST_STAGE)
    report.digests |= known
    if check.problems:
        yield check


def tree_digest(root: Path) -> str:
    """Digest of the images of a GeoTIFF tree."""
    return folder_digest(root, SUFFIX)
