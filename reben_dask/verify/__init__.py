"""Verification of datasets by any program; problems, such as unreadable data, are collected, not raised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from reben_dask.errors import InputError, missing
from reben_dask.formats.bands import ImageKind
from reben_dask.formats.cube import DOCUMENT
from reben_dask.formats.dataset import (
    CATALOGUE,
    CUBES,
    FLAGGED_METADATA_FILE,
    LMDB,
    METADATA_FILE,
    RECORD,
    STATISTICS,
    TABLE,
    RunRecord,
)
from reben_dask.formats.lmdb import DATA_FILE, INDEX_FILE, find_lmdb, is_lmdb
from reben_dask.formats.sample_shards import SHARD_FORMS, ShardForm
from reben_dask.stores.patch_table import part_files
from reben_dask.stores.trees import ARCHIVE_SUFFIX
from reben_dask.verify.catalogue import verify_catalogue
from reben_dask.verify.cubes import kinds_in, verify_cubes
from reben_dask.verify.dataset import Dataset, verify_table, verify_tree_tables
from reben_dask.verify.digest import Digest, compute_digests, cubes_digest, file_digest, folder_digest
from reben_dask.verify.engine import Context
from reben_dask.verify.expected import (
    Expected,
    every_published,
    find_expected,
    is_reproduction,
    names_in_metadata,
    recognise,
    with_classes,
)
from reben_dask.verify.findings import NOTHING_THERE, Check, Report, Settings, silent
from reben_dask.verify.lmdb import names_in_lmdb, verify_lmdb
from reben_dask.verify.metadata import Rows, find_metadata, read_tree_tables, verify_metadata
from reben_dask.verify.overlaps import verify_overlaps
from reben_dask.verify.sample_shards import find_sample_shards, names_in_sample_shards, verify_sample_shards
from reben_dask.verify.statistics import verify_statistics
from reben_dask.verify.trees import Form, forms_of, verify_trees

__all__ = ["Check", "Report", "Settings", "silent", "verify"]

_ARTEFACTS = (CUBES, TABLE, METADATA_FILE, FLAGGED_METADATA_FILE, CATALOGUE, LMDB, STATISTICS, RECORD)


def verify(path: Path, metadata: Sequence[Path], settings: Settings, report: Report) -> Iterator[Check]:
    """Verify a dataset, an LMDB, a Zarr store, GeoTIFF trees, loose or as archives, or shards of samples.

    Parameters
    ----------
    path : Path
        Folder or archive.
    metadata : sequence of Path
        Metadata files of an LMDB or of trees; by default those in its folder or the one above. Without any, the data
        are checked by themselves. A dataset has its own, and a Zarr store none.
    settings : Settings
        Options.
    report : Report
        Gets all checks, the number of patches, and digests.

    Yields
    ------
    Check
        Each as soon as it is finished.

    Raises
    ------
    InputError
        Before any check: nothing to verify at the path, a missing metadata file, or one for data that take none.
    """
    for file, what in ((path, "The path"), *((file, "The metadata file") for file in metadata)):
        if not file.exists():
            raise InputError(missing(what, file))
    place = path.absolute()
    is_dataset = any((place / name).exists() for name in (CUBES, TABLE, RECORD))
    if metadata and (is_dataset or (place / DOCUMENT).exists()):
        what = "a dataset with metadata of its own" if is_dataset else "a Zarr store, which is checked by itself"
        raise InputError(f"{path} is {what}; --metadata is for an LMDB or trees.")
    if is_dataset:
        checks = _dataset(place, settings, report)
    elif (place / DOCUMENT).exists():
        checks = _store(place, settings, report)
    else:
        checks = _published(place, metadata, settings, report)
    return _recorded(checks, report)


def _recorded(checks: Iterator[Check], report: Report) -> Iterator[Check]:
    for check in checks:
        report.checks.append(check)
        yield check


def _dataset(out: Path, settings: Settings, report: Report) -> Iterator[Check]:
    artefacts = Check("Artefacts", summary=", ".join(_ARTEFACTS))
    artefacts.add(f"{name} is missing" for name in _ARTEFACTS if not (out / name).exists())
    record, expected = find_expected([out], artefacts)
    yield artefacts

    metadata = [out / name for name in (METADATA_FILE, FLAGGED_METADATA_FILE) if (out / name).exists()]
    rows, checks = verify_metadata(metadata, expected, own=True) if metadata else (Rows(), [])
    if len(metadata) == 1:
        # The rows of one file alone are not those of the dataset.
        rows = Rows()
    report.patches = len(rows)
    yield from checks

    parts = part_files(out / TABLE) if (out / TABLE).is_dir() else []
    dataset = Dataset(out, parts, expected, record, full=settings.full)
    required = {ImageKind.S2, ImageKind.MAP} | (kinds_in(out / CUBES) & {ImageKind.S1})
    context = Context(settings, report, expected, rows, dataset, frozenset(required), is_reproduction(record))
    if (out / TABLE).exists():
        yield from verify_table(dataset, rows, settings)
        yield verify_overlaps(dataset, settings)
    if (out / CATALOGUE).exists() and record is not None:
        has_sentinel1 = record.inputs.sentinel1 is not None
        contents = expected.recipe.catalogue(expected.nomenclature, has_sentinel1=has_sentinel1)
        yield from verify_catalogue(dataset, out / CATALOGUE, contents)
    if (out / CUBES).exists():
        yield from verify_cubes(out / CUBES, context)
    if (out / LMDB).exists():
        yield from verify_lmdb(out / LMDB, context)
    if (out / STATISTICS).exists():
        yield verify_statistics(out, rows, context)
    layout = expected.tree_layout
    yield from _exports(out, record)
    for form in (forms := forms_of(out, layout)):
        # Contents that the dataset does not have were reported before.
        yield from verify_trees(form, out, replace(context, report=Report()))
    if forms or any((out / name).exists() for name in layout.tables):
        yield from verify_tree_tables(out, layout, parts)
    shards = find_sample_shards(out)
    for folder, shard_form in shards.items():
        of_shards = replace(context, report=Report())
        yield from verify_sample_shards(folder, shard_form, of_shards, has_sentinel1=ImageKind.S1 in required)
    jobs: dict[Path, Digest] = {out / name: file_digest for name in (METADATA_FILE, FLAGGED_METADATA_FILE)}
    tables = (out / TABLE, out / CATALOGUE)
    jobs |= {**dict.fromkeys(tables, partial(folder_digest, suffix=".parquet")), out / CUBES: cubes_digest}
    jobs |= {root: form.digest for form in forms for root in form.roots(out, layout).values()}
    jobs |= _shard_digests(shards)
    yield from compute_digests(jobs, settings, report)


def _exports(out: Path, record: RunRecord | None) -> Iterator[Check]:
    """Check that exports of the run exist; all of them may have been moved elsewhere."""
    exports = record.exports if record else ()
    absent = [name for name in exports if not (out / name).exists()]
    check = Check("Exports of the run", summary=", ".join(exports))
    if absent == list(exports):
        check.not_checked = "none is in the dataset's folder"
    else:
        check.add(f"{name} is missing" for name in absent)
    yield from [check] if exports else []


def _store(path: Path, settings: Settings, report: Report) -> Iterator[Check]:
    around = Check("Run record")
    record, expected = find_expected([path, path.parent], around)
    yield from [around] if around.problems else []
    yield from verify_cubes(path, Context(settings, report, expected, as_published=is_reproduction(record)))
    yield from compute_digests({path: cubes_digest}, settings, report)


def _published(path: Path, metadata: Sequence[Path], settings: Settings, report: Report) -> Iterator[Check]:
    files, around = list(metadata) or find_metadata([path, path.parent]), Check("Run record")
    folders = [path, path.parent, *(file.absolute().parent for file in files)]
    record, expected = find_expected(folders, around)
    candidates = [] if is_lmdb(path) else [*([expected] if record else []), *every_published()]
    of_trees = next((found for found in candidates if forms_of(path, found.tree_layout)), None)
    forms = forms_of(path, of_trees.tree_layout) if of_trees else []
    # A tree may have half a million folders, and is no folder of an LMDB.
    is_tree = any(path in form.roots(path, of_trees.tree_layout).values() for form in forms) if of_trees else False
    shards = {} if is_tree or is_lmdb(path) else find_sample_shards(path)
    lmdb = None if is_tree or path in shards else find_lmdb(path)
    if of_trees:
        expected = of_trees
    elif lmdb is None and not shards:
        raise _nothing_to_verify(path, candidates)
    elif not record and not around.problems:
        names = names_in_lmdb(lmdb) if lmdb else names_in_sample_shards(*next(iter(shards.items())))
        expected = _of_names(lmdb or path, names, files, expected)
    if not record:
        expected = with_classes(expected, files)
    context = Context(settings, report, expected, as_published=is_reproduction(record))
    has_sentinel1 = None if record is None else record.inputs.sentinel1 is not None
    return _checks(path, files, around, context, _Containers(forms, lmdb, shards, has_sentinel1))


def _nothing_to_verify(path: Path, candidates: Sequence[Expected]) -> InputError:
    trees = dict.fromkeys(tree.name for expected in candidates for tree in expected.tree_layout.trees)
    return InputError(
        f"{path} is neither a dataset of this program ({CUBES}, {TABLE}), nor an LMDB ({DATA_FILE}, {INDEX_FILE}), "
        f"nor a Zarr store ({DOCUMENT}), nor GeoTIFF trees ({', '.join(trees)}) or archives of them "
        f"({ARCHIVE_SUFFIX}), nor samples in shards ({', '.join(SHARD_FORMS)})."
    )


def _of_names(path: Path, names: Sequence[str], files: Sequence[Path], default: Expected) -> Expected:
    """Find the published dataset with names as in a container, or in its metadata."""
    expected = recognise(names or names_in_metadata(files), default)
    if expected is None and not files:
        raise InputError(
            f"{path} has patches such as {names[0]!r}, whose naming only a run record defines; put "
            "the folder run of their dataset beside it, or give its --metadata."
        )
    # Names of patches that metadata list need not be parsed.
    return expected or replace(default, names=None)


class _Containers(NamedTuple):
    """Data found at a path without a dataset; ``has_sentinel1`` is that of their run record, if there is one."""

    forms: Sequence[Form]
    lmdb: Path | None
    shards: Mapping[Path, ShardForm]
    has_sentinel1: bool | None


def _checks(path: Path, files: Sequence[Path], around: Check, context: Context, found: _Containers) -> Iterator[Check]:
    report, expected, forms = context.report, context.expected, found.forms
    yield from [around] if around.problems else []
    rows, checks = verify_metadata(files, expected, own=False) if files else (Rows(), [])
    listed, of_tables = read_tree_tables(path, expected, rows) if forms else (Rows(), [])
    if not files:
        rows = listed
    yield from checks if files or rows.is_complete else [Check("Metadata files", not_checked=NOTHING_THERE)]
    yield from of_tables
    report.patches = len(rows) if rows.is_complete else 0
    context = replace(context, rows=rows)
    for form in forms:
        yield from verify_trees(form, path, context)
    if found.lmdb:
        yield from verify_lmdb(found.lmdb, context)
    for folder, shard_form in found.shards.items():
        yield from verify_sample_shards(folder, shard_form, context, has_sentinel1=found.has_sentinel1)
    # Contents that are missing in one form may be there in the other.
    containers = len(forms) + bool(found.lmdb) + len(found.shards)
    absent = [name for name in dict.fromkeys(report.without) if report.without.count(name) == containers]
    report.without = [*([] if files or rows.is_complete else ["metadata"]), *absent]
    jobs: dict[Path, Digest] = {file: file_digest for file in files if file.is_file()}
    jobs |= {root: form.digest for form in forms for root in form.roots(path, expected.tree_layout).values()}
    jobs |= _shard_digests(found.shards)
    yield from compute_digests(jobs, context.settings, report)


def _shard_digests(shards: Mapping[Path, ShardForm]) -> dict[Path, Digest]:
    return {folder: partial(folder_digest, suffix=form.suffix) for folder, form in shards.items()}
