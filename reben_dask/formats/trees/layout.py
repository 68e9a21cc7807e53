"""Building blocks of a tree layout: trees of patch folders, and tables of all patches.

A layout is a module of this package with ``LAYOUT`` (its name) and ``layout``, a function from :class:`Contents` to
:class:`TreeLayout`. The writer, the job's plan and the verifier derive from these objects, and so do the tests that
hold for every layout (``tests/integration/verify/test_verify_every_layout.py``).
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from reben_dask.formats.bands import BANDS, REFERENCE_MAP, S1_BANDS, Band, ImageKind
from reben_dask.formats.columns import IN_GRID, PATCH_ID, SEASON, SPLITS, TILE
from reben_dask.nomenclature import UNLABELED_CODE, Nomenclature

Row = Mapping[str, Any]
"""Row of a patch in the patch table."""

Images = Mapping[str, npt.NDArray[Any]]
"""Images of a patch, shape ``(y, x)`` or ``(band, y, x)``, by ending of the file name."""

Compression = Literal["deflate"]

SUFFIX = ".tif"
CLASS_NUMBERS = Band("class_numbers", ImageKind.MAP, REFERENCE_MAP.resolution_m, "uint8", None)
"""Reference map of class numbers (see :func:`class_numbers`) instead of codes."""

S1_FILES = {name: (name,) for name in S1_BANDS}
"""Bands of each Sentinel-1 image, by ending of the file name."""

SHORT_SPLITS = dict(zip(SPLITS, ("train", "val", "test"), strict=True))

_STORED = ChainMap(BANDS, S1_BANDS, {REFERENCE_MAP.name: REFERENCE_MAP})


class PatchPixels(NamedTuple):
    """Pixels of one patch, at native resolution."""

    s2: Mapping[str, npt.NDArray[np.uint16]]
    """Digital numbers by band, shape ``(y, x)``."""
    s1: Mapping[str, npt.NDArray[np.float32]]
    """Backscatter in dB by polarisation, shape ``(y, x)``; empty without Sentinel-1."""
    reference_map: npt.NDArray[np.uint16] | None
    """Land-cover codes, shape ``(y, x)``."""

    @property
    def layers(self) -> dict[Band, npt.NDArray[Any]]:
        """All images by band, shape ``(y, x)``."""
        images: dict[str, npt.NDArray[Any]] = {**self.s2, **self.s1}
        if self.reference_map is not None:
            images[REFERENCE_MAP.name] = self.reference_map
        return {_STORED[name]: pixels for name, pixels in images.items()}


@dataclass(frozen=True)
class Contents:
    """Facts about a dataset that a layout depends on."""

    nomenclature: Nomenclature
    bands: tuple[str, ...]
    seasons: tuple[str, ...] = ()
    labels: tuple[str, ...] = ("labels",)
    """Label columns: ``labels``, and ``labels_<name>`` for further region thresholds."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Further columns of the patch table, with their names in the source layer."""
    countries: tuple[str, ...] | None = None
    """Countries of the recipe; ``None`` if it takes those of the file."""
    has_sentinel1: bool = False


@dataclass(frozen=True)
class Group:
    """Patches with the same text from one column, such as those in a folder of a tree."""

    column: str
    text: Callable[[Any], str] = str
    """From the column's value to the name of the group."""

    def of(self, row: Row) -> str:
        """Name of a patch's group."""
        return self.text(row[self.column])


@dataclass(frozen=True)
class FileSpec:
    """Requirements on one image file of a patch; all bands have one pixel size and type."""

    bands: tuple[Band, ...]
    nodata: int | None
    """NODATA tag; ``None`` without one."""

    @property
    def dtype(self) -> str:
        """Pixel type."""
        return self.bands[0].dtype

    @property
    def resolution_m(self) -> int:
        """Pixel size in metres."""
        return self.bands[0].resolution_m


def no_documents(_: Row, __: Mapping[str, Any]) -> Mapping[str, bytes]:
    """Add no file to a patch folder."""
    return {}


@dataclass(frozen=True)
class Tree:
    """Folder of patch folders."""

    name: str
    images: Callable[[PatchPixels], Images]
    """From a patch's pixels to its images; empty if the patch is not in the tree."""
    files: Mapping[str, tuple[str | Band, ...]]
    """Bands of each image, in order, by ending of the file name: names of stored bands, polarisations or the reference
    map, and :class:`Band` objects for derived images, with their own pixel size and type."""
    levels: tuple[Group, ...]
    """Folders between the tree and those of the patches, from above; empty where patches lie side by side."""
    run: Group
    """Patches of one run are consecutive in an archive, ordered by run name."""
    order: tuple[str, ...] = IN_GRID
    """Columns that order the patches of a tile in a run."""
    name_column: str = PATCH_ID
    """Column of the patch names in this tree; patches without a name are not in it."""
    only: Mapping[str, str] = field(default_factory=dict)
    """Column values that a patch must have to be in the tree."""
    needs: tuple[str, ...] = ()
    """Bands of Sentinel-2 that derived images are computed from."""
    columns: tuple[str, ...] = ()
    """Columns of the patch table that ``documents`` reads."""
    documents: Callable[[Row, Mapping[str, Any]], Mapping[str, bytes]] = no_documents
    """From a patch and its tile's attributes to files other than images, by ending of the file name."""
    document_names: tuple[str, ...] = ()
    """Endings of the names of all ``documents``."""
    read_document: Callable[[bytes], Row] | None = None
    """From a document to the columns that it states, ``InputError`` if it cannot; by default it states none."""
    nodata: int | None = None
    """NODATA tag of the images; ``None`` for no tag."""
    compress: Compression | None = None
    """Compression of the images."""
    is_shared: bool = False
    """True if patches of several tiles may have files of one name; the first tile in name order then has them."""

    @cached_property
    def specs(self) -> dict[str, FileSpec]:
        """Requirements on each image file, by ending of the file name."""
        bands = {
            name: tuple(band if isinstance(band, Band) else _STORED[band] for band in files)
            for name, files in self.files.items()
        }
        return {name: FileSpec(of_file, self.nodata) for name, of_file in bands.items()}

    @property
    def kinds(self) -> tuple[ImageKind, ...]:
        """Kinds of images in its files."""
        found = {band.kind for spec in self.specs.values() for band in spec.bands}
        return tuple(kind for kind in ImageKind if kind in found)

    @property
    def row_columns(self) -> tuple[str, ...]:
        """Columns of the patch table that names, folders, order and documents depend on."""
        groups = (group.column for group in (*self.levels, self.run))
        return (*dict.fromkeys((self.name_column, *groups, *self.order, *self.only, *self.columns)),)

    def place(self, row: Row) -> str:
        """Folder of the tree that holds a patch's own; empty for the tree itself."""
        return "/".join(level.of(row) for level in self.levels)

    def layers(self, pixels: PatchPixels) -> dict[Band, npt.NDArray[Any]]:
        """Bands of all images of a patch, shape ``(y, x)``."""
        images = self.images(pixels)
        stacks = {name: image if image.ndim > 2 else image[np.newaxis] for name, image in images.items()}
        return {
            band: layer
            for name, stack in stacks.items()
            for band, layer in zip(self.specs[name].bands, stack, strict=True)
        }

    def file_names(self, name: str) -> dict[str, str]:
        """File names in a patch's folder, by image or document; ``name`` is the patch's name in this tree."""
        images = {image: f"{name}_{image}{SUFFIX}" for image in self.files}
        return {**images, **{document: f"{name}_{document}" for document in self.document_names}}


def no_lines(_: Iterable[Row]) -> Iterator[tuple[str, str]]:
    """Write no table."""
    return iter(())


class TableRow(NamedTuple):
    """Patch in a table of a layout."""

    where: str
    """Place in the table for messages, such as ``meta.csv, line 3,``."""
    row: Row
    """Columns of the patch table that the tables state, the same for all; empty if the line is of no patch."""
    faults: Sequence[str] = ()
    """Phrases for errors within the line."""
    name_parts: Mapping[str, str] = {}
    """Values of fields of patch names that the table states."""


@dataclass(frozen=True)
class TreeLayout:
    """Folders and files of an exported dataset."""

    trees: tuple[Tree, ...]
    table_files: tuple[str, ...] = ()
    """Paths of text files about all patches, below the folder of the dataset."""
    table_columns: tuple[str, ...] = ()
    """Columns of the patch table that ``table_lines`` reads."""
    table_lines: Callable[[Iterable[Row]], Iterator[tuple[str, str]]] = no_lines
    """From the kept patches, ordered by tile and :data:`IN_GRID`, to ``(file, line)``."""
    read_tables: Callable[[Path], Iterator[TableRow]] | None = None
    """From the folder of the dataset, where tables may be missing, to rows; ``None`` if they state no patches."""
    is_listed: Callable[[Row], bool] | None = None
    """Test for the patches that tables list, from a row of the metadata; ``None`` if they list all."""

    @property
    def tables(self) -> tuple[str, ...]:
        """Files and folders of the tables, directly below the folder of the dataset."""
        return tuple(dict.fromkeys(path.partition("/")[0] for path in self.table_files))

    @property
    def folders_per_patch(self) -> int:
        """Folders of a patch in all trees; it is in only one of the trees that require column values."""
        return sum(not tree.only for tree in self.trees) + any(tree.only for tree in self.trees)

    @property
    def is_by_season(self) -> bool:
        """True if patches without a season have no folder."""
        return any(SEASON in tree.only for tree in self.trees)

    @property
    def has_sentinel1(self) -> bool:
        """True if a tree has Sentinel-1."""
        return any(ImageKind.S1 in tree.kinds for tree in self.trees)


def lines_of(path: Path) -> Iterator[str]:
    """Lines of a table as they are; none if it is missing, which the verifier reports."""
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as lines:
            yield from lines


BY_TILE = Group(TILE)
"""Tile of a patch."""


def s1_scene(s1_name: str) -> str:
    """Sentinel-1 scene of a patch, from its name: ``S1A_IW_GRDH_1SDV_20170613T165043``."""
    return s1_name.rsplit("_", 3)[0]


def s1_scene_and_mgrs(s1_name: str) -> str:
    """Sentinel-1 scene with the MGRS tile."""
    return s1_name.rsplit("_", 2)[0]


def one_band_each(bands: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Files of one band each, named after it."""
    return {band: (band,) for band in bands}


def s2_images(pixels: PatchPixels) -> Images:
    """One image per band of Sentinel-2."""
    return pixels.s2


def s1_images(pixels: PatchPixels) -> Images:
    """One image per polarisation."""
    return pixels.s1


def map_images(pixels: PatchPixels) -> Images:
    """Return the reference map as the only image."""
    return {} if pixels.reference_map is None else {REFERENCE_MAP.name: pixels.reference_map}


def class_numbers(nomenclature: Nomenclature) -> dict[str, int]:
    """Assign numbers to classes, from 1 in the order of their first codes."""
    named = (name for _, name in sorted(nomenclature.class_of.items()) if name is not None)
    return {name: number for number, name in enumerate(dict.fromkeys(named), start=1)}


def number_of_code(nomenclature: Nomenclature) -> npt.NDArray[np.uint8]:
    """Look-up table from uint16 code to :func:`class_numbers`, shape ``(65536,)``; 0 where the code has no label."""
    numbers = class_numbers(nomenclature)
    table = np.zeros(np.iinfo(np.uint16).max + 1, np.uint8)
    for code, name in nomenclature.class_of.items():
        if name is not None:
            table[code] = numbers[name]
    return table


def code_of_number(nomenclature: Nomenclature) -> npt.NDArray[np.uint16]:
    """Look-up table from :func:`class_numbers` to the first code of the class; 0 has no class."""
    codes = {name: code for code, name in sorted(nomenclature.class_of.items(), reverse=True)}
    return np.array([UNLABELED_CODE, *(codes[name] for name in class_numbers(nomenclature))], np.uint16)
