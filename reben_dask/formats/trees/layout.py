"""Building blocks of a tree layout: trees of patch folders, and tables of all patches.

A layout is a module of this package with ``LAYOUT`` (its name) and ``layout``, a function from :class:`Contents` to
:class:`TreeLayout`. The writer, the job's plan and the verifier derive from these objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from reben_dask.formats.bands import BANDS, REFERENCE_MAP, S1_BANDS, Band, ImageKind
from reben_dask.formats.columns import IN_GRID, PATCH_ID, S1_NAME, SEASON, SPLITS, TILE
from reben_dask.nomenclature import Nomenclature

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

_BANDS = {**BANDS, **S1_BANDS, REFERENCE_MAP.name: REFERENCE_MAP, CLASS_NUMBERS.name: CLASS_NUMBERS}


class PatchPixels(NamedTuple):
    """Pixels of one patch, at native resolution."""

    s2: Mapping[str, npt.NDArray[np.uint16]]
    """Digital numbers by band, shape ``(y, x)``."""
    s1: Mapping[str, npt.NDArray[np.float32]]
    """Backscatter in dB by polarisation, shape ``(y, x)``; empty without Sentinel-1."""
    reference_map: npt.NDArray[np.uint16] | None
    """CLC codes, shape ``(y, x)``."""


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
    has_sentinel1: bool = False


@dataclass(frozen=True)
class FileSpec:
    """Requirements on one image file of a patch."""

    bands: tuple[Band, ...]
    nodata: int | None
    """NODATA tag; ``None`` without one."""
    compress: Compression | None

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
    files: Mapping[str, tuple[str, ...]]
    """Bands of each image, in order, by ending of the file name."""
    place: Callable[[Row], str]
    """From a patch to its parent folder in the tree; empty where patches lie side by side."""
    run: Callable[[Row], str]
    """From a patch to its run: patches of one run are consecutive in an archive, ordered by run name."""
    order: tuple[str, ...] = IN_GRID
    """Columns that order the patches of a tile. Patches of a run must be consecutive."""
    name_column: str = PATCH_ID
    """Column of the patch names in this tree; patches without a name are not in it."""
    only: Mapping[str, str] = field(default_factory=dict)
    """Column values that a patch must have to be in the tree."""
    columns: tuple[str, ...] = ()
    """Further columns for the documents."""
    documents: Callable[[Row, Mapping[str, Any]], Mapping[str, bytes]] = no_documents
    """From a patch and its tile's attributes to files other than images, by ending of the file name."""
    document_names: tuple[str, ...] = ()
    nodata: int | None = None
    compress: Compression | None = None
    is_shared: bool = False
    """True if patches of several tiles may have files of one name; the first tile in name order then has them."""

    @property
    def kinds(self) -> frozenset[ImageKind]:
        """Kinds of images in its files."""
        return frozenset(_BANDS[band].kind for bands in self.files.values() for band in bands)

    @property
    def specs(self) -> dict[str, FileSpec]:
        """Requirements on each image file, by ending of the file name."""
        return {
            name: FileSpec(tuple(_BANDS[band] for band in bands), self.nodata, self.compress)
            for name, bands in self.files.items()
        }

    def file_names(self, name: str) -> dict[str, str]:
        """File names in a patch's folder, by image or document; ``name`` is the patch's name in this tree."""
        images = {image: f"{name}_{image}{SUFFIX}" for image in self.files}
        return {**images, **{document: f"{name}_{document}" for document in self.document_names}}

    def holds(self, row: Row) -> bool:
        """Test if a patch is in the tree, as far as its row decides."""
        return row.get(self.name_column) is not None and all(row.get(key) == value for key, value in self.only.items())


def no_lines(_: Iterable[Row]) -> Iterator[tuple[str, str]]:
    """Write no table."""
    return iter(())


@dataclass(frozen=True)
class TreeLayout:
    """Folders and files of an exported dataset."""

    trees: tuple[Tree, ...]
    table_files: tuple[str, ...] = ()
    """Paths of text files about all patches, below the folder of the dataset."""
    table_columns: tuple[str, ...] = ()
    table_lines: Callable[[Iterable[Row]], Iterator[tuple[str, str]]] = no_lines
    """From the kept patches, ordered by tile and :data:`IN_GRID`, to ``(file, line)``."""

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
        return any(tree.name_column == S1_NAME for tree in self.trees)


def tile_of(row: Row) -> str:
    """Tile of a patch."""
    return str(row[TILE])


def side_by_side(_: Row) -> str:
    """Place patches in the tree itself."""
    return ""


def s1_scene(row: Row) -> str:
    """Sentinel-1 scene of a patch, from its name: ``S1A_IW_GRDH_1SDV_20170613T165043``."""
    return str(row[S1_NAME].rsplit("_", 3)[0])


def s1_scene_and_mgrs(row: Row) -> str:
    """Sentinel-1 scene with the MGRS tile; patches that share it are consecutive in name order."""
    return str(row[S1_NAME].rsplit("_", 2)[0])


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
    """The reference map as the only image."""
    return {} if pixels.reference_map is None else {REFERENCE_MAP.name: pixels.reference_map}


def class_numbers(nomenclature: Nomenclature) -> dict[str, int]:
    """Number of each class, from 1 in the order of its first code."""
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
