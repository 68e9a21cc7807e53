"""Parts of a tree layout: trees of patch folders, and tables of all patches.

A layout is a module of this package with a name (``LAYOUT``) and a function ``layout`` from :class:`Contents` to
:class:`TreeLayout`. The writer, the job's plan and the verifier derive everything else from these objects.
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
"""A patch: its row of the patch table."""

Images = Mapping[str, npt.NDArray[Any]]
"""Images of a patch, shape ``(y, x)`` or ``(band, y, x)``, by the end of their file's name."""

Compression = Literal["deflate"]

SUFFIX = ".tif"
CLASS_NUMBERS = Band("class_numbers", ImageKind.MAP, REFERENCE_MAP.resolution_m, "uint8", None)
"""Reference map with the number of each pixel's class (see :func:`class_numbers`) instead of its code."""

S1_FILES = {name: (name,) for name in S1_BANDS}
"""Bands of each image of Sentinel-1, by the end of its file's name."""

SHORT_SPLITS = dict(zip(SPLITS, ("train", "val", "test"), strict=True))
"""Names of the splits in the older datasets."""

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
    """Every season that a patch may have."""
    labels: tuple[str, ...] = ("labels",)
    """Columns of labels: ``labels``, and ``labels_<name>`` for further thresholds of region size."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Further columns of the patch table, with their names in the layer that they come from."""
    has_sentinel1: bool = False


@dataclass(frozen=True)
class FileSpec:
    """Requirements on one image file of a patch."""

    bands: tuple[Band, ...]
    nodata: int | None
    """Value of the tag for NODATA; ``None`` without such a tag."""
    compress: Compression | None

    @property
    def dtype(self) -> str:
        """Type of the pixels."""
        return self.bands[0].dtype

    @property
    def resolution_m(self) -> int:
        """Size of a pixel."""
        return self.bands[0].resolution_m


def no_documents(_: Row, __: Mapping[str, Any]) -> Mapping[str, bytes]:
    """Add no file to a patch folder."""
    return {}


@dataclass(frozen=True)
class Tree:
    """A folder of patch folders: which patches are in it, where, and with which files."""

    name: str
    """Name of the folder, and of its archive."""
    images: Callable[[PatchPixels], Images]
    """From the pixels of a patch to its images; none for a patch that is not in the tree."""
    files: Mapping[str, tuple[str, ...]]
    """Bands of each image in their order, by the end of its file's name."""
    place: Callable[[Row], str]
    """From a patch to the folder of the tree that holds the patch's; empty where patches lie side by side."""
    run: Callable[[Row], str]
    """From a patch to the name of a run of patches that stand together in an archive, in the order of these names."""
    order: tuple[str, ...] = IN_GRID
    """Columns by which the patches of a tile are ordered. Those of a run follow each other."""
    name_column: str = PATCH_ID
    """Column with the names that patches have in this tree; those without a name are not in it."""
    only: Mapping[str, str] = field(default_factory=dict)
    """Values of columns that a patch must have to be in the tree."""
    columns: tuple[str, ...] = ()
    """Further columns that documents are made from."""
    documents: Callable[[Row, Mapping[str, Any]], Mapping[str, bytes]] = no_documents
    """From a patch and the attributes of its tile to files besides images, by the end of their names."""
    document_names: tuple[str, ...] = ()
    nodata: int | None = None
    compress: Compression | None = None
    is_shared: bool = False
    """Whether patches of several tiles may have files of one name; then the first tile in name order has them."""

    @property
    def kinds(self) -> frozenset[ImageKind]:
        """Kinds of images that its files hold."""
        return frozenset(_BANDS[band].kind for bands in self.files.values() for band in bands)

    @property
    def specs(self) -> dict[str, FileSpec]:
        """Requirements on each image file, by the end of its name."""
        return {
            name: FileSpec(tuple(_BANDS[band] for band in bands), self.nodata, self.compress)
            for name, bands in self.files.items()
        }

    def file_names(self, name: str) -> dict[str, str]:
        """File names in the folder of a patch, by image or document; ``name`` is that of the patch in this tree."""
        images = {image: f"{name}_{image}{SUFFIX}" for image in self.files}
        return {**images, **{document: f"{name}_{document}" for document in self.document_names}}

    def holds(self, row: Row) -> bool:
        """Whether a patch is in the tree, as far as its row decides."""
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
    """Columns that the tables are made from."""
    table_lines: Callable[[Iterable[Row]], Iterator[tuple[str, str]]] = no_lines
    """From the kept patches, in the order of tiles and :data:`IN_GRID`, to lines with the file that each belongs to."""

    @property
    def tables(self) -> tuple[str, ...]:
        """Files and folders of the tables, directly below the folder of the dataset."""
        return tuple(dict.fromkeys(path.partition("/")[0] for path in self.table_files))

    @property
    def folders_per_patch(self) -> int:
        """Folders of a patch in all trees; of trees that ask for values of columns, it is in one."""
        return sum(not tree.only for tree in self.trees) + any(tree.only for tree in self.trees)

    @property
    def is_by_season(self) -> bool:
        """Whether patches without a season have no place."""
        return any(SEASON in tree.only for tree in self.trees)

    @property
    def has_sentinel1(self) -> bool:
        """Whether a tree has Sentinel-1."""
        return any(tree.name_column == S1_NAME for tree in self.trees)


def tile_of(row: Row) -> str:
    """Tile of a patch."""
    return str(row[TILE])


def side_by_side(_: Row) -> str:
    """Place patches in the tree itself."""
    return ""


def s1_scene(row: Row) -> str:
    """Sentinel-1 scene of a patch, as far as the patch's name has it: ``S1A_IW_GRDH_1SDV_20170613T165043``."""
    return str(row[S1_NAME].rsplit("_", 3)[0])


def s1_scene_and_mgrs(row: Row) -> str:
    """Sentinel-1 scene with the MGRS tile: in the order of names, patches that share it follow each other."""
    return str(row[S1_NAME].rsplit("_", 2)[0])


def one_band_each(bands: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Files of one band each, named after it."""
    return {band: (band,) for band in bands}


def s2_images(pixels: PatchPixels) -> Images:
    """One image for each band of Sentinel-2."""
    return pixels.s2


def s1_images(pixels: PatchPixels) -> Images:
    """One image for each polarisation."""
    return pixels.s1


def map_images(pixels: PatchPixels) -> Images:
    """The reference map as the only image."""
    return {} if pixels.reference_map is None else {REFERENCE_MAP.name: pixels.reference_map}


def class_numbers(nomenclature: Nomenclature) -> dict[str, int]:
    """Number of each class, from 1 in the order of the codes; for a class of several codes the first decides."""
    named = (name for _, name in sorted(nomenclature.class_of.items()) if name is not None)
    return {name: number for number, name in enumerate(dict.fromkeys(named), start=1)}


def number_of_code(nomenclature: Nomenclature) -> npt.NDArray[np.uint8]:
    """Look-up table from code to :func:`class_numbers`; 0 where the code carries no label.

    Returns
    -------
    ndarray of uint8, shape (65536,)
        Indexed by any uint16 code.
    """
    numbers = class_numbers(nomenclature)
    table = np.zeros(np.iinfo(np.uint16).max + 1, np.uint8)
    for code, name in nomenclature.class_of.items():
        if name is not None:
            table[code] = numbers[name]
    return table
