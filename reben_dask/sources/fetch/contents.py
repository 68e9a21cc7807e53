"""Files of a product at a provider: of a ``.SAFE`` by its manifest, of a STAC item by its assets, of a Zarr store."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, unquote, urlsplit

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from reben_dask.errors import FetchError, InputError
from reben_dask.formats.bands import IMAGE_RESOLUTION_M, PHYSICAL_BANDS, SCENE_CLASSIFICATION
from reben_dask.sources.fetch.access import S3Access
from reben_dask.sources.fetch.catalogue import RemoteProduct, checked_product_name
from reben_dask.sources.fetch.http import Access, HttpClient, HttpStatusError
from reben_dask.sources.fetch.provider import CollectionSpec, Provider
from reben_dask.sources.sentinel2.archive import ALGORITHMS, MANIFEST_FILE, Checksum, checked_name

METADATA_FILES = {"l2a": "MTD_MSIL2A.xml", "l1c": "MTD_MSIL1C.xml"}

EMPTY_FOLDERS = ("AUX_DATA", "HTML", "rep_info", "GRANULE/*/AUX_DATA", "GRANULE/*/QI_DATA", "DATASTRIP/*/QI_DATA")
"""Folders of a Sentinel-2 product that services omit if they are empty, and that sen2cor needs."""

_GRANULE_FILE = re.compile(r"GRANULE/[^/]+/MTD_TL\.xml")
_IMAGE_L2A = re.compile(r"GRANULE/[^/]+/IMG_DATA/(?:R\d\dm/)?[^/]+_(?P<band>[A-Z0-9]{3})_(?P<resolution>\d\d)m\.\w+")
_IMAGE_L1C = re.compile(r"GRANULE/[^/]+/IMG_DATA/[^/]+_(?P<band>B[0-9A]{2})\.\w+")
_MULTIHASHES = {"1220": "SHA-256", "1620": "SHA3-256", "d50110": "MD5"}
"""Checksum algorithms by the prefix of a multihash, as in ``file:checksum``."""

_MAX_DEPTH, _READS = 12, 3
_COARSE_BANDS = {"B10": 60}
"""Resolution of bands that L2A products do not have."""


Files = dict[str, tuple[int | None, Checksum | None]]
"""Size and checksum of the files of a product, by path."""


class RemoteFile(NamedTuple):
    """File of a product at a provider."""

    path: str
    """Inside the folder of the product."""
    address: str
    size: int | None = None
    checksum: Checksum | None = None
    is_optional: bool = False
    """True if the file may be missing, as an empty chunk of a Zarr array may."""


@dataclass(frozen=True)
class Contents:
    """Files to fetch of a product."""

    folder: str
    """Name of its folder."""
    files: tuple[RemoteFile, ...]
    key: str
    """File that appears last: without it, readers take the product for an unfinished download."""
    written: Mapping[str, bytes]
    """Small files that are known already, by path."""
    folders: tuple[str, ...] = ()
    """Folders that are made even if they are empty."""


class Source(Protocol):
    """Source of the files of one ``.SAFE`` folder."""

    def address(self, path: str) -> str:
        """Return the URL of a file."""

    def list_files(self) -> list[tuple[str, int]]:
        """List all files: path and size in bytes."""


@dataclass(frozen=True)
class S3Folder:
    """Folder in an S3 service."""

    root: str
    access: S3Access

    def address(self, path: str) -> str:
        """Return the ``s3://`` URL of a file."""
        return f"{self.root}/{path}"

    def list_files(self) -> list[tuple[str, int]]:
        """List the objects below the folder."""
        return self.access.list_below(f"{self.root}/")


@dataclass(frozen=True)
class Nodes:
    """Nodes of a product in an OData service; the generated zip file is not used, as it has neither ranges nor sums."""

    root: str
    """URL of the node of the folder."""
    client: HttpClient

    def address(self, path: str) -> str:
        """Return the URL of the content of a file."""
        return f"{self._node(path)}/$value"

    def list_files(self) -> list[tuple[str, int]]:
        """List all files, folder by folder."""
        return list(self._below("", 0))

    def _node(self, path: str) -> str:
        return "/".join([self.root, *(f"Nodes({quote(part)})" for part in PurePosixPath(path).parts)])

    def _below(self, folder: str, depth: int) -> Iterator[tuple[str, int]]:
        answer = self.client.get_json(f"{self._node(folder)}/Nodes")
        nodes = answer.get("result", answer.get("value")) if isinstance(answer, dict) else None
        if not isinstance(nodes, list) or depth > _MAX_DEPTH:
            raise FetchError(f"{self._node(folder)} answered without a list of files.")
        for node in nodes:
            path = checked_path(f"{folder}/{node.get('Name', '')}".lstrip("/"), self.root)
            size, children = int(node.get("ContentLength") or 0), int(node.get("ChildrenNumber") or 0)
            if children:
                yield from self._below(path, depth + 1)
            elif size or PurePosixPath(path).suffix:
                yield path, size


def open_source(product: RemoteProduct, provider: Provider, client: HttpClient, access: Access) -> Source:
    """Open the source of a product's files: the S3 service if the access is one, else the nodes of OData."""
    if isinstance(access, S3Access):
        if not product.s3:
            raise FetchError(f"The catalogue has no S3 path of {product.name}; unset the S3 keys to use OData instead.")
        return S3Folder(product.s3, access)
    if not provider.nodes or not product.id:
        raise FetchError(f"The catalogue has no identifier of {product.name}; set the S3 keys to fetch it.")
    return Nodes(f"{provider.nodes}/Products({product.id})/Nodes({product.name}.SAFE)", client)


def list_contents(
    product: RemoteProduct,
    spec: CollectionSpec,
    read: Callable[[str], bytes],
    source: Source | None,
    out: Path,
    *,
    whole: bool,
) -> Contents:
    """List the files to fetch of a product.

    Parameters
    ----------
    read : callable
        Reads a small file from a URL.
    source : Source or None
        Source of the files of a ``.SAFE``.
    out : Path
        Folder of all products; an existing manifest is not read again.
    whole : bool
        List all files, not only those that a job reads.

    Raises
    ------
    FetchError
        If the product is incomplete, or names a file outside its folder.
    """
    try:
        if spec.form == "assets":
            return item_contents(product, spec, whole=whole)
        if spec.form == "zarr":
            return zarr_contents(product, spec, read, whole=whole)
        if source is None:
            raise FetchError(f"The catalogue gives no location for the files of {product.name}.")
        return _safe_contents(product, read, source, out, whole=whole)
    except InputError as error:
        raise FetchError(str(error)) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise FetchError(f"The item {product.name} cannot be used ({type(error).__name__}: {error}).") from None


def parse_safe_manifest(xml: bytes, source: str) -> Files:
    """Parse the files of a ``manifest.safe``: size and checksum by path; errors name the file as ``source``."""
    try:
        root = fromstring(xml, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise InputError(f"{source} cannot be read as XML ({type(error).__name__}).") from None
    files = {}
    for stream in root.iter("byteStream"):
        location, checksum = stream.find("{*}fileLocation"), stream.find("{*}checksum")
        if location is None:
            continue
        path = checked_path(location.get("href", "").removeprefix("./"), source)
        name = "" if checksum is None else checksum.get("checksumName", "")
        digest = "" if checksum is None else (checksum.text or "").strip().lower()
        size = stream.get("size", "")
        files[path] = (int(size) if size.isdigit() else None, Checksum(name, digest) if name in ALGORITHMS else None)
    return files


def is_needed(path: str, collection: str) -> bool:
    """Test if a job reads a file of a ``.SAFE``: metadata, and bands at native resolution."""
    if collection not in METADATA_FILES:
        return True
    if path == METADATA_FILES[collection] or _GRANULE_FILE.fullmatch(path):
        return True
    if collection == "l1c":
        match = _IMAGE_L1C.fullmatch(path)
        return match is not None and match["band"] in PHYSICAL_BANDS
    match = _IMAGE_L2A.fullmatch(path)
    return match is not None and IMAGE_RESOLUTION_M.get(match["band"]) == int(match["resolution"])


def checked_path(path: str, source: str) -> str:
    """Return a path inside a product; :class:`InputError` if it leads out of it, or is hidden."""
    checked_name(path, source)
    if any(part.startswith(".") or "\0" in part or ":" in part for part in PurePosixPath(path).parts):
        raise InputError(f"{source} names the file {path!r}, which is not a file of a product.")
    return str(PurePosixPath(path))


def item_contents(product: RemoteProduct, spec: CollectionSpec, *, whole: bool) -> Contents:
    """List the assets of an item; the item beside them refers to the local files."""
    item: dict[str, Any] = copy.deepcopy(product.item)
    assets = item.get("assets", {})
    keys = [key for key, asset in assets.items() if key in spec.assets or (whole and _is_data(asset))]
    if lacking := [key for key in spec.assets if key not in assets and not key.endswith("metadata")]:
        raise FetchError(f"The item {product.name} has no asset {', '.join(lacking)}.")
    # Some processors state polarisation and time in the folder, not in the name of an image.
    prefix = "measurement/" if product.collection == "s1" else ""
    files = {}
    for key in keys:
        href = _web_address(assets[key], product.name)
        name = unquote(PurePosixPath(urlsplit(href).path).name)
        path = checked_path(f"{prefix}{name}", product.name)
        if path in files:
            path = checked_path(f"{prefix}{key}-{name}", product.name)
        checksum = _multihash(str(assets[key].get("file:checksum", "")))
        size = assets[key].get("file:size")
        files[path] = RemoteFile(path, href, size if isinstance(size, int) else None, checksum)
        assets[key]["href"] = f"./{path}"
    item["assets"], item["links"] = {key: assets[key] for key in keys}, []
    folder = checked_product_name(product.name)
    key = f"{folder}.json"
    content = json.dumps(item, ensure_ascii=False, indent=1).encode()
    return Contents(folder, tuple(files.values()), key, {key: content})


def zarr_contents(
    product: RemoteProduct, spec: CollectionSpec, read: Callable[[str], bytes], *, whole: bool
) -> Contents:
    """List the arrays of an EOPF Zarr store (version 2, consolidated) that a job reads, chunk by chunk."""
    asset = product.item.get("assets", {}).get(spec.assets[0])
    if asset is None:
        raise FetchError(f"The item {product.name} has no asset {spec.assets[0]}.")
    root = _web_address(asset, product.name).rstrip("/")
    try:
        metadata = json.loads(read(f"{root}/.zmetadata"))["metadata"]
        arrays = {path.removesuffix("/.zarray"): entry for path, entry in metadata.items() if path.endswith("/.zarray")}
        kept = [path for path in arrays if whole or _is_zarr_needed(path)]
        files = [file for path in kept for file in _chunks(root, path, arrays[path])]
    except (ValueError, KeyError, TypeError):
        raise FetchError(f"{root} has no consolidated metadata of Zarr version 2.") from None
    groups = {str(parent) for path in kept for parent in PurePosixPath(path).parents}
    places = {*kept, *groups}
    chosen = {path: entry for path, entry in metadata.items() if str(PurePosixPath(path).parent) in places}
    written = {checked_zarr(path, root): json.dumps(entry).encode() for path, entry in chosen.items()}
    # Without the arrays that are not fetched, which readers would otherwise take for empty ones.
    consolidated = {"metadata": chosen, "zarr_consolidated_format": 1}
    written[".zmetadata"] = json.dumps(consolidated).encode()
    return Contents(f"{checked_product_name(product.name)}.zarr", tuple(files), ".zmetadata", written)


def checked_zarr(path: str, source: str) -> str:
    """Return a path in a Zarr store, whose metadata files are hidden; :class:`InputError` if it leads out of it."""
    parts = PurePosixPath(path).parts
    checked_path("/".join((*parts[:-1], parts[-1].removeprefix(".z"))), source)
    return path


def _safe_contents(
    product: RemoteProduct, read: Callable[[str], bytes], source: Source, out: Path, *, whole: bool
) -> Contents:
    folder = f"{product.name}.SAFE"
    key = METADATA_FILES.get(product.collection, MANIFEST_FILE)
    written = {}
    try:
        local = out / folder / MANIFEST_FILE
        name = f"{product.name}/{MANIFEST_FILE}"
        if local.is_file():
            manifest = local.read_bytes()
            listed = parse_safe_manifest(manifest, name)
        else:
            manifest, listed = _read_manifest(read, source.address(MANIFEST_FILE), name)
        written[MANIFEST_FILE] = manifest
    except HttpStatusError as error:
        if error.status not in {403, 404}:
            raise
        listed = {checked_path(path, product.name): (size, None) for path, size in source.list_files()}
        key = METADATA_FILES.get(product.collection) or max(listed, default="")
    if key in METADATA_FILES.values():
        listed.setdefault(key, (None, None))
    paths = [path for path in listed if whole or is_needed(path, product.collection)]
    bands = [path for path in paths if "/IMG_DATA/" in path]
    if not paths or (product.collection in METADATA_FILES and not bands):
        raise FetchError(f"The product {product.name} has no images in its {MANIFEST_FILE}.")
    files = [RemoteFile(path, source.address(path), *listed[path]) for path in paths if path not in written]
    folders = _empty_folders(listed) if whole and product.collection in METADATA_FILES else ()
    return Contents(folder, tuple(files), key, written, folders)


def _read_manifest(read: Callable[[str], bytes], address: str, name: str) -> tuple[bytes, Files]:
    """Read a manifest and parse it; one that is damaged is read again, as no checksum of it is known."""
    for _ in range(_READS - 1):
        manifest = read(address)
        with suppress(InputError):
            return manifest, parse_safe_manifest(manifest, name)
    manifest = read(address)
    return manifest, parse_safe_manifest(manifest, name)


def _empty_folders(paths: Sequence[str] | Mapping[str, Any]) -> tuple[str, ...]:
    """Folders of :data:`EMPTY_FOLDERS`, with the granules and data strips of a product."""
    inner = {
        parent: {PurePosixPath(path).parts[1] for path in paths if path.startswith(f"{parent}/")} for parent in _PARENTS
    }
    return tuple(
        name
        for pattern in EMPTY_FOLDERS
        for name in (
            [pattern.replace("*", each) for each in sorted(inner[pattern.partition("/")[0]])]
            if "*" in pattern
            else [pattern]
        )
    )


_PARENTS = ("GRANULE", "DATASTRIP")


def _is_data(asset: Mapping[str, Any]) -> bool:
    return urlsplit(str(asset.get("href", ""))).scheme in {"http", "https"}


def _web_address(asset: Mapping[str, Any], item: str) -> str:
    if not _is_data(asset):
        raise FetchError(f"The item {item} has an asset at {asset.get('href')!r}, which is not an http or https URL.")
    return str(asset["href"])


def _multihash(text: str) -> Checksum | None:
    for prefix, name in _MULTIHASHES.items():
        if text.lower().startswith(prefix):
            return Checksum(name, text.lower().removeprefix(prefix))
    return None


def _is_zarr_needed(path: str) -> bool:
    """Test if a job reads an array: a band or the scene classification at native resolution, or its coordinates."""
    match PurePosixPath(path).parts:
        case ("measurements", "reflectance", node, name):
            band = f"B{name[1:].upper()}"
            native = IMAGE_RESOLUTION_M.get(band, _COARSE_BANDS.get(band))
        case ("conditions", "mask", "l2a_classification", node, name):
            native = IMAGE_RESOLUTION_M[SCENE_CLASSIFICATION]
            if node != f"r{native}m":
                return False
        case _:
            return False
    return name in {"x", "y"} or node == f"r{native}m"


def _chunks(root: str, path: str, array: Mapping[str, Any]) -> Iterator[RemoteFile]:
    separator = array.get("dimension_separator", ".")
    counts = [range(ceil(size / step)) for size, step in zip(array["shape"], array["chunks"], strict=True)]
    for number in itertools.product(*counts):
        file = checked_path(f"{path}/{separator.join(map(str, number)) or '0'}", root)
        yield RemoteFile(file, f"{root}/{file}", is_optional=True)
