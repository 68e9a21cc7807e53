"""Products as STAC items: cloud-optimized GeoTIFFs or JPEG 2000 images, and EOPF Zarr, as public catalogues list them.

=============================  =====================================  ======================================
collection                     assets                                 offset
=============================  =====================================  ======================================
Earth Search, c1               ``blue``, ``green``, …, ``scl``        ``raster:bands``
Earth Search, v1               the same                               from the pixels
Planetary Computer             ``B02``, …, ``SCL``                    ``product-metadata``
Copernicus Data Space          ``B02_10m``, …, ``SCL_20m``            ``raster:bands``, ``product_metadata``
EOPF samples                   ``product``, a Zarr store              attributes of the store
=============================  =====================================  ======================================
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import numpy as np

from reben_dask.errors import InputError, ReadError
from reben_dask.formats.bands import BANDS, IMAGE_RESOLUTION_M, LEVEL_BANDS, SCENE_CLASSIFICATION
from reben_dask.formats.dataset import without_credentials
from reben_dask.sources.remote import MAX_BYTES, is_address, read_bytes, without_secrets
from reben_dask.sources.sentinel2.eopf import EopfProduct
from reben_dask.sources.sentinel2.gdal_image import GdalImage
from reben_dask.sources.sentinel2.metadata import ProductMetadata, parse_product_metadata
from reben_dask.sources.sentinel2.tile import (
    Form,
    Header,
    Location,
    Product,
    Tile,
    baseline_of,
    epsg_of,
    mapping,
    nested,
    product_name,
    sensing_start,
    strip_of,
)

COMMON_NAMES = {
    "B01": "coastal",
    "B02": "blue",
    "B03": "green",
    "B04": "red",
    "B05": "rededge1",
    "B06": "rededge2",
    "B07": "rededge3",
    "B08": "nir",
    "B8A": "nir08",
    "B09": "nir09",
    "B11": "swir16",
    "B12": "swir22",
    SCENE_CLASSIFICATION: "scl",
}
"""Names of assets in Earth Search."""

IMAGES = (*LEVEL_BANDS["L2A"], SCENE_CLASSIFICATION)
STORES, BAND_ASSETS = ("product", "PRODUCT"), ("B02", "B02_10m", "blue")
"""Names of assets that are EOPF Zarr stores, and of those of a band."""

PRODUCT_METADATA = ("product_metadata", "product-metadata")
NAME = "s2:product_uri"

RELIABLE_COLLECTIONS = ("sentinel-2-c1-l2a",)
"""Collections of Earth Search whose items state their offsets correctly; of others, many do not."""

FIRST_WITH_OFFSET, OWN_BASELINE = "04.00", "99.99"
DELIVERED_OFFSET = -1000
"""Offset of products since baseline 04.00, which some providers have applied to the DN that they offer."""

DARK_BANDS = ("B01", "B04", "B12")
"""Bands that are dark over haze-free ground, vegetation, and water: some pixel of a tile is dark in one of them."""

SAMPLE_PX = 512
DARK_SHARE = 0.9
"""Share of the offset: if it has been applied, the darkest percentile of the DN is below this share of it."""

VOLATILE = ("created", "updated", "published", "expires")
"""Properties that change while the product stays the same."""


@dataclass(frozen=True)
class StacItem:
    """Item of a product with an image for each band."""

    location: Location
    """File or URL of the item; in a collection ``COLLECTION#ID``."""
    item: Any
    base: Location
    """File or URL that relative links of the item start from."""

    def read_tile(self) -> Tile:
        """Read its metadata; see :class:`~reben_dask.sources.sentinel2.tile.Product`."""
        shown = without_secrets(self.location)
        properties, assets = mapping(self.item, "properties"), _assets_of(self.item)
        if not assets:
            raise InputError(f"{shown} is not a STAC item; it has no assets.")
        store = next((assets[key] for key in STORES if key in assets), None)
        if store and not any(map(assets.get, BAND_ASSETS)):
            source = resolve(store.get("href"), self.base, shown)
            return EopfProduct(source if is_address(source) else Path(source)).read_tile()
        # Only the Copernicus Data Space has the name in the id alone, beside assets with such names.
        stated = properties.get(NAME) or ("B02_10m" in assets and nested(self.item, "id"))
        name = product_name(stated, f"{shown}: {NAME} of the item {nested(self.item, 'id')!r}")
        if name["level"] != "L2A":
            raise InputError(f"{shown} is the {name['level']} product {name[0]}; of STAC items, only L2A can be read.")
        chosen = {image: asset for image in IMAGES if (asset := _asset_of(image, assets))}
        images = {image: GdalImage(resolve(asset.get("href"), self.base, shown)) for image, asset in chosen.items()}
        headers: dict[int, Header] = {}
        for band in filter(BANDS.__contains__, images):
            if IMAGE_RESOLUTION_M[band] not in headers:
                headers[IMAGE_RESOLUTION_M[band]] = _header(images[band], chosen[band], properties, shown)
        if headers.keys() != {10, 20, 60}:
            raise InputError(f"{shown} has no assets of bands of 10, 20 and 60 m; known names are B02, B02_10m, blue.")
        place, xml = headers[10], self._product_metadata(assets, _scheme(next(iter(images.values())).source), shown)
        metadata = parse_product_metadata(xml, f"{shown}: product metadata") if xml else None
        baseline = properties.get("s2:processing_baseline") or properties.get("processing:version")
        tile = Tile(
            name=name["tile"],
            product=name[0],
            location=self.location,
            form=Form.STAC,
            mgrs=name["mgrs"],
            sensing_time=metadata.sensing_time if metadata else sensing_start(name, _times(properties)),
            baseline=baseline_of(name, baseline),
            strip=metadata.strip if metadata else strip_of(properties.get("s2:datastrip_id")),
            epsg=place.epsg or 0,
            ulx=round(place.ulx),
            uly=round(place.uly),
            shape_yx={resolution: header.shape_yx for resolution, header in sorted(headers.items())},
            images=images,
            offsets={},
            quality=metadata.quality if metadata else {},
            listed=frozenset(images),
            metadata_sha256=_digest(properties, chosen, xml),
            paths=tuple(dict.fromkeys(Path(each.source) for each in images.values() if not is_address(each.source))),
        )
        return _with_offsets(tile, self.item, chosen, images, metadata)

    def _product_metadata(self, assets: Mapping[str, Any], scheme: str, shown: str) -> bytes | None:
        """Read ``MTD_MSIL2A.xml`` if it is reached in the same way as the images: others may need a login."""
        asset = next((assets[key] for key in PRODUCT_METADATA if key in assets), None)
        source = resolve(asset.get("href"), self.base, shown) if asset else ""
        if not source or _scheme(source) != scheme:
            return None
        return read_bytes(source) if is_address(source) else _read_file(Path(source))


def products_of(location: Location) -> list[Product]:
    """Read the products of an item, a collection of items, or the URL of one; pages of a search are followed.

    ``COLLECTION#ID`` is one of the items of a collection.

    Raises
    ------
    InputError
        If it cannot be read, or is neither an item nor a collection of items.
    """
    source, wanted = _split(location)
    pages = _pages(str(source)) if is_address(source) else [(_parse(_read_file(Path(source)), source), source)]
    found = [product for document, base in pages for product in _products_in(document, base)]
    return [product for product in found if wanted is None or str(product.location).endswith(f"#{wanted}")]


def is_stac(path: Path) -> bool:
    """Test if a file holds items of Sentinel-2 products."""
    try:
        document = json.loads(_read_file(path))
    except (InputError, ValueError, RecursionError):
        return False
    items = document.get("features") if nested(document, "type") == "FeatureCollection" else [document]
    return isinstance(items, list) and any(map(_is_sentinel2, items))


def resolve(href: object, base: Location, shown: str) -> str:
    """Path or URL of a file that an item at ``base`` names.

    A remote item may refer to remote files only; :class:`InputError` for others.
    """
    text = str(href or "")
    if is_address(base):
        text = _join(str(base), text) if text else ""
    elif text and "://" not in text and not text.startswith("/vsi"):
        return os.path.abspath(Path(base).parent / text)  # noqa: PTH100 - links stay as they are
    if not is_address(text):
        raise InputError(
            f"{shown} names the file {without_credentials(text)!r}, which cannot be read; use http, https or s3 "
            "URLs, or files beside a local item."
        )
    return text


def folders_of(product: Product) -> set[Path]:
    """Folders with the files of an item on disk; empty for other products."""
    found = set[Path]()
    if not isinstance(product, StacItem):
        return found
    for asset in _assets_of(product.item).values():
        with suppress(InputError):
            source = resolve(asset.get("href"), product.base, "")
            found |= set() if is_address(source) else {Path(source).parent}
    return found


def _join(base: str, href: str) -> str:
    """Join a URL and a link; urljoin knows no relative links in buckets."""
    scheme, mark, rest = base.partition("://")
    if scheme.lower() != "s3" or "://" in href:
        return urljoin(base, href)
    return f"{scheme}{mark}{urljoin(f'http://{rest}', href).removeprefix('http://')}"


def _split(location: Location) -> tuple[Location, str | None]:
    """Split ``COLLECTION#ID``, unless there is a file of that name."""
    collection, mark, item = str(location).rpartition("#")
    if not mark or (not is_address(location) and Path(location).exists()):
        return location, None
    return collection, item


def _pages(address: str) -> Iterator[tuple[Any, str]]:
    """Documents at a URL, and at those of further pages."""
    seen = set[str]()
    while address not in seen:
        seen.add(address)
        document = _parse(read_bytes(address), address)
        yield document, address
        links = nested(document, "links")
        following = [link for link in (links if isinstance(links, list) else []) if nested(link, "rel") == "next"]
        if nested(document, "type") != "FeatureCollection" or not following:
            return
        if str(following[0].get("method", "GET")).upper() != "GET":
            raise InputError(
                f"{without_credentials(address)} gives its next page only to POST requests; save all items to a file, "
                "and give that."
            )
        address = resolve(following[0].get("href"), address, without_credentials(address))


def _products_in(document: Any, base: Location) -> Iterator[Product]:
    kind, shown = nested(document, "type"), without_secrets(base)
    features = document.get("features") if kind == "FeatureCollection" else [document]
    if kind not in ("Feature", "FeatureCollection") or not isinstance(features, list):
        raise InputError(f"{shown} is neither a STAC item nor a collection of items; its type is {kind!r}.")
    for number, item in enumerate(features):
        yield StacItem(base if kind == "Feature" else _location_in(item, base, number), item, base)


def _location_in(item: Any, base: Location, number: int) -> str:
    """URL of an item in a collection, as it states it, else its position in the collection."""
    links = nested(item, "links")
    own = [nested(link, "href") for link in (links if isinstance(links, list) else []) if nested(link, "rel") == "self"]
    if is_address(base) and own and is_address(own[0]):
        return str(own[0])
    return f"{base}#{nested(item, 'id') or number}"


def _is_sentinel2(item: Any) -> bool:
    properties = mapping(item, "properties")
    names = (nested(item, "collection"), nested(properties, "platform"), nested(properties, "constellation"))
    is_item = nested(item, "type") == "Feature" and isinstance(nested(item, "assets"), Mapping)
    return is_item and (NAME in properties or any(str(name).lower().startswith("sentinel-2") for name in names))


def _parse(content: bytes, source: Location) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        cause = str(error) or type(error).__name__
    raise InputError(f"{without_secrets(source)} is not a JSON document ({cause}), as STAC items are.")


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from None
    if len(content) > MAX_BYTES:
        limit = f"the limit of {MAX_BYTES // 2**20} MiB for STAC items"
        raise InputError(f"{path} is larger than {limit}; check the path.")
    return content


def _assets_of(item: Any) -> dict[str, Mapping[str, Any]]:
    return {key: asset for key, asset in mapping(item, "assets").items() if isinstance(asset, Mapping)}


def _asset_of(image: str, assets: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    names = (image, f"{image}_{IMAGE_RESOLUTION_M[image]}m", COMMON_NAMES.get(image, ""))
    return next((assets[name] for name in names if name in assets), None)


def _scheme(source: str) -> str:
    """``http``, ``s3``, or nothing for files."""
    return urlsplit(source).scheme.lower().removesuffix("s") if is_address(source) else ""


def _times(properties: Mapping[str, Any]) -> tuple[object, ...]:
    return (properties.get("start_datetime"), properties.get("datetime"))


def _header(image: GdalImage, asset: Mapping[str, Any], properties: Mapping[str, Any], shown: str) -> Header:
    """Position of an image as its asset states it, else from its file."""
    keys = ("proj:code", "proj:epsg")
    epsg = epsg_of(*(where.get(key) for where in (asset, properties) for key in keys))
    try:
        a, _, ulx, _, _, uly = map(float, asset["proj:transform"][:6])
        rows, columns = map(int, asset["proj:shape"])
        place = (round(ulx), round(uly))
    except (LookupError, TypeError, ValueError, OverflowError):
        found = image.use(
            lambda raster: raster.header,
            lambda cause: f"The image {image.location} of {shown} cannot be opened ({cause}).",
            InputError,
        )
        found = found._replace(epsg=found.epsg or epsg)
    else:
        found = Header("", epsg, *place, a, (rows, columns), 0)
    if found.epsg is None:
        raise InputError(f"{shown} states no coordinate system (proj:code such as EPSG:32633), nor do its images.")
    return found


def _stated_offset(asset: Mapping[str, Any]) -> int | None:
    """Offset of an asset in DN, from ``raster:bands`` (STAC 1.0), ``bands`` (1.1) or its own properties."""
    for band, prefix in ((_first(asset, "raster:bands"), ""), (_first(asset, "bands"), "raster:"), (asset, "raster:")):
        offset, scale = nested(band, f"{prefix}offset"), nested(band, f"{prefix}scale")
        if offset is None:
            continue
        try:
            return round(float(offset) / float(1 if scale is None else scale))
        except (ValueError, TypeError, ArithmeticError):
            raise InputError(f"offset {offset!r} and scale {scale!r} of a band are not numbers.") from None
    return None


def _first(asset: Mapping[str, Any], key: str) -> Any:
    found = asset.get(key)
    return found[0] if isinstance(found, list) and found else None


def _with_offsets(
    tile: Tile,
    item: Mapping[str, Any],
    assets: Mapping[str, Mapping[str, Any]],
    images: Mapping[str, GdalImage],
    metadata: ProductMetadata | None,
) -> Tile:
    """Take the offsets that the item or the product's metadata state, or estimate them from the pixels."""
    bands = [image for image in tile.images if image in BANDS]
    stated = {band: offset for band in bands if (offset := _stated_offset(assets[band])) is not None}
    has_offset = FIRST_WITH_OFFSET <= tile.baseline < OWN_BASELINE
    if not _is_unreliable(item):
        if stated:
            return replace(tile, offsets=stated, offset_source="raster:bands")
        if metadata:
            return replace(tile, offsets=metadata.offsets)
    delivered = next((offset for offset in stated.values() if offset), DELIVERED_OFFSET if has_offset else 0)
    if not delivered:
        return replace(tile, offsets=stated, offset_source="raster:bands" if stated else None)
    darkest = _darkest_dn(tile.name, images)
    is_applied = darkest < DARK_SHARE * abs(delivered)
    note = (
        f"{tile.name} does not state its offset reliably, so it is estimated from the pixels: the darkest percentile "
        f"of the DN is {darkest:,.0f}, and the offset of {delivered} DN "
        f"{'has been applied' if is_applied else 'is still in them'}."
    )
    offsets = dict.fromkeys(bands, 0 if is_applied else delivered)
    return replace(tile, offsets=offsets, offset_source="pixels", notes=(*tile.notes, note))


def _is_unreliable(item: Mapping[str, Any]) -> bool:
    properties = mapping(item, "properties")
    is_earth_search = any(str(key).startswith("earthsearch:") for key in properties)
    return is_earth_search and item.get("collection") not in RELIABLE_COLLECTIONS


def _darkest_dn(tile: str, images: Mapping[str, GdalImage]) -> float:
    """Lowest 1st percentile of the valid DN of dark bands; 0 without any."""

    def percentile(band: str) -> float | None:
        image = images[band]
        dn = image.use(
            lambda raster: raster.sample(SAMPLE_PX),
            lambda cause: f"The image {band} of {tile} cannot be decoded ({cause}): {image.location}",
            ReadError,
        )
        valid = dn[dn > 0]
        return float(np.percentile(valid, 1)) if valid.size else None

    found = [value for band in DARK_BANDS if band in images and (value := percentile(band)) is not None]
    return min(found, default=0.0)


def _digest(properties: Mapping[str, Any], assets: Mapping[str, Mapping[str, Any]], xml: bytes | None) -> str:
    """Digest of what an item states, wherever it and its files are."""
    lasting = {key: value for key, value in properties.items() if key not in VOLATILE}
    places = {"href", "alternate"}
    described = {image: {key: asset[key] for key in asset.keys() - places} for image, asset in assets.items()}
    text = json.dumps([lasting, described], sort_keys=True, default=str)
    return hashlib.sha256(text.encode() + (xml or b"")).hexdigest()
