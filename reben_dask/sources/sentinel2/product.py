"""Sentinel-2 L2A products: metadata, and paths of their images."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from reben_dask.errors import InputError
from reben_dask.formats.bands import IMAGE_RESOLUTION_M
from reben_dask.sources.sentinel2.archive import (
    MANIFEST_FILE,
    METADATA_FILE,
    Checksum,
    ProductFiles,
    checked_name,
)
from reben_dask.sources.sentinel2.metadata import (
    PASSED,
    ProductMetadata,
    parse_geocoding,
    parse_manifest,
    parse_product_metadata,
)

PRODUCT = re.compile(
    r"(?P<tile>(?P<start>S2[A-D]_MSIL2A_\d{8}T\d{6})_N(?P<baseline>\d{4})_(?P<place>R\d{3}_T(?P<mgrs>\d{2}[A-Z]{3})))"
    r"_(?P<made>\d{8}T\d{6})"
)
"""Name of a product without ``.SAFE``."""

_GRANULES, _TILE_FILE = "GRANULE", "MTD_TL.xml"
_IMAGE = re.compile(r"_(?P<band>[A-Z0-9]{3})_(?P<resolution>\d\d)m$")
_SUFFIXES = {"JPEG2000": (".jp2", ".tif"), "GeoTIFF": (".tif", ".jp2")}
"""Suffixes of images by format, and others: some mirrors convert files, and leave the metadata as they are."""


@dataclass(frozen=True)
class Tile:
    """Metadata of one product of one tile."""

    name: str
    """Product name without its last ``_<timestamp>.SAFE``; the first part of every patch name."""

    product: str
    """Product name without ``.SAFE``."""

    path: Path

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

    images: dict[str, str]
    """Path under which GDAL opens each band at its native resolution, and ``SCL`` at 20 m."""

    offsets: dict[str, int]
    """``BOA_ADD_OFFSET`` of each band in DN; empty before baseline 04.00."""

    quality: dict[str, str]
    """Outcome of each quality indicator."""

    files: dict[str, tuple[str, Checksum | None]] = field(default_factory=dict)
    """Path of each image inside the product, and its checksum in ``manifest.safe``."""

    listed: frozenset[str] = frozenset()
    """Bands, and ``SCL``, that the metadata list at native resolution; a file of one may be missing."""

    metadata_sha256: str = ""

    strip: str = ""
    """Sensing start of the data strip, such as ``20180725T100509``; empty if the metadata do not state it."""

    def boa_offset(self, bands: Iterable[str]) -> int | None:
        """``BOA_ADD_OFFSET`` of most of the given bands in DN; ``None`` if the metadata state none."""
        stated = Counter(self.offsets[band] for band in bands if band in self.offsets)
        return stated.most_common(1)[0][0] if stated else None

    def failed_quality(self, indicators: tuple[str, ...]) -> list[str]:
        """Those of ``indicators`` that are present and did not pass."""
        return [name for name in indicators if self.quality.get(name, PASSED) != PASSED]

    def has_checksum(self, image: str) -> bool:
        """Test if ``manifest.safe`` or the zip file has a checksum of a band or ``SCL``."""
        return image in self.files and (self.files[image][1] is not None or not self.path.is_dir())

    def require_intact(self, image: str) -> None:
        """Raise :class:`InputError` if a band or ``SCL`` differs from ``manifest.safe`` or the zip file, if any."""
        if image in self.files:
            ProductFiles(self.path).require_intact(*self.files[image])

    def require(self, bands: tuple[str, ...]) -> None:
        """Raise :class:`InputError` if the product lacks any of ``bands`` at native resolution."""
        if missing := [band for band in bands if band not in self.images]:
            what = f"The product {self.path} has no image of {', '.join(missing)} at native resolution"
            if self.listed.issuperset(missing):
                raise InputError(f"{what}; download it again, or leave the band out of the recipe.")
            unlisted = ", ".join(band for band in missing if band not in self.listed)
            raise InputError(f"{what}, and its metadata do not list {unlisted}; leave the band out of the recipe.")


class DamagedProduct(NamedTuple):
    """Product whose metadata cannot be read, or that lacks an image."""

    name: str
    """Name of its tile by the name of the file or folder, or that name."""
    path: Path
    error: InputError


def read_tiles(paths: Iterable[Path]) -> tuple[list[Tile], list[DamagedProduct]]:
    """Read the metadata of products; those that cannot be read are returned with their errors."""
    tiles, damaged = [], []
    for path in paths:
        try:
            tiles.append(read_tile(path))
        except InputError as error:
            damaged.append(DamagedProduct(_name_of(path), path, error))
        except OSError as error:
            unread = InputError(f"The product {path} cannot be read ({error.strerror}).")
            damaged.append(DamagedProduct(_name_of(path), path, unread))
    return tiles, damaged


def _name_of(path: Path) -> str:
    match = PRODUCT.match(path.name)
    return match["tile"] if match else path.name


def read_tile(path: Path) -> Tile:
    """Read the metadata of a product, a ``.SAFE`` folder or a zip file of one.

    Raises
    ------
    InputError
        If it is not a complete L2A product of one tile.
    """
    files = ProductFiles(path)
    xml = files.read_xml(METADATA_FILE)
    metadata = parse_product_metadata(xml, f"{path}/{METADATA_FILE}")
    name = PRODUCT.fullmatch(metadata.product)
    if name is None:
        raise InputError(f"{path} calls itself {metadata.product!r}, which is not the name of an L2A product.")
    if not metadata.images:
        raise InputError(f"{path}/{METADATA_FILE} lists no images; download the product again.")
    granule = _find_granule(files, _granule(metadata, path), path)
    granule_file = f"{granule}/{_TILE_FILE}"
    place = parse_geocoding(files.read_xml(granule_file), f"{path}/{granule_file}")
    listed, checksums = _listed_images(metadata, path), _checksums(files, path)
    found = _find_images(files, listed, granule, _SUFFIXES.get(metadata.image_format, (".jp2", ".tif")))
    for image in found.values():
        files.require_in_place(image)
    images = {image: (name, checksums.get(_as_listed(name, listed[image]))) for image, name in found.items()}
    return Tile(
        name=name["tile"],
        product=metadata.product,
        path=path,
        mgrs=name["mgrs"],
        sensing_time=metadata.sensing_time,
        baseline=metadata.baseline,
        strip=metadata.strip,
        epsg=place.epsg,
        ulx=place.ulx,
        uly=place.uly,
        shape_yx=place.shape_yx,
        images={image: files.gdal_path(name) for image, (name, _) in images.items()},
        offsets=metadata.offsets,
        quality=metadata.quality,
        files=images,
        listed=frozenset(listed),
        metadata_sha256=hashlib.sha256(xml).hexdigest(),
    )


def tile_identity(tile: Tile) -> str:
    """Digest of a product's metadata and of the sizes of its images, or of its zip file.

    Pixels are not read: other pixels compress to another size. Path and modification times make no difference.
    """
    paths = [tile.path / image for image in tile.images.values()] if tile.path.is_dir() else [tile.path]
    sizes = {path.name: path.stat().st_size for path in paths}
    return hashlib.sha256(f"{tile.metadata_sha256} {json.dumps(sizes, sort_keys=True)}".encode()).hexdigest()


def _granule(metadata: ProductMetadata, path: Path) -> str:
    """Folder of the granule as the metadata names it; empty if they have names of images only."""
    parts = PurePosixPath(checked_name(metadata.images[0], str(path))).parts
    return str(PurePosixPath(*parts[:2])) if len(parts) > 1 else ""


def _find_granule(files: ProductFiles, listed: str, path: Path) -> str:
    """Folder of the granule in the product; the only one there, if it is named otherwise."""
    if listed and files.exists(f"{listed}/{_TILE_FILE}"):
        return listed
    there = [name for name in files.below(_GRANULES) if PurePosixPath(name).name == _TILE_FILE]
    if len(there) != 1:
        raise InputError(f"The product {path} has no {listed or _GRANULES}/{_TILE_FILE}; download it again.")
    return str(PurePosixPath(there[0]).parent)


def _listed_images(metadata: ProductMetadata, path: Path) -> dict[str, str]:
    """Path of each image at its native resolution, without suffix, whether its file is there or not."""
    images = {}
    for image in metadata.images:
        match = _IMAGE.search(image)
        if match and IMAGE_RESOLUTION_M.get(match["band"]) == int(match["resolution"]):
            images[match["band"]] = checked_name(image, str(path))
    return images


def _find_images(
    files: ProductFiles, listed: Mapping[str, str], granule: str, suffixes: tuple[str, ...]
) -> dict[str, str]:
    """Path of each image that is there: as listed, or by its name in the folder of the granule."""
    found = {
        image: f"{name}{suffix}"
        for image, name in listed.items()
        for suffix in reversed(suffixes)
        if files.exists(f"{name}{suffix}")
    }
    if found.keys() != listed.keys():
        names = {PurePosixPath(name).stem: name for name in files.below(granule) if name.endswith(suffixes)}
        there = {image: names.get(PurePosixPath(name).name) for image, name in listed.items()}
        found = {image: name for image, name in there.items() if name} | found
    return {image: found[image] for image in listed if image in found}


def _as_listed(name: str, listed: str) -> str:
    """Path of an image in ``manifest.safe``, which names the granule as the metadata do."""
    return f"{listed}{PurePosixPath(name).suffix}"


def _checksums(files: ProductFiles, path: Path) -> dict[str, Checksum]:
    if not files.exists(MANIFEST_FILE):
        return {}
    return parse_manifest(files.read_xml(MANIFEST_FILE), f"{path}/{MANIFEST_FILE}")
