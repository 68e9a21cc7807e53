"""An LMDB in rico-hdl's layout: every value that the rows ask for, well formed, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from reben_dask.errors import InputError
from reben_dask.patches.names import parse_patch_name
from reben_dask.patches.validity import NODATA_DN
from reben_dask.stores.lmdb_merge import find_environments
from reben_dask.stores.lmdb_values import MAP_SUFFIX
from reben_dask.verify.entries import Entries, kind_of, readable, verify_index
from reben_dask.verify.expected import Expected, Kind
from reben_dask.verify.findings import Check, Report, collect, counted
from reben_dask.verify.labels import LabelReader
from reben_dask.verify.matching import match
from reben_dask.verify.rows import Rows, Wanted
from reben_dask.verify.settings import Settings
from reben_dask.verify.tensors import Tensor, ValueFormat, pixels_of

STAGE = "verify-lmdb"


def verify_lmdb(
    path: Path, rows: Rows | None, expected: Expected, settings: Settings, report: Report
) -> Iterator[Check]:
    """Check an environment, or a folder of shards, walking once over its entries.

    Of each value the header is read, of reference maps also the pixels, for their labels; with ``settings.full`` the
    pixels of Sentinel-2 as well, which must not be NODATA.

    Parameters
    ----------
    path : Path
        The environment, or the folder of shards with its index.
    rows : Rows or None
        What the metadata ask for; without them, values are checked by themselves.
    expected : Expected
        What the values must hold.
    settings : Settings
        How deep, and what must be there.
    report : Report
        Told what the LMDB does not have, its number of patches where there is no metadata, and its digest.

    Yields
    ------
    Check
        When the walk is over.
    """
    sound = Check("LMDB")
    walk = _Walk(rows, expected, full=settings.full)
    with collect(sound):
        folders = find_environments([path])
        entries = Entries(folders, sound, lambda steps: settings.progress.advance(STAGE, steps), digest=settings.digest)
        settings.progress.begin(STAGE, len(entries))
        walk.over(entries)
        walk.is_whole = entries.is_whole
        sound.summary = f"{counted(sum(walk.found.values()), 'entry')} in {counted(len(folders), 'environment')}"
        report.digests |= {path.name: entries.sha256} if entries.sha256 else {}
        sound.add(verify_index(path, entries.shards, expected.nomenclature.classes if settings.own else None))
    if rows is None:
        report.patches = walk.patches
    yield sound
    yield from walk.checks(settings.required, report)


class _Walk:
    """What is found on the way over the entries."""

    def __init__(self, rows: Rows | None, expected: Expected, *, full: bool) -> None:
        self.found: Counter[Kind] = Counter()
        self.is_whole = False
        self._rows, self._full = rows, full
        self._formats = {kind: ValueFormat(layers) for kind, layers in expected.layers.items()}
        self._labels = LabelReader(expected.nomenclature)
        self._values = {kind: Check(f"Values of {kind.value}") for kind in Kind}
        self._missing = {kind: Check("Missing values") for kind in Kind}
        self._left_over = Check("Nothing left over" if rows else "Keys")
        self._agree = Check("Labels as in the reference maps")
        self._nodata = Check("No NODATA in Sentinel-2")

    @property
    def patches(self) -> int:
        """Patches, where no row says how many there are."""
        return max(self.found.values(), default=0)

    def over(self, entries: Iterable[tuple[bytes, memoryview]]) -> None:
        """Look at all entries."""
        if self._rows is None:
            for key, value in entries:
                self._look_at_key(key)
                self._look_at_value(kind_of(key), key, value)
            return
        for key, wanted, found in match(self._rows.wanted_keys(), entries):
            if found is None:
                self._note_missing(key, wanted)
            elif wanted is None:
                self._left_over.problem(readable(key))
                self._look_at_value(kind_of(key), key, found)
            else:
                self._look_at_value(wanted.kind, key, found, self._rows.labels(wanted.row))

    def checks(self, required: frozenset[Kind], report: Report) -> Iterator[Check]:
        """What was found, as one check for each question."""
        for kind, check in self._values.items():
            check.summary = counted(self.found[kind], "value")
            if not self.is_whole:
                # What is missing from environments that were not read to their end, nobody knows.
                check.not_checked = f"{check.summary} could be read"
            elif not self.found[kind] and any(self.found.values()) and kind not in required:
                if self._missing[kind].problems or self._rows is None:
                    report.without.append(kind.value)
                    check.not_checked = "there are none"
            else:
                check.absorb(self._missing[kind])
            if check.summary != "0 values" or check.problems or check.not_checked:
                yield check
        yield self._left_over
        if self._rows is not None and self.found[Kind.MAP]:
            yield self._agree
        if self._full and self.found[Kind.S2]:
            yield self._nodata

    def _note_missing(self, key: bytes, wanted: Wanted | None) -> None:
        kind = kind_of(key) if wanted is None else wanted.kind
        self._missing[kind].problem(f"{readable(key)} is missing")

    def _look_at_key(self, key: bytes) -> None:
        name = readable(key)
        try:
            parse_patch_name(name.removesuffix(MAP_SUFFIX))
        except InputError:
            self._left_over.problem(f"{name} is not the key of a patch")

    def _look_at_value(self, kind: Kind, key: bytes, value: memoryview, labels: tuple[str, ...] | None = None) -> None:
        self.found[kind] += 1
        try:
            tensors = self._formats[kind].read(value)
        except ValueError as error:
            self._values[kind].problem(f"{readable(key)} {error}")
            return
        if kind is Kind.MAP and labels is not None:
            fault = self._labels.compare(pixels_of(value, tensors["Data"]), labels)
            self._agree.add([f"{readable(key).removesuffix(MAP_SUFFIX)}: {fault}"] if fault else [])
        if kind is Kind.S2 and self._full:
            self._look_for_nodata(key, value, tensors)

    def _look_for_nodata(self, key: bytes, value: memoryview, tensors: dict[str, Tensor]) -> None:
        empty = [name for name, tensor in tensors.items() if np.any(pixels_of(value, tensor) == NODATA_DN)]
        if empty:
            self._nodata.problem(f"{readable(key)} in {', '.join(empty)}")
