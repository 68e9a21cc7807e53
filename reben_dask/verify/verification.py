"""One verification from a path to its checks: what the path is, and what belongs to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from reben_dask.errors import InputError, missing
from reben_dask.verify.context import Context, Settings
from reben_dask.verify.cubes_alone import verify_store
from reben_dask.verify.cubes_group import DOCUMENT
from reben_dask.verify.dataset import is_dataset, verify_dataset
from reben_dask.verify.digest import cubes_digest, work_out
from reben_dask.verify.expected import find_expected
from reben_dask.verify.findings import Check, Report
from reben_dask.verify.publication import verify_published


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
    for file, what in ((path, "The path"), *((file, "The metadata file") for file in metadata)):
        if not file.exists():
            raise InputError(missing(what, file))
    place = path.absolute()
    what = "a dataset with metadata of its own" if is_dataset(place) else "a Zarr store, which is checked by itself"
    if metadata and (is_dataset(place) or (place / DOCUMENT).exists()):
        raise InputError(f"{path} is {what}; --metadata is for an LMDB or trees.")
    if is_dataset(place):
        checks = verify_dataset(place, settings, report)
    elif (place / DOCUMENT).exists():
        checks = _store(place, settings, report)
    else:
        checks = verify_published(place, metadata, settings, report)
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
