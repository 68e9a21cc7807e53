"""GeoTIFF trees of a layout, loose or as archives: each patch in its folder, and its files.

Foreign data are not trusted, and nothing is unpacked. Archives are streams of ``ustar`` members with whole paths, as
this program writes; other headers announce names and maps of any length, which readers load into memory. Files larger
than an image of a patch are not read.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, groupby, islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from reben_dask.errors import InputError
from reben_dask.formats.bands import ImageKind
from reben_dask.formats.columns import GRID, IN_GRID, PATCH_ID, S1_NAME, TILE
from reben_dask.formats.trees import FileSpec, Tree, TreeLayout
from reben_dask.sources.published.tiff import PLAIN_FILE_BYTES, Image, decode_image
from reben_dask.stores.trees import ARCHIVE_SUFFIX, member_info
from reben_dask.verify.digest import Digest, file_digest, folder_digest
from reben_dask.verify.engine import Content, Context, Engine, Entry, Square
from reben_dask.verify.findings import Check, collect, differences, one_sentence
from reben_dask.verify.rows import Row

THREADS = 4
"""Reading from network disks or uncached ones is mostly waiting."""

_AT_ONCE, _SKIPPED_BYTES, _BLOCK = 64, 2**20, tarfile.BLOCKSIZE
_BYTES_PER_PIXEL = 16
"""Upper limit of an image, however it is stored."""

_MOST_FILES = 64
"""Files of an archived folder kept in memory."""

_NO_FILES = {
    tarfile.LNKTYPE: "link",
    tarfile.SYMTYPE: "symbolic link",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "pipe",
    tarfile.DIRTYPE: "folder",
}
"""Archive members without content."""


class _Folder(NamedTuple):
    """Candidate of a patch folder: parent below the tree, name, and files; a phrase replaces unread content."""

    above: str
    name: str
    files: Mapping[str, bytes | str]


@dataclass(frozen=True)
class Walk:
    """Walk over one tree in one form; facts that no row has come from a patch's name (tile or scene, and place)."""

    tree: Tree
    engine: Engine
    check: Check

    @cached_property
    def kind(self) -> ImageKind:
        """Kind of images that its folders are counted by."""
        return _kinds(self.tree)[0]

    @cached_property
    def specs(self) -> Mapping[str, FileSpec]:
        """Requirements on image files, by the end of the name."""
        return self.tree.specs

    @cached_property
    def depth(self) -> int:
        """Levels from the tree to a patch folder: 1 if all are side by side."""
        return 2 if any(self.tree.place(row) for row in self._rows("a_b_c_d")) else 1

    @cached_property
    def most_bytes(self) -> int:
        """Largest size of a file that is read."""
        patch_m = self.engine.expected.recipe.patch_size_m
        pixels = (len(spec.bands) * spec.bands[0].side_px(patch_m) ** 2 for spec in self.specs.values())
        return max(PLAIN_FILE_BYTES, *(_BYTES_PER_PIXEL * number for number in pixels))

    def is_read(self, name: str) -> bool:
        """True for images and documents; other files are ignored."""
        return name.lower().endswith((".tif", ".tiff")) or name.endswith(self.tree.document_names)

    def places(self, name: str) -> set[str]:
        """Folders of the tree for a patch; none if it does not belong there."""
        return {self.tree.place(row) for row in self._rows(name) if self.tree.holds(row)}

    def archive_order(self, above: str, name: str) -> tuple[str, tuple[int, int] | None]:
        """Run of a patch in an archive, and its place in the run, if named."""
        rows, expected = self._rows(name), self.engine.expected
        row = next((row for row in rows if self.tree.place(row) == above), rows[0])
        parsed = None if self.tree.is_shared or expected.names is None else expected.names.parse(name)
        is_in_cube = self.tree.order == IN_GRID and len(expected.grids) == 1
        return self.tree.run(row), parsed.xy if parsed and is_in_cube else None

    def reading_order(self, name: str) -> tuple[object, ...]:
        """Place in the cubes, so that each chunk is decoded once."""
        place = None if self.tree.is_shared else self.engine.place(self.engine.patch(self.kind, name))
        return place or ("", 0, 0, 0), name

    def entries(self, folders: Iterable[_Folder]) -> Iterator[Entry]:
        """Entries of folders in their right places."""
        for folder in folders:
            key = "/".join(filter(None, (self.tree.name, folder.above, folder.name)))
            if folder.above in self.places(folder.name):
                read = partial(self._read, folder)
                yield Entry(self.kind, folder.name, key, read, self.check, self.tree)
            else:
                self.engine.left_over.problem(f"{key}, which belongs elsewhere")

    def _rows(self, name: str) -> list[Row]:
        known = self.engine.row(self.engine.patch(self.kind, name))
        guess = {PATCH_ID: name, S1_NAME: name, TILE: name.rsplit("_", 2)[0], **self.tree.only, **known}
        return [{**guess, GRID: grid} for grid in ([known[GRID]] if GRID in known else self.engine.expected.grids)]

    def _read(self, folder: _Folder, *, pixels: bool) -> Content:  # noqa: ARG002 - all files are read in full
        content, squares = Content(), dict[str, Square]()
        names = {file: name for name, file in self.tree.file_names(folder.name).items()}
        optional = self.engine.expected.optional_bands
        content.faults += [
            f"has no {file}" for file, name in names.items() if file not in folder.files and name not in optional
        ]
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
                    squares[file] = (image.epsg, image.bounds)
                    content.faults += (f"{file} {fault}" for fault in self._compare(image, self.specs[name], content))
        content.square = next(iter(squares.values()), None)
        outside = (file for file, square in squares.items() if square != content.square)
        content.faults += [f"{file} does not cover the square of the others" for file in outside]
        return content

    def _compare(self, image: Image, spec: FileSpec, content: Content) -> Iterator[str]:
        """Compare an image; add its bands to the content if they are complete and of the right type."""
        side, pixel = spec.bands[0].side_px(self.engine.expected.recipe.patch_size_m), spec.resolution_m
        axes, shape = (*image.transform[:2], *image.transform[3:5]), (len(spec.bands), side, side)
        found = {"type": image.pixels.dtype, "shape": image.bands.shape, "nodata tag": image.nodata}
        wanted = {"type": np.dtype(spec.dtype), "shape": shape, "nodata tag": spec.nodata}
        yield from differences(found, wanted)
        yield from differences({"pixel axes": axes}, {"pixel axes": (pixel, 0, 0, -pixel)})
        if image.epsg is None:
            yield "has no coordinate reference system"
        if image.count == len(spec.bands) and image.pixels.dtype == spec.dtype:
            for band, pixels in zip(spec.bands, image.bands, strict=True):
                content.images.setdefault(band.kind, {})[band.name] = pixels


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
    trees = sorted(layout.trees, key=_rank)
    there = {_kinds(tree)[0] for tree in trees if tree.name in roots}
    advance = context.settings.begin(form.stage, sum(engine.asked_for(kind) for kind in there))
    for _, group in groupby(trees, key=_rank):
        walks = [Walk(tree, engine, Check(f"{tree.name}{form.suffix}", "patch folder")) for tree in group]
        yield from _check_trees(form, walks, roots, advance)
    yield from engine.checks()


def _check_trees(
    form: Form, walks: Sequence[Walk], roots: Mapping[str, Path], advance: Callable[[int], object]
) -> Iterator[Check]:
    """Walk over trees that divide patches among them, or over the only one."""
    engine, kind, kinds = walks[0].engine, walks[0].kind, _kinds(walks[0].tree)
    context, required, is_held = engine.context, bool(walks[0].tree.kinds & engine.context.required), False
    for walk in walks:
        root = roots.get(walk.tree.name)
        if root is not None:
            before = engine.found[kind]
            with collect(walk.check):
                engine.run(walk.entries(form.folders(root, walk)), advance)
            walk.check.count = engine.found[kind] - before
            is_held |= bool(walk.check.count or walk.check.problems or not form.is_bare(root))
        elif required:
            walk.check.problem("is missing")
    if not is_held and not required:
        context.report.without += [absent.value for absent in kinds]
        return
    for name in engine.missing(kind):
        homes = [walk for walk in walks if walk.places(name)]
        if homes and all(home.tree.name in roots for home in homes):
            where = "" if len(homes) == 1 else f" in {', '.join(home.tree.name for home in homes)}"
            homes[0].check.problem(f"{name} is missing{where}")
    absent = [walk.tree.name for walk in walks if walk.tree.name not in roots]
    if absent and not required:
        context.report.without += absent
        context.report.patches = engine.found[kind]
    yield from (walk.check for walk in walks if walk.tree.name in roots or required)


def _kinds(tree: Tree) -> list[ImageKind]:
    return [kind for kind in ImageKind if kind in tree.kinds]


def _rank(tree: Tree) -> list[int]:
    """Trees of one rank hold the same of different patches."""
    return [list(ImageKind).index(kind) for kind in _kinds(tree)]


# Loose files


def _loose_folders(root: Path, walk: Walk) -> Iterator[_Folder]:
    """Patch folders by parent, and in each in the order of the cubes."""
    parents: Iterable[Path] = [root]
    for _ in range(walk.depth - 1):
        parents = chain.from_iterable(_folders_in(parent, walk) for parent in parents)
    ordered = (sorted(_folders_in(parent, walk), key=lambda path: walk.reading_order(path.name)) for parent in parents)
    paths = chain.from_iterable(ordered)
    with ThreadPoolExecutor(THREADS) as pool:
        while batch := list(islice(paths, _AT_ONCE)):
            for folder in pool.map(partial(_read_folder, root, walk), batch):
                if isinstance(folder, str):
                    walk.check.problem(folder)
                else:
                    yield folder


def _folders_in(folder: Path, walk: Walk) -> Iterable[Path]:
    """Folders by name; hidden entries are skipped."""
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        walk.check.problem(f"{folder.name}: {one_sentence(error)}")
        return []
    walk.engine.left_over.add(f"{folder.name}/{path.name}" for path in entries if not path.is_dir())
    return [path for path in entries if path.is_dir()]


def _read_folder(root: Path, walk: Walk, folder: Path) -> _Folder | str:
    try:
        paths = [path for path in folder.iterdir() if walk.is_read(path.name)]
        files = {path.name: _read_file(path, walk.most_bytes) for path in paths}
    except OSError as error:
        return f"{folder.name} cannot be read ({one_sentence(error)})"
    return _Folder("" if folder.parent == root else folder.parent.name, folder.name, files)


def _read_file(path: Path, most_bytes: int) -> bytes | str:
    try:
        size = path.stat().st_size
        return _too_large(size) if size > most_bytes else path.read_bytes()
    except OSError as error:
        return f"cannot be read ({one_sentence(error)})"


def _too_large(size: int) -> str:
    return f"has {size:,} bytes, which is no image of a patch"


# Archives


class _File(NamedTuple):
    """A file in an archive: folders above and of the patch, name, and content, or a phrase if unread."""

    folder: tuple[str, str]
    name: str
    content: bytes | str


def _archived_folders(archive: Path, walk: Walk) -> Iterator[_Folder]:
    """Patch folders in the order of the archive, which must be that of the writer."""
    last, last_run, last_place, seen = "", "", None, set[str]()
    with pa.input_stream(str(archive), compression="zstd") as stream:
        for (above, name), members in groupby(_files(stream, walk), key=lambda file: file.folder):
            run, place = walk.archive_order(above, name)
            if run != last_run:
                last_place, seen = None, set()
            if name in seen:
                walk.check.problem(f"{name} is there twice")
            elif run < last_run or (place and last_place and place <= last_place):
                walk.check.problem(f"{name} comes after {last}")
            last, last_run, last_place = name, run, place
            seen.add(name)
            yield _Folder(above, name, _distinct(members, walk.check))


def _files(stream: BinaryIO, walk: Walk) -> Iterator[_File]:
    others: list[str] = []
    is_empty, most_bytes = True, walk.most_bytes
    while any(block := stream.read(_BLOCK)):
        info = _parse_header(block)
        if info.isreg():
            usual = _header_fields(member_info(info.name, info.size))
            walk.check.add(differences(_header_fields(info), usual), info.name)
            content = _read_content(stream, info, most_bytes)
            tree, *below = info.name.split("/")
            if tree == walk.tree.name and len(below) == walk.depth + 1 and not {"", ".", ".."} & set(below):
                *above, folder, file = below
                yield _File(("/".join(above), folder), file, content)
            else:
                walk.engine.left_over.problem(f"{info.name!r} in the archive of {walk.tree.name}")
        else:
            others.append(f"{info.name!r} is a {_NO_FILES[info.type]}")
        is_empty = is_empty and info.isdir() and info.name == walk.tree.name
    # An archive of nothing holds the folder of the tree, for which readers look.
    walk.check.add(others[1:] if is_empty else others)
    if len(block) < _BLOCK:
        raise InputError("ends without the mark of its end")
    while rest := stream.read(_SKIPPED_BYTES):
        if any(rest):
            raise InputError("continues after the mark of its end")


def _header_fields(info: tarfile.TarInfo) -> dict[str, object]:
    return {name: getattr(info, name) for name in ("mode", "uid", "gid", "uname", "gname", "mtime")}


def _parse_header(block: bytes) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise InputError(f"has a damaged header ({error})") from None
    if info.size < 0:
        raise InputError(f"has a damaged header (a member of {info.size} bytes)")
    if info.type not in {tarfile.REGTYPE, tarfile.AREGTYPE, *_NO_FILES}:
        raise InputError(
            f"is of another format than ustar (a member of the type {info.type.decode(errors='replace')!r}); unpack it "
            "and verify the tree"
        )
    return info


def _read_content(stream: BinaryIO, info: tarfile.TarInfo, most_bytes: int) -> bytes | str:
    left = info.size + -info.size % _BLOCK
    if info.size <= most_bytes:
        content = stream.read(left)
        if len(content) == left:
            return content[: info.size]
        left -= len(content)
    while left and (skipped := stream.read(min(left, _SKIPPED_BYTES))):
        left -= len(skipped)
    if left:
        raise InputError(f"is cut short in {info.name!r}")
    return _too_large(info.size)


def _distinct(files: Iterable[_File], check: Check) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    last = ""
    for (_, folder), name, content in files:
        if name in found or name < last:
            check.problem(f"{folder}/{name} " + ("is there twice" if name in found else f"comes after {last}"))
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
