"""Tiles: metadata and images of one product, whatever its form.

A form of products (``.SAFE``, EOPF Zarr, STAC item) is a module with a :class:`Product`. All read the same
:class:`Tile`, whose :class:`Image` objects read the pixels; nothing else knows the form.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy.typing as npt

from reben_dask.errors import InputError
from reben_dask.formats.bands import Level
from reben_dask.sources.remote import without_secrets

T = TypeVar("T")

PRODUCT = re.compile(
    r"(?P<tile>(?P<start>S2[A-D]_MSI(?P<level>L2A|L1C)_(?P<time>\d{8}T\d{6}))_N(?P<baseline>\d{4})"
    r"_(?P<place>R\d{3}_T(?P<mgrs>\d{2}[A-Z]{3})))_(?P<made>\d{8}T\d{6})"
)
"""Name of a product without ``.SAFE``."""

PASSED, OVERALL = "PASSED", "OVERALL"
"""Outcome of a quality indicator, and the indicator of forms that state a single outcome."""

Location = Path | str
"""Path or URL of a product; an item in a collection is ``COLLECTION#ID``."""

Window = tuple[slice, slice]
"""Rows and columns of an image, as slices with both ends."""


class Form(IntEnum):
    """Forms of products; of copies of a product, the first is read."""

    FOLDER = 0
    ZIP = 1
    EOPF = 2
    STAC = 3


class Header(NamedTuple):
    """Type and position of an image."""

    dtype: str
    epsg: int | None
    """0 if the image has no coordinate system, ``None`` if its form does not state one for each image."""
    ulx: float
    uly: float
    resolution_m: float
    shape_yx: tuple[int, int]
    block_rows: int
    """Rows of a block, the unit of decoding."""


class Raster(Protocol):
    """Opened image."""

    @property
    def header(self) -> Header:
        """Type and position."""

    def read(self, window: Window | None) -> npt.NDArray[Any]:
        """Decode a window, ``None`` for all; shape ``(y, x)``."""


class Image(Protocol):
    """Image of a product: a ``SafeImage``, another ``GdalImage`` or a ``ZarrImage``.

    It is sent to workers, and each use opens it again: handles must not be shared.
    """

    @property
    def location(self) -> str:
        """Path or URL, for messages."""

    @property
    def has_checksum(self) -> bool:
        """True if :meth:`require_intact` finds damage."""

    def use(self, read: Callable[[Raster], T], explain: Callable[[str], str], error: type[InputError]) -> T:
        """Open the image, pass it to ``read``, and close it; ``explain`` makes a cause the message of an ``error``."""

    def require_intact(self) -> None:
        """Raise :class:`InputError` if the image differs from its checksum, if there is one."""

    def stored_bytes(self) -> tuple[str, int] | None:
        """Name and size of what holds the image; ``None`` if remote."""


class Product(Protocol):
    """Product in one of the forms, before its metadata are read."""

    @property
    def location(self) -> Location:
        """Path or URL."""

    def read_tile(self) -> Tile:
        """Read its metadata; :class:`InputError` if it is not a complete product of one tile."""


@dataclass(frozen=True)
class Tile:
    """Metadata of one product of one tile."""

    name: str
    """Product name without its last ``_<timestamp>.SAFE``; the first part of every patch name."""

    product: str
    """Product name without ``.SAFE``."""

    location: Location

    form: Form

    mgrs: str
    """MGRS tile without the leading ``T``, such as ``33UUP``."""

    sensing_time: datetime
    """Start of sensing, in UTC."""

    baseline: str
    """Processing baseline, such as ``05.09``."""

    epsg: int
    """UTM zone; ``ulx`` and ``uly`` are the upper-left corner in its metres."""

    ulx: int
    uly: int

    shape_yx: dict[int, tuple[int, int]]
    """Rows and columns of the images, by resolution in metres."""

    images: Mapping[str, Image]
    """Bands at their native resolution, and ``SCL`` at 20 m."""

    offsets: dict[str, int]
    """Offset of each band in DN that its numbers carry; empty if none is stated, as before baseline 04.00."""

    quality: dict[str, str]
    """Outcome of each quality indicator."""

    level: Level = "L2A"

    listed: frozenset[str] = frozenset()
    """Bands, and ``SCL``, that the metadata list at native resolution; a file of one may be missing."""

    metadata_sha256: str = ""

    strip: str = ""
    """Sensing start of the data strip, such as ``20180725T100509``; empty if the metadata do not state it."""

    offset_source: str | None = "metadata"
    """Source of the offsets: ``metadata``, ``attributes``, ``raster:bands`` or ``pixels``."""

    notes: tuple[str, ...] = ()
    """Notes for the plan on decisions and incomplete data."""

    paths: tuple[Path, ...] = ()
    """Files and folders that workers must see; none for remote products."""

    def boa_offset(self, bands: Iterable[str]) -> int | None:
        """Offset of most of the given bands in DN; ``None`` if none is stated."""
        stated = Counter(self.offsets[band] for band in bands if band in self.offsets)
        return stated.most_common(1)[0][0] if stated else None

    def failed_quality(self, indicators: tuple[str, ...]) -> list[str]:
        """Those of ``indicators``, and of the overall one, that are present and did not pass."""
        return [name for name in (*indicators, OVERALL) if self.quality.get(name, PASSED) != PASSED]

    def has_checksum(self, image: str) -> bool:
        """Test if a band or ``SCL`` has a checksum in the product or its archive."""
        return self.images[image].has_checksum

    def require_intact(self, image: str) -> None:
        """Raise :class:`InputError` if a band or ``SCL`` differs from its checksum, if any."""
        if image in self.images:
            self.images[image].require_intact()

    def require(self, bands: tuple[str, ...]) -> None:
        """Raise :class:`InputError` if the product lacks any of ``bands`` at native resolution."""
        if missing := [band for band in bands if band not in self.images]:
            where, bands_missing = without_secrets(self.location), ", ".join(missing)
            what = f"The product {where} has no image of {bands_missing} at native resolution"
            if self.listed.issuperset(missing):
                raise InputError(f"{what}; download it again, or leave the band out of the recipe.")
            unlisted = ", ".join(band for band in missing if band not in self.listed)
            raise InputError(f"{what}, and its metadata do not list {unlisted}; leave the band out of the recipe.")


def tile_identity(tile: Tile) -> str:
    """Digest of a product's metadata and of the sizes of its images, or of its zip file.

    Pixels are not read: other pixels compress to another size. Location and modification times make no difference.
    """
    sizes = dict(filter(None, (image.stored_bytes() for image in tile.images.values())))
    return hashlib.sha256(f"{tile.metadata_sha256} {json.dumps(sizes, sort_keys=True)}".encode()).hexdigest()


def sensing_start(name: re.Match[str], stated: Iterable[object]) -> datetime:
    """Start of sensing: of the stated times (ISO 8601), the first in the second that the product's name has.

    Other times in metadata are those of the datatake's end, the tile's centre or the processing.
    """
    start = datetime.strptime(name["time"], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    for text in stated:
        try:
            time = datetime.fromisoformat(str(text))
            time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            continue
        if time.replace(microsecond=0) == start:
            return time
    return start


def baseline_of(name: re.Match[str], stated: object) -> str:
    """Take the processing baseline as stated, else that in the product's name."""
    text = str(stated or "")
    return text if re.fullmatch(r"\d\d\.\d\d", text) else f"{name['baseline'][:2]}.{name['baseline'][2:]}"


def strip_of(identifier: object) -> str:
    """Sensing start in the identifier of a data strip, its ``S<time>``; empty if it has none."""
    found = re.search(r"_S(\d{8}T\d{6})(?:_|$)", str(identifier or ""))
    return found[1] if found else ""


def product_name(text: object, where: str) -> re.Match[str]:
    """Parse the name of a product, with or without ``.SAFE``; :class:`InputError` names ``where`` it must be stated."""
    name = PRODUCT.fullmatch(str(text or "").removesuffix(".SAFE"))
    if name is None:
        found = f"is {text!r}" if text else "is missing"
        raise InputError(f"{where} {found}; it must be the name of a Sentinel-2 product, which names its tile.")
    return name


def epsg_of(*stated: object) -> int | None:
    """First of some stated codes of coordinate systems, such as ``EPSG:32633`` or 32633; ``None`` if there is none."""
    codes = (re.fullmatch(r"(?:EPSG:)?(\d{4,5})", str(text), re.IGNORECASE) for text in stated if text is not None)
    return next((int(code[1]) for code in codes if code), None)


def mapping(content: object, *keys: str) -> Mapping[str, Any]:
    """Take the mapping below keys of nested mappings; an empty one where there is none."""
    found = nested(content, *keys)
    return found if isinstance(found, Mapping) else {}


def nested(content: object, *keys: str) -> Any:
    """Value below keys of nested mappings; ``None`` where one is missing."""
    for key in keys:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content
