"""What was published without its dataset: an LMDB, or trees in any form, in the light of their metadata or tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from reben_dask.errors import InputError
from reben_dask.formats.lmdb import DATA_FILE, INDEX_FILE
from reben_dask.stores.trees import ARCHIVE_SUFFIX
from reben_dask.verify.context import Context, Settings
from reben_dask.verify.cubes_group import DOCUMENT
from reben_dask.verify.digest import Digest, file_digest, work_out
from reben_dask.verify.expected import Expected, every_published, find_expected
from reben_dask.verify.findings import NOTHING_THERE, Check, Report
from reben_dask.verify.lmdb import verify_lmdb
from reben_dask.verify.metadata import find_metadata, verify_metadata
from reben_dask.verify.metadata_rows import Rows
from reben_dask.verify.names import UNKNOWN
from reben_dask.verify.recognition import (
    like_names,
    names_in_lmdb,
    names_in_metadata,
    require_known_names,
    with_classes,
)
from reben_dask.verify.tables_alone import Told, read_tables
from reben_dask.verify.trees import forms_of, verify_trees

Artefact = Callable[[Path, Context], Iterator[Check]]


@dataclass(frozen=True)
class _Publication:
    """What lies at a path, and what it must consist of."""

    path: Path
    expected: Expected
    metadata: Sequence[Path]
    is_lmdb: bool

    @property
    def artefacts(self) -> list[Artefact]:
        """Checks of what is there."""
        forms = [] if self.is_lmdb else forms_of(self.path, self.expected.tree_layout)
        return [verify_lmdb] if self.is_lmdb else [partial(verify_trees, form) for form in forms]

    def told(self, rows: Rows | None) -> Told:
        """What its own tables tell."""
        return Told() if self.is_lmdb else read_tables(self.path, self.expected, rows)

    def digests(self) -> dict[Path, Digest]:
        """Digests of metadata and trees; that of an LMDB is a by-product of the walk over it."""
        jobs: dict[Path, Digest] = {file: file_digest for file in self.metadata if file.is_file()}
        layout = self.expected.tree_layout
        forms = [] if self.is_lmdb else forms_of(self.path, layout)
        return jobs | {root: form.digest for form in forms for root in form.roots(self.path, layout).values()}


def verify_published(path: Path, metadata: Sequence[Path], settings: Settings, report: Report) -> Iterator[Check]:
    """Verify an LMDB or trees; see :func:`reben_dask.verify.verification.verify`.

    Raises
    ------
    InputError
        If the path is neither, or holds patches of which nobody can tell what they must be; before anything is
        verified.
    """
    files, around = list(metadata) or find_metadata([path, path.parent]), Check("Run record")
    folders = [path, path.parent, *(file.absolute().parent for file in files)]
    record, recorded = find_expected(folders, around)
    is_lmdb = (path / DATA_FILE).exists() or (path / INDEX_FILE).exists()
    if not is_lmdb:
        candidates = [*([recorded] if record else []), *every_published()]
        expected = next((one for one in candidates if forms_of(path, one.tree_layout)), None)
        if expected is None:
            raise InputError(_nothing_known(path, candidates))
    elif record or around.problems:
        expected = recorded
    else:
        names = names_in_lmdb(path)
        expected = like_names(names or names_in_metadata(files), recorded)
        if expected is None and files:
            # Names that metadata ask for need not be understood.
            expected = replace(recorded, patch_name=UNKNOWN, split_may_be_null=True)
        expected = require_known_names(path, names, expected)
    if not record:
        expected = with_classes(expected, files)
    return _checks(_Publication(path, expected, files, is_lmdb), around, settings, report)


def _nothing_known(path: Path, candidates: Sequence[Expected]) -> str:
    trees = dict.fromkeys(tree.name for expected in candidates for tree in expected.tree_layout.trees)
    return (
        f"{path} is neither a dataset of this program (cubes.zarr, patches.parquet), nor an LMDB ({DATA_FILE}, "
        f"{INDEX_FILE}), nor a Zarr store ({DOCUMENT}), nor GeoTIFF trees ({', '.join(trees)}) or archives of them "
        f"({ARCHIVE_SUFFIX})."
    )


def _checks(what: _Publication, around: Check, settings: Settings, report: Report) -> Iterator[Check]:
    files, expected = what.metadata, what.expected
    yield from [around] if around.problems else []
    rows, checks = verify_metadata(files, expected, own=False) if files else (None, [])
    told = what.told(rows)
    has_rows = bool(files) or told.rows is not None
    yield from checks if has_rows else [Check("Metadata files", not_checked=NOTHING_THERE)]
    yield from told.checks
    if not files:
        rows = told.rows
    report.patches = len(rows or ())
    context = Context(settings, report, expected, rows, row_of=told.row_of, listed=told.listed)
    for artefact in what.artefacts:
        yield from artefact(what.path, context)
    # What there is not in one form may be there in the other.
    absent = [name for name in dict.fromkeys(report.without) if report.without.count(name) == len(what.artefacts)]
    report.without = [*([] if has_rows else ["metadata"]), *absent]
    if settings.digest:
        yield from work_out(what.digests(), context)
