"""Files of a product, in a folder or in place inside a zip file, and their checksums.

A flipped bit in a JPEG 2000 file decodes without an error, to other pixels. ``manifest.safe`` has a checksum of each
file (MD5, since 2021 SHA3-256), and a zip file has one of each member; GDAL checks neither.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from reben_dask.errors import InputError
from reben_dask.formats.bands import Level

METADATA_FILES: dict[Level, str] = {"L2A": "MTD_MSIL2A.xml", "L1C": "MTD_MSIL1C.xml"}
"""Name of the metadata file of a product, by its level."""

MANIFEST_FILE = "manifest.safe"

MAX_XML_BYTES = 64 * 2**20
"""Limit for metadata files, far above real ones; larger ones are not read."""

ALGORITHMS = {"MD5": "md5", "SHA3-256": "sha3_256", "SHA-256": "sha256"}
"""Checksum algorithms of :mod:`hashlib`, by their name in manifests."""

IN_PLACE = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""Compression methods of zip members that both zipfile and GDAL read."""

_METHODS = {9: "Deflate64", zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "LZMA", 93: "Zstandard", 95: "XZ"}
_PIECE_BYTES = 4 * 2**20
_UNPACKING_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    ValueError,
)


class Checksum(NamedTuple):
    """Checksum in a manifest: one of :data:`ALGORITHMS`, and the hexadecimal digest in lower case."""

    name: str
    digest: str


class ProductFiles:
    """Files of the product at ``path``, a folder or a zip file, by their path inside it.

    :class:`InputError` if it is neither, or holds no metadata file of a product.
    """

    level: Level

    def __init__(self, path: Path) -> None:
        self._path = path
        self._root = ""
        self._members: dict[str, zipfile.ZipInfo] | None = None
        if not path.is_dir():
            self._members = read_members(path)
            metadata = [name for name in self._members if PurePosixPath(name).name in METADATA_FILES.values()]
            if len(metadata) > 1:
                raise InputError(f"{path} holds {len(metadata)} products; a zip file of one product is expected.")
            self._root = metadata[0].removesuffix(PurePosixPath(metadata[0]).name) if metadata else ""
        levels = [level for level, name in METADATA_FILES.items() if self.exists(name)]
        if not levels:
            raise InputError(f"{path} holds no {' or '.join(METADATA_FILES.values())}; it is not a Sentinel-2 product.")
        self.level = levels[0]

    def exists(self, name: str) -> bool:
        """Test if the product holds a file."""
        if self._members is not None:
            return self._root + name in self._members
        # Unlike Path.is_file, this takes a name that no file can have for a file that does not exist.
        return os.path.isfile(self._path / name)  # noqa: PTH113

    def below(self, folder: str) -> list[str]:
        """Paths of all files below a folder of the product, sorted."""
        if self._members is None:
            found = (path for path in (self._path / folder).rglob("*") if path.is_file())
            return sorted(path.relative_to(self._path).as_posix() for path in found)
        start = f"{self._root}{folder}/"
        names = (name for name in self._members if name.startswith(start) and not name.endswith("/"))
        return sorted(name.removeprefix(self._root) for name in names)

    def read_xml(self, name: str) -> bytes:
        """Read a metadata file."""
        self.require_in_place(name)
        is_folder = self._members is None
        size = (self._path / name).stat().st_size if is_folder else self._member(name).file_size
        if size > MAX_XML_BYTES:
            limit = f"the limit of {MAX_XML_BYTES // 2**20} MiB for a metadata file"
            raise InputError(f"{self._label(name)} is larger than {limit}; download it again.")
        with self._open(name) as stream:
            return stream.read()

    def require_in_place(self, name: str) -> None:
        """Raise :class:`InputError` if a file is compressed by a method that GDAL cannot read in place."""
        if self._members is not None and (method := self._member(name).compress_type) not in IN_PLACE:
            raise InputError(
                f"{self._label(name)} is compressed with {_METHODS.get(method, f'method {method}')}, and only stored "
                "and deflated files can be read in a zip file; unpack it, and give the folder."
            )

    def gdal_path(self, name: str) -> str:
        """Path of a file for GDAL."""
        # Braces mark the end of the archive's own path: a folder may have ".zip" in its name.
        return str(self._path / name) if self._members is None else f"/vsizip/{{{self._path}}}/{self._root}{name}"

    def require_intact(self, name: str, checksum: Checksum | None) -> None:
        """Raise :class:`InputError` if a file differs from its checksum in the manifest or the archive."""
        if checksum is None and self._members is None:
            return
        found = hashlib.new(ALGORITHMS[checksum.name]) if checksum else None
        # Read to the end in any case: there zipfile compares the sum of the archive.
        with self._open(name) as stream:
            while piece := stream.read(_PIECE_BYTES):
                if found:
                    found.update(piece)
        if checksum and found and found.hexdigest() != checksum.digest:
            raise InputError(
                f"{self._label(name)} is damaged: its {checksum.name} is {found.hexdigest()[:12]}…, but the product's "
                f"{MANIFEST_FILE} says {checksum.digest[:12]}…; download it again."
            )

    def _label(self, name: str) -> str:
        return f"{self._path}/{name}" if self._members is None else f"{self._root}{name} in {self._path}"

    def _member(self, name: str) -> zipfile.ZipInfo:
        return (self._members or {})[self._root + name]

    @contextmanager
    def _open(self, name: str) -> Iterator[IO[bytes]]:
        if self._members is None:
            with (self._path / name).open("rb") as stream:
                yield stream
        else:
            with (
                _unpacking(self._path),
                zipfile.ZipFile(self._path) as archive,
                archive.open(self._member(name)) as member,
            ):
                yield member


def checked_name(name: str, source: str) -> str:
    """Return a path from a product's metadata; raise :class:`InputError` if it leads out of the product."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name or not name:
        raise InputError(f"{source} names the file {name!r}, which is not inside the product.")
    return name


def read_members(path: Path) -> dict[str, zipfile.ZipInfo]:
    """Members of a zip file by name with ``/``; some programs on Windows write backslashes, which GDAL takes alike.

    :class:`InputError` if the file is damaged, or not a zip file.
    """
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is neither a .SAFE folder nor a readable .zip file of one; is it fully downloaded?")
    with _unpacking(path), zipfile.ZipFile(path) as archive:
        return {info.filename.replace("\\", "/"): info for info in archive.infolist()}


@contextmanager
def _unpacking(path: Path) -> Iterator[None]:
    """Turn any error of :mod:`zipfile` for a damaged, encrypted or exotic archive into one sentence."""
    try:
        yield
    except _UNPACKING_ERRORS as error:
        raise InputError(f"{path} cannot be unpacked ({error}); download it again.") from None
