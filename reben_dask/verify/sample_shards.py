"""Samples in shards: tar files for WebDataset and Parquet files for Hugging Face, as a stream of patches.

A patch is checked as a whole: its columns, all of its images, and its group of files.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reben_dask.atomic import read_json
from reben_dask.errors import InputError
from reben_dask.formats.bands import POLARISATIONS, Band, ImageKind
from reben_dask.formats.columns import FLAGS, LABELS, PATCH_ID, S1_NAME, SPLIT, Column, decode_classes
from reben_dask.formats.sample_shards import (
    DOCUMENT,
    FEATURES_KEY,
    INDEX_FILE,
    PARQUET,
    SHARD_FORMS,
    WEBDATASET,
    SampleContents,
    ShardFile,
    ShardForm,
    group_of,
    member_name,
)
from reben_dask.formats.trees import FileSpec
from reben_dask.formats.trees.layout import SUFFIX
from reben_dask.sources.published.tiff import PLAIN_FILE_BYTES, decode_image
from reben_dask.verify.engine import Content, Context, Engine, Entry
from reben_dask.verify.expected import MOST_NAMES
from reben_dask.verify.findings import Check, collect, differences, one_sentence, schema_faults, shown
from reben_dask.verify.metadata import Row
from reben_dask.verify.tars import read_members
from reben_dask.verify.trees import add_image
from reben_dask.wording import counted

_ROWS_AT_ONCE = 16


class _Sample(NamedTuple):
    """Patch in a file: its name, columns, and encoded images by name; a phrase replaces content that is unread."""

    name: str
    row: Row
    images: Mapping[str, bytes | str]
    faults: list[str]


def find_sample_shards(path: Path) -> dict[Path, ShardForm]:
    """Folders of samples that a folder is or holds."""
    places = {path / name: form for name, form in SHARD_FORMS.items()} | dict.fromkeys([path], None)
    found: dict[Path, ShardForm] = {}
    for place, named in places.items():
        for form in [named] if named else SHARD_FORMS.values():
            if place.is_dir() and (place.name == form.name or _files(place, form)):
                found[place] = form
    return found


def names_in_sample_shards(folder: Path, form: ShardForm) -> list[str]:
    """First names of patches; none of unreadable files, which their own check reports."""
    names: list[str] = []
    ignored = Check("read again with the samples")
    for path in _files(folder, form).values():
        with collect(ignored):
            for sample in _reader(form)(path, SampleContents((), ()), ignored):
                names.append(sample.name)
                if len(names) == MOST_NAMES:
                    return names
    return names


def verify_sample_shards(
    folder: Path, form: ShardForm, context: Context, *, has_sentinel1: bool | None = None
) -> Iterator[Check]:
    """Check all files of one form in a folder, reading them in full.

    ``has_sentinel1`` is that of the run record; without one, patches may have Sentinel-1 images, and other classes.
    """
    engine, check = Engine(folder.name, context), Check(folder.name, "patch")
    files = _files(folder, form)
    walk = _Walk(form, engine, check, has_sentinel1)
    with collect(check):
        check.add(_lacking(files, form))
        advance = context.settings.begin("verify-samples", len(engine.names[ImageKind.S2]))
        engine.run(walk.entries(files), advance)
        kept = {path.name for path in files.values()} | ({INDEX_FILE} if form == WEBDATASET else set())
        others = (path.name for path in sorted(folder.iterdir()) if path.name not in kept)
        engine.left_over.add(others)
    if form == WEBDATASET:
        classes = None if has_sentinel1 is None else list(context.expected.nomenclature.classes)
        counts = {path.name: walk.counts.get(path) for path in files.values()}
        with collect(check, INDEX_FILE):
            check.add(_index_faults(folder / INDEX_FILE, classes, counts))
    if walk.is_whole:
        check.add(f"{name} is missing" for name in engine.names[ImageKind.S2].missing())
    check.count = engine.found[ImageKind.S2]
    if walk.is_whole and not walk.has_images_of_s1:
        context.report.without.append(ImageKind.S1.value)
    check.notes.append(counted(len(files), "file"))
    yield check
    yield from engine.checks()


def _files(folder: Path, form: ShardForm) -> dict[ShardFile, Path]:
    """Files in the order of their groups and numbers."""
    parsed = {path: ShardFile.parse(path.stem) for path in sorted(folder.glob(f"*{form.suffix}"))}
    return {file: path for path, file in parsed.items() if file}


def _lacking(files: Mapping[ShardFile, Path], form: ShardForm) -> Iterator[str]:
    for group, found in groupby(files, key=lambda file: file.group):
        numbers = [*found]
        count = max(file.files for file in numbers)
        yield from (f"{file}{form.suffix} is of another number of files" for file in numbers if file.files != count)
        wanted = (ShardFile(group, number, count) for number in range(count))
        yield from (f"{file}{form.suffix} is missing" for file in wanted if file not in files)


def _index_faults(path: Path, classes: Sequence[str] | None, counts: Mapping[str, int | None]) -> Iterator[str]:
    index = read_json(path)
    if not isinstance(index, dict):
        yield f"{INDEX_FILE} is missing, or not a JSON object"
        return
    if classes is not None and index.get("classes") != classes:
        yield f"{INDEX_FILE} has another class list than the run record"
    read = {name: count for name, count in counts.items() if count is not None}
    listed = index.get("shards")
    if not isinstance(listed, dict):
        yield f"{INDEX_FILE} has the shards {shown(listed)}"
    else:
        yield from (f"{INDEX_FILE}: {name} is not in the folder" for name in listed if name not in counts)
        yield from (f"{INDEX_FILE} {fault}" for fault in differences(listed, read))


@dataclass
class _Walk:
    """Walk over the files of one form."""

    form: ShardForm
    engine: Engine
    check: Check
    has_sentinel1: bool | None

    def __post_init__(self) -> None:
        self.counts: dict[Path, int] = {}
        """Patches of each file that was read to its end."""
        self.is_whole, self.has_images_of_s1 = False, False

    def entries(self, files: Mapping[ShardFile, Path]) -> Iterator[Entry]:
        """Entries in the order of the files."""
        seen = set[str]()
        for file, path in files.items():
            count = 0
            with collect(self.check, path.name):
                contents = self._contents(path)
                if self.form == PARQUET and self.has_sentinel1 is not None:
                    self.check.add(_schema_faults(pq.read_schema(path), contents.schema), path.name)
                for sample in _reader(self.form)(path, contents, self.check):
                    count += 1
                    key = f"{path.name}/{sample.name}"
                    if sample.name in seen:
                        self.check.problem(f"{key} occurs twice")
                        continue
                    seen.add(sample.name)
                    read = partial(self._read, file, sample, contents)
                    yield Entry(ImageKind.S2, sample.name, key, read, self.check)
                self.counts[path] = count
        self.is_whole = len(self.counts) == len(files)

    def _contents(self, path: Path) -> SampleContents:
        """Columns and images of a file; optional images only if a Parquet file has them."""
        expected = self.engine.expected
        contents = expected.recipe.sample_contents(expected.nomenclature, has_sentinel1=self.has_sentinel1 is not False)
        contents = replace(contents, bands=expected.bands)
        if self.form == WEBDATASET:
            return contents
        names = {*pq.read_schema(path).names}
        bands = tuple(band for band in contents.bands if band in names or band not in expected.optional_bands)
        is_radar = {*POLARISATIONS} <= names if self.has_sentinel1 is None else self.has_sentinel1
        return replace(contents, bands=bands, has_sentinel1=is_radar)

    def _read(
        self,
        file: ShardFile,
        sample: _Sample,
        contents: SampleContents,
        *,
        pixels: bool,  # noqa: ARG002 - all files are read in full
    ) -> Content:
        content = Content(list(sample.faults))
        self.has_images_of_s1 |= not sample.images.keys().isdisjoint(POLARISATIONS)
        content.stated, faults = _sound_columns(sample.row, contents)
        content.faults += faults
        row = {**content.stated, **self.engine.row(self.engine.patch(ImageKind.S2, sample.name))}
        if content.stated.get(PATCH_ID, sample.name) != sample.name:
            content.faults.append(f"has the {PATCH_ID} {shown(content.stated[PATCH_ID])}")
        if {SPLIT, *FLAGS} <= row.keys() and (group := group_of(row)) != file.group:
            content.faults.append(f"belongs to {group}, not {file.group}")
        lacking = [name for name in contents.images if name not in sample.images and self._is_needed(name, row)]
        content.faults += [f"has no image {name}" for name in lacking]
        if not row.get(S1_NAME, True):
            content.faults += [f"has {name}, but no {S1_NAME}" for name in POLARISATIONS if name in sample.images]
        for name, encoded in sample.images.items():
            faults = [*self._image_faults(contents.images[name], encoded, content)]
            content.faults += [f"{name} {fault}" for fault in faults]
        return content

    def _is_needed(self, image: str, row: Row) -> bool:
        if image in POLARISATIONS:
            return self.has_sentinel1 is True and bool(row.get(S1_NAME))
        return image not in self.engine.expected.optional_bands

    def _image_faults(self, band: Band, encoded: bytes | str, content: Content) -> Iterator[str]:
        """Decode an image, and add it to the content."""
        patch_m = self.engine.expected.recipe.patch_size_m
        if isinstance(encoded, str):
            yield encoded
            return
        try:
            if self.form == PARQUET:
                yield from add_image(content, decode_image(encoded), FileSpec((band,), None), patch_m)
            else:
                content.layers[band] = _decode_npy(encoded, band, patch_m)
        except Exception as error:  # noqa: BLE001 - damaged files make libraries raise anything
            yield one_sentence(error)


def _sound_columns(row: Row, contents: SampleContents) -> tuple[Row, list[str]]:
    """Columns that have values of their types, and phrases for the others."""
    kinds = {str(column): column for column in contents.columns}
    faults = [f"has no column {name}" for name in kinds if name not in row]
    faults += [f"also has the column {name}" for name in row if name not in kinds]
    sound = {name: value for name, value in row.items() if name in kinds and _is_of(value, kinds[name])}
    faults += [f"has the {name} {shown(row[name])}" for name in row if name in kinds and name not in sound]
    return sound, faults


def _is_of(value: Any, column: Column) -> bool:
    if value is None:
        return column not in (PATCH_ID, LABELS, *FLAGS)
    if isinstance(value, list) and None in value:
        return False
    with suppress(pa.ArrowException, TypeError, OverflowError, ValueError):
        return bool(pa.array([value], column.type).to_pylist() == [value])
    return False


_Reader = Callable[[Path, SampleContents, Check], Iterator[_Sample]]


def _reader(form: ShardForm) -> _Reader:
    return _read_table if form == PARQUET else _read_tar


def _read_tar(path: Path, contents: SampleContents, check: Check) -> Iterator[_Sample]:
    endings = {member_name("", image): image for image in contents.images}
    with path.open("rb") as stream:
        members = read_members(stream, check, PLAIN_FILE_BYTES)
        for name, group in groupby(members, key=lambda member: member[0].partition(".")[0]):
            sample, last = _Sample(name, {}, {}, []), ""
            images, document = dict[str, bytes | str](), None
            for member, content in group:
                ending = member.removeprefix(name)
                if ending <= last:
                    sample.faults.append(f"{ending} occurs twice" if ending == last else f"{ending} comes after {last}")
                elif ending == f".{DOCUMENT}":
                    document = content
                elif ending in endings:
                    images[endings[ending]] = content
                else:
                    sample.faults.append(f"also holds {ending}")
                last = ending
            try:
                row = _parse_document(document)
            except InputError as error:
                sample.faults.append(f".{DOCUMENT} {error}")
                row = {}
            yield sample._replace(row=row, images=images)


def _parse_document(content: bytes | str | None) -> Row:
    if content is None or isinstance(content, str):
        raise InputError(content or "is missing")
    try:
        row = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not a JSON document ({error})") from None
    if not isinstance(row, dict):
        raise InputError("is not a JSON object")
    return row


def _decode_npy(content: bytes, band: Band, patch_m: int) -> npt.NDArray[Any]:
    """Decode an array of the type and shape of a band; nothing is allocated before both are known."""
    stream = io.BytesIO(content)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise InputError("is of another version of the format .npy")
    shape, is_by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
    found = {"type": dtype, "shape": shape, "order": "columns" if is_by_columns else "rows"}
    wanted = {"type": np.dtype(band.dtype), "shape": 2 * (band.side_px(patch_m),), "order": "rows"}
    if faults := [*differences(found, wanted)]:
        raise InputError(", ".join(faults))
    pixels = content[stream.tell() :]
    if len(pixels) != band.nbytes(patch_m):
        raise InputError(f"has {len(pixels):,} bytes of pixels, not {band.nbytes(patch_m):,}")
    return np.frombuffer(pixels, band.dtype).reshape(shape)


def _read_table(path: Path, contents: SampleContents, _: Check) -> Iterator[_Sample]:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        read = [name for name in contents.schema.names if name in names]
        if PATCH_ID not in read:
            raise InputError(f"has no column {PATCH_ID}")
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=read):
            for row in batch.to_pylist():
                name = str(row[PATCH_ID])
                images = {image: row.pop(image) for image in contents.images if image in row}
                filled = {image: cell for image, cell in images.items() if isinstance(cell, dict)}
                places = {image: cell.get("path") for image, cell in filled.items()}
                faults = [*differences(places, {image: f"{name}_{image}{SUFFIX}" for image in places})]
                contained = {image: _content(cell.get("bytes")) for image, cell in filled.items()}
                yield _Sample(name, row, contained, faults)


def _content(found: Any) -> bytes | str:
    return found if isinstance(found, bytes) else "has no bytes"


def _schema_faults(found: pa.Schema, wanted: pa.Schema) -> Iterator[str]:
    yield from schema_faults(found, wanted)[0]
    classes = [decode_classes(schema.metadata) for schema in (found, wanted)]
    if classes[0] != classes[1]:
        yield "has another class list"
    features = [_features(schema) for schema in (found, wanted)]
    if features[0] != features[1]:
        yield "has other types for Hugging Face"


def _features(schema: pa.Schema) -> Any:
    described = (schema.metadata or {}).get(FEATURES_KEY)
    return json.loads(described)["info"]["features"] if described else None
