"""Sentinel-2 L1C products in folders, and the names of the L2A products that sen2cor makes of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from reben_dask.errors import InputError, missing
from reben_dask.wording import counted

METADATA_FILE = "MTD_MSIL1C.xml"

EMPTY_FOLDERS = ("DATASTRIP/*/QI_DATA", "GRANULE/*/AUX_DATA", "HTML")
"""Folders that some downloads drop when they are empty, and without which sen2cor fails."""

_NAME = re.compile(
    r"(?P<satellite>S2[A-D])_MSIL1C_(?P<start>\d{8}T\d{6})_N\d{4}_(?P<place>R\d{3}_T\d{2}[A-Z]{3})_\d{8}T\d{6}"
)
_ZIPPED = re.compile(r".*MSIL1C.*\.zip", re.IGNORECASE)
_SHOWN = 3


@dataclass(frozen=True)
class Level1C:
    """An L1C product in a ``.SAFE`` folder."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the product without ``.SAFE``."""
        return self.path.name.removesuffix(".SAFE")

    @property
    def tile(self) -> str:
        """Name of the tile that sen2cor makes of it: with the baseline 99.99."""
        return "{satellite}_MSIL2A_{start}_N9999_{place}".format(**self._parts)

    @property
    def l2a_pattern(self) -> str:
        """Pattern of the names of L2A products of the same acquisition, of any baseline."""
        return "{satellite}_MSIL2A_{start}_N[0-9][0-9][0-9][0-9]_{place}_*.SAFE".format(**self._parts)

    @property
    def missing_folders(self) -> list[str]:
        """Empty folders that the product lacks, by their paths inside it."""
        lacking = []
        for pattern in EMPTY_FOLDERS:
            parent, _, name = pattern.rpartition("/")
            parents = self.path.glob(parent) if parent else [self.path]
            lacking += [folder / name for folder in parents if folder.is_dir() and not (folder / name).exists()]
        return sorted(folder.relative_to(self.path).as_posix() for folder in lacking)

    @property
    def _parts(self) -> dict[str, str]:
        match = _NAME.fullmatch(self.name)
        return match.groupdict() if match else {}


def find_l1c(paths: Iterable[str | os.PathLike[str]]) -> tuple[list[Level1C], list[str]]:
    """Find L1C products, in folders at any depth.

    Returns
    -------
    products : list of Level1C
        With absolute paths, in the order of their names, each once.
    notes : list of str
        Sentences about L1C products that cannot be corrected.

    Raises
    ------
    InputError
        If a path does not exist, or there is no product.
    """
    given = list(map(Path, paths))
    found: dict[str, Level1C] = {}
    others: list[str] = []
    for path in given:
        if not path.exists():
            raise InputError(missing("The Sentinel-2 L1C path", path))
        # Links stay as they are: workers may see the same data through the same link at another place.
        for place in _walk(Path(os.path.abspath(path))):  # noqa: PTH100
            if _NAME.fullmatch(place.name.removesuffix(".SAFE")) and place.is_dir():
                found.setdefault(place.name, Level1C(place))
            else:
                others.append(place.name)
    shown = f"{', '.join(sorted(others)[:_SHOWN])}{', …' * (len(others) > _SHOWN)}"
    notes = []
    if others:
        what = "zip files, and products in the naming before December 2016; unpack them, or download them again"
        notes = [f"Skipped {counted(len(others), 'L1C product')} that sen2cor cannot read ({shown}): {what}."]
    if not found:
        raise InputError(
            f"No Sentinel-2 L1C product found in {', '.join(map(str, given))}; expected .SAFE folders with "
            f"{METADATA_FILE}.{''.join(f' {note}' for note in notes)}"
        )
    return [found[name] for name in sorted(found)], notes


def _walk(root: Path) -> Iterator[Path]:
    """Folders with metadata of an L1C product, and zip files that are named like one."""
    if root.is_file():
        yield root
    for folder, subfolders, files in os.walk(root):
        if METADATA_FILE in files:
            subfolders.clear()
            yield Path(folder)
            continue
        links = (Path(folder, name) for name in subfolders if Path(folder, name).is_symlink())
        yield from (link for link in links if (link / METADATA_FILE).is_file())
        yield from (Path(folder, name) for name in files if _ZIPPED.fullmatch(name))
