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
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from reben_dask.errors import InputError
from reben_dask.formats.bands import BANDS, MAP_RESOLUTION_M, REFERENCE_MAP, ImageKind
from reben_dask.formats.columns import BOUNDS, EPSG, LABELS, PATCH_ID, S1_NAME, SENSING_TIME, TILE
from reben_dask.formats.names import parse_patch_name
from reben_dask.formats.trees import Tree
from reben_dask.formats.trees.layout import CLASS_NUMBERS, class_numbers
from reben_dask.grid import PatchGrid, ShapeYX
from reben_dask.nomenclature import UNLABELED_CODE
from reben_dask.patches.labels import label_columns
from reben_dask.verify.dataset import Dataset, Images, Place
from reben_dask.verify.expected import Expected
from reben_dask.verify.findings import Check, Report, Settings, differences, parse_crs, shown
from reben_dask.verify.rows import Row, Rows

_STEP = 256

_KNOWN_KEYS = ("labels", "corresponding_s2_patch")
_PLACE_KEYS = ("coordinates", "projection")
"""Keys of documents that are known without a patch table."""

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
    """Kinds of images that must be there; of others, all that the rows demand is there, or nothing."""


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
    images: dict[ImageKind, dict[str, npt.NDArray[Any]]] = field(default_factory=dict)
    square: Square | None = None
    documents: dict[str, bytes] = field(default_factory=dict)


class Read(Protocol):
    """Read the content of an entry, if asked to with its pixels."""

    def __call__(self, *, pixels: bool) -> Content: ...  # noqa: D102


@dataclass(frozen=True)
class Entry:
    """A value of an LMDB, or the folder of a patch; ``key`` is its key, or its path from the tree on."""

    kind: ImageKind
    name: str
    key: str
    read: Read
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
        self._equal = Check(f"Zarr pixels as in {place}", "image")
        self._names = {kind: self._rows.names(kind) for kind in ImageKind}
        self._documented: dict[str, tuple[str, ...]] = {}

    def run(self, entries: Iterable[Entry], advance: Callable[[int], object]) -> None:
        """Check entries."""
        for number, entry in enumerate(entries, start=1):
            patch = self._register(entry)
            if patch:
                content = entry.read(pixels=self._needs_pixels(patch))
                faults = [*content.faults, *self._place_faults(patch, content)]
                faults += self._document_faults(entry.tree, patch, content) if entry.tree else ()
                entry.check.add(faults, entry.name if entry.tree else entry.key)
                for kind, images in content.images.items():
                    self._look_at(patch._replace(kind=kind), images)
            if number % _STEP == 0:
                advance(_STEP)

    def asked_for(self, kind: ImageKind) -> int:
        """Number of names of a kind that the rows demand."""
        return len(self._names[kind])

    def missing(self, kind: ImageKind) -> Iterator[str]:
        """Names of the rows that were not found."""
        return self._names[kind].missing()

    def patch(self, kind: ImageKind, name: str) -> Patch:
        """Patch of an image."""
        number = self._names[kind].find(name)
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
        """Checks over all entries."""
        if not self._rows.is_complete:
            self.context.report.patches = max(self.context.report.patches, *self.found.values(), 0)
        yield self.left_over
        yield from (check for check in (self._labels, self._nodata) if check.count)
        yield from [self._equal] if self.context.dataset else []

    def _register(self, entry: Entry) -> Patch | None:
        self.found[entry.kind] += 1
        patch = self.patch(entry.kind, entry.name)
        if patch.number is not None:
            self._names[entry.kind].mark(entry.name)
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

    def _look_at(self, patch: Patch, images: Images) -> None:
        if patch.kind is ImageKind.S2:
            self._nodata.count += 1
            if empty := [name for name, pixels in images.items() if BANDS[name].is_nodata(pixels).any()]:
                self._nodata.problem(f"{patch.name} in {', '.join(empty)}")
        elif patch.kind is ImageKind.MAP:
            self._compare_labels(patch, images)
        dataset, place = self.context.dataset, self.place(patch)
        if dataset and place:
            self._equal.count += 1
            if other := dataset.differing(patch.kind, place, images):
                named = ["its reference map"] if patch.kind is ImageKind.MAP else other
                self._equal.problem(f"{patch.patch_id} differs in {', '.join(named)}")

    def _compare_labels(self, patch: Patch, images: Images) -> None:
        labels, source = self._row_labels(patch), "the metadata have"
        if labels is None:
            labels, source = self._documented.get(patch.patch_id), "the document has"
        if labels is None:
            return
        codes = images.get(REFERENCE_MAP.name)
        if codes is None:
            numbers, code_of = images[CLASS_NUMBERS.name], self._code_of_number
            is_known = numbers.max(initial=0) < len(code_of)
            fault = None if is_known else f"its map holds the number {numbers.max()}, of {len(code_of) - 1} classes"
            codes = code_of[numbers] if is_known else None
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
        """Codes of the classes by number; 0 has no class."""
        nomenclature = self.expected.nomenclature
        codes = {name: code for code, name in sorted(nomenclature.class_of.items(), reverse=True)}
        return np.array([UNLABELED_CODE, *(codes[name] for name in class_numbers(nomenclature))], np.uint16)

    # Places and documents

    def _place_faults(self, patch: Patch, content: Content) -> Iterator[str]:
        row = self.row(patch) if content.square else {}
        if EPSG in row and content.square != (square := (row[EPSG], tuple(row[edge] for edge in BOUNDS))):
            yield f"lies at {content.square}, not at {square} as in the patch table"

    def _document_faults(self, tree: Tree, patch: Patch, content: Content) -> Iterator[str]:
        dataset, row = self.context.dataset, self.row(patch)
        is_exact = dataset is not None and TILE in row
        for name, found in content.documents.items():
            try:
                document = _parse(found)
                known = row if is_exact else self._known_row(patch, content, document)
            except InputError as error:
                yield f"{patch.name}_{name} {error}"
                continue
            made = tree.documents(known, dataset.attributes(row[TILE]) if dataset and is_exact else {})[name]
            if found == made:
                continue
            wanted = json.loads(made)
            keys = wanted if is_exact else {*_KNOWN_KEYS, *(_PLACE_KEYS if content.square else ())}
            wanted = {key: value for key, value in wanted.items() if key in keys}
            faults = [*differences(_comparable(document, is_exact), _comparable(wanted, is_exact))]
            faults += [f"also has the key {key}" for key in document if key not in wanted] if is_exact else []
            yield from (f"{patch.name}_{name} {fault}" for fault in faults)

    def _known_row(self, patch: Patch, content: Content, document: Mapping[str, Any]) -> Row:
        labels, asked = self._document_labels(document), self._row_labels(patch)
        if asked is None and patch.kind is ImageKind.S2:
            self._documented[patch.name] = tuple(map(sys.intern, labels))
        partner = document.get("corresponding_s2_patch") if patch.number is None else patch.patch_id
        epsg, bounds = content.square or (None, (0, 0, 0, 0))
        row: dict[str, Any] = {PATCH_ID: partner, S1_NAME: patch.name, TILE: "", SENSING_TIME: datetime.now(UTC)}
        row |= {LABELS: labels if asked is None else asked, EPSG: epsg or 4326}
        return row | dict(zip(BOUNDS, bounds, strict=True))

    def _document_labels(self, document: Mapping[str, Any]) -> list[str]:
        labels, classes = document.get("labels"), self.expected.nomenclature.classes
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise InputError(f"has the labels {shown(labels)}, not a list of names")
        if unknown := sorted(set(labels).difference(classes)):
            raise InputError(f"has the unknown label {unknown[0]!r}")
        if len(set(labels)) < len(labels) or not (labels or self.expected.labels_may_be_empty):
            raise InputError(f"has the labels {shown(labels)}")
        return labels


def _parse(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"is no JSON document ({error})") from None
    if not isinstance(document, dict):
        raise InputError("is no JSON object")
    return document


def _comparable(document: Mapping[str, Any], is_exact: bool) -> dict[str, Any]:  # noqa: FBT001
    """A document independent of PROJ's version, and if it is foreign, of the order of labels."""
    found = dict(document)
    if isinstance(found.get("projection"), str):
        found["projection"] = parse_crs(found["projection"])
    if not is_exact and isinstance(found.get("labels"), list):
        found["labels"] = sorted(found["labels"])
    return found


def label_fault(
    codes: npt.NDArray[Any], labels: Sequence[str], expected: Expected, source: str = "the metadata have"
) -> str | None:
    """Compare labels with those of a reference map."""
    nomenclature, smallest_px = expected.nomenclature, expected.smallest_region_px
    found = np.flatnonzero(np.bincount(codes.ravel())).tolist()
    if unknown := [code for code in found if code not in nomenclature.codes]:
        return f"its map holds the unknown code {unknown[0]}"
    if smallest_px > 1:
        side_m = codes.shape[0] * MAP_RESOLUTION_M
        patch = PatchGrid(0, 0, 0, ShapeYX(side_m, side_m), side_m)
        read = set(label_columns(codes, patch, nomenclature, {"all": smallest_px})[LABELS][0])
    else:
        read = {name for code in found if (name := nomenclature.class_of.get(code)) is not None}
    sides = (("only the map has", read - set(labels)), (f"only {source}", set(labels) - read))
    return ", ".join(f"{where} {', '.join(sorted(names))}" for where, names in sides if names) or None
