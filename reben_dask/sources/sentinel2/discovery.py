"""Search for products in folders, and what in them looks like a product but cannot be taken."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from reben_dask.errors import InputError, missing
from reben_dask.sources.sentinel2.archive import METADATA_FILE, read_members

UNFINISHED = f"unfinished downloads (no {METADATA_FILE})"
LEVEL_1C = "L1C products"
OLD_NAMES = "products in the naming before December 2016"
OTHER_SAFE = ".SAFE folders of another kind"
OTHER_ZIP = "zip files without an L2A product"
UNREADABLE_ZIP = "zip files that cannot be opened"
OTHER_ARCHIVE = "archives that are no zip files"
ZARR = "Zarr stores"
LOOSE_BANDS = "folders of band images in another layout"

_PARTIAL = re.compile(r".+\.(part|partial|crdownload|download|incomplete|tmp|filepart|aria2)", re.IGNORECASE)
_ARCHIVE = re.compile(r".*S2[A-D]_.*\.(tar|tgz|tar\.\w+|7z|rar)", re.IGNORECASE)
_ZIPPED = re.compile(r".+\.(zip|safe)", re.IGNORECASE)
_BAND = re.compile(r"(?:.*_)?B0?2(?:_10m)?\.(?:jp2|tiff?)", re.IGNORECASE)
_LEVEL_2A = re.compile(r"S2[A-D]_MSIL2A_", re.IGNORECASE)
_MANIFEST = "manifest.safe"
_SHOWN = 3


@dataclass
class Search:
    """Products below some paths, and what was passed over."""

    products: list[Path] = field(default_factory=list)
    passed_over: Mapping[str, list[Path]] = field(default_factory=dict)
    """Paths that look like products and are none, by kind."""

    @property
    def note(self) -> str | None:
        """One sentence about what was passed over."""
        if not self.passed_over:
            return None
        kinds = "; ".join(
            f"{kind}: {len(paths):,} ({', '.join(path.name for path in paths[:_SHOWN])}{', …' * (len(paths) > _SHOWN)})"
            for kind, paths in self.passed_over.items()
        )
        return f"Passed over in the Sentinel-2 folders, as no L2A product in a .SAFE folder or zip file: {kinds}."


def find_products(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Find Sentinel-2 L2A products; see :func:`search_products`."""
    return search_products(paths).products


def search_products(paths: Iterable[str | os.PathLike[str]]) -> Search:
    """Find Sentinel-2 L2A products, and what looks like one.

    Parameters
    ----------
    paths : iterable of path
        Products (``.SAFE`` folders, or zip files of them), or folders that hold products at any depth. In folders, each
        ``*.zip`` and ``*.SAFE`` file is opened to look for a product.

    Returns
    -------
    Search
        Paths of the products: absolute, sorted by name, each once. A zip file that is named as an L2A product and
        cannot be opened is one of them.

    Raises
    ------
    InputError
        If a path does not exist, or holds no product.
    """
    found: set[Path] = set()
    passed_over: dict[str, list[Path]] = defaultdict(list)
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(missing("The Sentinel-2 path", path))
        # Links stay as they are: workers may see the same data through the same link at another place.
        root = Path(os.path.abspath(path))  # noqa: PTH100
        here = [(root, None)] if root.is_file() else list(_walk(root))
        products = [product for product, kind in here if kind is None]
        for other, kind in here:
            if kind is not None and other not in passed_over[kind]:
                passed_over[kind].append(other)
        if not products:
            looked = Search(passed_over={kind: [other] for other, kind in here if kind}).note
            raise InputError(
                f"No Sentinel-2 L2A product found in {path}; expected .SAFE folders with {METADATA_FILE}, "
                f"or zip files of them.{f' {looked}' if looked else ''}"
            )
        found.update(products)
    by_name = sorted(found, key=lambda product: (product.name, product))
    return Search(by_name, {kind: sorted(others) for kind, others in sorted(passed_over.items()) if others})


def _walk(root: Path) -> Iterator[tuple[Path, str | None]]:
    """Products, without a kind, and what looks like one, with its kind."""
    for folder, subfolders, files in os.walk(root):
        here = Path(folder)
        if METADATA_FILE in files:
            subfolders.clear()
            yield here, None
            continue
        if kind := _kind_of_folder(here.name, subfolders, files):
            subfolders.clear()
            yield here, kind
            continue
        # Links to products are followed, other links are not: they may lead in circles.
        links = [here / name for name in subfolders if (here / name).is_symlink()]
        yield from ((link, None) for link in links if (link / METADATA_FILE).is_file())
        for name in files:
            is_product, kind = _kind_of_file(here / name)
            if is_product or kind:
                yield here / name, kind


def _kind_of_folder(name: str, subfolders: list[str], files: list[str]) -> str | None:
    """Kind of a folder that looks like a product but has no metadata; ``None`` for other folders."""
    if name.lower().endswith(".zarr"):
        return ZARR
    is_safe = name.upper().endswith(".SAFE")
    if "MSIL1C" in name and (is_safe or "GRANULE" in subfolders):
        return LEVEL_1C
    if is_safe and "_USER_PRD_" in name:
        return OLD_NAMES
    if "GRANULE" in subfolders or (is_safe and _LEVEL_2A.match(name)):
        return UNFINISHED
    if is_safe:
        return OTHER_SAFE
    return LOOSE_BANDS if any(map(_BAND.fullmatch, files)) else None


def _kind_of_file(path: Path) -> tuple[bool, str | None]:
    """Test if a file is a product; if not, return its kind, ``None`` for files that do not look like one."""
    if _PARTIAL.fullmatch(path.name) and re.search("S2[A-D]_|zip|safe", path.name, re.IGNORECASE):
        return False, UNFINISHED
    if _ARCHIVE.fullmatch(path.name):
        return False, OTHER_ARCHIVE
    if not _ZIPPED.fullmatch(path.name) or path.name == _MANIFEST:
        return False, None
    try:
        names = {PurePosixPath(name).name for name in read_members(path)}
    except (InputError, OSError):
        # Set aside as a damaged product, rather than passed over.
        is_product = bool(_LEVEL_2A.match(path.name))
        return is_product, None if is_product else LEVEL_1C if "MSIL1C" in path.name else UNREADABLE_ZIP
    if METADATA_FILE in names:
        return True, None
    return False, LEVEL_1C if "MTD_MSIL1C.xml" in names else OTHER_ZIP
