"""One verification from a path to its checks: what the path is, and what belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from pathlib import Path

from reben_dask.errors import InputError
from reben_dask.stores.lmdb_environment import DATA_FILE, INDEX_FILE
from reben_dask.verify.dataset import is_dataset, tree_digest, verify_dataset
from reben_dask.verify.digest import file_digest
from reben_dask.verify.expected import RECORD, Expected, expected_of, find_record, published, read_record
from reben_dask.verify.findings import Check, Report, collect
from reben_dask.verify.lmdb import verify_lmdb
from reben_dask.verify.metadata import find_metadata, verify_metadata
from reben_dask.verify.settings import Settings
from reben_dask.verify.tree import tree_roots, verify_tree


class Subject(Enum):
    """What can be verified."""

    DATASET = "dataset"
    LMDB = "LMDB"
    TREE = "GeoTIFF tree"


def recognise(path: Path) -> Subject:
    """What a path is.

    Raises
    ------
    InputError
        If it is nothing that can be verified.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a folder." if path.exists() else f"{path} does not exist.")
    tests: dict[Subject, Callable[[], bool]] = {
        Subject.DATASET: lambda: is_dataset(path),
        Subject.LMDB: lambda: (path / DATA_FILE).exists() or (path / INDEX_FILE).exists(),
        Subject.TREE: lambda: bool(tree_roots(path)),
    }
    found = next((subject for subject, test in tests.items() if test()), None)
    if found is None:
        raise InputError(
            f"{path} is neither a dataset of this program (cubes.zarr, patches.parquet), nor an LMDB ({DATA_FILE}, "
            f"{INDEX_FILE}), nor a folder of GeoTIFF trees (BigEarthNet-S2, BigEarthNet-S1, Reference_Maps)."
        )
    return found


def verify(path: Path, metadata: Sequence[Path], settings: Settings, report: Report) -> Iterator[Check]:
    """Verify a dataset, an LMDB, or GeoTIFF trees.

    Parameters
    ----------
    path : Path
        What to verify.
    metadata : sequence of Path
        Its metadata files. Without them, those in the folder of an LMDB or tree, or in the folder above, are taken;
        without any, the data are checked by themselves. A dataset has its own.
    settings : Settings
        How deep, and whom to tell of progress.
    report : Report
        Gets all checks, the number of patches, and digests.

    Yields
    ------
    Check
        Each as soon as it is finished.

    Raises
    ------
    InputError
        If the path is nothing that can be verified, a metadata file does not exist, or a dataset is given others than
        its own; before anything is read.
    """
    subject = recognise(path)
    if missing := [file for file in metadata if not file.exists()]:
        raise InputError(f"{missing[0]} does not exist.")
    if metadata and subject is Subject.DATASET:
        raise InputError(f"{path} is a dataset with metadata of its own; --metadata is for an LMDB or a tree.")
    return _gathered(subject, path, metadata, settings, report)


def _gathered(
    subject: Subject, path: Path, metadata: Sequence[Path], settings: Settings, report: Report
) -> Iterator[Check]:
    checks = (
        verify_dataset(path, settings, report)
        if subject is Subject.DATASET
        else _published(subject, path, metadata, settings, report)
    )
    for check in checks:
        report.checks.append(check)
        yield check


def _published(
    subject: Subject, path: Path, metadata: Sequence[Path], settings: Settings, report: Report
) -> Iterator[Check]:
    """Checks of an LMDB or of trees, in the light of the metadata files."""
    absolute = path.absolute()
    files = list(metadata) or find_metadata([absolute, absolute.parent])
    around = Check("Run record")
    expected = _expected([absolute, absolute.parent, *(file.absolute().parent for file in files)], around)
    if around.problems:
        yield around
    rows, checks = verify_metadata(files, expected, own=False) if files else (None, [Check("Metadata files")])
    if not files:
        checks[0].not_checked = "there are none"
        report.without.append("metadata")
    yield from checks
    if rows is not None:
        report.patches = len(rows)
    walk = verify_lmdb if subject is Subject.LMDB else verify_tree
    yield from walk(absolute, rows, expected, settings, report)
    if settings.digest:
        yield from _digests(subject, absolute, files, report)


def _expected(folders: Sequence[Path], check: Check) -> Expected:
    record = find_record(folders)
    if record is not None:
        with collect(check, RECORD):
            return expected_of(read_record(record))
    return published()


def _digests(subject: Subject, path: Path, files: Sequence[Path], report: Report) -> Iterator[Check]:
    check = Check("Digests")
    with collect(check):
        known, report.digests = report.digests, {file.name: file_digest(file) for file in files if file.is_file()}
        report.digests |= known
        if subject is Subject.TREE:
            report.digests |= {root.name: tree_digest(root) for root in tree_roots(path).values()}
    if check.problems:
        yield check
