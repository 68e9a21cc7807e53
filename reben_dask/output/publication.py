"""Publishing: finished artefacts take their places, those of an earlier job go, and an interruption is made good.

A journal says what is being published. It is written when everything is complete, so that whoever finds it can finish
the work: each step can be repeated. The run record comes last; a folder without it holds no complete dataset.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from reben_dask.formats.dataset import BUILDING, STATE
from reben_dask.output.files import duplicate, read_json, remove, write_json
from reben_dask.output.state import State

JOURNAL = "publish.json"
_READY, _OLD = "ready", "old"


def publish(root: Path, names: Sequence[str], replaced: Sequence[str], *, keep: bool) -> None:
    """Publish what stands complete in the hidden folder.

    Parameters
    ----------
    root : Path
        The output folder.
    names : sequence of str
        Artefacts, in the order in which they appear.
    replaced : sequence of str
        What an earlier job has published besides, and which goes.
    keep : bool
        Also keep it all in the hidden folder, for a job that goes on with it.

    Raises
    ------
    FileNotFoundError
        If an artefact is missing; nothing is published then.
    """
    building = root / BUILDING
    if missing := [name for name in names if not (building / name).exists()]:
        raise FileNotFoundError(f"{building} has no {', '.join(missing)}")
    source = building
    if keep:
        source = building / _READY
        remove(source)
        source.mkdir()
        for name in names:
            duplicate(building / name, source / name)
    places = {"names": list(names), "replaced": list(replaced), "source": source.name if keep else "", "keep": keep}
    write_json(building / JOURNAL, places)
    finish_publication(root)


def is_interrupted(root: Path) -> bool:
    """Whether a job ended while it published."""
    return (root / BUILDING / JOURNAL).exists()


def finish_publication(root: Path) -> None:
    """Publish what is left to publish; does nothing where nothing was being published."""
    building = root / BUILDING
    journal = read_json(building / JOURNAL)
    if journal is None:
        return
    source, old = building / journal["source"], building / _OLD
    old.mkdir(exist_ok=True)
    # First the record, so that a mixture of two datasets never has one.
    waiting = [name for name in journal["names"] if os.path.lexists(source / name)]
    for name in (*reversed(waiting), *journal["replaced"]):
        if os.path.lexists(root / name) and (name in waiting or name not in journal["names"]):
            remove(old / name)
            (root / name).rename(old / name)
    for name in waiting:
        (source / name).rename(root / name)
    if journal["keep"]:
        remains = [old, source]
    else:
        State(building / STATE).forget()
        remains = [path for path in building.iterdir() if path.name != JOURNAL]
    for path in remains:
        _remove_quietly(path)
    # Last of all, so that an interruption leaves nothing behind that nobody would ever delete.
    (building / JOURNAL).unlink()
    if not journal["keep"]:
        _remove_quietly(building)


def _remove_quietly(path: Path) -> None:
    """Delete what is of no use any more; tasks of an attempt that was killed may still write there."""
    with suppress(OSError):
        remove(path)
