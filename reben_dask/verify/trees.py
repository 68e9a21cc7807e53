"""GeoTIFF trees of a layout, loose or as archives: each patch in its folder, and its files.

Foreign data are not trusted, and nothing is unpacked. Archives are streams of members with whole paths
(:mod:`~reben_dask.verify.tars`). Files larger than an image of a patch are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from reben_dask.formats.bands import ImageKind
from reben_dask.formats.columns import IN_GRID, PATCH_ID, TILE
from reben_dask.formats.trees import FileSpec, Tree, TreeLayout
from reben_dask.formats.trees.layout import Group
from reben_dask.sources.published.archives import too_large
from reben_dask.sources.published.tiff import PLAIN_FILE_BYTES, Image, decode_image
from reben_dask.sources.published.trees import Folder, walk_patch_folders
from reben_dask.stores.trees import ARCHIVE_SUFFIX
from reben_dask.verify.digest import Digest, file_digest, folder_digest
from reben_dask.verify.engine import Content, Context, Engine, Entry
from reben_dask.verify.findings import Check, collect, differences, one_sentence
from reben_dask.verify.metadata import Row
from reben_dask.verify.tars import read_members

THREADS = 4
"""Reads from network disks and uncached disks mostly wait."""

_AT_ONCE = 64
_BYTES_PER_PIXEL = 16
"""Upper limit of an image, however it is stored."""

_MOST_FILES = 64
"""Files of an archived folder kept in memory."""

Files = Mapping[str, bytes | str]
"""Contents of files by name; a phrase replaces unread content."""


class _Folder(NamedTuple):
    """Candidate of a patch folder: its parent below the tree, name, and files."""

    above: str
    name: str
    files: Files


@dataclass(frozen=True)
class Walk:
    """Walk over one tree in one form."""

    tree: Tree
    engine: Engine
    check: Check

    @property
    def kind(self) -> ImageKind:
        """Kind of images that its folders are counted by."""
        return self.tree.kinds[0]

    @cached_property
    def most_bytes(self) -> int:
        """Largest size of a file that is read."""
        patch_m = self.engine.expected.recipe.patch_size_m
        pixels = (len(spec.bands) * spec.bands[0].side_px(patch_m) ** 2 for spec in self.tree.specs.values())
        return max(PLAIN_FILE_BYTES, *(_BYTES_PER_PIXEL * number for number in pixels))

    def is_read(self, name: str) -> bool:
        """Test for an image or a document; other files are ignored."""
        return name.lower().endswith((".tif", ".tiff")) or name.endswith(self.tree.document_names)

    def known(self, name: str) -> Row:
        """Columns of a patch, from its row or its name."""
        names, known = self.engine.expected.names, self.engine.row(self.engine.patch(self.kind, name))
        is_of_tile = names is not None and names.template.startswith("{tile}_") and self.tree.name_column == PATCH_ID
        return {self.tree.name_column: name, **({TILE: _before_indices(name)} if is_of_tile else {}), **known}

    def may_hold(self, known: Row) -> bool:
        """Test for a patch that may be in this tree, by all that is known of it."""
        return all(known.get(column, value) == value for column, value in self.tree.only.items())

    def is_home(self, above: str, name: str) -> bool:
        """Test for a folder of this tree that a patch may be in."""
        known, parts = self.known(name), above.split("/") if above else []
        pairs = zip(self.tree.levels, parts, strict=True)
        return self.may_hold(known) and all(self._is_of_group(known, group, part) for group, part in pairs)

    def archive_order(self, above: str, name: str) -> tuple[str, tuple[int, int] | None]:
        """Run of a patch in an archive, and its place in the run, if known."""
        tree, expected, known = self.tree, self.engine.expected, {TILE: _before_indices(name), **self.known(name)}
        of_folder = dict(zip(tree.levels, above.split("/"), strict=False)).get(tree.run, "")
        run = tree.run.of(known) if tree.run.column in known else of_folder
        parsed = None if tree.is_shared or expected.names is None else expected.names.parse(name)
        is_in_cube = tree.order == IN_GRID and len(expected.grids) == 1
        return run, parsed.xy if parsed and is_in_cube else None

    def reading_order(self, name: str) -> tuple[object, ...]:
        """Place in the cubes, so that each chunk is decoded once."""
        place = None if self.tree.is_shared else self.engine.place(self.engine.patch(self.kind, name))
        return place or ("", 0, 0, 0), name

    def entries(self, folders: Iterable[_Folder]) -> Iterator[Entry]:
        """Entries of folders in their right places."""
        for folder in folders:
            key = "/".join(filter(None, (self.tree.name, folder.above, folder.name)))
            if self.is_home(folder.above, folder.name):
                yield Entry(self.kind, folder.name, key, partial(self._read, folder), self.check, self.tree)
            else:
                self.engine.left_over.problem(f"{key}, which belongs elsewhere")

    def _is_of_group(self, known: Row, group: Group, part: str) -> bool:
        allowed = [known[group.column]] if group.column in known else self.engine.expected.values.get(group.column)
        return allowed is None or part in map(group.text, allowed)

    def _read(self, folder: _Folder, *, pixels: bool) -> Content:  # noqa: ARG002 - all files are read in full
        content, names = Content(), {file: name for name, file in self.tree.file_names(folder.name).items()}
        needed = [file for file, name in names.items() if name not in self.engine.expected.optional_bands]
        content.faults += [f"has no {file}" for file in needed if file not in folder.files]
        content.faults += [f"also holds {file}" for file in sorted(folder.files.keys() - names.keys())]
        for file, name in names.items():
            found = folder.files.get(file)
            if isinstance(found, str):
                content.faults.append(f"{file} {found}")
            elif found is not None and name in self.tree.document_names:
                content.documents[name] = found
            elif found is not None:
                try:
                    image = decode_image(found)
                except Exception as error:  # noqa: BLE001 - damaged files make GDAL's layers raise anything
                    content.faults.append(f"{file} {one_sentence(error)}")
                else:
                    faults = add_image(content, image, self.tree.specs[name], self.engine.expected.recipe.patch_size_m)
                    content.faults += (f"{file} {fault}" for fault in faults)
        return content


def add_image(content: Content, image: Image, spec: FileSpec, patch_m: int) -> Iterator[str]:
    """Compare an image; add its bands to the content if they are complete and of the right type."""
    side, pixel = spec.bands[0].side_px(patch_m), spec.resolution_m
    axes, shape = (*image.transform[:2], *image.transform[3:5]), (len(spec.bands), side, side)
    found = {"type": image.bands.dtype, "shape": image.bands.shape, "nodata tag": image.nodata}
    wanted = {"type": np.dtype(spec.dtype), "shape": shape, "nodata tag": spec.nodata}
    yield from differences({**found, "pixel axes": axes}, {**wanted, "pixel axes": (pixel, 0, 0, -pixel)})
    if image.epsg is None:
        yield "has no coordinate reference system"
    content.square = content.square or (image.epsg, image.bounds)
    if content.square != (image.epsg, image.bounds):
        yield "does not cover the square of the others"
    if image.count == len(spec.bands) and image.bands.dtype == spec.dtype:
        content.layers |= zip(spec.bands, image.bands, strict=True)


@dataclass(frozen=True)
class Form:
    """Form of published trees; ``place`` names it in titles, and ``suffix`` follows the name of a tree."""

    place: str
    stage: str
    suffix: str
    folders: Callable[[Path, Walk], Iterator[_Folder]]
    is_bare: Callable[[Path], bool]
    """Test for a tree without patches."""
    digest: Digest

    def roots(self, path: Path, layout: TreeLayout) -> dict[str, Path]:
        """Trees of a layout in a folder by name, or the one that it is."""
        names = {tree.name: f"{tree.name}{self.suffix}" for tree in layout.trees}
        named = {tree: path for tree, name in names.items() if path.name == name}
        return named or {tree: path / name for tree, name in names.items() if (path / name).exists()}


def forms_of(path: Path, layout: TreeLayout) -> list[Form]:
    """Forms in which a folder holds trees of a layout, or is one."""
    return [form for form in FORMS if form.roots(path, layout)]


def verify_trees(form: Form, path: Path, context: Context) -> Iterator[Check]:
    """Check the trees of one form in a folder, or the one that it is, reading all files in full."""
    engine, layout = Engine(form.place, context), context.expected.tree_layout
    roots = form.roots(path, layout)
    # Trees of the same kinds hold the same images for different patches.
    trees = sorted(layout.trees, key=lambda tree: [list(ImageKind).index(kind) for kind in tree.kinds])
    there = {tree.kinds[0] for tree in trees if tree.name in roots}
    advance = context.settings.begin(form.stage, sum(len(engine.names[kind]) for kind in there))
    for _, group in groupby(trees, key=lambda tree: tree.kinds):
        walks = [Walk(tree, engine, Check(f"{tree.name}{form.suffix}", "patch folder")) for tree in group]
        yield from _check_trees(form, walks, roots, advance)
    yield from engine.checks()


def _check_trees(
    form: Form, walks: Sequence[Walk], roots: Mapping[str, Path], advance: Callable[[int], object]
) -> Iterator[Check]:
    """Walk over trees that divide patches among them, or over the only one."""
    engine, kind, kinds = walks[0].engine, walks[0].kind, walks[0].tree.kinds
    context, required, is_held = engine.context, not engine.context.required.isdisjoint(kinds), False
    for walk in walks:
        root = roots.get(walk.tree.name)
        if root is not None:
            before = engine.found[kind]
            with collect(walk.check):
                engine.run(walk.entries(form.folders(root, walk)), advance)
            walk.check.count = engine.found[kind] - before
            if walk.tree.document_names and not (context.dataset or walk.tree.read_document):
                walk.check.notes.append("documents can only be checked with their patch table")
            is_held |= bool(walk.check.count or walk.check.problems or not form.is_bare(root))
        elif required:
            walk.check.problem("is missing")
    if not is_held and not required:
        context.report.without += [absent.value for absent in kinds]
        return
    for name in engine.names[kind].missing():
        homes = [walk for walk in walks if walk.may_hold(walk.known(name))]
        if homes and all(home.tree.name in roots for home in homes):
            where = "" if len(homes) == 1 else f" in {', '.join(home.tree.name for home in homes)}"
            homes[0].check.problem(f"{name} is missing{where}")
    absent = [walk.tree.name for walk in walks if walk.tree.name not in roots]
    if absent and not required:
        context.report.without += absent
        context.report.patches = engine.found[kind]
    yield from (walk.check for walk in walks if walk.tree.name in roots or required)


def _before_indices(name: str) -> str:
    return name.rsplit("_", 2)[0]


# Loose files


def _loose_folders(root: Path, walk: Walk) -> Iterator[_Folder]:
    """Patch folders by parent, and in each in the order of the cubes."""
    levels = len(walk.tree.levels)
    found = walk_patch_folders(
        root,
        lambda _, depth: depth > levels,
        order=walk.reading_order,
        is_followed=lambda _, __: True,
        on_error=lambda error: walk.check.problem(one_sentence(error)),
    )
    with ThreadPoolExecutor(THREADS) as pool:
        while batch := list(islice(found, _AT_ONCE)):
            patches = [folder for folder in batch if folder.is_patch]
            for folder in batch:
                walk.engine.left_over.add(f"{folder.name}/{name}" for name in folder.files * (not folder.is_patch))
            for folder, files in zip(patches, pool.map(partial(_read_files, walk), patches), strict=True):
                above = Path(folder.above).parts[-levels:] if levels else ()
                yield _Folder("/".join(above), folder.name, files)


def _read_files(walk: Walk, folder: Folder) -> Files:
    names = [name for name in (*folder.files, *folder.folders) if walk.is_read(name)]
    return {name: _read_file(Path(folder.path, name), walk.most_bytes) for name in names}


def _read_file(path: Path, most_bytes: int) -> bytes | str:
    try:
        size = path.stat().st_size
        return too_large(size) if size > most_bytes else path.read_bytes()
    except OSError as error:
        return f"cannot be read ({one_sentence(error)})"


# Archives


_File = tuple[tuple[str, str], str, bytes | str]
"""A file in an archive: folders above and of the patch, name, and content, or a phrase if unread."""


def _archived_folders(archive: Path, walk: Walk) -> Iterator[_Folder]:
    """Patch folders in the order of the archive, which must be that of the writer."""
    last, last_run, last_place, seen = "", "", None, set[str]()
    with pa.input_stream(str(archive), compression="zstd") as stream:
        for (above, name), members in groupby(_files(stream, walk), key=itemgetter(0)):
            run, place = walk.archive_order(above, name)
            if run != last_run:
                last_place, seen = None, set()
            if name in seen:
                walk.check.problem(f"{name} occurs twice")
            elif run < last_run or (place and last_place and place <= last_place):
                walk.check.problem(f"{name} comes after {last}")
            last, last_run, last_place = name, run, place
            seen.add(name)
            yield _Folder(above, name, _distinct(members, walk.check))


def _files(stream: BinaryIO, walk: Walk) -> Iterator[_File]:
    depth = len(walk.tree.levels) + 2
    # An empty archive contains the tree's folder, because readers look for it.
    for path, content in read_members(stream, walk.check, walk.most_bytes, empty_folder=walk.tree.name):
        tree, *below = path.split("/")
        if tree == walk.tree.name and len(below) == depth and not {"", ".", ".."} & set(below):
            *above, folder, file = below
            yield ("/".join(above), folder), file, content
        else:
            walk.engine.left_over.problem(f"{path!r} in the archive of {walk.tree.name}")


def _distinct(files: Iterable[_File], check: Check) -> Files:
    found: dict[str, bytes | str] = {}
    last = ""
    for (_, folder), name, content in files:
        if name in found or name < last:
            check.problem(f"{folder}/{name} " + ("occurs twice" if name in found else f"comes after {last}"))
        if len(found) < _MOST_FILES:
            found.setdefault(name, content)
        last = name
    return found


FORMS = (
    Form(
        *("the trees", "verify-trees", "", _loose_folders),
        is_bare=lambda root: not any(root.iterdir()),
        digest=lambda root: folder_digest(root, ".tif"),
    ),
    Form("the archives", "verify-archives", ARCHIVE_SUFFIX, _archived_folders, lambda _: True, file_digest),
)
