"""Archives of published trees (``.tar``, also with Zstandard or gzip), each read as one sequential stream.

Nothing is unpacked, and no name in an archive becomes a path: a patch is known by the last two parts of a member's
name, which must be those of a patch and of one of its images. Foreign archives are not trusted: names and files of any
announced length are read up to a limit, and a damaged header is an error, at which :mod:`tarfile` stops silently.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy.typing as npt
import pyarrow as pa

from reben_dask.errors import InputError, missing
from reben_dask.formats.bands import FURTHER_BANDS, Band, ImageKind
from reben_dask.sources.published.tiff import PLAIN_FILE_BYTES, decode_corner, decode_image
from reben_dask.sources.published.tiles import Place, place_of, placing_image
from reben_dask.sources.published.trees import (
    EXAMPLES,
    IMAGES,
    PublishedPatch,
    PublishedTree,
    is_patch_name,
    no_patches,
    require_complete,
    require_image,
)

COMPRESSIONS: Mapping[str, str | None] = {".tar": None, ".tar.zst": "zstd", ".tar.gz": "gzip", ".tgz": "gzip"}
"""Compression of an archive by the end of its name."""

BLOCK = tarfile.BLOCKSIZE
MEGABYTE = 10**6

_NAME_BYTES = 2**16
"""Limit of the long names and further attributes of a member."""

_READ_BYTES = 2**20

Advance = Callable[[int], None]


class ArchivedPatch(NamedTuple):
    """Images of one kind of a patch in an archive."""

    patch: PublishedPatch
    files: Mapping[str, bytes | str]
    """Contents of its files by image; a phrase replaces content that is too large."""

    @property
    def lacking(self) -> list[str]:
        """Images that patches of this kind have, but this one lacks."""
        return sorted(IMAGES[self.patch.kind].keys() - self.files.keys())


def is_archive(path: Path) -> bool:
    """Test for an archive by its name."""
    return _suffix(path) is not None


def read_archive(path: Path, kind: ImageKind, advance: Advance = lambda _: None) -> Iterator[ArchivedPatch]:
    """Read the patches of one kind in an archive, in its order; other members are skipped.

    Parameters
    ----------
    path : Path
        Archive; the files of a patch follow each other.
    kind : ImageKind
        Kind of its patches.
    advance : callable
        Called with numbers of megabytes (10⁶ bytes) of the archive that have been read.

    Raises
    ------
    InputError
        If the archive is missing, damaged or cut short, or if it has no patch of the kind.
    """
    is_empty = True
    bands = {**IMAGES[kind], **(FURTHER_BANDS if kind is ImageKind.S2 else {})}
    with _open_stream(path, advance) as stream:
        files = _files(stream, lambda name: _image_of(name, kind, bands) is not None)
        for folder, members in groupby(files, lambda file: file[0].rpartition("/")[0]):
            contents: dict[str, bytes | str] = {}
            for member, content in members:
                contents.setdefault(_image_of(member, kind, bands) or "", content)
            yield ArchivedPatch(PublishedPatch(kind, str(path), folder.rpartition("/")[2]), contents)
            is_empty = False
    if is_empty:
        raise no_patches(kind, str(path))


def decode_patch(archived: ArchivedPatch) -> dict[str, npt.NDArray[Any]]:
    """Decode the images of a patch, as :func:`~reben_dask.sources.published.trees.read_patch` reads them.

    Returns
    -------
    dict of str to ndarray, shape (y, x)
        Pixels at native resolution by image.

    Raises
    ------
    InputError
        If a file is missing, damaged or does not match its kind; the message names the file and the archive.
    """
    patch, images = archived.patch, {}
    if lacking := archived.lacking:
        raise InputError(f"{patch.name} in {patch.above} lacks {', '.join(lacking)}; download the archive again.")
    for image, band in _bands_of(archived).items():
        where, content = _place_in(archived, image), archived.files[image]
        try:
            if isinstance(content, str):
                raise InputError(content)  # noqa: TRY301 - a phrase, as those of the decoder
            pixels = decode_image(content).pixels
        except InputError as error:
            raise InputError(f"{where} {error}; download the archive again.") from None
        require_image(pixels, band, where)
        images[image] = pixels
    return images


def find_archived_patches(
    paths: Sequence[Path], kind: ImageKind, advance: Advance = lambda _: None
) -> tuple[PublishedTree, dict[PublishedPatch, Place]]:
    """Read archives to find the patches of a kind and their positions; their pixels are not decoded.

    Raises
    ------
    InputError
        As :func:`read_archive`; if a patch occurs twice, lacks an image or cannot be placed.
    """
    places: dict[PublishedPatch, Place] = {}
    incomplete: list[tuple[str, list[str]]] = []
    further, seen = tuple[str, ...](), SeenPatches()
    for path in paths:
        for archived in read_archive(path, kind, advance):
            seen.add(archived.patch)
            if not places and not incomplete:
                further = tuple(image for image in archived.files if image in FURTHER_BANDS)
            if lacking := sorted({*archived.lacking, *(set(further) - archived.files.keys())}):
                incomplete.append((archived.patch.name, lacking))
                continue
            image = placing_image(kind)
            where, content = _place_in(archived, image), archived.files[image]
            if isinstance(content, str):
                raise InputError(f"{where} {content}; download the archive again.")
            places[archived.patch] = place_of(kind, decode_corner(content, where), where)
    names = " and ".join(map(str, paths))
    require_complete(incomplete, kind, f"{len(places) + len(incomplete):,} patches of {kind.value} in {names}")
    patches = sorted(places, key=lambda patch: (patch.name, patch.above))
    return PublishedTree(kind, names, patches, further, tuple(map(str, paths))), places


class SeenPatches:
    """Names of the patches of one kind that archives have had."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def add(self, patch: PublishedPatch) -> None:
        """Add a patch; :class:`InputError` if it occurs twice."""
        if patch.name in self._names:
            raise InputError(
                f"The patch {patch.name} in {patch.above} comes for the second time, or its files do not follow each "
                "other; leave out one of the archives, or unpack them and give the folder."
            )
        self._names.add(patch.name)


def parse_header(block: bytes) -> tarfile.TarInfo:
    """Parse the header of a member; :class:`InputError`, with a phrase as message, if it is damaged."""
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise InputError(f"has a damaged header ({error})") from None
    if info.size < 0:
        raise InputError(f"has a damaged header (a member of {info.size} bytes)")
    return info


def read_content(stream: BinaryIO, info: tarfile.TarInfo, most_bytes: int) -> bytes | str:
    """Read the content of a member, or a phrase if it has more than ``most_bytes``, and the rest of its last block.

    :class:`InputError`, with a phrase as message, if the archive ends before.
    """
    left, content = info.size + -info.size % BLOCK, bytearray()
    while left and (read := stream.read(min(left, _READ_BYTES))):
        left -= len(read)
        content += read if info.size <= most_bytes else b""
    if left:
        raise InputError(f"is cut short in {info.name!r}")
    return bytes(content[: info.size]) if info.size <= most_bytes else too_large(info.size)


def too_large(size: int) -> str:
    """Phrase for a file that is too large to be read."""
    return f"has {size:,} bytes, which is not an image of a patch"


@contextmanager
def _open_stream(path: Path, advance: Advance) -> Iterator[BinaryIO]:
    """Open an archive as a stream of its members; errors in the block name it."""
    if not path.is_file():
        raise InputError(f"The archive {path} is not a file." if path.exists() else missing("The archive", path))
    compression = COMPRESSIONS[_suffix(path) or ".tar"]
    try:
        with ExitStack() as stack:
            file = _Counted(stack.enter_context(path.open("rb", buffering=0)), advance)
            raw = stack.enter_context(pa.PythonFile(file, mode="r"))
            yield stack.enter_context(
                pa.CompressedInputStream(raw, compression) if compression else pa.BufferedInputStream(raw, _READ_BYTES)
            )
    except InputError as error:
        raise InputError(f"The archive {path} {error}; download it again.") from None
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"The archive {path} cannot be read ({error}); download it again.") from None


class _Counted:
    """File that reports the megabytes that have been read."""

    closed = False

    def __init__(self, file: Any, advance: Advance) -> None:
        self._file, self._advance, self._bytes = file, advance, 0

    def read(self, size: int = -1) -> bytes:
        content: bytes = self._file.read(size)
        before, self._bytes = self._bytes, self._bytes + len(content)
        if more := self._bytes // MEGABYTE - before // MEGABYTE:
            self._advance(more)
        return content

    def close(self) -> None:
        self.closed = True


def _files(stream: BinaryIO, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes | str]]:
    """Names and contents of the wanted files of an archive in the formats ustar, GNU and pax."""
    long_name = ""
    while any(block := stream.read(BLOCK)):
        info = parse_header(block)
        if info.type == tarfile.GNUTYPE_LONGNAME:
            long_name = _read_attributes(stream, info).partition(b"\0")[0].decode("utf-8", "surrogateescape")
        elif info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            long_name = _path_of(_read_attributes(stream, info)) or long_name
        elif info.type == tarfile.GNUTYPE_SPARSE:
            raise InputError(f"holds the sparse file {info.name!r}, which needs to be unpacked")
        else:
            info.name, long_name = long_name or info.name, ""
            is_read = info.isreg() and is_wanted(info.name)
            if not info.isreg() and info.type in tarfile.SUPPORTED_TYPES:
                continue  # links and folders have no content, whatever their size
            content = read_content(stream, info, PLAIN_FILE_BYTES if is_read else -1)
            if is_read:
                yield info.name, content
    if len(block) < BLOCK:
        raise InputError("ends without the mark of its end")
    while rest := stream.read(_READ_BYTES):
        if any(rest):
            raise InputError("continues after the mark of its end: it holds several archives, or is damaged")


def _read_attributes(stream: BinaryIO, info: tarfile.TarInfo) -> bytes:
    content = read_content(stream, info, _NAME_BYTES)
    if isinstance(content, str):
        raise InputError(f"has a damaged header (a name of {info.size:,} bytes)")
    return content


def _path_of(attributes: bytes) -> str:
    """Value of ``path`` in a pax header, which has records ``<length> <key>=<value>``; empty without one."""
    path = ""
    while attributes:
        length = attributes.partition(b" ")[0]
        if not length.isdigit() or not 0 < int(length) <= len(attributes):
            break
        record, attributes = attributes[: int(length)], attributes[int(length) :]
        key, _, value = record[len(length) + 1 : -1].partition(b"=")
        path = value.decode("utf-8", "surrogateescape") if key == b"path" else path
    return path


def _image_of(name: str, kind: ImageKind, images: Iterable[str]) -> str | None:
    """Image of a patch of a kind that a member holds; hidden folders hold none."""
    *above, file = name.removeprefix("./").split("/")
    folder = above[-1] if above else ""
    if not is_patch_name(folder, EXAMPLES[kind][:2]) or any(part.startswith(".") for part in above):
        return None
    image = file.removeprefix(f"{folder}_").removesuffix(".tif")
    return image if image in images and file == f"{folder}_{image}.tif" else None


def _bands_of(archived: ArchivedPatch) -> dict[str, Band]:
    further = {name: band for name, band in FURTHER_BANDS.items() if name in archived.files}
    return {**IMAGES[archived.patch.kind], **further}


def _place_in(archived: ArchivedPatch, image: str) -> str:
    return f"{archived.patch.name}_{image}.tif in {archived.patch.above}"


def _suffix(path: Path) -> str | None:
    return next((suffix for suffix in COMPRESSIONS if path.name.lower().endswith(suffix)), None)
