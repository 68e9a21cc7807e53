"""Search for products in all forms, and for files that look like products but cannot be read."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from reben_dask.errors import InputError, missing
from reben_dask.formats.bands import Level
from reben_dask.sources.remote import is_address, without_secrets
from reben_dask.sources.sentinel2.archive import METADATA_FILES, read_members
from reben_dask.sources.sentinel2.eopf import (
    ROOT_FILES,
    EopfProduct,
    is_eopf,
    is_eopf_address,
    is_eopf_zip,
)
from reben_dask.sources.sentinel2.safe import SafeProduct
from reben_dask.sources.sentinel2.stac import folders_of, is_stac, products_of
from reben_dask.sources.sentinel2.tile import PRODUCT, Location, Product, Tile

UNFINISHED = "unfinished downloads (no metadata file)"
OTHER_LEVEL: dict[Level, str] = {"L2A": "L1C products", "L1C": "L2A products"}
"""Products of the other level, by the level that is searched for."""

LEVEL_1C = OTHER_LEVEL["L2A"]
OLD_NAMES = "products in the naming before December 2016"
OTHER_SAFE = ".SAFE folders of another kind"
OTHER_ZIP = "zip files without a product"
UNREADABLE_ZIP = "zip files that cannot be opened"
OTHER_ARCHIVE = "archives that are not zip files"
ZARR = "Zarr stores without a product"
LOOSE_BANDS = "folders of band images in another layout"

_PARTIAL = re.compile(r".+\.(part|partial|crdownload|download|incomplete|tmp|filepart|aria2)", re.IGNORECASE)
_ARCHIVE = re.compile(r".*S2[A-D]_.*\.(tar|tgz|tar\.\w+|7z|rar)", re.IGNORECASE)
_ZIPPED = re.compile(r".+\.(zip|safe)", re.IGNORECASE)
_BAND = re.compile(r"(?:.*_)?B0?2(?:_10m)?\.(?:jp2|tiff?)", re.IGNORECASE)
_NAMED: dict[Level, re.Pattern[str]] = {
    level: re.compile(f"S2[A-D]_MSI{level}_", re.IGNORECASE) for level in METADATA_FILES
}
_ITEMS = re.compile(r".+\.(geo)?json(#.*)?", re.IGNORECASE)
_MANIFEST = "manifest.safe"
_SHOWN = 3
_THREADS = 8

Found = Product | str
"""A product, or the kind of a file that only looks like one."""


@dataclass
class Search:
    """Products below some paths, and skipped files."""

    products: list[Product] = field(default_factory=list)
    passed_over: Mapping[str, list[Path]] = field(default_factory=dict)
    """Paths that only look like products, by kind."""

    @property
    def note(self) -> str | None:
        """One sentence about skipped files."""
        if not self.passed_over:
            return None
        kinds = "; ".join(
            f"{kind}: {len(paths):,} ({', '.join(path.name for path in paths[:_SHOWN])}{', …' * (len(paths) > _SHOWN)})"
            for kind, paths in self.passed_over.items()
        )
        return f"Skipped in the Sentinel-2 folders, as they cannot be read as products: {kinds}."


class DamagedProduct(NamedTuple):
    """Product whose metadata cannot be read, or that lacks an image."""

    name: str
    """Name of its tile by the name of the file or folder, or that name."""
    location: Location
    error: InputError


def find_products(
    paths: Iterable[str | os.PathLike[str]], *, items: Iterable[str | os.PathLike[str]] = (), level: Level = "L2A"
) -> list[Location]:
    """Find Sentinel-2 products; see :func:`search_products`."""
    return [product.location for product in search_products(paths, items=items, level=level).products]


def search_products(
    paths: Iterable[str | os.PathLike[str]], *, items: Iterable[str | os.PathLike[str]] = (), level: Level = "L2A"
) -> Search:
    """Find Sentinel-2 products in any form, and files that look like one.

    Parameters
    ----------
    paths : iterable of path or URL
        Products (``.SAFE`` folders, EOPF Zarr stores, zip files of either, files of STAC items), folders that hold
        products at any depth, or URLs of EOPF Zarr stores and of STAC items (``….json``). In folders, each
        ``*.zip``, ``*.SAFE`` and ``*.json`` file is opened to look for a product.
    items : iterable of path or URL
        STAC items, collections of items or folders of either; URLs may also be searches.
    level : {"L2A", "L1C"}
        Level of the products; L1C products are ``.SAFE`` folders and zip files.

    Returns
    -------
    Search
        Products with absolute paths, sorted by name, each once. A zip file that is named as a product and cannot be
        opened is one of them.

    Raises
    ------
    InputError
        If a path does not exist, or holds no product.
    """
    found: dict[str, Product] = {}
    passed_over: dict[str, list[Path]] = defaultdict(list)
    for given, is_items in (*((path, False) for path in paths), *((path, True) for path in items)):
        here = list(_look_at(given, level, items_only=is_items))
        products = [product for _, product in here if not isinstance(product, str)]
        for path, kind in here:
            if isinstance(kind, str) and path not in passed_over[kind]:
                passed_over[kind].append(Path(path))
        if not products:
            raise _nothing_error(given, level, here, items_only=is_items)
        found |= {str(product.location): product for product in products}
    by_name = sorted(found.values(), key=lambda product: (name_of(product.location), str(product.location)))
    return Search(by_name, {kind: sorted(others) for kind, others in sorted(passed_over.items()) if others})


def read_tile(location: str | os.PathLike[str]) -> Tile:
    """Read the metadata of a product at a path or URL, in any form.

    Raises
    ------
    InputError
        If it is not a complete product of one tile, or holds several.
    """
    products = _products_at(str(location) if is_address(location) else Path(location))
    if len(products) != 1:
        raise InputError(f"{without_secrets(location)} holds {len(products)} items; give one, as FILE#ID.")
    return products[0].read_tile()


def read_tiles(products: Iterable[Product]) -> tuple[list[Tile], list[DamagedProduct]]:
    """Read the metadata of products; those that cannot be read are returned with their errors."""
    given = list(products)
    # For remote products, most of the time is spent waiting for servers.
    with ThreadPoolExecutor(_THREADS if any(is_address(product.location) for product in given) else 1) as pool:
        read = list(pool.map(_read, given))
    return [each for each in read if isinstance(each, Tile)], [each for each in read if not isinstance(each, Tile)]


def name_of(location: Location) -> str:
    """Name of the file or folder of a product, or the identifier of its item."""
    if isinstance(location, Path):
        return location.name
    base, mark, item = location.rpartition("#")
    return item if mark else PurePosixPath(urlsplit(location).path).name or base


def stem_of(location: Location) -> str:
    """Name of a product by its location, without suffix."""
    return PurePosixPath(name_of(location)).stem


def _read(product: Product) -> Tile | DamagedProduct:
    location = product.location
    match = PRODUCT.match(name_of(location))
    name = match["tile"] if match else name_of(location)
    try:
        return product.read_tile()
    except InputError as error:
        return DamagedProduct(name, location, error)
    except OSError as error:
        return DamagedProduct(name, location, InputError(f"The product {location} cannot be read ({error.strerror})."))


def _products_at(location: Location) -> list[Product]:
    """Product at a path or URL, or those that its STAC items describe."""
    if is_address(location):
        return [EopfProduct(location)] if is_eopf_address(str(location)) else products_of(location)
    if _ITEMS.fullmatch(str(location)):
        return products_of(location)
    path = Path(location)
    is_store = is_eopf(path) if path.is_dir() else path.is_file() and _is_eopf_zip(path)
    return [EopfProduct(path) if is_store else SafeProduct(path)]


def _look_at(given: str | os.PathLike[str], level: Level, *, items_only: bool) -> Iterator[tuple[Location, Found]]:
    """Products at a path or URL, and files that look like one, each with its location."""
    if is_address(given):
        products = products_of(str(given)) if items_only else _products_at(str(given))
        yield from ((product.location, product) for product in products)
        return
    path = Path(given)
    if not path.exists():
        raise InputError(missing("The Sentinel-2 path", path))
    # Links stay as they are: workers may see the same data through the same link at another place.
    root = Path(os.path.abspath(path))  # noqa: PTH100
    if items_only:
        files = [root] if root.is_file() else [file for file in sorted(root.rglob("*.json")) if is_stac(file)]
        yield from ((file, product) for file in files for product in products_of(file))
    elif root.is_dir():
        yield from _walk(root, level)
    else:
        yield from ((root, product) for product in _products_at(root))


def _nothing_error(
    given: object, level: Level, here: Iterable[tuple[Location, Found]], *, items_only: bool
) -> InputError:
    shown = without_secrets(given)
    if items_only:
        return InputError(f"No STAC item found in {shown}; expected items or collections of items (.json).")
    by_kind: dict[str, list[Path]] = defaultdict(list)
    for path, kind in here:
        if isinstance(kind, str):
            by_kind[kind].append(Path(path))
    looked = Search(passed_over=by_kind).note
    return InputError(
        f"No Sentinel-2 {level} product found in {shown}; expected .SAFE folders with {METADATA_FILES[level]}, "
        f"zip files of them, EOPF Zarr stores or STAC items.{f' {looked}' if looked else ''}"
    )


def _walk(root: Path, level: Level) -> Iterator[tuple[Path, Found]]:
    described = set[Path]()
    for folder, subfolders, files in os.walk(root):
        here = Path(folder)
        # An item may have the product's metadata among its images.
        is_whole = here not in described or "GRANULE" in subfolders
        if METADATA_FILES[level] in files and is_whole:
            subfolders.clear()
            yield here, SafeProduct(here)
            continue
        if here.suffix.lower() == ".zarr" or not {*ROOT_FILES, ".zgroup"}.isdisjoint(files):
            subfolders.clear()
            yield here, _of_level(EopfProduct(here), level) if is_eopf(here) else ZARR
            continue
        items = [here / name for name in sorted(files) if name.lower().endswith(".json") and is_stac(here / name)]
        for product in (product for file in items for product in products_of(file)):
            described |= folders_of(product)
            yield here, _of_level(product, level)
        if here not in described and (kind := _kind_of_folder(here.name, subfolders, files, level)):
            subfolders.clear()
            yield here, kind
            continue
        # Links to products are followed, other links are not: they may lead in circles.
        links = [here / name for name in subfolders if (here / name).is_symlink()]
        yield from ((link, SafeProduct(link)) for link in links if (link / METADATA_FILES[level]).is_file())
        yield from ((link, _of_level(EopfProduct(link), level)) for link in links if is_eopf(link))
        for name in files:
            if found := _look_at_file(here / name, level):
                yield here / name, found


def _kind_of_folder(name: str, subfolders: list[str], files: list[str], level: Level) -> str | None:
    """Kind of a folder that looks like a product but has no metadata; ``None`` for other folders."""
    is_safe = name.upper().endswith(".SAFE")
    other: Level = "L1C" if level == "L2A" else "L2A"
    if METADATA_FILES[other] in files or (_NAMED[other].match(name) and (is_safe or "GRANULE" in subfolders)):
        return OTHER_LEVEL[level]
    if is_safe and "_USER_PRD_" in name:
        return OLD_NAMES
    if "GRANULE" in subfolders or (is_safe and _NAMED[level].match(name)):
        return UNFINISHED
    if is_safe:
        return OTHER_SAFE
    return LOOSE_BANDS if any(map(_BAND.fullmatch, files)) else None


def _look_at_file(path: Path, level: Level) -> Found | None:
    """Product in a file, or what the file looks like; ``None`` for others."""
    if _PARTIAL.fullmatch(path.name) and re.search("S2[A-D]_|zip|safe", path.name, re.IGNORECASE):
        return UNFINISHED
    if _ARCHIVE.fullmatch(path.name):
        return OTHER_ARCHIVE
    return _look_into_zip(path, level) if _ZIPPED.fullmatch(path.name) and path.name != _MANIFEST else None


def _look_into_zip(path: Path, level: Level) -> Found:
    try:
        members = read_members(path)
    except (InputError, OSError):
        named = next((each for each, pattern in _NAMED.items() if pattern.match(path.name)), None)
        # Reported as a damaged product, rather than skipped.
        return UNREADABLE_ZIP if named is None else SafeProduct(path) if named == level else OTHER_LEVEL[level]
    names = {PurePosixPath(name).name for name in members}
    found = next((each for each, name in METADATA_FILES.items() if name in names), None)
    if found is not None:
        return SafeProduct(path) if found == level else OTHER_LEVEL[level]
    return _of_level(EopfProduct(path), level) if is_eopf_zip(path, members) else OTHER_ZIP


def _of_level(product: Product, level: Level) -> Found:
    """Product of a form that is read at L2A alone, or the kind that is skipped."""
    return product if level == "L2A" else OTHER_LEVEL[level]


def _is_eopf_zip(path: Path) -> bool:
    try:
        return is_eopf_zip(path, read_members(path))
    except (InputError, OSError):
        return False
