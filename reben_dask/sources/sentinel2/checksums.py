"""Whether the images of a product are what was delivered.

A flipped bit in a JPEG 2000 file is decoded without an error, to other pixels. The product's ``manifest.safe`` has a
checksum of each file (MD5, since 2021 SHA3-256), and a zip file has one of each member; neither is looked at by GDAL.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

from reben_dask.errors import InputError

MANIFEST_FILE = "manifest.safe"

_ALGORITHMS = {"MD5": "md5", "SHA3-256": "sha3_256", "SHA-256": "sha256"}
_PIECE_BYTES = 4 * 2**20


class Checksum(NamedTuple):
    """What a manifest says of a file.

    Parameters
    ----------
    name : str
        Algorithm, as the manifest spells it.
    digest : str
        Hexadecimal digest in small letters.
    """

    name: str
    digest: str


def known(entries: Iterable[tuple[str, str, str]]) -> dict[str, Checksum]:
    """Checksums that can be checked, by the path of the file in the product.

    Parameters
    ----------
    entries : iterable of (str, str, str)
        Location, algorithm and digest, as they stand in the manifest.
    """
    return {
        location.removeprefix("./"): Checksum(name, digest.lower())
        for location, name, digest in entries
        if name in _ALGORITHMS
    }


def require_same(stream: BinaryIO, checksum: Checksum | None, what: str) -> None:
    """Read a file to its end, whereupon a zip file checks it, and compare it with its checksum, if it has one.

    Raises
    ------
    InputError
        If the file is another; ``what`` says which.
    """
    found = hashlib.new(_ALGORITHMS[checksum.name]) if checksum else None
    while piece := stream.read(_PIECE_BYTES):
        if found:
            found.update(piece)
    if checksum and found and found.hexdigest() != checksum.digest:
        raise InputError(
            f"{what} is damaged: its {checksum.name} is {found.hexdigest()[:12]}…, but the product's {MANIFEST_FILE} "
            f"says {checksum.digest[:12]}…; download it again."
        )
