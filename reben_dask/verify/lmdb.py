"""An LMDB in rico-hdl's layout: every value that the rows ask for, well formed, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from reben_dask.formats.lmdb import MAP_SUFFIX
from reben_dask.stores.lmdb_merge import find_environments
from reben_dask.verify.context import Context
from reben_dask.verify.cubes_compared import Place
from reben_dask.verify.expected import Kind
from reben_dask.verify.findings import NOTHING_THERE, Check, collect
from reben_dask.verify.inventory import Inventory, Met
from reben_dask.verify.lmdb_entries import Entries, kind_of, readable
from reben_dask.verify.lmdb_values import ValueFormat, decode
from reben_dask.wording import counted

STAGE, STEP = "verify-lmdb", 512


def verify_lmdb(path: Path, context: Context) -> Iterator[Check]:
    """Check an environment, or a folder of shards with its index, walking once over its entries.

    Of each value the header is read, of reference maps also the pixels, for their labels; of others if all pixels are
    to be read, or if they are of the sample that is compared with a Zarr store.
    """
    expected, report = context.expected, context.report
    inventory = Inventory("the LMDB", context)
    sound, is_whole = Check("LMDB"), False
    values = {kind: Check(f"Values of {kind.value}") for kind in Kind}
    with collect(sound):
        folders = find_environments([path])
        with Entries(folders, sound, digest=context.settings.digest) as entries:
            _walk(entries, inventory, values, context)
        is_whole = entries.is_whole
        sound.summary = f"{counted(sum(inventory.found.values()), 'entry')} in {counted(len(folders), 'environment')}"
        report.digests |= {path.name: entries.sha256} if entries.sha256 else {}
        sound.add(entries.index_faults(path, expected.nomenclature.classes if context.own else None))
    yield sound
    for kind, check in values.items():
        check.summary = counted(inventory.found[kind], "value")
        if not is_whole:
            # What is missing from environments that were not read to their end, nobody knows.
            check.not_checked = f"{check.summary} could be read"
        elif any(inventory.found.values()) and inventory.is_without(kind):
            check.not_checked = NOTHING_THERE
            report.without.append(kind.value)
        else:
            suffix = MAP_SUFFIX if kind is Kind.MAP else ""
            check.add(f"{name}{suffix} is missing" for name in inventory.missing(kind))
        if inventory.found[kind] or check.problems or check.not_checked:
            yield check
    yield from inventory.checks()


def _walk(entries: Entries, inventory: Inventory, values: Mapping[Kind, Check], context: Context) -> None:
    formats = {kind: ValueFormat(layers) for kind, layers in context.expected.layers.items()}
    waiting = _Waiting(inventory, entries)
    advance = context.settings.begin(STAGE, len(entries))
    for number, (key, value) in enumerate(entries):
        if number % STEP == 0:
            advance(STEP)
        kind, name = kind_of(key), readable(key)
        met = inventory.meet(kind, name.removesuffix(MAP_SUFFIX), name)
        try:
            formats[kind].check(value)
        except ValueError as error:
            values[kind].problem(f"{name} {error}")
        else:
            if met is not None and inventory.wants_pixels(met) and not waiting.takes(met, key):
                inventory.look_at(met, decode(value))
    waiting.finish()


class _Waiting:
    """Entries of one tile whose pixels are compared when all its keys were met, in the order of the Zarr store.

    Where names are not in that order, as those made of coordinates, each would have other chunks decoded.
    """

    def __init__(self, inventory: Inventory, entries: Entries) -> None:
        self._inventory, self._all = inventory, entries
        self._tile = ""
        self._entries: list[tuple[Place, bytes, Met]] = []

    def takes(self, met: Met, key: bytes) -> bool:
        """Whether an entry is compared with the Zarr store, and so has to wait."""
        place = self._inventory.place(met)
        if place is None:
            return False
        tile = place[0].partition("/")[0]
        if tile != self._tile:
            self.finish()
        self._tile = tile
        self._entries.append((place, key, met))
        return True

    def finish(self) -> None:
        """Look at all that wait."""
        waiting, self._entries = self._entries, []
        for _, key, met in sorted(waiting, key=lambda entry: entry[:2]):
            self._inventory.look_at(met, decode(self._all.value(key)))
