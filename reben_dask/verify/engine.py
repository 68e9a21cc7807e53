"""Comparison of a container's entries with the rows, the format and the cubes, whatever the container.

A container (:mod:`~reben_dask.verify.lmdb`, :mod:`~reben_dask.verify.trees`) yields an entry per LMDB value or patch
folder; the engine checks its name, labels, NODATA, georeference, documents and pixels.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reben_dask.errors import InputError
from reben_dask.formats.bands import MAP_RESOLUTION_M, REFERENCE_MAP, Band, ImageKind, lacks_backscatter
from reben_dask.formats.columns import BOUNDS, EPSG, FLAGS, LABELS, PATCH_ID, TILE
from reben_dask.formats.names import parse_patch_name
from reben_dask.formats.trees import Tree
from reben_dask.formats.trees.layout import CLASS_NUMBERS, code_of_number
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.patches.labels import label_columns
from reben_dask.verify.dataset import Dataset, Place
from reben_dask.verify.expected import Expected
from reben_dask.verify.findings import Check, Report, Settings, differences, parse_crs, shown
from reben_dask.verify.metadata import Row, Rows
from reben_dask.wording import counted

_STEP = 256

Layers = Mapping[Band, npt.NDArray[Any]]
"""Images of a patch by band, shape ``(y, x)``."""

Square = tuple[int | None, tuple[float, ...]]
"""EPSG code of an image, and its left, bottom, right and top."""


@dataclass(frozen=True)
class Context:
    """Facts about the data when a container is checked."""

    settings: Settings
    report: Report
    expected: Expected
    rows: Rows = field(default_factory=Rows)
    """Rows that demand patches; a patch without a row is checked by itself, if it may be there."""
    dataset: Dataset | None = None
    """Patch table and cubes of the same dataset."""
    required: frozenset[ImageKind] = frozenset()
    """Kinds of required images; of others, either all or none of those in the rows exist."""
    as_published: bool = True
    """Sentinel-1 pixels without backscatter are kept as published."""


class Patch(NamedTuple):
    """An image of a patch; the Sentinel-2 patch and its row as far as known."""

    kind: ImageKind
    name: str
    patch_id: str
    number: int | None


@dataclass
class Content:
    """Readable content of an entry; documents by the ends of their names."""

    faults: list[str] = field(default_factory=list)
    layers: dict[Band, npt.NDArray[Any]] = field(default_factory=dict)
    square: Square | None = None
    documents: dict[str, bytes] = field(default_factory=dict)
    stated: Row = field(default_factory=dict)
    """Columns of the patch table that the entry states."""


@dataclass(frozen=True)
class Entry:
    """A value of an LMDB, or the folder of a patch."""

    kind: ImageKind
    name: str
    key: str
    """Key in the LMDB, or path from the tree on."""
    read: Callable[..., Content]
    """Read the content; with the keyword ``pixels``, pixels may be left out."""
    check: Check
    tree: Tree | None = None


class Engine:
    """Checks of the entries of one container."""

    def __init__(self, place: str, context: Context) -> None:
        self.context, self.expected, self._rows = context, context.expected, context.rows
        self.found: Counter[ImageKind] = Counter()
        self.left_over = Check(f"Nothing left over in {place}")
        self._labels = Check(f"Labels as in the maps of {place}", "map")
        self._nodata = Check(f"No NODATA in {place}", "patch")
        self._backscatter, self._gaps = Check(f"Backscatter in {place}", "patch"), 0
        self._equal = Check(f"Zarr pixels as in {place}", "image")
        self.names = {kind: self._rows.names(kind) for kind in ImageKind}
        """Names that the rows demand."""
        self._documented: dict[str, tuple[str, ...]] = {}

    def run(self, entries: Iterable[Entry], advance: Callable[[int], object]) -> None:
        """Check entries."""
        for number, entry in enumerate(entries, start=1):
            patch = self._register(entry)
            if patch:
                content = entry.read(pixels=self._needs_pixels(patch))
                faults = [*content.faults, *self._place_faults(patch, content)]
                faults += self._document_faults(entry.tree, patch, content) if entry.tree else ()
                faults += self._stated_faults(content.stated, patch, content.square)
                entry.check.add(faults, entry.name if entry.tree else entry.key)
                self._check_pixels(patch, content.layers, entry.tree)
            if number % _STEP == 0:
                advance(_STEP)

    def patch(self, kind: ImageKind, name: str) -> Patch:
        """Patch of an image."""
        number = self.names[kind].find(name)
        is_of_row = kind is ImageKind.S1 and number is not None
        return Patch(kind, name, str(self._rows.value(PATCH_ID, number)) if is_of_row else name, number)

    def row(self, patch: Patch) -> Row:
        """All known columns of a patch."""
        if self.context.dataset:
            return self.context.dataset.row(patch.patch_id)
        return {} if patch.number is None else self._rows.row(patch.number)

    def place(self, patch: Patch) -> Place | None:
        """Place in the cubes of a patch that is compared with them."""
        return self.context.dataset.place(patch.patch_id) if self.context.dataset else None

    def checks(self) -> Iterator[Check]:
        """Yield the checks over all entries."""
        if not self._rows.is_complete:
            self.context.report.patches = max(self.context.report.patches, *self.found.values(), 0)
        yield self.left_over
        if self._gaps:
            self._backscatter.notes.append(gap_note(self._gaps))
        yield from (check for check in (self._labels, self._nodata, self._backscatter) if check.count)
        yield from [self._equal] if self.context.dataset else []

    def _register(self, entry: Entry) -> Patch | None:
        self.found[entry.kind] += 1
        patch = self.patch(entry.kind, entry.name)
        if patch.number is not None:
            self.names[entry.kind].mark(entry.name)
        elif self._rows.is_complete:
            self.left_over.problem(entry.key)
            return None
        elif not self._is_name(entry):
            self.left_over.problem(f"{entry.key} is not named as a patch")
            return None
        return patch

    def _is_name(self, entry: Entry) -> bool:
        if entry.kind is not ImageKind.S1:
            return self.expected.names is not None and self.expected.names.parse(entry.name) is not None
        try:
            return parse_patch_name(entry.name).scene.startswith("S1")
        except InputError:
            return False

    # Pixels

    def _needs_pixels(self, patch: Patch) -> bool:
        is_labelled = patch.kind is ImageKind.MAP and patch.number is not None
        return self.context.settings.full or is_labelled or self.place(patch) is not None

    def _check_pixels(self, patch: Patch, layers: Layers, tree: Tree | None) -> None:
        kinds = dict.fromkeys(band.kind for band in layers)
        if ImageKind.S2 in kinds:
            self._nodata.count += 1
            measured = ((band, pixels) for band, pixels in layers.items() if band.kind is ImageKind.S2)
            if empty := [band.name for band, pixels in measured if band.is_nodata(pixels).any()]:
                self._nodata.problem(f"{patch.name} in {', '.join(empty)}")
        if ImageKind.S1 in kinds:
            db = np.stack([pixels for band, pixels in layers.items() if band.kind is ImageKind.S1])
            self._backscatter.count += 1
            if gaps := int(lacks_backscatter(db).sum()):
                if self.context.as_published:
                    self._gaps += 1
                else:
                    self._backscatter.problem(f"{patch.name} has {counted(gaps, 'pixel')} without backscatter")
        self._compare_labels(patch, layers)
        dataset, place = self.context.dataset, self.place(patch)
        stored = dataset.layers(place, tuple(kinds), tree) if dataset and place and kinds else {}
        for kind in kinds if dataset and place else ():
            self._equal.count += 1
            of_kind = (band for band in layers if band.kind is kind and band in stored)
            if other := sorted(band.name for band in of_kind if not _are_equal(layers[band], stored[band])):
                named = ["its reference map"] if kind is ImageKind.MAP else other
                self._equal.problem(f"{patch.patch_id} differs in {', '.join(named)}")

    def _compare_labels(self, patch: Patch, layers: Layers) -> None:
        codes, numbers = layers.get(REFERENCE_MAP), layers.get(CLASS_NUMBERS)
        if codes is None and numbers is None:
            return
        labels, source = self._row_labels(patch), "the metadata have"
        if labels is None:
            labels, source = self._documented.get(patch.patch_id), "the document has"
        if labels is None:
            return
        fault, code_of = None, self._code_of_number
        if numbers is not None and numbers.max(initial=0) >= len(code_of):
            fault = f"its map holds the number {numbers.max()}, of {len(code_of) - 1} classes"
        elif codes is None and numbers is not None:
            codes = code_of[numbers]
        if codes is not None:
            fault = label_fault(codes, labels, self.expected, source)
        self._labels.count += 1
        self._labels.add([f"{patch.name}: {fault}"] if fault else [])

    def _row_labels(self, patch: Patch) -> Sequence[str] | None:
        if patch.number is None or LABELS not in self._rows.table.column_names:
            return None
        return self._rows.value(LABELS, patch.number) or ()

    @cached_property
    def _code_of_number(self) -> npt.NDArray[np.uint16]:
        return code_of_number(self.expected.nomenclature)

    # Places and documents

    def _place_faults(self, patch: Patch, content: Content) -> Iterator[str]:
        row = self.row(patch) if content.square else {}
        if EPSG in row and content.square != (square := (row[EPSG], tuple(row[edge] for edge in BOUNDS))):
            yield f"lies at {content.square}, not at {square} as in the patch table"

    def _document_faults(self, tree: Tree, patch: Patch, content: Content) -> Iterator[str]:
        dataset, row = self.context.dataset, self.row(patch)
        for name, found in content.documents.items():
            if dataset and TILE in row:
                made = tree.documents(row, dataset.attributes(row[TILE]))[name]
                faults = _differing_documents(found, made)
            else:
                try:
                    stated = tree.read_document(found) if tree.read_document else {}
                except InputError as error:
                    faults = iter([str(error)])
                else:
                    faults = self._stated_faults(stated, patch, content.square)
            yield from (f"{patch.name}_{name} {fault}" for fault in faults)

    def _stated_faults(self, columns: Row, patch: Patch, square: Square | None) -> Iterator[str]:
        """Compare the columns that an entry states with those of its row and its place."""
        stated, known = dict(columns), {**self.row(patch)}
        known |= {flag: known[flag] is True for flag in FLAGS if flag in known}
        known.pop(LABELS, None)
        if square:
            known = {EPSG: square[0], **dict(zip(BOUNDS, square[1], strict=True))} | known
        asked = self._row_labels(patch)
        if LABELS in stated:
            labels = stated[LABELS] = sorted(stated[LABELS])
            if unknown := sorted(set(labels).difference(self.expected.nomenclature.classes)):
                yield f"has the unknown label {unknown[0]!r}"
            elif len(set(labels)) < len(labels) or not (labels or self.expected.labels_may_be_empty):
                yield f"has the labels {shown(labels)}"
            elif asked is not None:
                known[LABELS] = sorted(asked)
            elif patch.kind is ImageKind.S2:
                self._documented[patch.name] = tuple(map(sys.intern, labels))
        yield from differences(stated, {column: value for column, value in known.items() if column in stated})


def _differing_documents(found: bytes, made: bytes) -> Iterator[str]:
    """Compare a document with that of the patch table; CRSs of JSON objects independently of PROJ's version."""
    if found == made:
        return
    try:
        there, wanted = (
            {key: parse_crs(value) if isinstance(value, str) else value for key, value in json.loads(content).items()}
            for content in (found, made)
        )
    except (ValueError, AttributeError, RecursionError):
        yield "is not that of the patch table, and not a JSON object"
        return
    yield from differences(there, wanted)
    yield from (f"also has the key {key}" for key in there if key not in wanted)


def _are_equal(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> bool:
    return np.array_equal(left, right, equal_nan=left.dtype.kind == "f" and right.dtype.kind == "f")


def gap_note(patches: int) -> str:
    """Note about published Sentinel-1 patches that were kept as they are."""
    return f"{counted(patches, 'patch')} with pixels without backscatter (NaN, infinite or 0), as published"


def label_fault(
    codes: npt.NDArray[Any], labels: Sequence[str], expected: Expected, source: str = "the metadata have"
) -> str | None:
    """Compare labels with those of a reference map."""
    nomenclature, smallest_px = expected.nomenclature, expected.smallest_region_px
    found = np.flatnonzero(np.bincount(codes.ravel())).tolist()
    if unknown := [code for code in found if code not in nomenclature.known_values]:
        return f"its map holds the unknown code {unknown[0]}"
    if smallest_px > 1:
        side_m = codes.shape[0] * MAP_RESOLUTION_M
        patch = PatchGrid(0, 0, 0, ShapeYX(side_m, side_m), side_m)
        read = set(label_columns(codes, patch, nomenclature, {"all": smallest_px})[LABELS][0])
    else:
        read = {name for code in found if (name := nomenclature.class_of.get(code)) is not None}
    sides = (("only the map has", read - set(labels)), (f"only {source}", set(labels) - read))
    return ", ".join(f"{where} {', '.join(sorted(names))}" for where, names in sides if names) or None
