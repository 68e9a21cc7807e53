"""Products as the ground segment delivers them: ``.SAFE`` folders, and zip files of them, which are read in place."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reben_dask.errors import InputError
from reben_dask.formats.bands import IMAGE_RESOLUTION_M, LEVEL_BANDS, SCENE_CLASSIFICATION, Level
from reben_dask.sources.sentinel2.archive import (
    MANIFEST_FILE,
    METADATA_FILES,
    Checksum,
    ProductFiles,
    checked_name,
)
from reben_dask.sources.sentinel2.gdal_image import GdalImage
from reben_dask.sources.sentinel2.metadata import (
    ProductMetadata,
    parse_geocoding,
    parse_manifest,
    parse_product_metadata,
)
from reben_dask.sources.sentinel2.tile import PRODUCT, Form, Tile

_GRANULES, _TILE_FILE = "GRANULE", "MTD_TL.xml"
_IMAGES: dict[Level, re.Pattern[str]] = {
    "L2A": re.compile(r"_(?P<band>[A-Z0-9]{3})_(?P<resolution>\d\d)m$"),
    "L1C": re.compile(r"_(?P<band>[A-Z0-9]{3})$"),
}
"""Ends of the names of images; those of L1C have one resolution each."""

_SUFFIXES = {"JPEG2000": (".jp2", ".tif"), "GeoTIFF": (".tif", ".jp2")}
"""Suffixes of images by format, and others: some mirrors convert files, and leave the metadata as they are."""


@dataclass(frozen=True)
class SafeImage(GdalImage):
    """Image of a product, at the path ``name`` inside it."""

    product: Path
    name: str
    checksum: Checksum | None
    """Checksum in ``manifest.safe``."""

    @property
    def has_checksum(self) -> bool:
        """True with a checksum in the manifest, or of the member of a zip file."""
        return self.checksum is not None or not self.product.is_dir()

    def require_intact(self) -> None:
        """Compare the file with its checksum in the manifest or the zip file."""
        ProductFiles(self.product).require_intact(self.name, self.checksum)

    def stored_bytes(self) -> tuple[str, int]:
        """Name and size of the image, or of its zip file."""
        holder = self.product / self.name if self.product.is_dir() else self.product
        return holder.name, holder.stat().st_size


@dataclass(frozen=True)
class SafeProduct:
    """A ``.SAFE`` folder, or a zip file of one."""

    location: Path

    def read_tile(self) -> Tile:
        """Read its metadata; see :class:`~reben_dask.sources.sentinel2.tile.Product`."""
        path = self.location
        files = ProductFiles(path)
        metadata_file = METADATA_FILES[files.level]
        xml = files.read_xml(metadata_file)
        metadata = parse_product_metadata(xml, f"{path}/{metadata_file}")
        name = PRODUCT.fullmatch(metadata.product)
        if name is None or name["level"] != files.level:
            raise InputError(
                f"The metadata of {path} state {metadata.product!r}, which is not the name of an {files.level} product."
            )
        if not metadata.images:
            raise InputError(f"{path}/{metadata_file} lists no images; download the product again.")
        granule = _find_granule(files, _granule(metadata, path), path)
        granule_file = f"{granule}/{_TILE_FILE}"
        place = parse_geocoding(files.read_xml(granule_file), f"{path}/{granule_file}")
        listed, checksums = _listed_images(metadata, files.level, path), _checksums(files, path)
        found = _find_images(files, listed, granule, _SUFFIXES.get(metadata.image_format, (".jp2", ".tif")))
        for image in found.values():
            files.require_in_place(image)
        return Tile(
            name=name["tile"],
            product=metadata.product,
            location=path,
            form=Form.FOLDER if path.is_dir() else Form.ZIP,
            level=files.level,
            mgrs=name["mgrs"],
            sensing_time=metadata.sensing_time,
            baseline=metadata.baseline,
            strip=metadata.strip,
            epsg=place.epsg,
            ulx=place.ulx,
            uly=place.uly,
            shape_yx=place.shape_yx,
            images={
                image: SafeImage(files.gdal_path(name), path, name, checksums.get(_as_listed(name, listed[image])))
                for image, name in found.items()
            },
            offsets=metadata.offsets,
            quality=metadata.quality,
            listed=frozenset(listed),
            metadata_sha256=hashlib.sha256(xml).hexdigest(),
            paths=(path,),
        )


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


def _listed_images(metadata: ProductMetadata, level: Level, path: Path) -> dict[str, str]:
    """Path of each image at its native resolution, without suffix, whether its file exists or not."""
    of_level = {*LEVEL_BANDS[level], *([SCENE_CLASSIFICATION] if level == "L2A" else [])}
    images = {}
    for image in metadata.images:
        match = _IMAGES[level].search(image)
        if match is None or match["band"] not in of_level:
            continue
        if level == "L1C" or IMAGE_RESOLUTION_M[match["band"]] == int(match["resolution"]):
            images[match["band"]] = checked_name(image, str(path))
    return images


def _find_images(
    files: ProductFiles, listed: Mapping[str, str], granule: str, suffixes: tuple[str, ...]
) -> dict[str, str]:
    """Path of each existing image: as listed, or by its name in the folder of the granule."""
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
