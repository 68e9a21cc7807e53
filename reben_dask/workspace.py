"""Workspaces: resume markers, checks and publication of jobs and conversions, under a lock.

A job builds a dataset in ``OUT``::

    OUT/cubes.zarr, patches.parquet, …   the dataset; ``run/record.json`` appears last, once it is complete
    OUT/.lock, OUT/.lock.json            held by the running job; its host, process and heartbeat
    OUT/.building/state/                 origin of the unfinished job, and a marker of each finished piece
    OUT/.building/cubes.zarr, …          finished tiles
    OUT/.building/work-<attempt>/        scratch folder of one attempt's tasks

A conversion builds one artefact in a hidden folder beside it, with the same lock and markers.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import traceback
import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote
from uuid import uuid4

from reben_dask.atomic import read_json, remove, write_json
from reben_dask.errors import InputError, OutputError, RebenError, RecipeError, missing
from reben_dask.formats.dataset import (
    ARTEFACTS,
    BUILDING,
    CARD,
    CARD_BESIDE,
    CUBES,
    LOCK,
    RECORD,
    REPORT,
    RUN,
    STATE,
    TABLE,
    RunRecord,
    is_card,
)
from reben_dask.locks import Lock

TILES = "tiles"
"""Stage whose pieces are tiles, and aspect of an origin with their identities by name."""

COPIED_BYTES = 2**20
"""Smaller files are copied, not hard-linked, when a dataset is also kept for a rerun."""

DONE, WAITING, FAILED, STALE = "done", "waiting", "failed", "stale"
"""States of a tile; a stale one has changed or moved."""

_PROPERTIES = {"bytes": "size", "modified_ns": "time of modification", "code_column": "column of codes"}
"""Words for keys of an identity."""

_SHOWN = ("name", "layer", "code_column")

_OWN_NAMES = frozenset((*ARTEFACTS, REPORT)) - {CARD}
"""Names that only a dataset of this program has."""

_JOURNAL, _READY, _OLD = "publish.json", "ready", "old"
_ORIGIN_FILE, _FAILURES = "origin.json", "failures"

Origin = dict[str, Any]
"""Inputs as JSON by aspect (recipe, tiles, map, …), without paths: moved data are the same."""


# Origin


def digest_of(content: Any) -> str:
    """Return the SHA-256 of JSON content, independent of the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()


def file_identity(path: Path) -> dict[str, Any]:
    """Identify a file by name and content, whatever its time of modification."""
    with path.open("rb") as file:
        return {"name": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any], unfinished: Container[str] = ()) -> list[str]:
    """Describe differences of two origins in phrases, except for tiles with no results yet."""
    tiles, known = now.get(TILES, {}), earlier.get(TILES, {})
    expected = {name: tiles.get(name) if name in unfinished else known[name] for name in known}
    aspects = [aspect for aspect in dict.fromkeys((*earlier, *now)) if aspect != TILES]
    found = [
        _difference(each, earlier.get(each), now.get(each)) for each in aspects if earlier.get(each) != now.get(each)
    ]
    kinds = {
        "more": [name for name in tiles if name not in known],
        "missing": [name for name in known if name not in tiles],
        "changed": [name for name in known if name in tiles and expected[name] != tiles[name]],
    }
    phrases = [f"{len(names):,} {kind} ({_first_names(names)})" for kind, names in kinds.items() if names]
    return [*found, f"other tiles: {', '.join(phrases)}"] if phrases else found


def _difference(aspect: str, earlier: Any, now: Any) -> str:
    """Name an aspect, and those of its properties that differ."""
    if not (isinstance(earlier, dict) and isinstance(now, dict)):
        return f"another {aspect}"
    keys = [key for key in dict.fromkeys((*earlier, *now)) if earlier.get(key) != now.get(key)]
    shown = {key: (earlier.get(key), now.get(key)) for key in keys}
    phrases = [
        f"{_PROPERTIES.get(key, key)} {values[1]!r}, before {values[0]!r}"
        if key in _SHOWN and all(isinstance(value, str) for value in values)
        else _PROPERTIES.get(key, key)
        for key, values in shown.items()
    ]
    return f"another {aspect}: {', '.join(phrases)}"


def _first_names(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + ", …" * (len(names) > 3)


# Markers


@dataclass(frozen=True)
class State:
    """Origin and markers of an unfinished job, JSON files that only its client writes."""

    folder: Path

    def start(self, origin: Mapping[str, Any], paths: Mapping[str, str] | None = None) -> None:
        """Record the origin of the job, and paths of its tiles."""
        write_json(self.folder / _ORIGIN_FILE, {"origin": origin, "paths": dict(paths or {})})

    def origin(self) -> Origin | None:
        """Return the origin of the job; ``None`` without a job, or for a damaged file."""
        return (self._start() or {}).get("origin")

    def paths(self) -> dict[str, str]:
        """Return the paths of the job's tiles by name."""
        return dict((self._start() or {}).get("paths", {}))

    def clear(self) -> None:
        """Delete everything, the origin first, as without it the rest is ignored."""
        (self.folder / _ORIGIN_FILE).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def mark_done(self, stage: str, name: str, result: Any = None) -> None:
        """Record a finished piece of a stage, and its result as JSON."""
        # Names may be empty or start with a dot, as drafts do.
        quoted = quote(name, safe="").replace(".", "%2E") or "%"
        write_json(self.folder / stage / f"{quoted}.json", {"name": name, "result": result})

    def done(self, stage: str) -> dict[str, Any]:
        """Return results of the finished pieces of a stage by name."""
        found = (read_json(path) for path in sorted((self.folder / stage).glob("[!.]*.json")))
        return {marker["name"]: marker["result"] for marker in found if _has_keys(marker, "name", "result")}

    def reset_stages(self, *stages: str) -> None:
        """Delete the markers of some stages."""
        for stage in stages:
            shutil.rmtree(self.folder / stage, ignore_errors=True)

    def record_failure(self, name: str, error: BaseException, tries: int) -> dict[str, Any]:
        """Record a failed tile; return the record without its traceback."""
        failure = {"tile": name, "error": first_line(error), "tries": tries}
        self.mark_done(_FAILURES, name, failure | {"details": "".join(traceback.format_exception(error))})
        return failure

    def failures(self) -> list[dict[str, Any]]:
        """Return the failed tiles: ``tile``, ``error``, ``tries``, ``details``."""
        return list(self.done(_FAILURES).values())

    def _start(self) -> dict[str, Any] | None:
        found = read_json(self.folder / _ORIGIN_FILE)
        return found if _has_keys(found, "origin", "paths") else None


def _has_keys(found: Any, *keys: str) -> bool:
    """Check a JSON file that a user may have edited."""
    return isinstance(found, dict) and found.keys() >= set(keys)


def first_line(error: BaseException) -> str:
    """Describe an error of a task in one line."""
    if isinstance(error, RebenError):
        return str(error)
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}" + " …" * (len(lines) > 1)


# Workspaces


@dataclass(frozen=True)
class Workspace:
    """Absolute destination of a file or folder, and its hidden folder; :class:`OutputError` if it is not writable."""

    root: Path
    job: str = field(default_factory=lambda: uuid4().hex[:12])

    @property
    def building(self) -> Path:
        """Hidden folder of finished pieces before publication."""
        return self.root.with_name(f".{self.root.name}.converting")

    @property
    def lock(self) -> Lock:
        """Lock of the workspace."""
        return Lock(self.building / LOCK, self.root)

    @property
    def state(self) -> State:
        """Markers of finished pieces."""
        return State(self.building / STATE)

    @contextmanager
    def owned(self) -> Iterator[str | None]:
        """Hold the lock while the block runs; yield a note if the disk has no locks."""
        with ExitStack() as stack:
            with self._writing():
                self.lock.path.parent.mkdir(parents=True, exist_ok=True)
                note = stack.enter_context(self.lock.held(self.job))
            yield note

    @contextmanager
    def resumed(self, origin: Mapping[str, Any]) -> Iterator[Self]:
        """Hold a conversion's workspace, new or resumed; :class:`OutputError` if it is taken, or has other inputs."""
        require_new(self.root)
        with self.owned() as note:
            if note:
                warnings.warn(note, stacklevel=3)
            # Another process may have finished since.
            require_new(self.root)
            with self._writing():
                self._require_same(json.loads(json.dumps(origin)))
            yield self

    def release(self, made: Path) -> None:
        """Move the complete artefact to the destination, and delete the hidden folder."""
        if os.path.lexists(self.root):
            raise OutputError(f"{self.root} was created by another program since; the complete result is {made}.")
        made.rename(self.root)
        shutil.rmtree(self.building, ignore_errors=True)

    def _require_same(self, origin: Origin) -> None:
        if not (self.state.folder / _ORIGIN_FILE).exists():
            self.state.start(origin)
        elif (earlier := self.state.origin()) != origin:
            other = f" ({'; '.join(differences(earlier, origin))})" if earlier else ""
            raise OutputError(
                f"{self.building} holds an unfinished conversion of other inputs{other}; give the same inputs again "
                "to resume it, delete it, or give another folder."
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"The output folder {self.root} cannot be written ({error.strerror}).") from None


@dataclass(frozen=True)
class Output(Workspace):
    """Output folder of a job: artefacts built in a hidden folder inside it, and published together."""

    exports: tuple[str, ...] = ()

    @property
    def building(self) -> Path:
        """Hidden folder of finished pieces."""
        return self.root / BUILDING

    @property
    def lock(self) -> Lock:
        """Lock of the folder."""
        return Lock(self.root / LOCK, self.root)

    @property
    def work(self) -> Path:
        """Folder for tasks of this attempt: those of an earlier one may still run on a cluster."""
        return self.building / f"work-{self.job}"

    @property
    def cubes(self) -> Path:
        """Zarr store under construction."""
        return self.building / CUBES

    @property
    def patches(self) -> Path:
        """Patch table under construction."""
        return self.building / TABLE

    @property
    def card(self) -> str:
        """Name of the card: ``README.md``, or another one beside a ``README.md`` that this program did not write."""
        return CARD_BESIDE if _is_foreign_card(self.root / CARD) else CARD

    @property
    def run(self) -> Path:
        """Run record under construction."""
        return self.building / RUN

    def landcover(self, name: str) -> Path:
        """Return the path of a sorted map: beside the output, for later jobs, if that is writable."""
        beside = self.root.parent
        return (beside if os.access(beside, os.W_OK) else self.building) / name

    def with_exports(self, names: Sequence[str]) -> Self:
        """Return the same output with further artefacts, whose names must be free or of an earlier dataset."""
        if clash := [name for name in names if name in (*ARTEFACTS, REPORT) or names.count(name) > 1]:
            raise RecipeError(
                f"The recipe's tree has the folder {clash[0]!r}, which would replace a part of the dataset; choose "
                "another tree, or rename in the recipe the keys that name its folders, such as seasons."
            )
        for name in names:
            if (self.root / name).exists():
                self._require_own(name)
        return replace(self, exports=tuple(names))

    def record(self) -> RunRecord | None:
        """Return the run record; ``None`` without a complete dataset that this version can read."""
        with suppress(InputError):
            return RunRecord.read(self.root)
        return None

    @property
    def is_unfinished(self) -> bool:
        """True if there is an unfinished job and no dataset."""
        return self.record() is None and self.state.origin() is not None

    @property
    def needs_recovery(self) -> bool:
        """True if an earlier job was interrupted during publication."""
        return (self.building / _JOURNAL).exists()

    def earlier_origin(self) -> Origin:
        """Return the origin of the unfinished job, else of the dataset; empty without either."""
        record = self.record()
        return self.state.origin() or (record.origin if record else {})

    def finished(self, origin: Origin) -> RunRecord | None:
        """Return the run record of a complete dataset of an origin, without failed tiles."""
        record = self.record()
        return record if record and not record.failures and record.origin == origin else None

    def require_folder(self) -> None:
        """Raise :class:`OutputError` if the output is a file."""
        if self.root.exists() and not self.root.is_dir():
            raise OutputError(f"The output {self.root} is a file; give a folder.")

    def check(self, origin: Origin, *, overwrite: bool, restart: bool = False) -> None:
        """Check that a job would neither lose nor mix the contents of the folder.

        Raises :class:`OutputError` for a file; for foreign content, or a dataset of another origin without
        ``overwrite``; for foreign artefacts despite it; for an unfinished job of another origin without ``restart``.
        """
        self.require_folder()
        if not restart:
            self._require_same_job(origin)
        found = sorted(path.name for path in self.root.glob("*") if not path.name.startswith((LOCK, BUILDING)))
        if found and not overwrite:
            self._require_same_dataset(found, origin)
        if own := [name for name in found if name in _OWN_NAMES]:
            self._require_own(own[0])
        if self.card == CARD_BESIDE and _is_foreign_card(self.root / CARD_BESIDE):
            raise OutputError(
                f"{self.root} has files named {CARD} and {CARD_BESIDE} that this program did not write, and would "
                "replace one of them; move one."
            )

    @contextmanager
    def owned(self) -> Iterator[str | None]:
        """Hold the lock while the block runs, and finish an interrupted publication; yield the note of the lock."""
        with super().owned() as note:
            with self._writing():
                self._finish_publication()
            yield note

    def start(self, origin: Origin, paths: Mapping[str, str], *, restart: bool = False) -> None:
        """Start or resume the job of tiles with such paths; delete useless remains."""
        with self._writing():
            if restart or self.state.origin() is None or not self.state.done(TILES):
                self.state.clear()
                remove(self.building)
            for remains in self.building.glob("work-*"):
                shutil.rmtree(remains, ignore_errors=True)
            self.state.reset_stages(_FAILURES)
            self.state.start(origin, paths)
            # Its files are written in place, and may be hard links of published ones.
            remove(self.run)
            for folder in (self.work, self.run):
                folder.mkdir(parents=True, exist_ok=True)

    def accept(self, path: str | Path) -> None:
        """Move a finished result from :attr:`work` to :attr:`building`, by its relative path."""
        destination = self.building / path
        remove(destination)
        destination.parent.mkdir(parents=True, exist_ok=True)
        (self.work / path).rename(destination)

    def publish(self) -> str | None:
        """Publish the finished artefacts, then delete those of an earlier job; return a note about lacking hard links.

        Once all is complete, a journal is written, and each later step can be repeated by the next job. The run record
        is removed first and appears last: without one, no dataset is complete. If tiles failed, the hidden folder keeps
        everything for a rerun.
        """
        names = (*self.exports, *ARTEFACTS)
        if absent := [name for name in names if not (self.building / name).exists()]:
            raise FileNotFoundError(f"{self.building} has no {', '.join(absent)}")
        keep, is_linked = bool(self.state.failures()), True
        if keep:
            ready = self.building / _READY
            remove(ready)
            ready.mkdir()
            linked = [_duplicate(self.building / name, ready / name) for name in names]
            is_linked = all(linked)
        record = self.record()
        # A user may have edited it.
        replaced = [REPORT, *(name for name in (record.exports if record else ()) if _is_plain_name(name))]
        replaced += [CARD_BESIDE] * is_card(self.root / CARD_BESIDE)
        journal = {"names": names, "replaced": replaced, "source": _READY if keep else "", "keep": keep}
        write_json(self.building / _JOURNAL, journal)
        self._finish_publication()
        if is_linked:
            return None
        return (
            f"The disk of {self.root} supports no hard links: the files that the next run needs, in {self.building}, "
            "take as much space again."
        )

    def _finish_publication(self) -> None:
        building = self.building
        journal = read_json(building / _JOURNAL)
        if journal is None:
            return
        source, old = building / journal["source"], building / _OLD
        old.mkdir(exist_ok=True)
        waiting = [name for name in journal["names"] if os.path.lexists(source / name)]
        card = self.card
        published = {name: card if name == CARD else name for name in waiting}
        # Beside a README.md of the user, it is the new card.
        replaced = [name for name in journal["replaced"] if name != CARD_BESIDE or card == CARD]
        # The record first, so that a mixture of two datasets never has one.
        for name in (*reversed(published.values()), *replaced):
            if os.path.lexists(self.root / name) and (name in published.values() or name not in journal["names"]):
                remove(old / name)
                (self.root / name).rename(old / name)
        for name in waiting:
            (source / name).rename(self.root / published[name])
        if journal["keep"]:
            remains = [old, source, *building.glob(f".{_JOURNAL}.*")]
        else:
            self.state.clear()
            remains = [path for path in building.iterdir() if path.name != _JOURNAL]
        for path in remains:
            _remove_quietly(path)
        # Last, as an interrupted deletion would leave remains forever.
        (building / _JOURNAL).unlink()
        if not journal["keep"]:
            _remove_quietly(building)

    def _require_same_job(self, origin: Origin) -> None:
        """Refuse to resume a job of another origin; unfinished tiles may have changed."""
        earlier, done = self.state.origin(), self.state.done(TILES)
        if earlier is None or not done:
            return
        if other := differences(earlier, origin, earlier[TILES].keys() - done):
            raise OutputError(
                f"{self.root} holds an unfinished job with other inputs ({'; '.join(other)}); give the "
                "same inputs again to resume it, --restart to discard it, or another folder."
            )

    def _require_same_dataset(self, found: Sequence[str], origin: Origin) -> None:
        record = self.record()
        if record is None:
            ways = ["give a new folder"]
            if (self.root / RECORD).is_file():
                ways.append("--overwrite to replace the dataset, once the new one is complete")
            elif _OWN_NAMES.isdisjoint(found):
                ways.append("--overwrite to write beside the existing files")
            raise OutputError(
                f"The output folder {self.root} is not empty (it holds {_first_names(found)}); {', or '.join(ways)}."
            )
        if other := differences(record.origin, origin, {failure.tile for failure in record.failures}):
            raise OutputError(
                f"{self.root} holds a dataset that was built from other inputs ({'; '.join(other)}); give a new "
                "folder, or --overwrite to replace it once the new one is complete."
            )

    def _require_own(self, name: str) -> None:
        if not (self.root / RECORD).is_file():
            raise OutputError(
                f"{self.root / name} already exists and is not part of a dataset of this program (there is no "
                f"{RECORD}); move it, or give a new folder."
            )


def require_new(destination: Path) -> None:
    """Raise :class:`OutputError` if there is something at ``destination``."""
    if os.path.lexists(destination):
        raise OutputError(f"{destination} exists; give a new folder.")


def _is_foreign_card(path: Path) -> bool:
    return os.path.lexists(path) and not is_card(path)


def _is_plain_name(name: str) -> bool:
    return Path(name).name == name and name[:1] not in ("", ".")


def _remove_quietly(path: Path) -> None:
    """Delete remains; tasks of a killed attempt may still write there."""
    with suppress(OSError):
        remove(path)


def _duplicate(source: Path, destination: Path) -> bool:
    """Duplicate a file or folder by hard links; return False if large files had to be copied."""
    copied = []

    def link(file: str | Path, place: str | Path) -> None:
        if not _link(file, place):
            copied.append(file)

    if source.is_dir():
        shutil.copytree(source, destination, copy_function=link)
    else:
        link(source, destination)
    return not copied


def _link(source: str | Path, destination: str | Path) -> bool:
    """Hard-link a large file, or return False where the disk cannot; copy metadata, which may be rewritten in place."""
    is_large = os.stat(source).st_size >= COPIED_BYTES and not str(source).endswith(".json")  # noqa: PTH116
    if is_large:
        with suppress(OSError):
            os.link(source, destination)
            return True
    shutil.copy2(source, destination)
    return not is_large


# Disk space


def free_bytes(path: Path) -> int:
    """Return the free space of a path's disk; the path need not exist."""
    return shutil.disk_usage(next(folder for folder in (path, *path.parents) if folder.is_dir())).free


@contextmanager
def explaining_full_disk(root: Path) -> Iterator[None]:
    """Turn errors of a full disk into :class:`OutputError` that names the output folder."""
    try:
        yield
    except Exception as error:
        require_space(error, root)
        raise


def require_space(error: BaseException, root: Path) -> None:
    """Raise :class:`OutputError` that names the output folder if a disk is full."""
    if is_full_disk(error):
        raise OutputError(
            f"No space left on the disk of {root}, or on that of the workers' temporary files; free space there."
        ) from None


def is_full_disk(error: BaseException) -> bool:
    """Check for a full disk as an error or its cause; C libraries report it only in text."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return any(
        (isinstance(each, OSError) and each.errno in {errno.ENOSPC, errno.EDQUOT})
        or any(text in str(each) for text in ("No space left on device", "Disk quota exceeded"))
        for each in causes
    )


# Status


@dataclass(frozen=True)
class Status:
    """State of an output folder: owner, dataset and unfinished job."""

    root: Path
    owner: str | None
    finished: str | None = None
    """Time of completion; ``None`` without a complete dataset."""
    recipe: str | None = None
    dataset: dict[str, str] = field(default_factory=dict)
    """States of its tiles."""
    unfinished: dict[str, str] = field(default_factory=dict)
    """States of the unfinished job's tiles; empty without one."""
    errors: dict[str, str] = field(default_factory=dict)
    is_publishing: bool = False
    """True if a publication was interrupted; the next job finishes it."""
    heartbeat: str | None = None

    @property
    def is_settled(self) -> bool:
        """True for a complete dataset, without failed or stale tiles and without unfinished work."""
        return self.finished is not None and not self.unfinished and set(self.dataset.values()) <= {DONE}


def read_status(root: Path, identify: Callable[[str], str | None]) -> Status:
    """Inspect an output folder without writing; ``identify`` returns a product's identity, ``None`` if it is absent.

    Raises
    ------
    OutputError
        If there is neither a dataset nor an unfinished job.
    """
    if not root.exists():
        raise OutputError(missing("The dataset", root))
    output = Output(root)
    state, origin = output.state, output.state.origin()
    record = RunRecord.read(root) if (root / RECORD).exists() else None
    if record is None and origin is None:
        raise OutputError(f"{root} holds neither a dataset nor an unfinished job of `reben run`.")
    dataset: dict[str, str] = {}
    unfinished: dict[str, str] = {}
    failed: dict[str, str] = {}
    if record:
        failed = {failure.tile: failure.error for failure in record.failures}
        dataset = _tile_states(record.origin, {tile.tile: tile.path for tile in record.inputs.tiles}, identify, failed)
    if origin is not None:
        failing = {failure["tile"]: failure["error"] for failure in state.failures()}
        done, states = state.done(TILES), _tile_states(origin, state.paths(), identify, failing)
        unfinished = {name: WAITING if tile == DONE and name not in done else tile for name, tile in states.items()}
        failed |= failing
    owner = output.lock.owner()
    return Status(
        root=root,
        owner=str(owner) if owner else None,
        heartbeat=owner.heartbeat.isoformat(timespec="seconds") if owner else None,
        finished=record.finished if record else None,
        recipe=record.recipe["name"] if record else None,
        dataset=dataset,
        unfinished=unfinished,
        errors=failed,
        is_publishing=output.needs_recovery,
    )


def _tile_states(
    origin: Origin, paths: Mapping[str, str], identify: Callable[[str], str | None], failed: Container[str]
) -> dict[str, str]:
    def state(name: str, identity: str) -> str:
        if name in failed:
            return FAILED
        return DONE if name in paths and identify(paths[name]) == identity else STALE

    return {name: state(name, identity) for name, identity in origin.get(TILES, {}).items()}
