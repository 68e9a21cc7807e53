"""One verification from a path to its checks: what the path is, and what belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from reben_dask.errors import InputError
from reben_dask.stores.lmdb_environment import DATA_FILE, INDEX_FILE
from reben_dask.verify.context import Context, Settings
from reben_dask.verify.cubes_alone import verify_store
from reben_dask.verify.cubes_group import DOCUMENT
from reben_dask.verify.dataset import is_dataset, verify_dataset
from reben_dask.verify.digest import Digest, cubes_digest, file_digest, work_out
from reben_dask.verify.expected import find_expected
from reben_dask.verify.findings import Check, Report
from reben_dask.verify.lmdb import verify_lmdb
from reben_dask.verify.metadata import find_metadata, verify_metadata
from reben_dask.verify.trees import ARCHIVES, forms_of, verify_trees
from reben_dask.verify.trees_folder import TREES


def verify(path: Path, metadata: Sequence[Path], settings: Settings, report: Report) -> Iterator[Check]:
    """Verify a dataset, an LMDB, a Zarr store, or GeoTIFF trees, loose or as archives.

    Parameters
    ----------
    path : Path
        What to verify.
    metadata : sequence of Path
        Its metadata files. Without them, those in the folder of an LMDB or tree, or in the folder above, are taken;
        without any, the data are checked by themselves. A dataset has its own, and a Zarr store none.
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
        If the path is nothing that can be verified, a metadata file does not exist, or is given for what takes none;
        before anything is read.
    """
    if missing := [file for file in (path, *metadata) if not file.exists()]:
        raise InputError(f"{missing[0]} does not exist.")
    place = path.absolute()
    what = "a dataset with metadata of its own" if is_dataset(place) else "a Zarr store, which is checked by itself"
    if metadata and (is_dataset(place) or (place / DOCUMENT).exists()):
        raise InputError(f"{path} is {what}; --metadata is for an LMDB or trees.")
    if is_dataset(place):
        checks = verify_dataset(place, settings, report)
    elif (place / DOCUMENT).exists():
        checks = _store(place, settings, report)
    elif artefacts := _published_artefacts(place):
        checks = _published(place, artefacts, metadata, settings, report)
    else:
        raise InputError(
            f"{path} is neither a dataset of this program (cubes.zarr, patches.parquet), nor an LMDB ({DATA_FILE}, "
            f"{INDEX_FILE}), nor a Zarr store ({DOCUMENT}), nor GeoTIFF trees ({', '.join(TREES.values())}) or "
            f"archives of them ({ARCHIVES.suffix})."
        )
    return _gathered(checks, report)


def _gathered(checks: Iterator[Check], report: Report) -> Iterator[Check]:
    for check in checks:
        report.checks.append(check)
        yield check


def _store(path: Path, settings: Settings, report: Report) -> Iterator[Check]:
    """Checks of a Zarr store alone."""
    around = Check("Run record")
    _, expected = find_expected([path, path.parent], around)
    yield from [around] if around.problems else []
    context = Context(settings, report, expected)
    yield from verify_store(path, context)
    if settings.digest:
        yield from work_out({path: cubes_digest}, context)


Artefact = Callable[[Path, Context], Iterator[Check]]


def _published_artefacts(path: Path) -> list[Artefact]:
    """Checks for what was published at a path: an LMDB, or trees in any form."""
    if (path / DATA_FILE).exists() or (path / INDEX_FILE).exists():
        return [verify_lmdb]
    return [partial(verify_trees, form) for form in forms_of(path)]


def _published(
    path: Path, artefacts: Sequence[Artefact], metadata: Sequence[Path], settings: Settings, report: Report
) -> Iterator[Check]:
    """Checks of what was published, in the light of its metadata files."""
    files, around = list(metadata) or find_metadata([path, path.parent]), Check("Run record")
    _, expected = find_expected([path, path.parent, *(file.absolute().parent for file in files)], around)
    rows, checks = verify_metadata(files, expected, own=False) if files else (None, [Check("Metadata files")])
    if not files:
        checks[0].not_checked = "there are none"
    yield from [around, *checks] if around.problems else checks
    report.patches = len(rows or ())
    context = Context(settings, report, expected, rows)
    for artefact in artefacts:
        yield from artefact(path, context)
    # What there is not in one form may be there in the other.
    absent = [name for name in dict.fromkeys(report.without) if report.without.count(name) == len(artefacts)]
    report.without = [*([] if files else ["metadata"]), *absent]
    if settings.digest:
        jobs: dict[Path, Digest] = {file: file_digest for file in files if file.is_file()}
        jobs |= {root: form.digest for form in forms_of(path) for root in form.roots(path).values()}
        yield from work_out(jobs, context)
