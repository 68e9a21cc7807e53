"""What is done, failed, and stale in an output folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reben_dask.errors import OutputError, missing
from reben_dask.formats.dataset import FAILURES, LOCK, ORIGIN
from reben_dask.output.folder import Output
from reben_dask.output.lock import owner
from reben_dask.output.origin import TILES
from reben_dask.output.state import TILES_STAGE

DONE, WAITING, FAILED, STALE = "done", "waiting", "failed", "stale"
"""What a tile can be. One is stale if it is not the same any more, or is not where it was."""

Identify = Callable[[Path], str | None]
"""Gives the identity of the product at a path; ``None`` if there is none."""


@dataclass(frozen=True)
class Status:
    """What there is in an output folder.

    Parameters
    ----------
    root : Path
        The folder.
    owner : str or None
        Host, process and job that write to it.
    finished : str or None
        When the dataset in it was finished; ``None`` without a complete dataset.
    recipe : str or None
        Name of its recipe.
    dataset : dict of str to str
        State of each tile of that dataset.
    unfinished : dict of str to str
        State of each tile of the job that is unfinished; empty without one.
    errors : dict of str to str
        Why tiles failed.
    is_publishing : bool
        Whether a job ended while it published; the next one finishes that.
    """

    root: Path
    owner: str | None
    finished: str | None = None
    recipe: str | None = None
    dataset: dict[str, str] = field(default_factory=dict)
    unfinished: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    is_publishing: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether the dataset is complete, and neither failed nor stale tiles nor unfinished work are left."""
        return self.finished is not None and not self.unfinished and set(self.dataset.values()) <= {DONE}


def read_status(root: Path, identify: Identify) -> Status:
    """Look at an output folder; nothing is written.

    Parameters
    ----------
    root : Path
        The folder.
    identify : callable
        Gives the identity of the product at a path.

    Raises
    ------
    OutputError
        If there is neither a dataset nor an unfinished job.
    """
    if not root.exists():
        raise OutputError(missing("The dataset", root))
    output = Output(root)
    record, state = output.record(), output.state
    origin = state.origin()
    if record is None and origin is None:
        raise OutputError(f"{root} holds neither a dataset nor an unfinished job of `reben run`.")
    notes = state.failures()
    unfinished: dict[str, str] = {}
    if origin is not None:
        unfinished = _states(origin, state.paths(), identify, {note["tile"] for note in notes})
        done = state.done(TILES_STAGE)
        unfinished = {name: _of_unfinished(tile, name in done) for name, tile in unfinished.items()}
    errors = {note["tile"]: note["error"] for note in (*(record or {}).get(FAILURES, ()), *notes)}
    return Status(
        root=root,
        owner=owner(root / LOCK),
        finished=record["finished"] if record else None,
        recipe=record["recipe"]["name"] if record else None,
        dataset=_of_dataset(record, identify) if record else {},
        unfinished=unfinished,
        errors=errors,
        is_publishing=output.needs_recovery,
    )


def _of_dataset(record: Mapping[str, Any], identify: Identify) -> dict[str, str]:
    origin = record.get(ORIGIN) or {TILES: {}}
    paths = {tile["tile"]: tile["path"] for tile in record["inputs"]["tiles"]}
    failed = {failure["tile"] for failure in record.get(FAILURES, ())}
    return _states(origin, paths, identify, failed)


def _states(
    origin: Mapping[str, Any], paths: Mapping[str, str], identify: Identify, failed: set[str]
) -> dict[str, str]:
    def state(name: str, identity: str) -> str:
        if name in failed:
            return FAILED
        return DONE if name in paths and identify(Path(paths[name])) == identity else STALE

    return {name: state(name, identity) for name, identity in origin[TILES].items()}


def _of_unfinished(state: str, is_done: bool) -> str:  # noqa: FBT001 - it is what is asked
    return WAITING if state == DONE and not is_done else state
