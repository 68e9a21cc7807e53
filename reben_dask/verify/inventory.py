"""What an LMDB, a tree or an archive holds of patches, beside what the metadata and the Zarr store say of them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reben_dask.errors import InputError
from reben_dask.formats.bands import MAP_RESOLUTION_M
from reben_dask.formats.names import PatchName, parse_patch_name
from reben_dask.formats.trees.layout import CLASS_NUMBERS, class_numbers
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.nomenclature import UNLABELED_CODE
from reben_dask.patches.candidates import NODATA_DN
from reben_dask.patches.labels import label_columns
from reben_dask.verify.context import Context
from reben_dask.verify.cubes_compared import Place
from reben_dask.verify.expected import MAP_TENSOR, Expected, Kind
from reben_dask.verify.findings import Check
from reben_dask.verify.metadata_rows import Names
from reben_dask.verify.patch_rows import PatchRow
from reben_dask.wording import counted


class Met(NamedTuple):
    """Something of a patch: its kind, its name, and the row that asks for it, if there are rows."""

    kind: Kind
    name: str
    row: int | None


class Inventory:
    """Meets what there is of patches, one after the other, in any order.

    Parameters
    ----------
    place : str
        Where it is, for titles, such as ``the LMDB``.
    context : Context
        What the metadata ask for, how deep to look, and the Zarr store of the same dataset, if there is one.
    """

    def __init__(self, place: str, context: Context) -> None:
        self.found: Counter[Kind] = Counter()
        self.left_over = Check(f"Nothing left over in {place}")
        self._context, self._rows, self._store = context, context.rows, context.store
        rows = context.rows
        self._names: dict[Kind, Names] = {} if rows is None else {kind: rows.names(kind) for kind in Kind}
        self._agree = Check(f"Labels as in the maps of {place}")
        self._nodata = Check(f"No NODATA in {place}")
        self._equal = Check(f"Zarr pixels as in {place}")
        self._looked_at: Counter[str] = Counter()
        self._unmet = {kind: set(names) for kind, names in context.listed.items()}
        self._told: dict[str, tuple[str, ...]] = {}

    def asked_for(self, kind: Kind) -> int:
        """How many patches of a kind the rows ask for."""
        return len(self._names.get(kind, ()))

    def meet(self, kind: Kind, name: str, shown: str) -> Met | None:
        """Count something of a patch, which is ``shown`` in messages; ``None`` if it should not be there."""
        self.found[kind] += 1
        self._unmet.get(kind, set()).discard(name)
        if self._rows is None:
            if self._is_patch(name, kind):
                return Met(kind, name, None)
            self.left_over.problem(f"{shown} is not named as a patch")
            return None
        row = self._names[kind].meet(name)
        if row is None:
            self.left_over.problem(shown)
            return None
        return Met(kind, name, row)

    def missing(self, kind: Kind) -> Iterator[str]:
        """Names that rows ask for and that were not met."""
        return self._names[kind].missing() if self._names else iter(sorted(self._unmet.get(kind, ())))

    def row_of(self, kind: Kind, name: str) -> PatchRow | None:
        """What tables tell of the patch that something of this name is of."""
        if kind is not Kind.S1 or self._rows is None:
            return self._context.row_of(name)
        row = self._names[kind].find(name)
        return None if row is None else self._context.row_of(self._rows.value("patch_id", row))

    def place(self, met: Met) -> Place | None:
        """Where the Zarr store has what is to be compared with it."""
        return None if self._store is None else self._store.place(self.patch_of(met))

    def is_without(self, kind: Kind) -> bool:
        """Whether nothing of a kind was met that someone might look for, and that need not be there."""
        is_looked_for = self._rows is None or self.asked_for(kind) > 0
        return is_looked_for and not self.found[kind] and kind not in self._context.required

    def wants_pixels(self, met: Met) -> bool:
        """Whether anyone wants to see the pixels; not of all patches, unless all are to be read."""
        is_labelled = met.kind is Kind.MAP and met.row is not None
        return self._context.settings.full or is_labelled or self._is_compared(met)

    def look_at(self, met: Met, images: Mapping[str, npt.NDArray[Any]]) -> None:
        """Look at the pixels, shape ``(y, x)``, by name."""
        if met.kind is Kind.S2:
            self._looked_at["nodata"] += 1
            if empty := [name for name, pixels in images.items() if np.any(pixels == NODATA_DN)]:
                self._nodata.problem(f"{met.name} in {', '.join(empty)}")
        labels = self._labels_of(met) if met.kind is Kind.MAP else None
        if labels is not None and images:
            self._looked_at["labels"] += 1
            fault = self._label_fault(images, labels)
            self._agree.add([f"{met.name}: {fault}"] if fault else [])
        if self._store is not None and self._is_compared(met):
            self._looked_at["equal"] += 1
            if other := self._store.differing(met.kind, self.patch_of(met), images):
                named = sorted(
                    "its reference map" if name in (MAP_TENSOR, CLASS_NUMBERS.name) else name for name in other
                )
                self._equal.problem(f"{self.patch_of(met)} differs in {', '.join(named)}")

    def tell_labels(self, met: Met, labels: Sequence[str]) -> str | None:
        """Note the labels that a document gives a patch; a phrase where its row has others."""
        if self._rows is None or met.row is None:
            if met.kind is Kind.S2:
                self._told[met.name] = tuple(map(sys.intern, labels))
            return None
        asked = self._rows.value("labels", met.row) or ()
        return None if set(asked) == set(labels) else f"has the labels {list(labels)}, but the metadata have {asked}"

    def patch_of(self, met: Met) -> str:
        """Name of the Sentinel-2 patch; that of a Sentinel-1 partner itself, where nobody knows whose it is."""
        if self._rows is None or met.row is None or met.kind is not Kind.S1:
            return met.name
        return str(self._rows.value("patch_id", met.row))

    def checks(self) -> Iterator[Check]:
        """What was found; without rows, the report is told how many patches."""
        if self._rows is None:
            self._context.report.patches = max(self._context.report.patches, *self.found.values(), 0)
        yield self.left_over
        for key, noun, check in (
            ("labels", "map", self._agree),
            ("nodata", "patch", self._nodata),
            ("equal", "image", self._equal),
        ):
            check.summary = counted(self._looked_at[key], noun)
            if self._looked_at[key] or (key == "equal" and self._store is not None):
                yield check

    def _labels_of(self, met: Met) -> Sequence[str] | None:
        if self._rows is None or met.row is None:
            return self._told.get(met.name)
        labels: Sequence[str] = self._rows.value("labels", met.row) or ()
        return labels

    def _label_fault(self, images: Mapping[str, npt.NDArray[Any]], labels: Sequence[str]) -> str | None:
        expected = self._context.expected
        told_by = "the metadata have" if self._rows is not None else "the document has"
        if MAP_TENSOR in images:
            return label_fault(images[MAP_TENSOR], labels, expected, told_by)
        numbers = images[CLASS_NUMBERS.name]
        if numbers.max(initial=0) >= len(self._code_of_number):
            return f"its map holds the number {numbers.max()}, of {len(self._code_of_number) - 1} classes"
        return label_fault(self._code_of_number[numbers], labels, expected, told_by)

    @cached_property
    def _code_of_number(self) -> npt.NDArray[np.uint16]:
        """A code of each class by its number, after one that carries no label."""
        nomenclature = self._context.expected.nomenclature
        codes = {name: code for code, name in sorted(nomenclature.class_of.items(), reverse=True)}
        return np.array([UNLABELED_CODE, *(codes[name] for name in class_numbers(nomenclature))], np.uint16)

    def _is_patch(self, name: str, kind: Kind) -> bool:
        return (_read_sentinel1 if kind is Kind.S1 else self._context.expected.names.read)(name) is not None

    def _is_compared(self, met: Met) -> bool:
        return self._store is not None and self._store.is_compared(self.patch_of(met))


def label_fault(
    codes: npt.NDArray[Any], labels: Sequence[str], expected: Expected, told_by: str = "the metadata have"
) -> str | None:
    """A phrase that says how the labels of a row differ from its map; ``None`` where they do not.

    Parameters
    ----------
    codes : ndarray of uint16, shape (y, x)
        Reference map of the patch.
    labels : sequence of str
        Labels of its row, or of a document.
    expected : Expected
        Class of each code, and from which size on regions count. A code that the nomenclature does not know at all is a
        problem, and not the same as one without class.
    told_by : str
        Whose labels they are, for the phrase.
    """
    nomenclature = expected.nomenclature
    found = np.flatnonzero(np.bincount(codes.ravel())).tolist()
    if unknown := [code for code in found if code not in nomenclature.codes]:
        return f"its map holds the unknown code {unknown[0]}"
    read = _labels(codes, found, expected)
    differences = (
        ("only the map has", sorted(read - set(labels))),
        (f"only {told_by}", sorted(set(labels) - read)),
    )
    return ", ".join(f"{where} {', '.join(names)}" for where, names in differences if names) or None


def _labels(codes: npt.NDArray[Any], found: Sequence[int], expected: Expected) -> set[str]:
    smallest_px = next(iter(expected.thresholds_px.values()))
    if smallest_px > 1:
        side_m = codes.shape[0] * MAP_RESOLUTION_M
        patch = PatchGrid(0, 0, 0, ShapeYX(side_m, side_m), side_m)
        return set(label_columns(codes, patch, expected.nomenclature, {"all": smallest_px})["labels"][0])
    return {name for code in found if (name := expected.nomenclature.class_of.get(code)) is not None}


def _read_sentinel1(name: str) -> PatchName | None:
    try:
        parsed = parse_patch_name(name)
    except InputError:
        return None
    return parsed if parsed.scene.startswith("S1") else None
