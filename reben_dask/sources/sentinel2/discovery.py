"""Search for products."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from reben_dask.errors import InputError, missing
from reben_dask.sources.sentinel2.archive import METADATA_FILE

_ZIP_NAME = re.compile(r"S2[A-D]_MSIL2A_.*\.zip", re.IGNORECASE)


def find_products(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Find Sentinel-2 L2A products.

    Parameters
    ----------
    paths : iterable of path
        Products (``….SAFE`` folders, or ``.zip`` files of them), or folders that hold products at any depth.

    Returns
    -------
    list of Path
        Absolute, sorted by name, each product once.

    Raises
    ------
    InputError
        If a path does not exist, or holds no product.
    """
    found = {product for path in paths for product in _products_at(Path(path))}
    return sorted(found, key=lambda product: (product.name, product))


def _products_at(path: Path) -> list[Path]:
    if not path.exists():
        raise InputError(missing("The Sentinel-2 path", path))
    # Links stay as they are: workers may see the same data through the same link at another place.
    root = Path(os.path.abspath(path))  # noqa: PTH100
    products = [root] if root.is_file() or (root / METADATA_FILE).is_file() else list(_walk(root))
    if not products:
        raise InputError(
            f"No Sentinel-2 L2A product found in {path}; expected .SAFE folders with {METADATA_FILE}, "
            "or S2?_MSIL2A_….zip files of them."
        )
    return products


def _walk(root: Path) -> Iterator[Path]:
    for folder, subfolders, files in os.walk(root):
        if METADATA_FILE in files:
            subfolders.clear()
            yield Path(folder)
            continue
        # Links to products are followed, other links are not: they may lead in circles.
        links = [Path(folder, name) for name in subfolders if Path(folder, name).is_symlink()]
        yield from (link for link in links if (link / METADATA_FILE).is_file())
        yield from (Path(folder) / name for name in files if _ZIP_NAME.fullmatch(name))
