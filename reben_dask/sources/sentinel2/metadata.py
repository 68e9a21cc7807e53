"""XML files of a product: ``MTD_MSIL2A.xml`` or ``MTD_MSIL1C.xml``, ``MTD_TL.xml`` of its granule, ``manifest.safe``.

Elements are found by local name, as namespaces change with the processing baseline.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from reben_dask.errors import InputError
from reben_dask.formats.bands import BAND_RESOLUTION_M, PHYSICAL_BANDS, QUALITY_INDICATORS
from reben_dask.sources.sentinel2.archive import ALGORITHMS, Checksum
from reben_dask.sources.sentinel2.tile import PASSED, strip_of

IMAGE_ELEMENTS = ("IMAGE_FILE", "IMAGE_FILE_2A", "IMAGE_ID_2A")
"""Elements with the name of an image; the last two up to baseline 02.06."""

OFFSET_ELEMENTS = ("BOA_ADD_OFFSET", "RADIO_ADD_OFFSET")
"""Elements with the offset of a band, in L2A and L1C."""


@dataclass(frozen=True)
class ProductMetadata:
    """Parts of the metadata of a product that a dataset needs."""

    product: str

    sensing_time: datetime

    baseline: str

    images: tuple[str, ...]
    """Paths of the granule's images inside the product, or their names, without suffix."""

    image_format: str
    """``JPEG2000`` in products of the ground segment."""

    offsets: dict[str, int]

    quality: dict[str, str]

    strip: str = ""
    """Sensing start of the data strip, the ``S<time>`` of ``datastripIdentifier``; empty if it is not stated."""


@dataclass(frozen=True)
class Geocoding:
    """Position and size of a granule, from ``MTD_TL.xml``; upper-left corner in metres of a UTM zone."""

    epsg: int
    ulx: int
    uly: int
    shape_yx: dict[int, tuple[int, int]]
    """Rows and columns of the images, by resolution in metres."""


def parse_product_metadata(xml: bytes, source: str) -> ProductMetadata:
    """Parse ``MTD_MSIL2A.xml`` or ``MTD_MSIL1C.xml``; errors name the file as ``source``."""
    root = _parse(xml, source)
    granules = list(root.iterfind(".//{*}Granule")) + list(root.iterfind(".//{*}Granules"))
    # Up to baseline 02.07, each resolution has a list of its own, of the same granule.
    distinct = {granule.get("granuleIdentifier", number) for number, granule in enumerate(granules)}
    if len(distinct) != 1:
        raise InputError(f"{source} lists {len(distinct)} granules; only products of one granule (tile) can be read.")
    images = (image for granule in granules for name in IMAGE_ELEMENTS for image in granule.iterfind(f".//{{*}}{name}"))
    uri = _text(root, "PRODUCT_URI", source, old="PRODUCT_URI_2A")
    return ProductMetadata(
        product=uri.removesuffix(".SAFE"),
        sensing_time=_time(_text(root, "PRODUCT_START_TIME", source), source),
        baseline=_text(root, "PROCESSING_BASELINE", source),
        strip=strip_of(granules[0].get("datastripIdentifier")),
        images=tuple(dict.fromkeys((image.text or "").strip() for image in images)),
        image_format=granules[0].get("imageFormat", "JPEG2000"),
        offsets=dict(_offsets(root, source)),
        # If one indicator has several outcomes, one that is not PASSED comes last here, and is used.
        quality=dict(sorted(_quality(root), key=lambda check: check[1] != PASSED)),
    )


def parse_geocoding(xml: bytes, source: str) -> Geocoding:
    """Parse the position and size of a granule from ``MTD_TL.xml``."""
    root = _parse(xml, source, until="Tile_Geocoding")
    epsg = _text(root, "HORIZONTAL_CS_CODE", source).removeprefix("EPSG:")
    shapes = {
        _integer(size.get("resolution", ""), source): (
            _integer(_text(size, "NROWS", source), source),
            _integer(_text(size, "NCOLS", source), source),
        )
        for size in root.iterfind(".//{*}Size")
    }
    corner = next(root.iterfind(".//{*}Geoposition"), None)
    if corner is None or not {*BAND_RESOLUTION_M.values()} <= shapes.keys():
        raise InputError(f"{source} has no valid tile position (Tile_Geocoding); download the product again.")
    return Geocoding(
        epsg=_integer(epsg, source),
        ulx=_integer(_text(corner, "ULX", source), source),
        uly=_integer(_text(corner, "ULY", source), source),
        shape_yx=shapes,
    )


def parse_manifest(xml: bytes, source: str) -> dict[str, Checksum]:
    """Parse the checksums in ``manifest.safe``, by path in the product."""
    root = _parse(xml, source)
    streams = ((stream.find("{*}fileLocation"), stream.find("{*}checksum")) for stream in root.iter("byteStream"))
    return {
        location.get("href", "").removeprefix("./"): Checksum(name, (checksum.text or "").strip().lower())
        for location, checksum in streams
        if location is not None and checksum is not None and (name := checksum.get("checksumName", "")) in ALGORITHMS
    }


def _parse(xml: bytes, source: str, until: str | None = None) -> Element:
    """Root of a document, or its first element ``until``; the rest, up to nine tenths of the file, is then not read."""
    try:
        for _, element in iterparse(BytesIO(xml), forbid_dtd=True):
            if until and str(element.tag).rpartition("}")[2] == until:
                break
        root: Element = element
    except ParseError as error:
        raise InputError(f"{source} is not well-formed XML ({error}); download the product again.") from None
    except DefusedXmlException:
        raise InputError(f"{source} declares XML entities or a DTD, which no Sentinel product does.") from None
    except (ValueError, LookupError) as error:
        raise InputError(f"{source} cannot be read as XML: {error}.") from None
    return root


def _text(parent: Element, name: str, source: str, *, old: str = "") -> str:
    """Text of an element, or of that with its ``old`` name."""
    found = (next(parent.iterfind(f".//{{*}}{each}"), None) for each in filter(None, (name, old)))
    element = next((each for each in found if each is not None), None)
    text = (element.text or "").strip() if element is not None else ""
    if not text:
        raise InputError(f"{source} has no {name}; is it the metadata of a Sentinel-2 product?")
    return text


def _integer(text: str, source: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{source} has {text!r} where a whole number is expected.") from None


def _time(text: str, source: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InputError(f"{source} has the sensing time {text!r}, which is not a time.") from None


def _offsets(root: Element, source: str) -> Iterator[tuple[str, int]]:
    for name in OFFSET_ELEMENTS:
        for offset in root.iterfind(f".//{{*}}{name}"):
            index = _integer(offset.get("band_id", ""), source)
            if not 0 <= index < len(PHYSICAL_BANDS):
                raise InputError(f"{source} has a {name} for band_id {index}; band_id is 0 to 12.")
            yield PHYSICAL_BANDS[index], _integer((offset.text or "").strip(), source)


def _quality(root: Element) -> Iterator[tuple[str, str]]:
    """Outcomes of the quality checks; old baselines write ``<GEOMETRIC_QUALITY_FLAG>`` instead of a check type."""
    for element in root.iter():
        name = element.get("checkType") or str(element.tag).rpartition("}")[2]
        indicator = name.upper().removesuffix("_FLAG").removesuffix("_QUALITY")
        outcome = (element.text or "").strip().upper()
        if indicator in QUALITY_INDICATORS and outcome:
            yield indicator, outcome
