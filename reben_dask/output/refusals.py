"""What an output folder holds, and a job must not touch or mix with its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reben_dask.errors import OutputError
from reben_dask.formats.dataset import ARTEFACTS, FAILURES, ORIGIN, REPORT
from reben_dask.output.origin import TILES, Origin, differences
from reben_dask.output.state import TILES_STAGE, State


def require_same_job(root: Path, state: State, origin: Origin) -> None:
    """Raise :class:`OutputError` if what an unfinished job has done is of no use to a job.

    Tiles that are not done may have changed. A job that has done nothing yet is in nobody's way.
    """
    earlier, done = state.origin(), state.done(TILES_STAGE)
    if earlier is None or not done:
        return
    if other := differences(earlier, origin, earlier[TILES].keys() - done):
        raise OutputError(
            f"{root} holds an unfinished job that was made from something else ({'; '.join(other)}); give the "
            "same inputs again to go on with it, --restart to throw away what it has done, or another folder."
        )


def require_same_dataset(root: Path, found: Sequence[str], record: Mapping[str, Any] | None, origin: Origin) -> None:
    """Raise :class:`OutputError` if a folder holds a dataset that a job would not make, or anything else.

    Parameters
    ----------
    root : Path
        The output folder.
    found : sequence of str
        What is in it.
    record : mapping or None
        Run record of the dataset, if there is one.
    origin : Origin
        What the job is made from.
    """
    earlier = record.get(ORIGIN) if record else None
    if record is None or not isinstance(earlier, dict):
        shown = ", ".join(found[:3]) + ", …" * (len(found) > 3)
        ways = ["give a new folder"]
        if record is not None:
            ways.append("--overwrite to replace the dataset, once the new one is complete")
        elif not {*found} & {*ARTEFACTS, REPORT}:
            ways.append("--overwrite to write beside what is there")
        raise OutputError(f"The output folder {root} is not empty (it holds {shown}); {', or '.join(ways)}.")
    if other := differences(earlier, origin, failed_tiles(record)):
        raise OutputError(
            f"{root} holds a dataset that was made from something else ({'; '.join(other)}); give a new "
            "folder, or --overwrite to replace it once the new one is complete."
        )


def failed_tiles(record: Mapping[str, Any]) -> set[str]:
    """Tiles that were set aside when a dataset was made, as its run record has them."""
    failures = record.get(FAILURES)
    return {str(failure["tile"]) for failure in failures or () if isinstance(failure, dict) and "tile" in failure}
