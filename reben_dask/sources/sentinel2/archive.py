"""Files of a product, in a folder or in place inside a zip file, and their checksums.

A flipped bit in a JPEG 2000 file is decoded without an error, to other pixels. The product's ``manifest.safe`` has a
checksum of each file (MD5, since 2021 SHA3-256), and a zip file has one of each member; GDAL checks neither.
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
from typing import IO, NamedTuple, Protocol

from reben_dask.errors import InputError

METADATA_FILE = "MTD_MSIL2A.xml"
MANIFEST_FILE = "manifest.safe"

MAX_XML_BYTES = 64 * 2**20
"""No metadata file of a product comes near this; a larger one is not read."""

ALGORITHMS = {"MD5": "md5", "SHA3-256": "sha3_256", "SHA-256": "sha256"}
"""Names of checksum algorithms in :mod:`hashlib`, by the manifest's spelling."""

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
    """Checksum in a manifest: algorithm, one of :data:`ALGORITHMS`, and hexadecimal digest in small letters."""

    name: str
    digest: str


class ProductFiles(Protocol):
    """Files of one product, addressed by their path inside it."""

    def exists(self, name: str) -> bool:
        """Whether the product holds a file of this name."""

    def read_xml(self, name: str) -> bytes:
        """Read a metadata file."""

    def gdal_path(self, name: str) -> str:
        """Path under which GDAL opens the file."""

    def require_intact(self, name: str, checksum: Checksum | None) -> None:
        """Raise :class:`InputError` if a file differs from its checksum in the manifest or in its archive."""


def open_product(path: Path) -> ProductFiles:
    """Open the product at ``path``, a folder or a zip file.

    Raises
    ------
    InputError
        If it is neither, or holds no ``MTD_MSIL2A.xml``.
    """
    if path.is_dir():
        files: ProductFiles = _Folder(path)
    elif zipfile.is_zipfile(path):
        files = _Zip(path)
    else:
        raise InputError(f"{path} is neither a .SAFE folder nor a readable .zip file of one; is it fully downloaded?")
    if not files.exists(METADATA_FILE):
        raise InputError(f"{path} holds no {METADATA_FILE}; only Sentinel-2 L2A products can be read.")
    return files


def checked_name(name: str, source: str) -> str:
    """Return a path from a product's own metadata, once it is known to stay inside the product.

    Raises
    ------
    InputError
        If the path is absolute, or leads out of the product.
    """
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name or not name:
        raise InputError(f"{source} names the file {name!r}, which is not inside the product.")
    return name


class _Folder:
    def __init__(self, path: Path) -> None:
        self._path = path

    def exists(self, name: str) -> bool:
        # Unlike Path.is_file, this takes a name that no file can have for a file that does not exist.
        return os.path.isfile(self._path / name)  # noqa: PTH113

    def read_xml(self, name: str) -> bytes:
        file = self._path / name
        if file.stat().st_size > MAX_XML_BYTES:
            raise InputError(f"{file} is larger than {MAX_XML_BYTES // 2**20} MiB, which no metadata file is.")
        return file.read_bytes()

    def gdal_path(self, name: str) -> str:
        return str(self._path / name)

    def require_intact(self, name: str, checksum: Checksum | None) -> None:
        if checksum is not None:
            with (self._path / name).open("rb") as stream:
                _require_same(stream, checksum, str(self._path / name))


class _Zip:
    def __init__(self, path: Path) -> None:
        self._path = path
        with _unpacking(path), zipfile.ZipFile(path) as archive:
            self._sizes = {info.filename: info.file_size for info in archive.infolist()}
        metadata = [name for name in self._sizes if PurePosixPath(name).name == METADATA_FILE]
        if len(metadata) > 1:
            raise InputError(f"{path} holds {len(metadata)} products; a zip file of one product is expected.")
        self._root = str(PurePosixPath(metadata[0]).parent) if metadata else "."

    def _inside(self, name: str) -> str:
        return name if self._root == "." else f"{self._root}/{name}"

    def exists(self, name: str) -> bool:
        return self._inside(name) in self._sizes

    def read_xml(self, name: str) -> bytes:
        inside = self._inside(name)
        if self._sizes[inside] > MAX_XML_BYTES:
            raise InputError(f"{self._path}: {name} is larger than {MAX_XML_BYTES // 2**20} MiB.")
        with _unpacking(self._path), zipfile.ZipFile(self._path) as archive:
            return archive.read(inside)

    def gdal_path(self, name: str) -> str:
        # Braces mark the end of the archive's own path: a folder may have ".zip" in its name.
        return f"/vsizip/{{{self._path}}}/{self._inside(name)}"

    def require_intact(self, name: str, checksum: Checksum | None) -> None:
        inside = self._inside(name)
        with _unpacking(self._path), zipfile.ZipFile(self._path) as archive, archive.open(inside) as stream:
            _require_same(stream, checksum, f"{inside} in {self._path}")


@contextmanager
def _unpacking(path: Path) -> Iterator[None]:
    """Turn any error that :mod:`zipfile` raises for a damaged, encrypted or exotic archive into one sentence."""
    try:
        yield
    except _UNPACKING_ERRORS as error:
        raise InputError(f"{path} cannot be unpacked ({error}); download it again.") from None


def _require_same(stream: IO[bytes], checksum: Checksum | None, what: str) -> None:
    """Read a file to its end, where :mod:`zipfile` checks it, and compare it with its checksum, if it has one."""
    found = hashlib.new(ALGORITHMS[checksum.name]) if checksum else None
    while piece := stream.read(_PIECE_BYTES):
        if found:
            found.update(piece)
    if checksum and found and found.hexdigest() != checksum.digest:
        raise InputError(
            f"{what} is damaged: its {checksum.name} is {found.hexdigest()[:12]}…, but the product's {MANIFEST_FILE} "
            f"says {checksum.digest[:12]}…; download it again."
        )
